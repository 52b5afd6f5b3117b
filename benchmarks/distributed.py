"""Training of the Particle Transformer in two processes against one, with one thread each, on two cores."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.inputs import path_of
from benchmarks.measuring import Different, Side, interleaved, ratio_of, run_side, summary
from benchmarks.printing import Outcome, command, part, say
from benchmarks.transformer import BATCH, CLASSES, FEATURES, MOST, PT

TOLERANCE = 1e-3
"""Largest relative difference of loss and gradient's norm (float32, other order of sums)."""


def check_same(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Check that all runs saw the same jets and steps, and found the same gradient of a common batch.

    Raises
    ------
    Different
        Naming what differs.
    """
    first, *others = [run for runs in results.values() for run in runs]
    for run in others:
        for name in ("jets", "steps"):
            if run[name] != first[name]:
                raise Different(f"{name} differ: {first[name]} and {run[name]}")
        for mine, theirs in zip(run["checked"], first["checked"], strict=True):
            if not abs(mine - theirs) <= TOLERANCE * abs(theirs):
                raise Different(f"loss or gradient of the same jets differ: {first['checked']} and {run['checked']}")


def measure(quick: bool) -> Outcome:
    """Compare the wall-clock time of the same jets and steps."""
    jets, rounds = (512, 1) if quick else (4096, 5)
    if len(os.sched_getaffinity(0)) < 2:
        say("one core only: two processes can't be faster than one")
    with tempfile.TemporaryDirectory() as name:
        options: dict[str, Any] = {"jets_file": str(Path(name) / "jets.npz"), "features": FEATURES}
        options |= {"classes": CLASSES, "batch": BATCH if not quick else BATCH // 4}
        source = {"file": str(path_of("candidates")), "events": 4 * jets, "pt": PT, "most": MOST, "jets": jets}
        described = run_side(Side("jets", "transformer", {**options, **source, "do": "jets"}))
        say(f"training steps, {rounds} rounds")
        sides = [Side(word, "distributed", {**options, "processes": n}) for word, n in (("two", 2), ("one", 1))]
        results = interleaved(sides, rounds)
    check_same(results)
    two, one = results["two"], results["one"]
    count = described["jets"]
    times = {name: summary(runs, count, "wall") for name, runs in results.items()}
    busiest = {name: summary(runs, count, "busiest") for name, runs in results.items()}
    more = {
        "cpu": part(
            ratio_of(two, one, "busiest"),
            "CPU seconds of one process over those of the busier of two (waiting does not count)",
            busiest["two"],
            busiest["one"],
        )
    }
    work = {**described, "batch": options["batch"], "steps": one[0]["steps"]}
    words = "rate of training steps in two processes over that in one, wall-clock time"
    return Outcome("distributed", ratio_of(two, one, "wall"), words, times["two"], times["one"], work, more)


if __name__ == "__main__":
    sys.exit(command("distributed", __doc__, measure))
