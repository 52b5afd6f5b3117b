"""The shipped control regions against loops over events in plain Python, each key of the card changed in turn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import uproot
from pydantic import TypeAdapter

from pfnano_tag.analyze import stage
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.analyze.selections import (
    RECIPES,
    cut_quantities_of,
    has_factor,
    quantities_of,
    select,
    selection_branches,
    steps_of,
)
from pfnano_tag.analyze.variables import OF_REGIONS
from pfnano_tag.card.allowed import sections_in
from pfnano_tag.card.jets import Jets
from pfnano_tag.card.regions import Region
from pfnano_tag.errors import BadChunk, MissingBranch
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.prepare.cleaning import clean
from tests.analyze import region_loops
from tests.analyze.events_file import write
from tests.analyze.region_events import content

EVENTS = 8000
SOFT_MUON = {"soft_muon_pt": [8, 20], "soft_muon_isolation": 0.4, "soft_muon_distance": 0.15}
CHANGES = {
    "ttbar_dilepton": {
        "triggers": ["HLT_Mu8_TrkIsoVVL_Ele23_CaloIdL_TrackIdL_IsoVL_DZ"], "met_filters": ["Flag_goodVertices"],
        "muon_pt": 40, "electron_pt": 40, "jet_id": "tight", "lepton_jet_distance": 1, "min_jets": 1, "jets": "all",
    },
    "ttbar_semileptonic": {
        "triggers": [], "met_filters": [], "muon_pt": 40, "muon_isolation": 0.05, "met": "PuppiMET", "met_pt": 60,
        "jet_id": "none", "lepton_jet_distance": 1, "min_jets": 2, "jets": 2,
    },
    "w_c": {
        "lepton": "electron", "triggers": ["HLT_IsoMu24"], "met_filters": ["Flag_goodVertices"], "lepton_pt": 45,
        "lepton_isolation": 0.15, "lepton_dz": 0.005, "lepton_dxy": 0.001, "lepton_sip3d": 1,
        "lepton_jet_pt_ratio": 1, "soft_muon_dxy_significance": 4, "soft_muon_pt_ratio": 0.2, "energy_fraction": 0.5,
        "pair_mass": 30, "veto_mass": [40, 60], "met": "PuppiMET", "transverse_mass": 70, "jet_id": "tight",
        "lepton_jet_distance": 1, "num_jets": [2, 2], "subtract_same_sign": False, **SOFT_MUON,
    },
    "qcd": {
        "windows": {"HLT_PFJet40": [45, 60], "HLT_PFJet60?": [60, 110]}, "met_filters": ["Flag_goodVertices"],
        "jet_id": "tight", "jets": 1,
    },
    "qcd_muon": {
        "triggers": [], "met_filters": ["Flag_goodVertices"], "jet_id": "tight", "jets": "all", **SOFT_MUON,
    },
}  # fmt: skip
"""Another value of each key, by selection."""
NOT_HERE = {"selection", "prescales"}  # prescales: data alone


def region_of(selection, **keys):
    return TypeAdapter(Region).validate_python({"selection": selection, **keys})


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("regions") / "mc.root", content(events=EVENTS), cluster=EVENTS)
    return path, region_loops.read(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("regions") / "data.root", content("data", 3, 1500), cluster=1500)
    return path, region_loops.read(path)


def columnar(path, region):
    with PFNanoFile(path) as file:
        chunk = file.chunk(0, file.num_entries)
        everything = np.ones(len(chunk["Jet_pt"].values), dtype=bool)
        accepted = clean(chunk, Jets(), np.ones(chunk.num_events), everything).kept
        found = select(region, chunk, accepted, np.ones(chunk.num_events, dtype=bool))
        offsets = chunk["Jet_pt"].offsets
    rows = np.flatnonzero(found.jets)
    event = np.searchsorted(offsets, rows, side="right") - 1
    return found, list(zip(event.tolist(), (rows - offsets[event]).tolist(), strict=True))


def agree(sample, region):
    """Assert that both select the same; return the loop's result."""
    path, events = sample
    known = region
    if region.selection == "qcd":  # the loop knows nothing of optional paths
        windows = {name.removesuffix("?"): window for name, window in region.windows.items()}
        known = region.model_copy(update={"windows": windows})
    expected = getattr(region_loops, region.selection)(events, known)
    found, jets = columnar(path, region)
    left = {name: int(mask.sum()) for name, mask in found.steps}
    assert left == dict.fromkeys(left, 0) | expected.left
    assert tuple(left) == steps_of(region)
    assert jets == expected.jets
    selected = np.flatnonzero(found.events)
    assert selected.tolist() == list(expected.values)
    weights = found.weighted(np.ones(len(found.events)))[selected]
    assert weights.tolist() == list(expected.factors.values())
    assert found.factor is None or has_factor(region)
    assert set(found.event_values) == set(quantities_of(region))
    for name, values in found.event_values.items():
        wanted = [one[name] for one in expected.values.values()]
        np.testing.assert_allclose(values[selected], wanted, rtol=1e-5, atol=1e-3, err_msg=name)
    return expected


