"""Pile-up weights from two histograms, and factors by expression."""

from __future__ import annotations

import re
from pathlib import Path

import hist
import numpy as np
import pytest
import uproot

from pfnano_tag.analyze.factors import ready_factors
from pfnano_tag.analyze.pileup import read_pileup
from pfnano_tag.card.weights import PileupFactor
from pfnano_tag.errors import CardError, DataError
from pfnano_tag.nano.expressions import evaluate
from pfnano_tag.nano.reader import PFNanoFile
from tests.analyze.events_file import content, write

SIMULATION = np.array([1.0, 4.0, 0.0, 3.0, 2.0])
DATA = {"pileup": [2.0, 2.0, 4.0, 6.0, 6.0], "pileup_up": [1.0, 1.0, 0.0, 4.0, 4.0]}


@pytest.fixture
def profiles(tmp_path):
    """Files of data and simulation, five bins of width 20."""
    edges = np.linspace(0, 100, 6)
    with uproot.recreate(tmp_path / "data.root") as file:
        for name, values in DATA.items():
            file[name] = (np.array(values), edges)
        file["other"] = (np.ones(4), np.linspace(0, 80, 5))
        file["empty"] = (np.zeros(5), edges)
        file["flat"] = hist.Hist.new.Reg(2, 0, 1).Reg(2, 0, 1).Double()
    with uproot.recreate(tmp_path / "simulation.root") as file:
        file["folder/mix"] = (SIMULATION, edges)
    return tmp_path


def section(profiles, **changed):
    data = str(profiles / "data.root")
    return {
        "kind": "pileup",
        "data": {"file": data},
        "simulation": {"file": str(profiles / "simulation.root"), "histogram": "folder/mix"},
        "up": {"file": data, "histogram": "pileup_up"},
        **changed,
    }


def test_the_weight_is_the_ratio_of_the_normalised_profiles(profiles, caplog):
    found = read_pileup("pu", PileupFactor.model_validate(section(profiles)))
    interactions = np.array([0.0, 19.9, 20.0, 50.0, 79.0, 99.0, 100.0, 250.0, -1.0])
    weights = found.of(interactions)
    # normalised: simulation .1 .4 0 .3 .2; data .1 .1 .2 .3 .3; up .1 .1 0 .4 .4
    np.testing.assert_allclose(weights["nominal"], [1, 1, 0.25, 0, 1, 1.5, 0, 0, 0])
    np.testing.assert_allclose(weights["up"], [1, 1, 0.25, 0, 4 / 3, 2, 0, 0, 0])
    assert "weights.factors.pu.data: 0.2 of the data lies in 1 bins without simulation" in caplog.text
    assert "pu.up" not in caplog.text
    assert np.isnan(found.of(np.array([np.nan]))["nominal"]).all()


def test_reweighted_simulation_has_the_profile_of_data(profiles):
    rng = np.random.default_rng(1)
    events = rng.choice(5, 200_000, p=SIMULATION / SIMULATION.sum())
    with uproot.update(profiles / "simulation.root") as file:
        file["all"] = (np.array([1.0, 4.0, 1.0, 3.0, 2.0]), np.linspace(0, 100, 6))
    factor = PileupFactor.model_validate(section(profiles))
    weights = read_pileup("pu", factor).of(events * 20.0 + 10)["nominal"]
    found = np.bincount(events, weights, 5) / len(events)
    np.testing.assert_allclose(found, [0.1, 0.1, 0.0, 0.3, 0.3], atol=0.005)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"histogram": "pilup"}, ("'pilup' is not in the file", "pileup")),
        ({"histogram": "other"}, ("4 bins in 0 to 80", "simulation has 5 bins in 0 to 100")),
        ({"histogram": "empty"}, ("no distribution",)),
        ({"histogram": "flat"}, ("TH2", "one dimension")),
        ({"file": "nowhere.root"}, ("nowhere.root: no such file",)),
    ],
)
def test_what_is_no_profile_is_named(profiles, changed, words):
    profile = {"file": str(profiles / "data.root"), **changed}
    with pytest.raises(CardError) as error:
        read_pileup("pu", PileupFactor.model_validate(section(profiles, data=profile, up=profile)))
    assert str(error.value).count("weights.factors.pu.") == 2  # data and up
    for word in words:
        assert word in str(error.value)


