"""W+c, enriched in c jets: an isolated lepton and missing momentum of the W, and a jet with a soft muon.

Cuts are those of cms-btv-pog/BTVNanoCommissioning (workflows/ctag_Wctt_valid_sf.py). The c quark's charge is opposite
to the W's, backgrounds have both signs alike: events of equal charges count with weight -1 (OS - SS).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.cuts import (
    Mask,
    OnePerEvent,
    Recipe,
    Selection,
    Steps,
    Values,
    identified,
    jet_id_branches,
    jets_per_event,
    leading,
    near,
    pair_kinematics,
    transverse_mass,
)
from pfnano_tag.analyze.soft_muons import BRANCHES, linked_jets, muons_in_jets
from pfnano_tag.card.regions import WCharm
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.leptons import Leptons, electron_branches, electrons, muon_branches, muons, soft_muons
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.selection import aligned


@dataclass(frozen=True)
class Settings:
    """What depends on the flavour of the isolated lepton: keys of the card, and names of branches."""

    triggers: tuple[str, ...]
    lepton_pt: float
    lepton_dz: float
    lepton_dxy: float
    lepton_sip3d: float
    soft_muon_dxy_significance: float
    soft_muon_pt_ratio: float
    energy_fraction: float
    pair_mass: float
    veto_mass: tuple[float, float]
    collection: str
    isolation: str


DEFAULTS = {
    "muon": Settings(
        triggers=("HLT_IsoMu27", "HLT_IsoMu24"),
        lepton_pt=30.0,
        lepton_dz=0.01,
        lepton_dxy=0.002,
        lepton_sip3d=2.0,
        soft_muon_dxy_significance=1.0,
        soft_muon_pt_ratio=0.4,
        energy_fraction=0.7,
        pair_mass=12.0,
        veto_mass=(80.0, 100.0),
        collection="Muon",
        isolation="Muon_pfRelIso04_all",
    ),
    "electron": Settings(
        triggers=("HLT_Ele32_WPTight_Gsf_L1DoubleEG",),
        lepton_pt=34.0,
        lepton_dz=0.02,
        lepton_dxy=0.01,
        lepton_sip3d=2.5,
        soft_muon_dxy_significance=0.0,
        soft_muon_pt_ratio=0.6,
        energy_fraction=1.0,
        pair_mass=0.0,
        veto_mass=(0.0, 0.0),
        collection="Electron",
        isolation="Electron_pfRelIso03_all",
    ),
}
"""Default settings by the flavour of the isolated lepton."""


def settings_of(region: WCharm) -> Settings:
    """Return the card's settings with the defaults of the lepton's flavour filled in."""
    keys = [one.name for one in fields(Settings) if one.name in type(region).model_fields]
    given = {key: getattr(region, key) for key in keys if getattr(region, key) is not None}
    return replace(DEFAULTS[region.lepton], **given)


def _select(region: WCharm, chunk: Chunk, acceptance: Mask, steps: Steps) -> Selection:
    settings = settings_of(region)
    lepton = _isolated_lepton(region, settings, chunk, steps)
    pt: Jagged = chunk["Jet_pt"]
    good = acceptance & identified(chunk, region.jet_id) & ~near(chunk, (lepton,), region.lepton_jet_distance)
    num_jets = jets_per_event(chunk, good)
    few = (num_jets >= region.num_jets[0]) & (num_jets <= region.num_jets[1])
    steps.add("jets", few, "num_jets", num_jets)
    muons_inside = soft_muons(chunk, region.soft_muon_pt, region.soft_muon_isolation)
    displaced = _significance(chunk, muons_inside) > settings.soft_muon_dxy_significance
    muons_inside = muons_inside.select(displaced)
    steps.add("soft muon", muons_inside.counts > 0)
    places = muons_in_jets(chunk, muons_inside, region.soft_muon_distance)
    fraction = aligned(chunk, "Jet_muEF", pt).astype("f8") + aligned(chunk, "Jet_neEmEF", pt)
    good &= fraction < settings.energy_fraction
    within = places.inside & np.append(good, False)[places.jet]
    row = leading(muons_inside.pt, muons_inside.offsets, within)
    soft = OnePerEvent.of(muons_inside, row)
    steps.add("muon jet", soft.found)
    jet = np.append(places.jet, -1)[row]
    ratio = soft.pt / np.append(pt.values.astype("f8"), np.inf)[jet]
    steps.add("muon pT share", ratio < settings.soft_muon_pt_ratio, "soft_muon_pt_ratio", ratio)
    mass, _ = pair_kinematics(lepton, soft)
    low, high = settings.veto_mass
    outside = (mass > settings.pair_mass) & ~((mass >= low) & (mass <= high))
    steps.add("pair mass", outside, "lepton_pair_mass", mass)
    w_mass = transverse_mass(lepton, chunk[f"{region.met}_pt"], chunk[f"{region.met}_phi"])
    steps.add("transverse mass", w_mass > region.transverse_mass, "transverse_mass", w_mass)
    opposite = lepton.charge * soft.charge < 0
    muon_jet = np.zeros(len(good), dtype=np.bool_)
    muon_jet[jet[jet >= 0]] = True
    values = {
        "lepton_pt": lepton.pt,
        "soft_muon_pt": soft.pt,
        "soft_muon_pt_ratio": ratio,
        "lepton_pair_mass": mass,
        "transverse_mass": w_mass,
    }
    factor = None
    if region.subtract_same_sign:
        steps.add("OS - SS", np.ones_like(opposite))
        factor = np.where(opposite, 1.0, -1.0)
    else:
        steps.add("opposite sign", opposite)
    return steps.selection(chunk, muon_jet, 1, values, num_jets, factor)


def _isolated_lepton(region: WCharm, settings: Settings, chunk: Chunk, steps: Steps) -> OnePerEvent:
    """Return the one isolated lepton of each event, which must be as from a W and alone."""
    all_muons, all_electrons = muons(chunk), electrons(chunk)
    read = muons if region.lepton == "muon" else electrons
    leptons = read(chunk, settings.lepton_pt)
    lepton = OnePerEvent.leading(leptons)
    steps.add("one lepton", leptons.counts == 1)
    steps.add("no other lepton", all_muons.counts + all_electrons.counts == 1)
    prompt = np.append(_prompt(region, settings, chunk, leptons), False)
    steps.add("prompt lepton", prompt[leading(leptons.pt, leptons.offsets, np.ones(len(leptons.pt), dtype=np.bool_))])
    return lepton


def _prompt(region: WCharm, settings: Settings, chunk: Chunk, leptons: Leptons) -> Mask:
    """Return which leptons are as from a W, not from a jet: isolated, at the vertex, most of their jet."""
    collection = settings.collection
    pt: Jagged = chunk[f"{collection}_pt"]

    def column(branch: str) -> NDArray[Any]:
        return aligned(chunk, branch, pt)[leptons.row]

    jet = linked_jets(chunk, collection, leptons)
    share = leptons.pt / np.append(chunk["Jet_pt"].values.astype("f8"), np.inf)[jet]
    return (
        (column(settings.isolation) < np.float32(region.lepton_isolation))
        & (np.abs(column(f"{collection}_dz")) < np.float32(settings.lepton_dz))
        & (np.abs(column(f"{collection}_dxy")) < np.float32(settings.lepton_dxy))
        & (np.abs(column(f"{collection}_sip3d")) < np.float32(settings.lepton_sip3d))
        & ((jet < 0) | (share > region.lepton_jet_pt_ratio))
    )


def _significance(chunk: Chunk, muons_inside: Leptons) -> Values:
    """Return abs(dxy / dxyErr) of muons, float64 [muons]; 0 where the error is 0."""
    pt: Jagged = chunk["Muon_pt"]
    value, error = (aligned(chunk, f"Muon_{name}", pt)[muons_inside.row].astype("f8") for name in ("dxy", "dxyErr"))
    return np.divide(np.abs(value), error, out=np.zeros_like(value), where=error > 0)


def _branches(region: WCharm) -> tuple[str, ...]:
    settings = settings_of(region)
    of_lepton = tuple(f"{settings.collection}_{name}" for name in ("jetIdx", "dz", "dxy", "sip3d"))
    of_jets = (*jet_id_branches(region.jet_id), "Jet_muEF", "Jet_neEmEF")
    names = (*of_jets, *BRANCHES, "Muon_dxy", "Muon_dxyErr", *of_lepton, settings.isolation)
    return tuple(dict.fromkeys((*names, f"{region.met}_pt", f"{region.met}_phi")))


def _steps(region: WCharm) -> tuple[str, ...]:
    lepton = ("one lepton", "no other lepton", "prompt lepton", "jets", "soft muon", "muon jet", "muon pT share")
    return (*lepton, "pair mass", "transverse mass", "OS - SS" if region.subtract_same_sign else "opposite sign")


W_CHARM = Recipe(
    select=_select,
    steps=_steps,
    triggers=lambda region: settings_of(region).triggers,
    branches=_branches,
    leptons=lambda region, branches: (*muon_branches(branches), *electron_branches(branches)),
    quantities=("lepton_pt", "soft_muon_pt", "soft_muon_pt_ratio", "lepton_pair_mass", "transverse_mass"),
    weighted=lambda region: region.subtract_same_sign,
    cut_on=("num_jets", "soft_muon_pt_ratio", "lepton_pair_mass", "transverse_mass"),
)