@pytest.fixture(scope="module")
def plain(sample):
    """What the loops select with the defaults, by selection."""
    return {name: agree(sample, region_of(name)) for name in CHANGES}


@pytest.mark.parametrize("selection", CHANGES)
def test_each_step_takes_events_away(plain, selection):
    left = list(plain[selection].left.values())
    without_loss = 1 if selection == "w_c" else 0  # OS - SS changes weights alone
    assert sum(a == b for a, b in pairwise(left)) == without_loss, plain[selection].left
    assert left[-1] > 10


@pytest.mark.parametrize(("selection", "key"), [(name, key) for name, keys in CHANGES.items() for key in keys])
def test_each_key_of_the_card_does_what_the_loop_does(sample, plain, selection, key):
    changed = agree(sample, region_of(selection, **{key: CHANGES[selection][key]}))
    before = plain[selection]
    assert (changed.left, changed.jets, changed.values) != (before.left, before.jets, before.values)


def test_all_keys_are_changed_above():
    sections = {section.model_fields["selection"].annotation.__args__[0]: section for section in sections_in(Region)}
    assert set(sections) == set(RECIPES)
    for name, keys in CHANGES.items():
        assert set(sections[name].model_fields) - NOT_HERE == set(keys)
    assert set(OF_REGIONS) == {name for recipe in RECIPES.values() for name in recipe.quantities}


@pytest.mark.parametrize("key", ["soft_muon_pt_ratio", "lepton_sip3d", "triggers", "veto_mass", "energy_fraction"])
def test_electrons_have_their_own_defaults_that_the_card_changes(sample, key):
    changed = {"triggers": ["HLT_IsoMu24"]} | CHANGES["w_c"]
    agree(sample, region_of("w_c", lepton="electron", **{key: changed[key]}))


def test_prescales_weight_data_alone(data, sample):
    region = region_of("qcd", prescales={"HLT_PFJet40": 50, "HLT_PFJet80": 7.5})
    assert set(agree(data, region).factors.values()) == {1, 7.5, 50}
    assert set(agree(sample, region).factors.values()) == {1}


