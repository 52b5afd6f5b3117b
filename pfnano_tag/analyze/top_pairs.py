"""Top pairs, enriched in b jets: with a muon and an electron, or with one muon.

Cuts are those of cms-btv-pog/BTVNanoCommissioning (workflows/ttdilep_valid_sf.py, workflows/ttsemilep_valid_sf.py).
Jets near the selected leptons are left out, not those near any muon: b jets with a muon inside would go.
"""

from __future__ import annotations

from pfnano_tag.analyze.cuts import (
    Mask,
    OnePerEvent,
    Recipe,
    Selection,
    Steps,
    identified,
    jet_id_branches,
    jets_per_event,
    near,
    pair_kinematics,
    transverse_mass,
)
from pfnano_tag.card.regions import TopPairDilepton, TopPairSemileptonic
from pfnano_tag.nano.leptons import electron_branches, electrons, muon_branches, muons
from pfnano_tag.nano.reader import Chunk


def _dilepton(region: TopPairDilepton, chunk: Chunk, acceptance: Mask, steps: Steps) -> Selection:
    all_muons, all_electrons = muons(chunk, region.muon_pt), electrons(chunk, region.electron_pt, "tight")
    muon, electron = OnePerEvent.leading(all_muons), OnePerEvent.leading(all_electrons)
    steps.add("one muon", all_muons.counts == 1)
    steps.add("one electron", all_electrons.counts == 1)
    steps.add("opposite charge", muon.charge * electron.charge < 0)
    good = acceptance & identified(chunk, region.jet_id) & ~near(chunk, (muon, electron), region.lepton_jet_distance)
    num_jets = jets_per_event(chunk, good)
    steps.add("jets", num_jets >= region.min_jets, "num_jets", num_jets)
    mass, _ = pair_kinematics(muon, electron)
    values = {"muon_pt": muon.pt, "electron_pt": electron.pt, "lepton_pair_mass": mass}
    return steps.selection(chunk, good, region.jets, values)


def _semileptonic(region: TopPairSemileptonic, chunk: Chunk, acceptance: Mask, steps: Steps) -> Selection:
    all_muons = muons(chunk, region.muon_pt, region.muon_isolation)
    muon = OnePerEvent.leading(all_muons)
    steps.add("one muon", all_muons.counts == 1)
    met, phi = chunk[f"{region.met}_pt"], chunk[f"{region.met}_phi"]
    steps.add("missing momentum", met > region.met_pt, "met", met)
    good = acceptance & identified(chunk, region.jet_id) & ~near(chunk, (muon,), region.lepton_jet_distance)
    num_jets = jets_per_event(chunk, good)
    steps.add("jets", num_jets >= region.min_jets, "num_jets", num_jets)
    values = {"muon_pt": muon.pt, "met": met.astype("f8"), "transverse_mass": transverse_mass(muon, met, phi)}
    return steps.selection(chunk, good, region.jets, values)


DILEPTON = Recipe(
    select=_dilepton,
    steps=lambda region: ("one muon", "one electron", "opposite charge", "jets"),
    triggers=lambda region: region.triggers,
    branches=lambda region: jet_id_branches(region.jet_id),
    leptons=lambda region, branches: (*muon_branches(branches), *electron_branches(branches, "tight")),
    quantities=("muon_pt", "electron_pt", "lepton_pair_mass"),
    cut_on=("num_jets",),
)

SEMILEPTONIC = Recipe(
    select=_semileptonic,
    steps=lambda region: ("one muon", "missing momentum", "jets"),
    triggers=lambda region: region.triggers,
    branches=lambda region: (*jet_id_branches(region.jet_id), f"{region.met}_pt", f"{region.met}_phi"),
    leptons=lambda region, branches: muon_branches(branches),
    quantities=("muon_pt", "met", "transverse_mass"),
    cut_on=("met", "num_jets"),
)
