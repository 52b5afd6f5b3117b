"""The same data/MC job as a coffea processor: NanoAOD schema, virtual arrays, awkward, hist; one core.

It is written as an analysis would write it: collections of the schema, constituents by their links, inputs flattened,
padded to the longest jet of the batch (`coffea_networks`).
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import awkward as ak
import coffea
import hist
import numpy as np
import torch
from coffea import processor
from coffea.nanoevents import NanoAODSchema

from benchmarks.measuring import Stopwatch, options_of_side
from benchmarks.sides.coffea_networks import NODES, network, probabilities

TRANSFORMS = {"log": 1.0, "log100": 100.0}

NanoAODSchema.warn_missing_crossrefs = False


class Schema(NanoAODSchema):
    """Candidates, links and vertices as plain collections."""

    mixins = {**NanoAODSchema.mixins, "PFCands": "PtEtaPhiMCollection"}  # noqa: RUF012


class DataMC(processor.ProcessorABC):
    """One region, one network, its histograms by flavour."""

    def __init__(self, options: dict[str, Any]) -> None:
        folder = Path(options["folder"])
        self.features = json.loads((folder / "inputs.json").read_text())
        self.wanted = options["inputs"]
        self.batch = options["batch"]
        widths: dict[str, int] = {}
        for f in self.features:
            group = f["id"].partition("/")[0]
            widths[group] = widths.get(group, 0) + 1
        self.groups = [group for group in widths if group != "jet"]
        self.needs_vectors, self.module = network(options, widths)

    def process(self, events: Any) -> dict[str, Any]:
        """Select the leading clean jet of each event, make inputs, apply the network, fill."""
        jets = events.Jet
        good = (jets.pt >= 20) & (jets.pt <= 1000) & (abs(jets.eta) <= 2.5)
        muons, electrons = events.Muon, events.Electron
        muons = muons[(muons.pt > 12) & (abs(muons.eta) < 2.4) & muons.tightId & (muons.pfRelIso04_all <= 0.15)]
        supercluster = abs(electrons.eta + electrons.deltaEtaSC)
        in_gap = (supercluster >= 1.4442) & (supercluster <= 1.566)
        electrons = electrons[
            (electrons.pt > 15) & (abs(electrons.eta) < 2.5) & electrons.mvaFall17V2Iso_WP80 & ~in_gap
        ]
        for leptons in (muons, electrons):
            good = good & ~ak.any(jets.metric_table(leptons) < 0.4, axis=-1)
        place = ak.local_index(jets.pt)[good]
        place = ak.firsts(place[ak.argmax(jets.pt[good], axis=1, keepdims=True)])
        selected = ~ak.is_none(place)
        events, place = events[selected], ak.drop_none(place)
        jet = ak.flatten(events.Jet[ak.unflatten(place, np.ones(len(place), dtype=int))])
        weight = ak.to_numpy(events.genWeight)
        flavour = ak.to_numpy(jet.hadronFlavour)
        columns = self._columns(events, place, jet)
        output = {
            "jet_pt": _histogram((100, 0, 1000), jet.pt, flavour, weight),
            "jet_eta": _histogram((50, -2.5, 2.5), jet.eta, flavour, weight),
            "num_jets": _histogram((11, -0.5, 10.5), ak.sum(good, axis=1)[selected], flavour, weight),
        }
        scaled: dict[str, list[np.ndarray]] = {}
        for f in self.features:
            group, _, name = f["id"].partition("/")
            values, counts, absent = columns[group][name]
            values, default = _bounded(values, f, absent)
            if f["id"] in self.wanted:
                kept = ~default
                repeated = [x if counts is None else np.repeat(x, counts) for x in (flavour, weight)]
                x = _histogram(f["axis"], values[kept], *(one[kept] for one in repeated))
                output[f"input_{group}_{name}"] = x
            scaled.setdefault(group, []).append(_scaled(values, default, f))
        counts = {group: columns[group]["_counts"] for group in self.groups}
        vectors = {group: columns[group]["_vectors"] for group in self.groups} if self.needs_vectors else None
        scores = probabilities(self.module, scaled, counts, vectors, self.batch)
        self._fill_scores(output, scores, flavour, weight)
        return output

    def _columns(self, events: Any, place: Any, jet: Any) -> dict[str, dict[str, Any]]:
        """Flat values, numbers per jet, and where there is no track, by group and feature."""
        links = events.JetPFCands
        links = links[links.jetIdx == place]
        candidates = events.PFCands[links.pFCandsIdx]
        above = candidates.pt >= 0.95
        links, candidates = links[above], candidates[above]
        raw_pt = jet.pt * (1 - jet.rawFactor)
        found: dict[str, dict[str, Any]] = {
            "jet": {"pt": (_flat(jet.pt), None, None), "eta": (_flat(jet.eta), None, None)}
        }
        for group, of_group in (("charged", candidates.charge != 0), ("neutral", candidates.charge == 0)):
            link, one = links[of_group], candidates[of_group]
            counts = ak.to_numpy(ak.num(one.pt))
            distance = np.hypot(one.eta - jet.eta, (one.phi - jet.phi + np.pi) % (2 * np.pi) - np.pi)
            no_track = ~(_flat(one.d0Err) > 0) if group == "charged" else None
            values = {"ptrel": one.pt / raw_pt - 1, "puppiw": one.puppiWeight}
            if group == "charged":
                values |= {
                    "trackDeltaR": distance, "chi2": one.trkChi2, "quality": one.trkQuality,
                    "VTX_ass": one.pvAssocQuality, "trackSip3dVal": link.btagSip3dVal,
                    "trackSip3dSig": link.btagSip3dSig,
                }  # fmt: skip
            else:
                values |= {"deltaR": distance - 0.6, "isGamma": abs(one.pdgId) == 22}
            found[group] = {name: (_flat(value), counts, no_track) for name, value in values.items()}
            found[group] |= {"_counts": counts, "_vectors": _vectors(one) if self.needs_vectors else None}
        vertices = events.JetSVs
        vertices = vertices[vertices.jetIdx == place]
        counts = ak.to_numpy(ak.num(vertices.pt))
        names = ("pt", "mass", "ntracks", "chi2", "d3d", "d3dsig", "costhetasvpv")
        found["sv"] = {name: (_flat(vertices[name]), counts, None) for name in names}
        found["sv"]["enratio"] = (_flat(vertices.enration / (1 - jet.rawFactor)), counts, None)
        found["sv"] |= {"_counts": counts, "_vectors": None}
        if self.needs_vectors:
            found["sv"]["_vectors"] = _vertex_vectors(events.SV, vertices, jet)
        return found

    def _fill_scores(
        self, output: dict[str, Any], scores: np.ndarray, flavour: np.ndarray, weight: np.ndarray
    ) -> None:
        for index, node in enumerate(NODES):
            output[f"output_{node}"] = _histogram((50, 0, 1), scores[:, index], flavour, weight)
        wide = scores.astype(np.float64)
        b, c, light = wide[:, :3].sum(axis=1), wide[:, 3], wide[:, 4:].sum(axis=1)
        for name, signal, other in (("BvsL", b, light), ("CvsB", c, b), ("CvsL", c, light)):
            value = signal / (signal + other)
            output[name] = _histogram((50, 0, 1), value, flavour, weight)
            with np.errstate(divide="ignore"):
                logit = np.log(value) - np.log1p(-value)
            output[f"agreement_{name}"] = _histogram((480, -12, 12), logit, flavour, weight)

    def postprocess(self, accumulator: Any) -> Any:
        """Nothing is left to do."""
        return accumulator


def _flat(values: Any) -> np.ndarray:
    flat = ak.flatten(values) if values.ndim > 1 else values
    return ak.to_numpy(flat).astype(np.float32)


def _histogram(axis: Any, x: Any, flavour: np.ndarray, weight: np.ndarray) -> hist.Hist:
    bins, low, high = axis
    filled = hist.Hist(
        hist.axis.IntCategory([0, 4, 5], name="flavour", overflow=True),
        hist.axis.Regular(bins, low, high, name="x"),
        storage=hist.storage.Weight(),
    )
    filled.fill(flavour=flavour, x=np.asarray(x, dtype=np.float64), weight=weight)
    return filled


def _bounded(values: np.ndarray, f: dict[str, Any], absent: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    default = absent.copy() if absent is not None and f["needs"] == "track" else np.zeros(len(values), dtype=bool)
    default |= ~np.isfinite(values)
    low, high = (-np.inf if f["low"] is None else f["low"], np.inf if f["high"] is None else f["high"])
    return np.clip(values, np.float32(low), np.float32(high)), default


def _scaled(values: np.ndarray, default: np.ndarray, f: dict[str, Any]) -> np.ndarray:
    if f["transform"] in TRANSFORMS:
        values = np.sign(values) * np.log1p(np.float32(TRANSFORMS[f["transform"]]) * np.abs(values))
    scaled = (values - np.float32(f["mean"])) / np.float32(f["std"])
    return np.where(default, np.float32(f["default"]), scaled).astype(np.float32)


def _vectors(candidates: Any) -> np.ndarray:
    return _four_vectors(candidates.pt, candidates.eta, candidates.phi, candidates.mass)


def _four_vectors(pt: Any, eta: Any, phi: Any, mass: Any) -> np.ndarray:
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt(px**2 + py**2 + pz**2 + mass**2)
    return np.stack([_flat(one) for one in (px, py, pz, energy)], axis=1)


def _vertex_vectors(table: Any, vertices: Any, jet: Any) -> np.ndarray:
    """Four-vectors of the vertices of one jet per event; those that are not in the table from distance and energy."""
    counts = ak.to_numpy(ak.num(vertices.pt))
    first = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(table.eta)))])[:-1]
    eta, phi, pt, mass = (
        np.repeat(ak.to_numpy(jet[name]).astype(float), counts) for name in ("eta", "phi", "pt", "mass")
    )
    own = {
        name: ak.to_numpy(ak.flatten(vertices[name]))
        for name in ("sVIdx", "phirel", "deltaR", "enration", "pt", "mass")
    }
    wide = {name: values.astype(float) for name, values in own.items()}
    size = np.sqrt(np.clip((wide["deltaR"] + 0.5) ** 2 - wide["phirel"] ** 2, 0, None))
    energy = wide["enration"] * np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosh = np.sqrt(np.clip(energy**2 - wide["mass"] ** 2, 0, None)) / wide["pt"]
    backward = np.abs(np.cosh(eta - size) - cosh) < np.abs(np.cosh(eta + size) - cosh)
    eta_sv, phi_sv = eta + np.where(backward, -size, size), phi + wide["phirel"]
    known = own["sVIdx"] >= 0
    row = (np.repeat(first, counts) + own["sVIdx"])[known]
    eta_sv[known] = ak.to_numpy(ak.flatten(table.eta))[row]
    phi_sv[known] = ak.to_numpy(ak.flatten(table.phi))[row]
    px, py, pz = wide["pt"] * np.cos(phi_sv), wide["pt"] * np.sin(phi_sv), wide["pt"] * np.sinh(eta_sv)
    energy = np.sqrt(px**2 + py**2 + pz**2 + wide["mass"] ** 2)
    return np.stack([px, py, pz, energy], axis=1).astype(np.float32)


def main() -> None:
    """Run the processor; print its time and, where asked, its histograms summed over flavours."""
    torch.set_num_threads(1)
    options = options_of_side()
    runner = processor.Runner(
        executor=processor.IterativeExecutor(status=False), schema=Schema, chunksize=options["chunk"]
    )
    with Stopwatch() as watch:
        found = runner({"mc": {"files": {options["file"]: "Events"}}}, processor_instance=DataMC(options))
    versions = {"coffea": coffea.__version__, "awkward": ak.__version__, "hist": hist.__version__}
    if options["network"] == "weaver":
        versions["weaver-core"] = version("weaver-core")
    result: dict[str, Any] = {**watch.seconds, "versions": versions}
    result["jets"] = float(found["jet_pt"].sum(flow=True).value)
    if options.get("contents"):
        result["histograms"] = {name: one.project("x").values(flow=True).tolist() for name, one in found.items()}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
