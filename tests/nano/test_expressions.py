"""Expressions of the card: the same as NumPy's on each event's objects; what is not arithmetic is refused."""

from __future__ import annotations

import numpy as np
import pytest

from pfnano_tag.card.expressions import parsed
from pfnano_tag.errors import BadChunk
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.expressions import evaluate, expression_branches
from pfnano_tag.nano.reader import PFNanoFile
from tests.analyze.events_file import content, write


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    branches = content("mc", 8, 50)
    return branches, write(tmp_path_factory.mktemp("expressions") / "e.root", branches)


PER_EVENT = {
    "PV_npvs * 2 + 1": lambda e: e["PV_npvs"] * 2 + 1,
    "genWeight / abs(genWeight)": lambda e: np.sign(np.float64(e["genWeight"])),
    "where(PV_npvs > 20, 1.5, -PV_npvs)": lambda e: 1.5 if e["PV_npvs"] > 20 else -float(e["PV_npvs"]),
    "10 < PV_npvs <= 30": lambda e: 10 < e["PV_npvs"] <= 30,
    "(PV_npvs > 10) & ~(PV_npvs > 30)": lambda e: e["PV_npvs"] > 10 and not e["PV_npvs"] > 30,
    "PV_npvs > 10 and not PV_npvs > 30": lambda e: e["PV_npvs"] > 10 and not e["PV_npvs"] > 30,
    "sum(Jet_pt)": lambda e: sum(map(float, e["Jet_pt"])),
    "count(Jet_pt > 30)": lambda e: sum(pt > 30 for pt in e["Jet_pt"]),
    "any(abs(Jet_eta) > 2)": lambda e: any(abs(eta) > 2 for eta in e["Jet_eta"]),
    "all(abs(Jet_eta) < 2)": lambda e: all(abs(eta) < 2 for eta in e["Jet_eta"]),
    "event % 7 - 8": lambda e: int(e["event"]) % 7 - 8,  # unsigned in the file
    "hypot(PV_npvs, 3) ** 2 // 1": lambda e: (np.hypot(e["PV_npvs"], 3) ** 2) // 1,
}


@pytest.mark.parametrize("text", PER_EVENT)
def test_values_of_events(events, text):
    branches, path = events
    with PFNanoFile(path) as file:
        found = evaluate(text, file.chunk(0, 50))
    expected = [PER_EVENT[text]({name: value[i] for name, value in branches.items()}) for i in range(50)]
    np.testing.assert_allclose(np.asarray(found, dtype=float), np.array(expected, dtype=float), rtol=1e-12)


def test_values_of_events_are_repeated_for_objects(events):
    branches, path = events
    with PFNanoFile(path) as file:
        found = evaluate("Jet_pt * cosh(Jet_eta) / PV_npvs", file.chunk(0, 50))
    assert isinstance(found, Jagged)
    row = 0
    for i in range(50):
        for pt, eta in zip(branches["Jet_pt"][i], branches["Jet_eta"][i], strict=True):
            expected = float(pt) * np.cosh(float(eta)) / branches["PV_npvs"][i]
            assert found.values[row] == pytest.approx(expected, rel=1e-12)
            row += 1
    assert row == len(found.values)


def test_names_are_those_of_branches():
    assert expression_branches("where(Jet_pt > 3 * pi, Jet_pt, MET_pt)") == ("Jet_pt", "MET_pt")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no expression"),
        ("Jet_pt +", "no expression"),
        ("3 + 4", "names no branch"),
        ("__import__('os').system('true')", "can't be said here|no function"),
        ("Jet_pt.values", "can't be said here"),
        ("Jet_pt[0]", "can't be said here"),
        ("[x for x in Jet_pt]", "can't be said here"),
        ("lambda: Jet_pt", "can't be said here"),
        ("(Jet_pt := 3)", "can't be said here"),
        ("Jet_pt if MET_pt else 1", "can't be said here"),
        ("'a' + Jet_pt", "can't be said here"),
        ("open(Jet_pt)", "no function 'open'"),
        ("sqrt(Jet_pt, 2)", "sqrt takes 1 values, not 2"),
        ("sqrt(x=Jet_pt)", "can't be said here"),
        ("(" * 500 + "Jet_pt" + ")" * 500, "no expression"),
    ],
)
def test_what_is_not_arithmetic_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        parsed(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Jet_pt + Muon_pt", "two collections"),
        ("sum(PV_npvs)", "sum is taken of a value that events have once"),
        ("genWeight & 1", "bitwise_and"),
    ],
)
def test_what_makes_no_sense_for_the_columns_is_a_bad_chunk(events, text, problem):
    with PFNanoFile(events[1]) as file, pytest.raises(BadChunk, match=problem):
        evaluate(text, file.chunk(0, 50))


def test_flags_count_and_whole_numbers_divide_as_numbers_do(events):
    """NumPy's own answers differ: True + True is True, 1 // 0 is 0, exp(True) has three digits, 2 ** -1 an error."""
    with PFNanoFile(events[1]) as file:
        chunk = file.chunk(0, 50)
        both = evaluate("(Muon_pt > 0) + (Muon_pt > 0)", chunk).values
        assert set(both.tolist()) == {2}
        np.testing.assert_allclose(evaluate("exp(Muon_pt > 0)", chunk).values, np.exp(1.0), rtol=1e-15)
        for text, value in {
            "(0 * PV_npvs + 2) ** -1 * (2 * 3) ** (1 + 1)": 18.0,
            "(0 * PV_npvs + 1) // (0 * PV_npvs)": np.inf,
            "(0 * PV_npvs + 1) % 0": np.nan,
            "7 % (0 * PV_npvs + 4)": 3,
            "-(PV_npvs >= 0)": -1,
        }.items():
            np.testing.assert_array_equal(evaluate(text, chunk), np.full(50, value), err_msg=text)
        assert evaluate("Jet_pt * 2 ** 2", chunk).values[0] == 4 * float(chunk["Jet_pt"].values[0])