def test_a_file_that_is_no_root_file(profiles):
    (profiles / "data.root").write_text("text" * 100)
    with pytest.raises(CardError, match="data.root: can't be read as a ROOT file"):
        read_pileup("pu", PileupFactor.model_validate(section(profiles)))


def values_of(card, path, name):
    with PFNanoFile(path) as file:
        chunk = file.chunk(0, file.num_entries)
        return ready_factors(card, card.dataset("mc"))[name].evaluate(chunk)[0]


def test_the_factor_reads_the_branch_that_the_card_names(profiles, tmp_path, card_with):
    interactions = np.random.default_rng(2).uniform(0, 120, 40).astype("f4")
    path = write(tmp_path / "e.root", {**content("mc", 1, 40), "Interactions": interactions})
    card = card_with(weights={"factors": {"pu": section(profiles, branch="Interactions")}})
    assert card.weights.variations == ("pu_up",)
    found = values_of(card, path, "pu")
    expected = read_pileup("pu", card.weights.factors["pu"]).of(interactions.astype(float))
    for way in ("nominal", "up"):
        np.testing.assert_array_equal(found[way], expected[way])


def test_a_factor_by_expression(tmp_path, card_with):
    branches = content("mc", 1, 40)
    path = write(tmp_path / "e.root", branches)
    section = {
        "kind": "expression",
        "nominal": "exp(0.0615 - 0.0005 * sum(where(abs(Jet_hadronFlavour) == 5, Jet_pt, 0)))",
        "up": "1 + 0 * genWeight",
    }
    found = values_of(card_with(weights={"factors": {"top": section}}), path, "top")
    for event in range(40):
        pt = sum(
            float(p)
            for p, flavour in zip(branches["Jet_pt"][event], branches["Jet_hadronFlavour"][event], strict=True)
            if flavour == 5
        )
        assert found["nominal"][event] == pytest.approx(np.exp(0.0615 - 0.0005 * pt), rel=1e-6)
    np.testing.assert_array_equal(found["up"], 1)


def test_an_expression_per_object_is_no_weight_of_an_event(tmp_path, card_with):
    path = write(tmp_path / "e.root", content("mc", 1, 40))
    card = card_with(weights={"factors": {"top": {"kind": "expression", "nominal": "Jet_pt"}}})
    with pytest.raises(DataError, match=r"weights\.factors\.top\.nominal: 'Jet_pt' has a value per object"):
        values_of(card, path, "top")


def test_the_documented_top_pt_weight(shared_data):
    text = (Path(__file__).resolve().parents[2] / "docs" / "data_mc.md").read_text()
    expression = re.search(r"top_pt:.*?nominal: >-\n\s+(.*?)\n", text, re.S).group(1)
    # the file has no top quarks: gluons stand for them
    expression = expression.replace("== 6", "== 21")
    with PFNanoFile(shared_data / "pfnano_qcd_mc_2017UL_10ev.root") as file:
        found = evaluate(expression, file.chunk(0, file.num_entries))
        with uproot.open(file.path) as raw:
            names = ("pdgId", "statusFlags", "pt")
            pdg, flags, pt = (raw[f"Events/GenPart_{name}"].array().tolist() for name in names)
    for event in range(10):
        last = [p for i, f, p in zip(pdg[event], flags[event], pt[event], strict=True) if i == 21 and f & (1 << 13)]
        assert found[event] == pytest.approx(np.exp(0.0615 - 0.00025 * sum(last)), rel=1e-6)
    assert len(set(found.tolist())) > 5
