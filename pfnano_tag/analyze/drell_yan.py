"""DY+jets, enriched in light jets (cms-btv-pog/BTVNanoCommissioning: workflows/ctag_DY_valid_sf.py)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pfnano_tag.analyze.cuts import (
    Mask,
    OnePerEvent,
    Recipe,
    Selection,
    Steps,
    identified,
    jet_id_branches,
    jets_per_event,
    leading,
    near,
    pair_kinematics,
)
from pfnano_tag.card.regions import DrellYan
from pfnano_tag.nano.leptons import Leptons, electron_branches, electrons, muon_branches, muons
from pfnano_tag.nano.reader import Chunk

TRIGGERS = {
    "muon": ("HLT_Mu17_TrkIsoVVL_Mu8_TrkIsoVVL_DZ_Mass8",),
    "electron": ("HLT_Ele23_Ele12_CaloIdL_TrackIdL_IsoVL",),
}
"""Double-lepton paths of 2017."""

LEADING_PT = {"muon": 20.0, "electron": 26.0}
SUBLEADING_PT = {"muon": 12.0, "electron": 15.0}
OTHER = {"muon": "electron", "electron": "muon"}
READERS: dict[str, Callable[..., Leptons]] = {"muon": muons, "electron": electrons}
LEPTON_JET_DISTANCE = 0.4
"""Delta R between a jet and each of the two selected leptons."""


def _select(region: DrellYan, chunk: Chunk, acceptance: Mask, steps: Steps) -> Selection:
    low = SUBLEADING_PT[region.lepton] if region.subleading_pt is None else region.subleading_pt
    high = LEADING_PT[region.lepton] if region.leading_pt is None else region.leading_pt
    leptons, others = READERS[region.lepton](chunk, low), READERS[OTHER[region.lepton]](chunk)
    pair = tuple(
        OnePerEvent.of(leptons, leading(leptons.pt, leptons.offsets, sign * leptons.charge > 0)) for sign in (1, -1)
    )
    first, second = pair
    steps.add("lepton pair", first.found & second.found & (np.maximum(first.pt, second.pt) > high))
    steps.add("no other lepton", others.counts == 0)
    mass, pair_pt = pair_kinematics(first, second)
    steps.add("mass", (mass > region.mass[0]) & (mass < region.mass[1]), "dilepton_mass", mass)
    steps.add("pair pT", pair_pt > region.dilepton_pt, "dilepton_pt", pair_pt)
    good = acceptance & identified(chunk, region.jet_id) & ~near(chunk, pair, LEPTON_JET_DISTANCE)
    num_jets = jets_per_event(chunk, good)
    steps.add("jets", num_jets > 0, "num_jets", num_jets)
    values = {"dilepton_mass": mass, "dilepton_pt": pair_pt}
    return steps.selection(chunk, good, 1 if region.jets == "leading" else "all", values)


DRELL_YAN = Recipe(
    select=_select,
    steps=lambda region: ("lepton pair", "no other lepton", "mass", "pair pT", "jets"),
    triggers=lambda region: TRIGGERS[region.lepton] if region.triggers is None else region.triggers,
    branches=lambda region: jet_id_branches(region.jet_id),
    leptons=lambda region, branches: (*muon_branches(branches), *electron_branches(branches)),
    quantities=("dilepton_mass", "dilepton_pt"),
    cut_on=("dilepton_mass", "dilepton_pt", "num_jets"),
)
