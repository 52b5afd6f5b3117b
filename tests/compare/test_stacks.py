"""What is shown in the pictures, and their words."""

from pathlib import Path

import numpy as np
import pytest

from pfnano_tag.analyze.result import Category, Variable
from pfnano_tag.compare.parts import Part
from pfnano_tag.compare.stacks import Words, _ylabel, any_below_zero, drawn_together, picture


@pytest.mark.parametrize(
    ("name", "kind", "quantity", "label"),
    [
        ("jet_pt", "kinematics", "jet_pt", "Jets"),
        ("met", "kinematics", "met", "Events"),
        ("num_jets", "kinematics", "num_jets", "Events"),
        ("without_cut_dilepton_mass", "kinematics", "dilepton_mass", "Events"),
        ("soft_muon_pt_ratio", "kinematics", "soft_muon_pt_ratio", "Events"),
        ("own", "expression", "MET_pt", "Entries"),
        ("input_charged_ptrel", "input", "charged/ptrel", "Charged candidates"),
        ("input_jet_pt", "input", "jet/pt", "Jets"),
        ("BvsL", "discriminant", "BvsL", "Jets"),
        ("stored_Jet_btag", "stored", "Jet_btag", "Jets"),
    ],
)
def test_the_axis_says_what_is_counted(name, kind, quantity, label):
    assert _ylabel(Variable(name, kind, quantity, name, "", 1, 0.0, 1.0, ())) == f"{label} / bin"


@pytest.mark.parametrize(
    ("bins", "entries", "drawn"),
    [(50, 1000, 50), (50, 900, 25), (50, 400, 10), (50, 0, 10), (60, 320, 15), (11, 5, 11), (99, 150, 11)],
)
def test_few_data_are_drawn_in_fewer_bins(bins, entries, drawn):
    values = np.full(bins, entries / bins)
    starts = drawn_together(values, values)
    assert len(starts) == drawn
    assert set(np.diff([*starts, bins])) == {bins // drawn}
    # what counts are entries, not their weights
    assert len(drawn_together(values * 3, values * 9)) == drawn


def test_long_tails_do_not_make_the_bins_of_the_bulk_coarse():
    values = np.zeros(50)
    values[:4] = 30
    values[[9, 30]] = 1
    assert len(drawn_together(values, values)) == 50
    values[:] = 0
    assert len(drawn_together(values, values)) == 10


def category(flavour, systematic="nominal"):
    return Category("wc", flavour, "net", "nominal", systematic, -1)


def test_bins_drawn_together_keep_sums_errors_and_blinding():
    random = np.random.default_rng(1)
    variable = Variable("BvsL", "discriminant", "BvsL", "BvsL", "", 20, 0.0, 1.0, ())
    rows = {name: (random.random(22), random.random(22)) for name in ("c", "b", "data", "up", "down")}
    rows["data"] = (rows["data"][0], rows["data"][0])
    part = Part(
        *("wc", "net", "nominal"),
        {category(name): rows[name] for name in ("c", "b")},
        {category("data"): rows["data"]},
        {f"w_{way}": {category("c", f"w_{way}"): rows[way]} for way in ("up", "down")},
    )
    hidden = np.zeros(22, dtype=bool)
    hidden[6] = True
    shown = picture(variable, part, Words("a sample", 1.0, False), (hidden, {}), "", Path())
    np.testing.assert_allclose(shown.edges, np.linspace(0, 1, 11))
    pairs = [content[1:-1].reshape(10, 2).sum(axis=1) for content in rows["c"]]
    pairs[0][-1] += rows["c"][0][-1]  # overflow
    pairs[1][-1] += rows["c"][1][-1]
    np.testing.assert_allclose(shown.simulation["c"], pairs)
    assert shown.hidden.tolist() == [place == 2 for place in range(10)]
    half = np.abs(rows["up"][0] - rows["down"][0])  # of bins one by one: their shifts may cancel
    together = np.abs((rows["up"][0] - rows["down"][0])[1:3].sum()) / 2
    assert shown.systematic[0] == pytest.approx(together)
    assert together <= half[1:3].sum() / 2 + 1e-12


def test_a_logarithmic_axis_hides_nothing():
    plain = {"c": (np.array([2.0, 1.0]), np.array([2.0, 1.0]))}
    negative = {"c": (np.array([2.0, -1.0]), np.array([2.0, 1.0]))}
    counts, weighted = (np.array([2.0, 1.0]),) * 2, (np.array([2.0, 1.0]), np.array([2.0, 3.0]))
    assert not any_below_zero(counts, plain)
    assert not any_below_zero(counts, negative)  # negative weights of a generator
    assert not any_below_zero(weighted, plain)
    assert any_below_zero(weighted, negative)
    assert any_below_zero((np.array([2.0, -1.0]), np.array([2.0, 1.0])), plain)