def test_job_subtracts_same_sign_events(sample, card_with, tmp_path):
    card = card_with(models=(), regions={"c": {"selection": "w_c"}, "b": {"selection": "ttbar_dilepton"}})
    stage.run(card, "mc", str(sample[0]), tmp_path / "h.root")
    expected = region_loops.w_c(sample[1], region_of("w_c"))
    weights = {number: sample[1][number]["genWeight"] * factor for number, factor in expected.factors.items()}
    wanted = sum(weights.values())
    assert min(expected.factors.values()) == -1
    with JobResult(tmp_path / "h.root") as result:
        for name in ("jet_pt", "num_jets", "soft_muon_pt", "lepton_pair_mass"):
            places = [i for i, c in enumerate(result.variables[name].categories) if c.region == "c"]
            content = result.read(name)
            assert content.values[places].sum() == pytest.approx(wanted, rel=1e-6), name
            assert content.variances[places].sum() == pytest.approx(sum(w**2 for w in weights.values()), rel=1e-6)
        cutflow = result.cutflows["c"]
        assert cutflow.steps[-2:] == ("transverse mass", "OS - SS")
        assert cutflow.raw[-2] == cutflow.raw[-1] == len(weights)
        assert cutflow.weighted[-1] == pytest.approx(wanted, rel=1e-6)
        assert cutflow.weighted[-2] == pytest.approx(sum(sample[1][n]["genWeight"] for n in weights), rel=1e-6)
        assert {c.region for c in result.variables["electron_pt"].categories} == {"b"}
        assert {c.region for c in result.variables["lepton_pair_mass"].categories} == {"b", "c"}


def test_rows_of_jets_have_the_sign(sample, card_with, tmp_path):
    regions = {"c": {"selection": "w_c"}, "opposite": {"selection": "w_c", "subtract_same_sign": False}}
    card = card_with(models=(), regions=regions, arrays={"format": "root"})
    stage.run(card, "mc", str(sample[0]), tmp_path / "h.root")
    factors = region_loops.w_c(sample[1], region_of("w_c")).factors
    with uproot.open(tmp_path / "h.root.jets.root") as file:
        columns = file["Jets"].arrays(library="np")
    inside = columns["region_c"]
    found = dict(zip(columns["event"][inside].tolist(), columns["factor_c"][inside].tolist(), strict=True))
    assert found == {i + 1: factor for i, factor in factors.items()}
    assert set(found.values()) == {1, -1}
    assert "factor_opposite" not in columns
    assert (columns["factor_c"][columns["region_opposite"]] == 1).all()


@pytest.mark.parametrize("selection", CHANGES)
@pytest.mark.parametrize("name", ["nano_dy_mc_40ev.root", "nano_dimuon_data_40ev.root"])
def test_real_files_have_the_branches(shared_data, name, selection):
    region = region_of(selection, **({"triggers": ["HLT_IsoMu24"]} if selection == "ttbar_dilepton" else {}))
    with PFNanoFile(shared_data / name) as file:
        selection_branches(region, file.branches, file.path)
    columnar(shared_data / name, region)


def test_the_missing_momentum_of_later_files_is_found(sample, tmp_path):
    branches = content(events=500)
    write(tmp_path / "old.root", branches, cluster=500)
    for name in ("pt", "phi"):
        branches[f"PFMET_{name}"] = branches.pop(f"MET_{name}")
    write(tmp_path / "new.root", branches, cluster=500)
    region = region_of("ttbar_semileptonic", min_jets=1)
    old, new = (columnar(tmp_path / f"{age}.root", region) for age in ("old", "new"))
    assert old[1] == new[1] != []
    asked = region_of("ttbar_semileptonic", met="METFixEE2017")
    with PFNanoFile(tmp_path / "new.root") as file, pytest.raises(MissingBranch, match=r"METFixEE2017_pt; nearest"):
        selection_branches(asked, file.branches, file.path)


def test_windows_without_any_trigger_and_missing_identification_are_named():
    branches = frozenset({"Jet_jetId", "HLT_PFJet30", "Electron_pt", "Muon_pt"})
    with pytest.raises(MissingBranch, match=r"none of the triggers HLT_A\? is in the file"):
        selection_branches(region_of("qcd", windows={"HLT_A?": [1, 2]}), branches, "f")
    with pytest.raises(MissingBranch, match=r"region qcd needs .*\n  HLT_PFJet40; nearest: HLT_PFJet30"):
        selection_branches(region_of("qcd", windows={"HLT_PFJet40": [1, 2]}), branches, "f")
    muons = {f"Muon_{name}" for name in ("pt", "eta", "phi", "charge", "tightId", "pfRelIso04_all")}
    with pytest.raises(MissingBranch, match=r"region ttbar_dilepton: .*electrons with tight .*Electron_cutBased"):
        selection_branches(region_of("ttbar_dilepton", triggers=[]), branches | muons, "f")


