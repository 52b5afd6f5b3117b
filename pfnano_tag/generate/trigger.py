"""Trigger decisions, missing transverse momentum and event filters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.generate.ragged import Array, Table, sums
from pfnano_tag.nano.columns import wrapped

#: pt thresholds of the paths [GeV]: (leading, second) of two like leptons, (muon, electron), one lepton
DIMUON = (
    "Mu17_TrkIsoVVL_Mu8_TrkIsoVVL_DZ",
    "Mu17_TrkIsoVVL_Mu8_TrkIsoVVL_DZ_Mass8",
    "Mu17_TrkIsoVVL_Mu8_TrkIsoVVL_DZ_Mass3p8",
)
DIELECTRON = ("Ele23_Ele12_CaloIdL_TrackIdL_IsoVL", "Ele23_Ele12_CaloIdL_TrackIdL_IsoVL_DZ")
MUON_ELECTRON = {
    "Mu23_TrkIsoVVL_Ele12_CaloIdL_TrackIdL_IsoVL_DZ": (23.0, 12.0),
    "Mu12_TrkIsoVVL_Ele23_CaloIdL_TrackIdL_IsoVL_DZ": (12.0, 23.0),
    "Mu8_TrkIsoVVL_Ele23_CaloIdL_TrackIdL_IsoVL_DZ": (8.0, 23.0),
}
SINGLE_MUON = {"IsoMu24": 24.0, "IsoMu27": 27.0}
SINGLE_ELECTRON = {"Ele32_WPTight_Gsf": 32.0, "Ele32_WPTight_Gsf_L1DoubleEG": 32.0}
JET = (40, 60, 80, 140, 200, 260, 320, 400, 450, 500, 550)
BTAG_MU = "BTagMu_AK4DiJet40_Mu5"
FILTERS = (
    "HBHENoiseFilter",
    "HBHENoiseIsoFilter",
    "globalSuperTightHalo2016Filter",
    "EcalDeadCellTriggerPrimitiveFilter",
    "ecalBadCalibFilter",
    "goodVertices",
    "eeBadScFilter",
    "BadPFMuonFilter",
    "METFilters",
)


def path_names() -> list[str]:
    """All trigger branches that the generator writes, without `HLT_`."""
    jets = [f"PFJet{pt}" for pt in JET]
    return [*DIMUON, *DIELECTRON, *MUON_ELECTRON, *SINGLE_MUON, *SINGLE_ELECTRON, *jets, BTAG_MU]


def _count(table: Table, keep: Array) -> NDArray[np.int64]:
    return np.bincount(table.event[keep], minlength=table.num_events)


def _mass(leptons: Table, chosen: Array) -> Array:
    """Mass of the two leading chosen leptons of each event, 0 where there are fewer."""
    two = leptons.select(chosen)
    two = two.select(two.position < 2)
    pt, eta, phi = two["pt"], two["eta"], two["phi"]
    n = two.num_events
    px, py, pz, e = (
        sums(v, two.event, n) for v in (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta))
    )
    return np.where(two.counts == 2, np.sqrt(np.maximum(e**2 - px**2 - py**2 - pz**2, 0.0)), 0.0)


def decisions(muons: Table, electrons: Table, jets: Table) -> dict[str, NDArray[np.bool_]]:
    """Trigger bits [E] by branch name without `HLT_`.

    Each lepton fires with the mode's efficiency (column `hlt`) above its threshold; jet paths are not
    prescaled, neither in simulation nor in data.
    """
    loose = muons["hlt"] & (muons["pfRelIso04_all"] < 0.4)
    iso = muons["hlt"] & (muons["pfRelIso04_all"] < 0.2) & muons["mediumId"]
    ele = electrons["hlt"] & (electrons["cutBased"] >= 1) & (electrons["pfRelIso03_all"] < 0.4)
    tight = electrons["hlt"] & (electrons["cutBased"] >= 3)
    out: dict[str, NDArray[np.bool_]] = {}
    dimuon = (_count(muons, loose & (muons["pt"] > 17)) > 0) & (_count(muons, loose & (muons["pt"] > 8)) > 1)
    mass = _mass(muons, loose & (muons["pt"] > 8))
    for name, low in zip(DIMUON, (0.0, 8.0, 3.8), strict=True):
        out[name] = dimuon & (mass > low)
    two = (_count(electrons, ele & (electrons["pt"] > 23)) > 0) & (
        _count(electrons, ele & (electrons["pt"] > 12)) > 1
    )
    out.update(dict.fromkeys(DIELECTRON, two))
    for name, (muon_pt, electron_pt) in MUON_ELECTRON.items():
        out[name] = (_count(muons, loose & (muons["pt"] > muon_pt)) > 0) & (
            _count(electrons, ele & (electrons["pt"] > electron_pt)) > 0
        )
    out.update({k: _count(muons, iso & (muons["pt"] > pt)) > 0 for k, pt in SINGLE_MUON.items()})
    out.update({k: _count(electrons, tight & (electrons["pt"] > pt)) > 0 for k, pt in SINGLE_ELECTRON.items()})
    leading = np.zeros(jets.num_events)
    np.maximum.at(leading, jets.event, jets["pt"])
    out.update({f"PFJet{pt}": leading > pt for pt in JET})
    soft = (muons["pt"] > 5) & (muons["jetIdx"] >= 0) & muons["hlt"]
    out[BTAG_MU] = (_count(jets, jets["pt"] > 40) > 1) & (_count(muons, soft) > 0)
    return out


def missing_momentum(
    candidates: Table, jets: Table, interactions: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Type-1 corrected MET: pt, phi, and the scalar sum of candidates; 2.5 GeV sqrt(pile-up) per component.

    Jets that are mostly a lepton are not corrected.
    """
    n, event = candidates.num_events, candidates.event
    smear = 2.5 * np.sqrt(np.maximum(interactions, 0))[:, None] * rng.normal(size=(n, 2))
    hadronic = jets["muEF"] + jets["chEmEF"] < 0.8
    change = np.where(hadronic, jets["raw_pt"] - jets["pt"], 0.0)
    x = smear[:, 0] - sums(candidates["pt"] * np.cos(candidates["phi"]), event, n)
    y = smear[:, 1] - sums(candidates["pt"] * np.sin(candidates["phi"]), event, n)
    x += sums(change * np.cos(jets["phi"]), jets.event, n)
    y += sums(change * np.sin(jets["phi"]), jets.event, n)
    return np.hypot(x, y), wrapped(np.arctan2(y, x)), sums(candidates["pt"], event, n)


def filters(events: int, rng: np.random.Generator) -> dict[str, NDArray[np.bool_]]:
    """Event filters [E] by name without `Flag_`: each good in 99.95 %, `METFilters` is their AND."""
    out = {name: rng.random(events) < 0.9995 for name in FILTERS[:-1]}
    out["METFilters"] = np.logical_and.reduce(list(out.values()))
    return out
