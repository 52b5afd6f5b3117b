"""Multijets: in windows of jet triggers, and with a soft muon inside a jet.

Cuts are those of cms-btv-pog/BTVNanoCommissioning (workflows/QCD_validation.py, workflows/QCD_soft_mu_validation.py).
"""

from __future__ import annotations

import math

import numpy as np

from pfnano_tag.analyze.cuts import (
    Mask,
    OnePerEvent,
    Recipe,
    Selection,
    Steps,
    hardest,
    identified,
    jet_id_branches,
    jets_per_event,
    leading,
    there,
)
from pfnano_tag.analyze.soft_muons import BRANCHES, muons_in_jets
from pfnano_tag.card.regions import Qcd, QcdMuon
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.leptons import muon_branches, soft_muons
from pfnano_tag.nano.reader import Chunk


def _qcd(region: Qcd, chunk: Chunk, acceptance: Mask, steps: Steps) -> Selection:
    good = acceptance & identified(chunk, region.jet_id)
    steps.add("jets", jets_per_event(chunk, good) > 0)
    pt: Jagged = chunk["Jet_pt"]
    leading_pt = np.append(pt.values, 0.0)[leading(pt.values, pt.offsets, good)]
    passed = np.zeros(chunk.num_events, dtype=np.bool_)
    factor = np.ones(chunk.num_events)
    for path, (low, high) in region.windows.items():
        for branch in there((path,), chunk.branches):
            inside = (leading_pt >= low) & (leading_pt < (math.inf if high is None else high))
            passed |= inside & chunk[branch].astype(np.bool_)
            factor[inside] = region.prescales.get(path, 1.0)
    steps.add("trigger window", passed)
    weighted = chunk.file.kind == "data" and region.prescales
    return steps.selection(chunk, good, region.jets, {}, factor=factor if weighted else None)


def _qcd_muon(region: QcdMuon, chunk: Chunk, acceptance: Mask, steps: Steps) -> Selection:
    good = acceptance & identified(chunk, region.jet_id)
    num_jets = jets_per_event(chunk, good)
    steps.add("jets", num_jets > 0)
    muons = soft_muons(chunk, region.soft_muon_pt, region.soft_muon_isolation)
    steps.add("soft muon", muons.counts > 0)
    places = muons_in_jets(chunk, muons, region.soft_muon_distance)
    muon_jets = good & places.jets(np.ones(len(muons.pt), dtype=np.bool_), len(good))
    steps.add("muon jet", jets_per_event(chunk, muon_jets) > 0)
    pt: Jagged = chunk["Jet_pt"]
    first = hardest(pt.values, pt.offsets, muon_jets, 1)
    within = places.inside & np.append(first, False)[places.jet]
    muon = OnePerEvent.of(muons, leading(muons.pt, muons.offsets, within))
    values = {"soft_muon_pt": muon.pt}
    return steps.selection(chunk, muon_jets, region.jets, values, num_jets)


QCD = Recipe(
    select=_qcd,
    steps=lambda region: ("jets", "trigger window"),
    triggers=lambda region: tuple(region.windows),
    branches=lambda region: jet_id_branches(region.jet_id),
    weighted=lambda region: bool(region.prescales),
    any_trigger=False,
)

QCD_MUON = Recipe(
    select=_qcd_muon,
    steps=lambda region: ("jets", "soft muon", "muon jet"),
    triggers=lambda region: region.triggers,
    branches=lambda region: (*jet_id_branches(region.jet_id), *BRANCHES),
    leptons=lambda region, branches: muon_branches(branches),
    quantities=("soft_muon_pt",),
)