def test_a_link_beyond_the_events_jets_costs_the_chunk(tmp_path):
    branches = content(events=300)
    branches["Muon_jetIdx"] = branches["Muon_jetIdx"] * 0 + 9
    path = write(tmp_path / "bad.root", branches, cluster=300)
    with pytest.raises(BadChunk, match=r"Muon_jetIdx is 9 in entry \d+, which has \d jets"):
        columnar(path, region_of("qcd_muon"))


OPENED = {
    "dy": {"dilepton_mass": {"mass": [0, 1e9]}, "dilepton_pt": {"dilepton_pt": 0}},
    "ttbar_dilepton": {"num_jets": {"min_jets": 1}},
    "ttbar_semileptonic": {"met": {"met_pt": 1e-9}, "num_jets": {"min_jets": 1}},
    "w_c": {
        "num_jets": {"num_jets": [1, 1000]},
        "soft_muon_pt_ratio": {"soft_muon_pt_ratio": 1e9},
        "lepton_pair_mass": {"pair_mass": 1e-9, "veto_mass": [0, 0]},
        "transverse_mass": {"transverse_mass": 1e-9},
    },
}
"""Keys of the card that take a cut away, by the quantity that it is on."""


@pytest.mark.parametrize(("selection", "quantity"), [(name, one) for name, cuts in OPENED.items() for one in cuts])
def test_a_quantity_without_its_cut_is_that_of_a_region_with_the_cut_open(sample, files, selection, quantity):
    region = region_of(selection)
    assert quantity in cut_quantities_of(region)
    path = files["mc"] if selection == "dy" else sample[0]
    found, _ = columnar(path, region)
    opened, _ = columnar(path, region_of(selection, **OPENED[selection][quantity]))
    passed, values = found.without_cut[quantity]
    at_least_one_jet = found.leading >= 0
    assert passed.sum() > found.events.sum()
    # an open range of jets or masses still asks for one
    assert np.array_equal(passed & at_least_one_jet & (values > 1e-9), opened.events & (values > 1e-9))
    of_events = opened.event_values.get(quantity, opened.num_jets)
    np.testing.assert_array_equal(values[opened.events], np.asarray(of_events, dtype=float)[opened.events])


def test_every_cut_on_a_quantity_is_opened_above():
    for name, recipe in RECIPES.items():
        assert set(recipe.cut_on) == set(OPENED.get(name, {})) | ({"num_jets"} if name == "dy" else set())


def test_the_job_fills_quantities_without_their_cuts(sample, card_with, tmp_path):
    """Where no jet is selected too: all events that pass the other cuts, with their weights."""
    section = {"selection": "ttbar_semileptonic", "min_jets": 5}
    card = card_with([], regions={"top": section}, resources={"chunk": 1000})
    stage.run(card, "mc", str(sample[0]), tmp_path / "h.root", [])
    found, _ = columnar(sample[0], region_of(**section))
    with PFNanoFile(sample[0]) as file, JobResult(tmp_path / "h.root") as result:
        weight = file.chunk(0, EVENTS)["genWeight"].astype(float)
        for quantity in ("num_jets", "met"):
            passed, values = found.without_cut[quantity]
            variable = result.variables[f"without_cut_{quantity}"]
            edges = [-np.inf, *variable.edges, np.inf]
            expected, _ = np.histogram(values[passed], edges, weights=weight[passed])
            np.testing.assert_allclose(result.read(variable.name).values.sum(axis=0), expected, atol=1e-9)
            assert passed.sum() > found.events.sum()
