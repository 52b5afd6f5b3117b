"""Small random PFNano files (candidate layout, simulation): no physics, every branch that preparation reads."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import uproot

EVENTS, CLUSTER = 240, 40


def content(seed: int = 0, events: int = EVENTS) -> dict[str, ak.Array]:
    """Branches by name; jets of all flavours in and out of acceptance, one lepton in every third event."""
    rng = np.random.default_rng(seed)
    jets, leptons, particles = rng.integers(0, 5, events), (np.arange(events) % 3 == 0) * 1, np.full(events, 4)

    def collection(name: str, counts: np.ndarray, **columns: np.ndarray) -> dict[str, ak.Array]:
        return {f"{name}_{key}": ak.unflatten(value, counts) for key, value in columns.items()}

    def real(n: int, low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, n).astype("f4")

    def whole(n: int, low: int, high: int) -> np.ndarray:
        return rng.integers(low, high, n).astype("i4")

    n = int(jets.sum())
    flavour = rng.choice([0, 4, 5], n, p=[0.5, 0.2, 0.3]).astype("i4")
    out = collection(
        "Jet",
        jets,
        pt=(15 * rng.exponential(1.5, n) + 15).astype("f4"),
        eta=real(n, -3, 3),
        phi=real(n, -3.1, 3.1),
        mass=real(n, 2, 10),
        rawFactor=real(n, -0.1, 0.1),
        hadronFlavour=flavour,
        partonFlavour=np.where(flavour == 0, rng.choice([21, 1, -2, 3, 0], n), flavour).astype("i4"),
        nBHadrons=np.where(flavour == 5, rng.choice([1, 2], n, p=[0.8, 0.2]), 0).astype("i4"),
        nCHadrons=np.where(flavour == 4, 1, 0).astype("i4"),
        genJetIdx=np.where(rng.random(n) < 0.9, 0, -1).astype("i4"),
    )
    out |= _constituents(rng, jets, real, whole)
    m = int(leptons.sum())
    out |= collection(
        "Muon", leptons, pt=real(m, 5, 60), eta=real(m, -2.4, 2.4), phi=real(m, -3.1, 3.1),
        charge=whole(m, 0, 2) * 2 - 1, tightId=rng.random(m) < 0.9, pfRelIso04_all=real(m, 0, 0.2),
    )  # fmt: skip
    k = int(particles.sum())
    # every event: b hadron -> c hadron -> neutrino, and a neutrino from a W; often the first goes along the first jet
    eta, phi = real(k, -3, 3), real(k, -3.1, 3.1)
    along = np.flatnonzero((jets > 0) & (np.arange(events) % 2 == 0))
    first = (np.cumsum(jets) - jets)[along]
    for values, name in ((eta, "Jet_eta"), (phi, "Jet_phi")):
        values[4 * along + 2] = ak.to_numpy(ak.flatten(out[name]))[first]
    out |= collection(
        "GenPart", particles, pdgId=np.tile(np.array([521, -421, 12, -14], "i4"), events), eta=eta, phi=phi,
        status=np.tile(np.array([2, 2, 1, 1], "i4"), events),
        genPartIdxMother=np.tile(np.array([-1, 0, 1, -1], "i4"), events),
    )  # fmt: skip
    scalars = {
        "run": np.ones(events, "u4"),
        "luminosityBlock": (1 + np.arange(events) // 50).astype("u4"),
        "event": (1 + np.arange(events)).astype("u8"),
        "genWeight": rng.normal(1, 0.5, events).astype("f4"),
        "PV_npvs": rng.integers(5, 50, events).astype("i4"),
    }
    return out | scalars


def _constituents(rng, jets, real, whole):
    n = int(jets.sum())
    per_jet = rng.integers(0, 7, n)
    event_of_jet = np.repeat(np.arange(len(jets)), jets)
    position = np.concatenate([np.arange(count) for count in jets]) if n else np.zeros(0, int)
    counts = np.bincount(event_of_jet, weights=per_jet, minlength=len(jets)).astype(int)
    total = int(counts.sum())
    index = np.concatenate([np.arange(count) for count in counts])
    charge = whole(total, -1, 2)
    track = (charge != 0) & (rng.random(total) < 0.8)

    def measured(low: float, high: float) -> np.ndarray:
        return np.where(track, real(total, low, high), -1).astype("f4")

    candidates = {
        "pt": real(total, 0.5, 20), "eta": real(total, -3, 3), "phi": real(total, -3.1, 3.1),
        "mass": np.full(total, 0.1396, "f4"), "charge": charge, "puppiWeight": real(total, 0, 1),
        "pdgId": np.where(charge == 0, rng.choice([22, 130], total), 211).astype("i4"),
        "pvAssocQuality": whole(total, 0, 8),
        "trkQuality": np.where(track, rng.choice([1, 5], total), 0).astype("i4"),
        "trkChi2": measured(0, 3), "d0": measured(-0.1, 0.1), "d0Err": measured(0.001, 0.01),
        "dz": measured(-0.1, 0.1), "dzErr": measured(0.001, 0.01),
    }  # fmt: skip
    links = {"jetIdx": np.repeat(position, per_jet).astype("i4"), "pFCandsIdx": index.astype("i4")}
    for name in ("EtaRel", "PtRatio", "PParRatio", "Sip3dVal", "Sip3dSig"):
        links[f"btag{name}"] = np.where(track, real(total, 0, 2), 0).astype("f4")
    links["btagJetDistVal"] = np.where(track, real(total, -0.1, 0), 0).astype("f4")
    vertices = rng.integers(0, 2, n)
    sv_counts = np.bincount(event_of_jet, weights=vertices, minlength=len(jets)).astype(int)
    s = int(sv_counts.sum())
    names = "pt mass ntracks chi2 normchi2 dxy dxysig d3d d3dsig enration"
    sv_links = {name: real(s, 1, 5) for name in names.split()}
    sv_links |= {"costhetasvpv": real(s, 0.9, 1), "phirel": real(s, -0.2, 0.2), "deltaR": real(s, -0.5, -0.1)}
    sv_links["jetIdx"] = np.repeat(position, vertices).astype("i4")
    sv_links["sVIdx"] = np.concatenate([np.arange(count) for count in sv_counts]).astype("i4")
    sv = {"eta": real(s, -2, 2), "phi": real(s, -3, 3)}
    groups = {"PFCands": (candidates, counts), "JetPFCands": (links, counts)}
    groups |= {"JetSVs": (sv_links, sv_counts), "SV": (sv, sv_counts)}
    return {f"{g}_{name}": ak.unflatten(v, c) for g, (columns, c) in groups.items() for name, v in columns.items()}


def write(path: Path, branches: dict[str, ak.Array], cluster: int = CLUSTER) -> Path:
    """Write branches as a tree `Events`, one basket per `cluster` events."""
    collections: dict[str, list[str]] = {}
    for name, value in branches.items():
        if value.ndim == 2:
            collections.setdefault(name.split("_")[0], []).append(name)
    zipped = {g: ak.zip({n.split("_", 1)[1]: branches[n] for n in names}) for g, names in collections.items()}
    data = {name: value for name, value in branches.items() if value.ndim == 1} | zipped
    types = {name: (v.type.content if isinstance(v, ak.Array) else v.dtype) for name, v in data.items()}
    with uproot.recreate(path, compression=None) as file:
        tree = file.mktree("Events", types, counter_name=lambda g: f"n{g}", field_name=lambda g, name: f"{g}_{name}")
        for start in range(0, len(branches["event"]), cluster):
            tree.extend({name: value[start : start + cluster] for name, value in data.items()})
    return path


def damage(path: Path, branch: str, basket: int) -> None:
    """Overwrite the header of one basket."""
    with uproot.open(path) as file:
        seek = int(file["Events"][branch].member("fBasketSeek")[basket])
    with path.open("r+b") as raw:
        raw.seek(seek)
        raw.write(b"\xff" * 40)
