"""Ours: the data/MC job of one file; and what it needs: a study's card, networks that learned nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.measuring import Stopwatch, options_of_side
from benchmarks.sides.untrained import write_untrained
from pfnano_tag.analyze import stage
from pfnano_tag.analyze.job import make_job
from pfnano_tag.analyze.result import NO_REPLICA, JobResult
from pfnano_tag.card import read_card
from pfnano_tag.card.output import write_json
from pfnano_tag.models.pairs import PAIR_FEATURES
from pfnano_tag.models.particle_transformer import ParticleTransformer
from pfnano_tag.nano.reader import open_file
from pfnano_tag.nano.schema import FEATURES
from pfnano_tag.prepare.inputs import InputFeature, InputSpec

CLASSES = ("b", "bb", "lepb", "c", "uds", "g")
INPUTS = {
    "jet": ("pt", "eta"),
    "charged": ("ptrel", "trackDeltaR", "puppiw", "chi2", "quality", "VTX_ass", "trackSip3dVal", "trackSip3dSig"),
    "neutral": ("ptrel", "deltaR", "isGamma", "puppiw"),
    "sv": ("pt", "mass", "ntracks", "chi2", "d3d", "d3dsig", "costhetasvpv", "enratio"),
}
"""Inputs that are branches, or a line of awkward's: what a processor would use."""
CAPS = {"charged": 200, "neutral": 200, "sv": 20}
"""No jet has more: no order of constituents matters."""


def specification() -> InputSpec:
    """Return the inputs of the networks, scaled by some numbers."""
    groups = {
        group: tuple(_feature(FEATURES[f"{group}/{name}"]) for name in names) for group, names in INPUTS.items()
    }
    return InputSpec("benchmark", groups, CAPS, 0.95)


def _feature(f: Any) -> InputFeature:
    return InputFeature(
        f.id, f.name, f.transform, 0.1, 2.0, -3.0, f.protected, f.integer, True, f.low, f.high,
        placeholder=f.default, replacement=f.replacement,
    )  # fmt: skip


def write_networks(options: dict[str, Any]) -> dict[str, Any]:
    """Write checkpoints, and the same weights and inputs for the peer."""
    card, spec = read_card(options["card"]), specification()
    for name, module in write_untrained(card, spec, CLASSES, without_masses).items():
        np.savez(Path(options["folder"]) / f"{name}.npz", **{k: v.numpy() for k, v in module.state_dict().items()})
    described = [
        {"id": f.id, "low": f.low, "high": f.high, "transform": f.transform, "mean": f.mean, "std": f.std,
         "default": f.default, "replacement": f.replacement, "placeholder": f.placeholder,
         "needs": FEATURES[f.id].needs, "axis": FEATURES[f.id].axis}
        for f in spec.features
    ]  # fmt: skip
    write_json(Path(options["folder"]) / "inputs.json", described)
    return {"features": len(described)}


def without_masses(module: nn.Module) -> None:
    """Take the last pair feature, ln m2, from what a transformer sees; it is computed as before.

    Of a fast, light particle it is nothing but the rounding of its four-vector to single precision: a difference in
    the last bit moves it from 1e-8 to 1e-4 GeV2, and scores by 0.05. Nothing could be compared.
    """
    if isinstance(module, ParticleTransformer) and module.pair is not None:
        with torch.no_grad():
            module.pair.norm.weight[PAIR_FEATURES.index("ln_m2")] = 0


def analyze(options: dict[str, Any]) -> dict[str, Any]:
    """Do the job."""
    card = read_card(options["card"], options.get("set", ()))
    Path(options["output"]).unlink(missing_ok=True)
    with Stopwatch() as watch:
        stage.run(card, options["dataset"], options["file"], options["output"], options["models"])
    with JobResult(options["output"]) as result:
        names = [name for name, variable in result.variables.items() if variable.kind != "agreement"]
        return {**watch.seconds, "jets": float(result.read("jet_pt").values.sum()), "histograms": len(names)}


def describe(options: dict[str, Any]) -> dict[str, Any]:
    """Return what the job reads, and what it has found: histograms summed over flavours, with flow."""
    card = read_card(options["card"])
    with open_file(options["file"], card) as source:
        job = make_job(card, options["dataset"], source, options["models"])
        branches, plan = source.stored_names(job.branches), job.new_plan()
    with JobResult(options["output"]) as result:
        found = {}
        for name, variable in result.variables.items():
            values = result.read(name).values
            rows = [
                i for i, c in enumerate(variable.categories)
                if c.replica == NO_REPLICA and c.variant == "nominal" and c.model in ("none", options["models"][0])
            ]  # fmt: skip
            found[name] = values[rows].sum(axis=0).tolist()
    return {"branches": branches, "plan": plan, "tree": "Events", "histograms": found}


def main() -> None:
    """Do what the options say and print the result."""
    torch.set_num_threads(1)
    options = options_of_side()
    print(json.dumps({"networks": write_networks, "analyze": analyze, "describe": describe}[options["do"]](options)))


if __name__ == "__main__":
    main()
