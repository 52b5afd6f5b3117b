"""Random events for the selections of regions: every quantity lies on both sides of its cut, and often on it."""

from __future__ import annotations

import awkward as ak
import numpy as np

from pfnano_tag.card.regions import MET_FILTERS, PFJET_WINDOWS, TopPairDilepton

PATHS = (
    *TopPairDilepton.model_fields["triggers"].default,
    *("HLT_IsoMu24", "HLT_IsoMu27", "HLT_Ele32_WPTight_Gsf_L1DoubleEG", "HLT_BTagMu_AK4DiJet40_Mu5"),
    *PFJET_WINDOWS,
)
SIMULATED = (
    "genWeight",
    "Jet_hadronFlavour",
    "Jet_partonFlavour",
    "Jet_nBHadrons",
    "Jet_nCHadrons",
    "Jet_genJetIdx",
    "GenPart",
)


def content(kind: str = "mc", seed: int = 0, events: int = 6000) -> dict[str, ak.Array]:
    """Branches by name: jets in no order, muons inside and outside of them, electrons, MET, triggers, filters."""
    rng = np.random.default_rng(seed)
    jets = rng.choice(7, events, p=[0.05, 0.2, 0.2, 0.2, 0.15, 0.1, 0.1])
    n = int(jets.sum())

    def some(size, *values, p=None):
        return rng.choice(np.array(values, "f4"), size, p=p)

    jet = {
        "pt": np.where(rng.random(n) < 0.3, some(n, *range(20, 700, 5)), some(n, *range(18, 120))).astype("f4"),
        "eta": rng.uniform(-2.7, 2.7, n).astype("f4"),
        "phi": rng.uniform(-3.1, 3.1, n).astype("f4"),
        "mass": some(n, 5),
        "jetId": rng.choice([0, 2, 6], n, p=[0.05, 0.1, 0.85]).astype("i4"),
        "muEF": some(n, 0, 0.2, 0.3, 0.5, p=[0.4, 0.3, 0.2, 0.1]),
        "neEmEF": some(n, 0.1, 0.2, 0.4, 0.6),
        "hadronFlavour": rng.choice([0, 4, 5], n).astype("i4"),
        "partonFlavour": np.full(n, 1, "i4"),
        "nBHadrons": np.zeros(n, "i4"),
        "nCHadrons": np.zeros(n, "i4"),
        "genJetIdx": np.zeros(n, "i4"),
    }
    branches = {f"Jet_{key}": ak.unflatten(value, jets) for key, value in jet.items()}
    for name in ("Muon", "Electron"):
        number = rng.choice(4, events, p=[0.15, 0.3, 0.45, 0.1] if name == "Muon" else [0.45, 0.4, 0.1, 0.05])
        leptons = _leptons(name, rng, some, number, jets, jet)
        branches |= {f"{name}_{key}": ak.unflatten(value, number) for key, value in leptons.items()}
    for name in ("MET", "PuppiMET"):
        branches[f"{name}_pt"] = some(events, *range(30, 90, 2))
        branches[f"{name}_phi"] = rng.uniform(-3.1, 3.1, events).astype("f4")
    branches |= {name: rng.random(events) < 0.8 for name in PATHS}
    branches |= {name: rng.random(events) < 0.99 for name in MET_FILTERS}
    branches |= {
        "run": np.ones(events, "u4"),
        "luminosityBlock": np.ones(events, "u4"),
        "event": np.arange(1, events + 1, dtype="u8"),
        "genWeight": rng.normal(1, 0.5, events).astype("f4"),
        "GenPart_pdgId": ak.unflatten(np.full(events, 21, "i4"), np.ones(events, int)),
        "GenPart_status": ak.unflatten(np.full(events, 1, "i4"), np.ones(events, int)),
        "GenPart_eta": ak.unflatten(np.zeros(events, "f4"), np.ones(events, int)),
        "GenPart_phi": ak.unflatten(np.zeros(events, "f4"), np.ones(events, int)),
        "GenPart_genPartIdxMother": ak.unflatten(np.full(events, -1, "i4"), np.ones(events, int)),
    }
    if kind == "data":
        branches = {name: value for name, value in branches.items() if not name.startswith(SIMULATED)}
    return branches


def _leptons(name, rng, some, number, jets, jet):
    """Of an event's muons all but the first mostly lie in jets and are soft; links are to some jet or to none."""
    n = int(number.sum())
    event = np.repeat(np.arange(len(number)), number)
    later = np.arange(n) > (np.cumsum(number) - number)[event]
    link = rng.integers(0, 7, n) % np.maximum(jets[event], 1)
    link = np.where((jets[event] == 0) | (~later & (rng.random(n) < 0.6)), -1, link)
    start = np.cumsum(jets) - jets
    owner = np.clip(start[event] + np.maximum(link, 0), 0, len(jet["pt"]) - 1)
    inside = (rng.random(n) < np.where(later, 0.9, 0.1)) & (link >= 0) & (name == "Muon")
    angle, distance = rng.uniform(-3.14, 3.14, n), rng.choice([0.1, 0.2, 0.45], n, p=[0.5, 0.35, 0.15])
    eta = np.where(inside, jet["eta"][owner] + distance * np.sin(angle), rng.uniform(-2.6, 2.6, n))
    phi = np.where(inside, jet["phi"][owner] + distance * np.cos(angle), rng.uniform(-3.1, 3.1, n))
    columns = {
        "pt": np.where(inside, some(n, *range(4, 30)), some(n, 11, 12, 13, 15, 16, *range(20, 100))).astype("f4"),
        "eta": eta.astype("f4"),
        "phi": (np.remainder(phi + np.pi, 2 * np.pi) - np.pi).astype("f4"),
        "charge": rng.choice([-1, 1], n).astype("i4"),
        "jetIdx": link.astype("i4"),
        "dz": some(n, 0.0, 0.001, -0.005, 0.01, -0.02, p=[0.4, 0.35, 0.15, 0.05, 0.05]),
        "dxy": some(n, 0.0005, -0.001, 0.002, 0.01, -0.02, p=[0.4, 0.35, 0.1, 0.1, 0.05]),
        "dxyErr": some(n, 0.0, 0.0002, 0.0005, 0.001, p=[0.02, 0.38, 0.3, 0.3]),
        "sip3d": some(n, 0.5, 1, 2, 2.25, 2.5, 3, p=[0.5, 0.3, 0.05, 0.05, 0.05, 0.05]),
    }
    isolated = some(n, 0.02, 0.05, 0.1, 0.12, 0.15, 0.2, p=[0.6, 0.1, 0.1, 0.1, 0.05, 0.05])
    if name == "Muon":
        isolation = np.where(inside, some(n, 0.15, 0.2, 0.4, 0.8, p=[0.1, 0.1, 0.4, 0.4]), isolated)
        return columns | {"tightId": rng.random(n) < 0.9, "pfRelIso04_all": isolation.astype("f4")}
    return columns | {
        "mvaFall17V2Iso_WP80": rng.random(n) < 0.5,
        "deltaEtaSC": rng.normal(0, 0.02, n).astype("f4"),
        "cutBased": rng.choice([0, 1, 2, 3, 4], n, p=[0.1, 0.1, 0.1, 0.2, 0.5]).astype("i4"),
        "pfRelIso03_all": isolated,
    }
