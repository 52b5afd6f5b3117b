"""Small PFNano events as lists of dictionaries, one per object, so that tests can count, permute and break them."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from tests.prepare.candidates_file import write

Event = dict[str, list[dict[str, Any]]]

COLLECTIONS = {
    "Jet": "jets",
    "PFCands": "candidates",
    "JetPFCands": "links",
    "SV": "vertices",
    "JetSVs": "jet_vertices",
}
INTEGERS = {"jetIdx", "pFCandsIdx", "sVIdx", "charge", "pdgId", "pvAssocQuality", "trkQuality"}
BTAG = ("EtaRel", "PtRatio", "PParRatio", "Sip3dVal", "Sip3dSig", "JetDistVal")


def single(value: float) -> float:
    """Round to single precision, as the file does."""
    return float(np.float32(value))


def make_events(seed: int, events: int = 12, most_jets: int = 4, most_candidates: int = 14) -> list[Event]:
    """Random events: jets with candidates around them, vertices in some, candidates of no jet or without tracks."""
    rng = random.Random(seed)
    return [_event(rng, rng.randint(0, most_jets), most_candidates) for _ in range(events)]


def _event(rng: random.Random, jets: int, most: int) -> Event:
    event: Event = {name: [] for name in COLLECTIONS.values()}
    for j in range(jets):
        jet = {
            "pt": rng.uniform(16, 200), "eta": rng.uniform(-2.5, 2.5), "phi": rng.uniform(-math.pi, math.pi),
            "mass": rng.uniform(2, 20), "rawFactor": rng.uniform(-0.2, 0.3),
        }  # fmt: skip
        event["jets"].append({name: single(value) for name, value in jet.items()})
        for _ in range(rng.choice([0, 0, 1, 2])):
            _add_vertex(event, rng, j, stored=rng.random() < 0.7)
        for _ in range(rng.choice([0, 1, rng.randint(2, most)])):
            event["links"].append({"jetIdx": j, "pFCandsIdx": len(event["candidates"]), **_btag(rng)})
            event["candidates"].append(_candidate(rng, event["jets"][j]))
    for _ in range(rng.randint(0, 3)):
        event["candidates"].append(_candidate(rng, {"eta": 0.0, "phi": 0.0}))
    return event


def _candidate(rng: random.Random, jet: dict[str, float]) -> dict[str, float]:
    charge, pt = rng.choice([-1, 0, 0, 1]), 0.3 + rng.expovariate(0.3)
    track = charge != 0 and pt > 0.5 and rng.random() < 0.9
    values = {
        "pt": pt, "eta": jet["eta"] + rng.gauss(0, 0.15), "phi": _turned(jet["phi"] + rng.gauss(0, 0.15)),
        "mass": 0.1396 if charge else 0.0, "puppiWeight": rng.random(), "trkChi2": rng.randint(0, 4) if track else -1,
        # -1 cm is a legal distance, not only the file's filler
        "d0": rng.choice([rng.gauss(0, 0.03), -1.0]) if track else -1, "dz": rng.gauss(0, 0.05) if track else -1,
        "d0Err": rng.uniform(0.001, 0.02) if track else -1, "dzErr": rng.uniform(0.001, 0.02) if track else -1,
    }  # fmt: skip
    whole = {
        "charge": charge, "pdgId": 211 * charge or rng.choice([22, 130]), "pvAssocQuality": rng.randint(0, 7),
        "trkQuality": 5 if track else 0,
    }  # fmt: skip
    return {name: single(value) for name, value in values.items()} | whole


def _turned(phi: float) -> float:
    return math.remainder(phi, 2 * math.pi)


def _btag(rng: random.Random) -> dict[str, float]:
    return {f"btag{name}": single(rng.uniform(-1, 3)) for name in BTAG}


def _add_vertex(event: Event, rng: random.Random, j: int, stored: bool) -> None:
    jet = event["jets"][j]
    eta, phi = jet["eta"] + rng.gauss(0, 0.15), _turned(jet["phi"] + rng.gauss(0, 0.15))
    pt, mass = rng.uniform(2, 12), rng.uniform(0.6, 4)
    away = math.remainder(phi - jet["phi"], 2 * math.pi)
    energy = math.sqrt((jet["pt"] * math.cosh(jet["eta"])) ** 2 + jet["mass"] ** 2)
    values = {
        "pt": pt, "mass": mass, "ntracks": rng.randint(2, 6), "chi2": rng.uniform(0, 8),
        "normchi2": rng.uniform(0, 4), "dxy": rng.uniform(0, 3), "dxysig": rng.uniform(2, 90),
        "d3d": rng.uniform(0, 4), "d3dsig": rng.uniform(2, 90),
        "costhetasvpv": rng.uniform(0.8, 1), "phirel": away, "deltaR": math.hypot(eta - jet["eta"], away) - 0.5,
        "enration": math.sqrt((pt * math.cosh(eta)) ** 2 + mass**2) / energy,
    }  # fmt: skip
    row = {name: single(value) for name, value in values.items()}
    event["jet_vertices"].append({"jetIdx": j, "sVIdx": len(event["vertices"]) if stored else -1, **row})
    if stored:
        event["vertices"].append({"eta": single(eta), "phi": single(phi)})


def branches(events: list[Event]) -> dict[str, ak.Array]:
    """Branches of the events by name, as in PFNano."""
    found = {"event": np.arange(len(events), dtype="u8"), "PV_npvs": np.full(len(events), 20, "i4")}
    template = next(e for seed in range(99) for e in make_events(seed) if all(e.values()))
    for collection, key in COLLECTIONS.items():
        counts = [len(event[key]) for event in events]
        for name in template[key][0]:
            dtype = "i4" if name in INTEGERS else "f4"
            content = np.array([row[name] for event in events for row in event[key]], dtype=dtype)
            found[f"{collection}_{name}"] = ak.unflatten(content, counts)
    return found


def write_events(path: Path, events: list[Event], **changed: ak.Array) -> Path:
    """Write events, with some branches replaced; a new basket after every 5 events."""
    return write(path, branches(events) | changed, cluster=5)
