"""Random PFNano files with leptons, triggers and stored taggers: no physics, every branch that the job reads."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from pfnano_tag.card.regions import MET_FILTERS
from tests.prepare import candidates_file

MUON_PATH = "HLT_Mu17_TrkIsoVVL_Mu8_TrkIsoVVL_DZ_Mass8"
ELECTRON_PATH = "HLT_Ele23_Ele12_CaloIdL_TrackIdL_IsoVL"
SIMULATED = (
    "genWeight",
    "GenPart",
    "Jet_hadronFlavour",
    "Jet_partonFlavour",
    "Jet_nBHadrons",
    "Jet_nCHadrons",
    "Jet_genJetIdx",
)


def content(kind: str = "mc", seed: int = 0, events: int = 240) -> dict[str, ak.Array]:
    """Branches by name; pairs of leptons in most events, not all of them good."""
    branches = {n: v for n, v in candidates_file.content(seed, events).items() if not n.startswith("Muon_")}
    rng = np.random.default_rng(seed + 1000)
    jets = ak.num(branches["Jet_pt"])
    n = int(ak.sum(jets))
    branches["Jet_jetId"] = ak.unflatten(rng.choice([0, 2, 6], n, p=[0.1, 0.1, 0.8]).astype("i4"), jets)
    score = rng.random(n).astype("f4")
    score[rng.random(n) < 0.1] = -1
    score[rng.random(n) < 0.05] = 1
    branches["Jet_btagDeepFlavB"] = ak.unflatten(score, jets)
    for name in ("Muon", "Electron"):
        counts = rng.choice([0, 1, 2, 3], events, p=[0.45, 0.1, 0.35, 0.1])
        branches |= {f"{name}_{key}": ak.unflatten(v, counts) for key, v in _leptons(name, rng, counts).items()}
    for name in (MUON_PATH, ELECTRON_PATH, "HLT_IsoMu27"):
        branches[name] = rng.random(events) < 0.9
    for name in MET_FILTERS:
        branches[name] = rng.random(events) < 0.99
    if kind == "data":
        branches = {n: v for n, v in branches.items() if not n.startswith(SIMULATED)}
    return branches


def _leptons(name: str, rng: np.random.Generator, counts: np.ndarray) -> dict[str, np.ndarray]:
    n = int(counts.sum())
    position = np.concatenate([np.arange(count) for count in counts])
    columns = {
        "pt": np.sort(rng.uniform(8, 70, n).astype("f4")),
        "eta": rng.uniform(-2.7, 2.7, n).astype("f4"),
        "phi": (position * 2.8 + rng.normal(0, 0.4, n) - 2).astype("f4"),
        "charge": np.where(rng.random(n) < 0.9, 1 - 2 * (position % 2), 1).astype("i4"),
    }
    if name == "Muon":
        return columns | {
            "tightId": rng.random(n) < 0.9,
            "pfRelIso04_all": rng.choice([0.05, 0.1, 0.15, 0.3], n).astype("f4"),
        }
    return columns | {
        "mvaFall17V2Iso_WP80": rng.random(n) < 0.8,
        "deltaEtaSC": rng.normal(0, 0.02, n).astype("f4"),
    }


def write(
    path: Path, branches: dict[str, ak.Array], cluster: int = 40, runs: tuple[int, float] | None = None
) -> Path:
    """Write a compressed tree `Events`, one basket per `cluster` events, and `Runs` (count, sum of weights)."""
    groups: dict[str, list[str]] = {}
    for name, value in branches.items():
        if value.ndim == 2:
            groups.setdefault(name.split("_")[0], []).append(name)
    zipped = {g: ak.zip({n.split("_", 1)[1]: branches[n] for n in names}) for g, names in groups.items()}
    data = {name: value for name, value in branches.items() if value.ndim == 1} | zipped
    types = {name: (v.type.content if isinstance(v, ak.Array) else v.dtype) for name, v in data.items()}
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        tree = file.mktree("Events", types, counter_name=lambda g: f"n{g}", field_name=lambda g, name: f"{g}_{name}")
        for start in range(0, len(branches["event"]), cluster):
            tree.extend({name: value[start : start + cluster] for name, value in data.items()})
        if runs is not None:
            columns = {
                "run": np.array([1], "u4"),
                "genEventCount": np.array([runs[0]], "i8"),
                "genEventSumw": np.array([runs[1]], "f8"),
                "genEventSumw2": np.array([runs[1]], "f8"),
            }
            file.mktree("Runs", {name: values.dtype for name, values in columns.items()}).extend(columns)
    return path


def damage(path: Path, branch: str, basket: int) -> None:
    """Overwrite the start of one basket."""
    candidates_file.damage(path, branch, basket)
