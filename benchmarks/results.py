"""The output of a large data/MC job: seconds to write it, to read it, and to merge it, against limits of 5 s each.

Three regions, three networks, four variants, five systematic variations (of attacked inputs too) and twenty
variables, among them the finely binned logits of three discriminants with 50 bootstrap replicas.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measuring import Different
from benchmarks.printing import Outcome, command, part, say
from pfnano_tag.analyze.result import Content, JobResult, Variable, write_result
from pfnano_tag.analyze.variables import Network, variables_of
from pfnano_tag.card import Card
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.compare.merging import Merger
from pfnano_tag.compare.outputs import DatasetJobs

LIMIT = 5.0
"""Seconds for each."""
ROUNDS, QUICK_ROUNDS = 5, 1
CARD: dict[str, Any] = {
    "study": {"name": "results", "seed": 1},
    "datasets": [{"name": "simulation", "kind": "mc", "cross_section": 1.0, "files": "simulation.root"}],
    "regions": {name: {"selection": "all_jets"} for name in ("first", "second", "third")},
    "attacks": {name: {"kind": "fgsm"} for name in ("weak", "medium", "strong")},
    "histograms": {
        "inputs": ["jet/pt", "charged/trackSip2dSig", "charged/trackDeltaR", "sv/mass", "sv/pt"],
        "variants": ["weak", "medium", "strong"],
        "systematics_of_variants": True,
    },
    "systematics": {
        "jes_up": {"kind": "jet_energy_scale", "shift": 0.01},
        "jes_down": {"kind": "jet_energy_scale", "shift": -0.01},
        "jer": {"kind": "jet_energy_resolution", "factor": 1.1},
        "tracks": {"kind": "tracking_efficiency", "loss": 0.02},
        "vertices": {"kind": "vertex_efficiency", "loss": 0.05},
    },
}


def contents() -> dict[str, tuple[Variable, Content]]:
    """Return the variables of the job, each with counts in a third of its bins."""
    card = Card.model_validate_json(json.dumps(CARD))
    inputs = tuple(CARD["histograms"]["inputs"])
    networks = [Network(name, card.labels.classes, inputs) for name in ("first", "second", "third")]
    random = np.random.default_rng(1)
    found = {}
    for name, variable in variables_of(card, "mc", networks, ()).items():
        counts = random.poisson(20.0, variable.shape) * (random.random(variable.shape) < 1 / 3)
        weights = counts * random.uniform(0.5, 1.5, variable.shape)
        found[name] = variable, Content(weights, weights**2)
    return found


def seconds_of(step: Callable[[], object]) -> float:
    """Return the CPU seconds of a step."""
    before = time.process_time()
    step()
    return time.process_time() - before


def read(path: Path) -> dict[str, Content]:
    """Read all variables of an output."""
    with JobResult(path) as result:
        return {name: result.read(name) for name in result.variables}


def merge(path: Path, dataset: Dataset) -> None:
    """Merge two outputs that are the same, variable by variable, as `compare` does."""
    with Merger([DatasetJobs(dataset, (path, path))]) as merger:
        for name in merger.variables:
            merger.merged(name, {dataset.name: 2.0})


def measure(quick: bool) -> Outcome:
    """Write, read and merge in turns."""
    made = contents()
    dataset = Dataset.model_validate_json(json.dumps(CARD["datasets"][0]))
    info = {"dataset": dataset.name, "kind": "mc", "settings": "s" * 64, "models": {}, "lost": []}
    seconds: dict[str, list[float]] = {"write": [], "read": [], "merge": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.root"
        say(f"results: {len(made)} variables")
        for _ in range(QUICK_ROUNDS if quick else ROUNDS):
            seconds["write"].append(seconds_of(lambda: write_result(path, info, {}, {}, made)))
            seconds["read"].append(seconds_of(lambda: read(path)))
            seconds["merge"].append(seconds_of(lambda: merge(path, dataset)))
        check(made, read(path))
        work = {
            "variables": len(made),
            "histograms": sum(len(variable.categories) for variable, _ in made.values()),
            "cells": sum(content.values.size for _, content in made.values()),
            "megabytes": round(path.stat().st_size / 1e6, 1),
        }
    ratios = {
        name: part(
            round(median(taken) / LIMIT, 3),
            f"seconds to {name} over the limit",
            {"cpu_seconds": round(median(taken), 2), "runs": len(taken)},
            {"cpu_seconds": LIMIT},
        )
        for name, taken in seconds.items()
    }
    first = ratios.pop("write")
    return Outcome("results", first["ratio"], first["ratio_is"], first["ours"], first["other"], work, ratios)


def check(made: dict[str, tuple[Variable, Content]], found: dict[str, Content]) -> None:
    """Raise `Different` unless what is read is what was written."""
    for name, (_, content) in made.items():
        if not (
            np.array_equal(content.values, found[name].values)
            and np.array_equal(content.variances, found[name].variances)
        ):
            raise Different(f"variable {name} is not read as it was written")


if __name__ == "__main__":
    sys.exit(command("results", __doc__ or "", measure))
