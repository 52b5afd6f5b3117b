"""Variables of the card's own: filled for events, jets, or other objects, as a loop over events does it."""

from __future__ import annotations

import numpy as np
import pytest

from pfnano_tag.analyze import stage
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.errors import CardError, Incomplete, MissingBranch
from tests.analyze.events_file import content, damage, write

REGIONS = {"all": {"selection": "all_jets"}, "leading": {"selection": "all_jets", "jets": "leading"}}
VARIABLES = {
    "vertices_per_jet": {"expression": "PV_npvs / count(Jet_pt > 20)", "bins": 20, "range": [0, 40], "label": "x"},
    "momentum": {"expression": "Jet_pt * cosh(Jet_eta)", "range": [0, 300], "unit": "GeV"},
    "tight": {"expression": "Muon_tightId & (Muon_pt > 15)", "bins": 2, "range": [-0.5, 1.5]},
}


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    branches = content("mc", 12, 80)
    return branches, write(tmp_path_factory.mktemp("expressions") / "mc.root", branches)


def filled(branches, region):
    """Return what each variable is filled with in a region, by a loop over events: values and weights."""
    found = {name: ([], []) for name in VARIABLES}
    for i in range(80):
        pt, eta = np.array(branches["Jet_pt"][i]), np.array(branches["Jet_eta"][i])
        good = (pt >= 20) & (pt <= 1000) & (abs(eta) <= 2.5)
        if not good.any():
            continue
        weight = float(branches["genWeight"][i])
        jets = np.flatnonzero(good)
        if region == "leading":
            jets = jets[[np.argmax(pt[jets])]]
        values = {
            "vertices_per_jet": [branches["PV_npvs"][i] / np.count_nonzero(pt > 20)],
            "momentum": pt[jets].astype(float) * np.cosh(eta[jets].astype(float)),
            "tight": [
                bool(t) and p > 15 for t, p in zip(branches["Muon_tightId"][i], branches["Muon_pt"][i], strict=True)
            ],
        }
        for name, some in values.items():
            found[name][0].extend(float(one) for one in some)
            found[name][1].extend([weight] * len(some))
    return found


def test_values_of_events_jets_and_other_objects(events, card_with, tmp_path):
    branches, path = events
    card = card_with([], regions=REGIONS, histograms={"expressions": VARIABLES}, jets={"lepton_overlap": 0})
    stage.run(card, "mc", str(path), tmp_path / "h.root", [])
    with JobResult(tmp_path / "h.root") as result:
        assert result.variables["vertices_per_jet"].label == "x"
        assert result.variables["momentum"].unit == "GeV"
        for region in REGIONS:
            expected = filled(branches, region)
            for name, (values, weights) in expected.items():
                variable = result.variables[name]
                rows = [row for row, category in enumerate(variable.categories) if category.region == region]
                edges = [-np.inf, *variable.edges, np.inf]
                wanted, _ = np.histogram(values, edges, weights=weights)
                np.testing.assert_allclose(result.read(name).values[rows].sum(axis=0), wanted, atol=1e-9)


def test_a_varied_jet_varies_the_expression(events, card_with, tmp_path):
    section = {"up": {"kind": "jet_energy_scale", "shift": 1.0}}
    histograms = {"expressions": {"half": {"expression": "Jet_pt / 2", "bins": 500, "range": [0, 500]}}}
    card = card_with([], regions=REGIONS, histograms=histograms, systematics=section)
    stage.run(card, "mc", str(events[1]), tmp_path / "h.root", [])
    with JobResult(tmp_path / "h.root") as result:
        totals = {}
        for name, middle in (("half", result.variables["half"].edges[:-1] + 0.5), ("jet_pt", None)):
            variable, values = result.variables[name], result.read(name).values
            rows = [i for i, c in enumerate(variable.categories) if (c.region, c.systematic) == ("all", "up")]
            centres = (variable.edges[:-1] + variable.edges[1:]) / 2 if middle is None else middle
            totals[name] = (values[rows].sum(axis=0)[1:-1] @ centres) / values[rows].sum()
        assert totals["half"] == pytest.approx(totals["jet_pt"] / 2, abs=5)  # bins of 1 and of 10 GeV


def test_names_and_branches_are_checked_before_any_work(events, card_with, tmp_path):
    one = {"expression": "Jet_pt", "range": [0, 1]}
    taken = card_with([], histograms={"expressions": {"jet_eta": one}})
    with pytest.raises(CardError, match=r"histograms\.expressions\.jet_eta: the job has a variable of that name"):
        stage.run(taken, "mc", str(events[1]), tmp_path / "h.root", [])
    absent = card_with([], histograms={"expressions": {"x": {**one, "expression": "Jet_ptt + MET_pt"}}})
    with pytest.raises(MissingBranch, match=r"Jet_ptt.*\n?.*histograms\.expressions\.x|histograms\.expressions\.x"):
        stage.run(absent, "mc", str(events[1]), tmp_path / "h.root", [])
    assert not (tmp_path / "h.root").exists()


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"expression": "Jet_pt +", "range": [0, 1]}, "is no expression"),
        ({"expression": "Jet_pt", "range": [1, 0]}, "must rise"),
        ({"expression": "Jet_pt"}, "range"),
    ],
)
def test_wrong_entries(card_with, entry, problem):
    with pytest.raises(ValueError, match=problem):
        card_with([], histograms={"expressions": {"x": entry}})


