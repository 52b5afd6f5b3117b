"""Small files of the flat layouts with known content: padded slots of events, and a plain tree of jets."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from pfnano_tag.nano.schema import FEATURES

CONSTITUENTS = {"charged": "Cpfcan", "neutral": "Npfcan", "sv": "sv"}
COUNTS = {"charged": "nCpfcand", "neutral": "nNpfcand", "sv": "nsv"}
SLOTS = {"charged": 6, "neutral": 5, "sv": 4}


def features(group: str) -> list[str]:
    """Flat names of a group's features in the DeepJet layout."""
    return [f.flat for f in FEATURES.values() if f.group == group and f.name not in ("etarel", "phirel")]


def random_jets(seed: int, jets: int) -> list[dict[str, list[dict[str, float]]]]:
    """Constituents of jets, as plain Python lists; more of them than there are slots now and then."""
    rng = np.random.default_rng(seed)

    def constituent(group: str) -> dict[str, float]:
        values = {name: float(np.float32(rng.uniform(-0.3, -0.01))) for name in features(group)}
        if group == "charged":
            track = bool(rng.random() < 0.7)
            values["Cpfcan_chi2"] = float(rng.integers(0, 5)) if track else -1.0
            values["Cpfcan_quality"] = 5.0 if track else 1.0
            if not track:
                values |= dict.fromkeys([name for name in values if "Sip" in name or "JetDist" in name], 0.0)
        if group != "sv" and rng.random() < 0.3:
            values[f"{CONSTITUENTS[group]}_drminsv"] = 0.0
        return values

    return [
        {g: [constituent(g) for _ in range(rng.integers(0, SLOTS[g] + 3))] for g in CONSTITUENTS} for _ in range(jets)
    ]


def write_deepjet(path: Path, events: list[int], jets: list[dict[str, list[dict[str, float]]]]) -> None:
    """Write `Events` with flat DeepJet inputs; `events` holds the number of jets of each event."""
    columns: dict[str, np.ndarray] = {"pt": 30 + np.arange(len(jets), dtype="f4"), "eta": np.ones(len(jets), "f4")}
    columns |= {"phi": np.zeros(len(jets), "f4"), "mass": np.ones(len(jets), "f4")}
    for group in CONSTITUENTS:
        columns[f"DeepJet_{COUNTS[group]}"] = np.array([len(jet[group]) for jet in jets], "i4")
        for name in features(group):
            for slot in range(SLOTS[group]):
                values = [jet[group][slot][name] if slot < len(jet[group]) else 0.0 for jet in jets]
                columns[f"DeepJet_{name}_{slot}"] = np.array(values, "f4")
    columns["DeepJet_npv"] = np.full(len(jets), 7, "i4")
    record = ak.zip({name: ak.unflatten(values, events) for name, values in columns.items()}, depth_limit=2)
    with uproot.recreate(path) as file:
        file.mktree("Events", {"Jet": record.type.content, "run": "uint32"}, counter_name=_counter, field_name=_field)
        file["Events"].extend({"Jet": record, "run": np.ones(len(events), "u4")})


def _counter(name: str) -> str:
    return f"n{name}"


def _field(outer: str, inner: str) -> str:
    return f"{outer}_{inner}" if outer else inner


def write_tree(
    path: Path,
    jets: list[dict[str, list[dict[str, float]]]],
    padded: bool = False,
    name: str = "tree",
    **extra: np.ndarray,
) -> None:
    """Write a plain tree with one entry per jet: jagged branches, or padded ones with the number beside."""
    n = len(jets)
    data: dict[str, object] = {
        "jet_corr_pt": 30 + np.arange(n, dtype="f4"), "jet_pt": np.zeros(n, "f4"), "jet_eta": np.ones(n, "f4"),
        "jet_phi": np.zeros(n, "f4"), "jet_mass": np.ones(n, "f4"), **extra,
    }  # fmt: skip
    for group in CONSTITUENTS:
        counts = np.array([len(jet[group]) for jet in jets])
        for feature in features(group):
            values = np.array([c[feature] for jet in jets for c in jet[group]], "f4")
            if padded:
                full = np.full((n, SLOTS[group]), -99, "f4")
                for row, jet in enumerate(jets):
                    some = [c[feature] for c in jet[group]][: SLOTS[group]]
                    full[row, : len(some)] = some
                data[feature] = full
            else:
                data[feature] = ak.unflatten(values, counts)
        if padded:
            data[f"n_{COUNTS[group][1:]}"] = counts.astype("i4")
        data[COUNTS[group]] = counts.astype("f4")
    with uproot.recreate(path) as file:
        file[name] = data
