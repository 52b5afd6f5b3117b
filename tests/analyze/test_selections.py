"""The cutflow of the DY+jets selection against an independent loop over events, in plain Python."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import uproot

from pfnano_tag.analyze.cuts import leading
from pfnano_tag.analyze.selections import select, selection_branches, steps_of
from pfnano_tag.card.jets import Jets
from pfnano_tag.card.regions import MET_FILTERS, AllJets, DrellYan
from pfnano_tag.errors import MissingBranch
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.prepare.cleaning import clean
from tests.analyze.events_file import ELECTRON_PATH, MUON_PATH, content, write

GENERATED = ("mc", "data")


def distance(a, b):
    d_phi = math.remainder(a["phi"] - b["phi"], 2 * math.pi)
    return math.hypot(a["eta"] - b["eta"], d_phi)


def four_vector(lepton, mass):
    pt, eta, phi = lepton["pt"], lepton["eta"], lepton["phi"]
    px, py, pz = pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)
    return px, py, pz, math.sqrt(px**2 + py**2 + pz**2 + mass**2)


def objects(event, name):
    fields = [key for key in event if key.startswith(f"{name}_")]
    return [{key.removeprefix(f"{name}_"): event[key][i] for key in fields} for i in range(len(event[f"{name}_pt"]))]


def good_muon(m):
    return m["pt"] > 12 and abs(m["eta"]) < 2.4 and m["tightId"] and m["pfRelIso04_all"] <= np.float32(0.15)


def good_electron(e):
    supercluster = abs(e["eta"] + e["deltaEtaSC"])
    barrel_or_endcap = supercluster < 1.4442 or supercluster > 1.566
    return e["pt"] > 15 and abs(e["eta"]) < 2.5 and barrel_or_endcap and e["mvaFall17V2Iso_WP80"]


def loop(path, lepton):
    """Return events left after each step, and the jets that are filled, as (event, jet)."""
    with uproot.open(path) as file:
        tree = file["Events"]
        names = [
            n
            for n in (branch.name for branch in tree.branches)
            if n.startswith(("Muon_", "Electron_", "Jet_")) or n in MET_FILTERS
        ]
        columns = tree.arrays([*names, MUON_PATH, ELECTRON_PATH], library="ak").to_list()
    trigger, mass, high = (MUON_PATH, 0.1056583755, 20) if lepton == "muon" else (ELECTRON_PATH, 0.000511, 26)
    left, filled = [0] * 8, []
    for number, event in enumerate(columns):
        muons = [m for m in objects(event, "Muon") if good_muon(m)]
        electrons = [e for e in objects(event, "Electron") if good_electron(e)]
        ours, others = (muons, electrons) if lepton == "muon" else (electrons, muons)
        left[0] += 1
        if not event[trigger]:
            continue
        left[1] += 1
        if not all(event[name] for name in MET_FILTERS):
            continue
        left[2] += 1
        positive = sorted((o for o in ours if o["charge"] > 0), key=lambda o: -o["pt"])
        negative = sorted((o for o in ours if o["charge"] < 0), key=lambda o: -o["pt"])
        if not positive or not negative or max(positive[0]["pt"], negative[0]["pt"]) <= high:
            continue
        left[3] += 1
        if others:
            continue
        left[4] += 1
        pair = [positive[0], negative[0]]
        px, py, pz, energy = (sum(c) for c in zip(*(four_vector(o, mass) for o in pair), strict=True))
        if not 61 < math.sqrt(max(energy**2 - px**2 - py**2 - pz**2, 0)) < 121:
            continue
        left[5] += 1
        if not math.hypot(px, py) > 15:
            continue
        left[6] += 1
        jets = [
            (j["pt"], i)
            for i, j in enumerate(objects(event, "Jet"))
            if 20 <= j["pt"] <= 1000 and abs(j["eta"]) <= 2.5 and j["jetId"] >= 4
            and all(distance(j, o) > 0.4 for o in pair + muons + electrons)
        ]  # fmt: skip
        if not jets:
            continue
        left[7] += 1
        filled.append((number, max(jets)[1]))
    return left, filled


def columnar(path, region):
    with PFNanoFile(path) as file:
        chunk = file.chunk(0, file.num_entries)
        events = np.ones(file.num_entries, dtype=bool)
        jets = chunk["Jet_pt"]
        accepted = clean(chunk, Jets(), np.ones(len(events)), np.ones(len(jets.values), dtype=bool)).kept
        found = select(region, chunk, accepted, events)
    rows = np.flatnonzero(found.jets)
    event = np.searchsorted(jets.offsets, rows, side="right") - 1
    return found, list(zip(event.tolist(), (rows - jets.offsets[event]).tolist(), strict=True))


@pytest.mark.parametrize("lepton", ["muon", "electron"])
@pytest.mark.parametrize("name", ["nano_dy_mc_40ev.root", "nano_dimuon_data_40ev.root"])
def test_cutflow_of_real_files(shared_data, name, lepton):
    region = DrellYan(selection="dy", lepton=lepton)
    left, filled = loop(shared_data / name, lepton)
    found, jets = columnar(shared_data / name, region)
    assert [int(mask.sum()) for _, mask in found.steps] == left
    assert jets == filled


@pytest.mark.parametrize("lepton", ["muon", "electron"])
@pytest.mark.parametrize("kind", GENERATED)
def test_cutflow_of_random_files(tmp_path, kind, lepton):
    path = write(tmp_path / "many.root", content(kind, 7, 2000), cluster=2000)
    left, filled = loop(path, lepton)
    found, jets = columnar(path, DrellYan(selection="dy", lepton=lepton))
    assert [int(mask.sum()) for _, mask in found.steps] == left
    assert jets == filled
    assert left[-1] > 10
    assert all(a > b for a, b in pairwise(left))


@pytest.mark.parametrize("fixture", ["generated_dy", "generated_data"])
def test_cutflow_of_generated_files(request, fixture):
    path = request.getfixturevalue(fixture)
    left, filled = loop(path, "muon")
    found, jets = columnar(path, DrellYan(selection="dy"))
    assert [int(mask.sum()) for _, mask in found.steps] == left
    assert jets == filled
    assert left[-1] > 0


def test_steps_are_named_as_promised(files):
    for region in (DrellYan(selection="dy"), AllJets(selection="all_jets", triggers=("HLT_IsoMu27",))):
        found, _ = columnar(files["mc"], region)
        assert tuple(name for name, _ in found.steps) == steps_of(region)


def test_all_jets_takes_every_accepted_jet(files):
    found, jets = columnar(files["mc"], AllJets(selection="all_jets"))
    with uproot.open(files["mc"]) as file:
        pt = file["Events/Jet_pt"].array()
    assert 0 < len(jets) < len(np.concatenate([np.asarray(x) for x in pt]))
    assert found.num_jets.sum() == len(jets) == found.jets.sum()


def test_leading_takes_the_hardest_of_each_event():
    pt = np.array([3.0, 9.0, 9.0, 5.0, 8.0])
    offsets = np.array([0, 3, 3, 5])
    assert leading(pt, offsets, np.array([True, True, True, True, False])).tolist() == [1, -1, 3]


def test_optional_trigger_may_be_missing_others_may_not():
    branches = frozenset({"HLT_IsoMu27"})
    region = AllJets(selection="all_jets", triggers=("HLT_IsoMu24?", "HLT_IsoMu27"))
    assert selection_branches(region, branches, "f") == ("HLT_IsoMu27",)
    with pytest.raises(MissingBranch, match=r"HLT_IsoMu24; nearest: HLT_IsoMu27"):
        selection_branches(AllJets(selection="all_jets", triggers=("HLT_IsoMu24",)), branches, "f")
    with pytest.raises(MissingBranch, match="none of the triggers"):
        selection_branches(AllJets(selection="all_jets", triggers=("HLT_IsoMu24?",)), branches, "f")


def test_other_electron_identification_is_named(tmp_path):
    branches = content("mc", 1, 20)
    branches["Electron_mvaFall17V1Iso_WP80"] = branches.pop("Electron_mvaFall17V2Iso_WP80")
    path = write(tmp_path / "old.root", branches)
    wanted = r"old\.root.*Electron_mvaIso_WP80 \(nearest: Electron_mvaFall17V1Iso_WP80"
    with PFNanoFile(path) as file, pytest.raises(MissingBranch, match=wanted):
        selection_branches(DrellYan(selection="dy"), file.branches, file.path)