def test_lost_objects_are_lost_to_expressions_too(generated_mc, card_with, tmp_path):
    """Counters, tables and links know of them; what has no pT or index any more is filled nowhere."""
    axis = {"range": [-5.5, 1194.5], "bins": 1200}
    asked = {
        "tracks": "count(PFCands_charge != 0)",
        "candidates": "nPFCands",
        "pt": "PFCands_pt",
        "links": "nJetPFCands",
        "vertices": "nSV",
        "found": "count(SV_eta > -99)",
    }
    section = {
        "lost": {"kind": "tracking_efficiency", "loss": 0.5},
        "gone": {"kind": "vertex_efficiency", "loss": 0.5},
    }
    expressions = {name: {"expression": text, **axis} for name, text in asked.items()}
    card = card_with(
        [],
        regions={"all": {"selection": "all_jets"}},
        systematics=section,
        histograms={"expressions": expressions, "stored": "none"},
    )
    stage.run(card, "mc", str(generated_mc), tmp_path / "h.root", [])
    with JobResult(tmp_path / "h.root") as result:

        def of(name, systematic):
            variable, values = result.variables[name], result.read(name).values
            rows = [i for i, category in enumerate(variable.categories) if category.systematic == systematic]
            return values[rows].sum(axis=0)

        def mean(name, systematic):
            values = of(name, systematic)
            return values[1:-1] @ np.arange(-5, 1195) / values.sum()

        assert mean("tracks", "lost") == pytest.approx(0.5 * mean("tracks", "nominal"), rel=0.05)
        charged = mean("tracks", "nominal") - mean("tracks", "lost")
        assert mean("candidates", "nominal") - mean("candidates", "lost") == pytest.approx(charged)
        assert of("pt", "lost").sum() < 0.9 * of("pt", "nominal").sum()
        assert not of("pt", "lost")[:6].any()
        assert mean("links", "lost") < 0.9 * mean("links", "nominal")
        for name in ("vertices", "found"):
            assert mean(name, "gone") == pytest.approx(0.5 * mean(name, "nominal"), rel=0.2)
            assert mean(name, "lost") == mean(name, "nominal")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Jet_pt + Muon_pt", "mixes objects of two collections, Jet and Muon"),
        ("count(Jet_pt > Muon_pt)", "mixes objects of two collections, Jet and Muon"),
        ("sum(PV_npvs)", "sum is taken of a value that events have once"),
        ("Jet_pt & 1", "bitwise_and"),
    ],
)
def test_expressions_that_make_no_sense_lose_no_chunk(events, card_with, tmp_path, text, reason):
    """They are refused before any work, all at once, and not found in chunk after chunk."""
    histograms = {"expressions": {name: {"expression": text, "range": [0, 1]} for name in ("one", "two")}}
    factors = {"f": {"kind": "expression", "nominal": text}}
    card = card_with([], histograms=histograms, weights={"factors": factors})
    with pytest.raises(CardError, match=reason) as found:
        stage.run(card, "mc", str(events[1]), tmp_path / "h.root", [])
    assert len(str(found.value).splitlines()) == 3
    assert "weights.factors.f.nominal: " in str(found.value)
    assert not (tmp_path / "h.root").exists()


def test_objects_are_jets_by_name_and_not_by_number(card_with, tmp_path):
    """As many muons as jets in every event: they are muons all the same, in any chunk."""
    branches = content("mc", 7, 40)
    for name in [name for name in branches if name.startswith("Muon_")]:
        first = {"Muon_tightId": branches["Jet_pt"] > 0, "Muon_charge": branches["Jet_jetId"]}
        branches[name] = first.get(name, branches["Jet_pt"])
    path = write(tmp_path / "mc.root", branches)
    one = {"expression": "Muon_pt / sum(Jet_pt > 0)", "range": [0, 1000]}
    card = card_with([], regions={"leading": REGIONS["leading"]}, histograms={"expressions": {"x": one}})
    stage.run(card, "mc", str(path), tmp_path / "h.root", [])
    with JobResult(tmp_path / "h.root") as result:
        raw = result.cutflows["leading"].raw[-1]
        jets, muons = (np.count_nonzero(result.read(name).variances.sum(axis=0)) for name in ("jet_eta", "x"))
        assert raw > 0
        assert result.read("x").variances.sum() > 1.5 * result.read("jet_eta").variances.sum()
        assert jets
        assert muons


def test_a_damaged_basket_of_an_expression_costs_its_chunk_alone(card_with, tmp_path):
    """Looking at what an expression is reads nothing."""
    path = write(tmp_path / "mc.root", content("mc", 3, 120))
    damage(path, "Electron_pt", 0)
    one = {"expression": "Electron_pt", "range": [0, 100]}
    card = card_with([], regions={"all": {"selection": "all_jets"}}, histograms={"expressions": {"x": one}})
    with pytest.raises(Incomplete, match="1 of 3 chunks are lost"):
        stage.run(card, "mc", str(path), tmp_path / "h.root", [])
    with JobResult(tmp_path / "h.root") as result:
        assert result.read("x").values.sum() != 0
