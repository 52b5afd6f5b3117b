"""Sections `datasets` (data) and `weights`: what contradicts itself is refused with the reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.card import Card

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data_mc.md"

MC = {"name": "ttbar", "files": ["t.root"], "kind": "mc", "cross_section": 831.8}


def data(name, **keys):
    return {"name": name, "files": ["d.root"], "kind": "data", "luminosity": 2.0, "roles": ["analyze"], **keys}


def card(*datasets, **sections):
    return Card.model_validate({"study": {"name": "small"}, "datasets": [MC, *datasets], **sections})


def period(**second):
    first = data("muons", period="F", triggers=["HLT_Mu", "HLT_Late?"])
    return first, data("electrons", **{"period": "F", "triggers": ["HLT_Ele"], **second})


def test_datasets_of_one_period_leave_events_to_each_other():
    first, second = period(vetoes=["HLT_Mu?", "HLT_Late"])
    assert card(first, second).dataset("electrons").vetoes == ("HLT_Mu?", "HLT_Late")
    card(second, first)  # whichever stands first
    card(data("B"), data("C", luminosity=3.0))  # periods of their own


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({}, "may stand in both muons and electrons of period 'F'"),
        ({"vetoes": ["HLT_Mu"]}, "may stand in both"),  # HLT_Late is left out
        ({"vetoes": ["HLT_Mu", "HLT_Late"], "luminosity": 3.0}, "same luminosity .1/fb.: muons 2, electrons 3"),
        ({"vetoes": ["HLT_Mu", "HLT_Late"], "lumi_mask": "g.json"}, "same lumi_mask: muons None, electrons g.json"),
        ({"vetoes": ["HLT_Ele"]}, "triggers and vetoes both have HLT_Ele"),
        ({"vetoes": ["HLT_Mu"], "period": None}, "name the period"),
    ],
)
def test_a_period_that_counts_events_twice_is_refused(second, words):
    with pytest.raises(ValueError, match=words):
        card(*period(**second))


@pytest.mark.parametrize("keys", [{"period": "F"}, {"triggers": ["HLT_Mu"]}, {"vetoes": ["HLT_Mu"]}])
def test_simulation_has_no_period_and_no_triggers_of_its_own(keys):
    with pytest.raises(ValueError, match="belong to datasets of kind data"):
        Card.model_validate({"study": {"name": "small"}, "datasets": [{**MC, **keys}]})


def factor(**keys):
    return {"kind": "branches", "nominal": "A", **keys}


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ({"pu": factor(datasets=["ttbra"])}, r"weights\.factors\.pu\.datasets: 'ttbra' .* nearest: ttbar"),
        ({"pu": factor(datasets=["muons"])}, "'muons' is no dataset of simulation"),
        ({"p/u": factor()}, "'p/u' is no name"),
        ({"a": factor(up="U"), "a_up": factor(kind="expression", nominal="B")}, None),
        ({"it": {"kind": "expression", "nominal": "1 +"}}, "is no expression"),
    ],
)
def test_factors(factors, words):
    if words is None:
        assert card(data("muons"), weights={"factors": factors}).weights.variations == ("a_up",)
        return
    with pytest.raises(ValueError, match=words):
        card(data("muons"), weights={"factors": factors})


def test_files_of_factors_and_their_variations_in_order():
    profile = {"file": "data.root"}
    pileup = {"kind": "pileup", "data": profile, "up": profile, "simulation": {"file": "mc.root"}}
    lookup = {
        "kind": "correctionlib",
        "file": "sf.json",
        "correction": "c",
        "inputs": {"pt": "Muon_pt", "year": "2017", "wp": 3},
        "variation": {"input": "s", "up": "u", "down": "d"},
    }
    weights = card(weights={"factors": {"pu": pileup, "sf": lookup}}).weights
    assert weights.files == ("data.root", "mc.root", "sf.json")
    assert weights.variations == ("pu_up", "sf_up", "sf_down")
    assert weights.factors["sf"].inputs == {"pt": "Muon_pt", "year": "2017", "wp": 3}


def test_the_examples_of_the_documentation_are_cards(tmp_path):
    blocks = [text for text in re.findall("```yaml\n(.*?)```", DOCS.read_text(), re.S) if "study:" not in text]
    start = "study: {name: small}\n"
    simulation = "  - {name: ttbar, files: t.root, kind: mc, cross_section: 1}\n"
    read = 0
    for text in blocks:
        if "datasets:\n" in text:
            text = text.replace("datasets:\n", "datasets:\n" + simulation, 1)
        else:
            text = f"datasets:\n{simulation}{text}"
        path = tmp_path / "card.yaml"
        path.write_text(start + text)
        read_card(str(path))
        read += 1
    assert read >= 3
