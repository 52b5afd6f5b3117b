"""Particle Transformer against weaver-core's, with the same weights, jets and effective batch."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inputs import path_of
from benchmarks.measuring import Different, Side, interleaved, ratio_of, run_side, summary
from benchmarks.peers import python_of
from benchmarks.printing import Outcome, command, part, say

FEATURES, CLASSES = 17, 10
"""Of the published network."""
BATCH = 512
PT = 55.0
"""Lowest transverse momentum of the jets [GeV]: brings their constituents to 14.5 in the mean."""
MOST = 50
"""Constituents of a jet."""
TOLERANCE = 2e-5
"""Largest difference of logits, whose size is 1 to 5."""


class Sides:
    """Both sides on one set of jets.

    Parameters
    ----------
    folder : Path
        For jets and weights.
    jets : int
        How many.
    """

    def __init__(self, folder: Path, jets: int) -> None:
        self.folder, self.python = folder, python_of("weaver")
        self.options: dict[str, Any] = {
            "jets_file": str(folder / f"jets_{jets}.npz"),
            "weights": str(folder / "weights.npz"),
            "features": FEATURES,
            "classes": CLASSES,
            "batch": BATCH,
        }
        source = {"file": str(path_of("candidates")), "events": 4 * jets, "pt": PT, "most": MOST, "jets": jets}
        self.described = run_side(Side("jets", "transformer", {**self.options, **source, "do": "jets"}))
        weights = Side("weights", "weaver_transformer", {**self.options, "do": "weights"}, self.python)
        self.described |= run_side(weights)

    def both(self, do: str, **options: Any) -> tuple[Side, Side]:
        """Return ours and weaver's for something to do; `logits` is the end of a file's name for each."""
        found = []
        for name, module, python in (("ours", "transformer", None), ("weaver", "weaver_transformer", self.python)):
            asked = {**self.options, "do": do, **options}
            if "logits" in options:
                asked["logits"] = str(self.folder / f"{name}_{options['logits']}")
            side = Side(name, module, asked)
            found.append(side if python is None else Side(name, module, asked, python))
        return found[0], found[1]


def check_same(sides: Sides) -> float:
    """Return the largest difference of logits.

    Raises
    ------
    Different
        When it is too large.
    """
    say("comparing the logits of all jets")
    for side in sides.both("infer", logits="logits.npy"):
        run_side(side)
    ours, theirs = (np.load(sides.folder / f"{name}_logits.npy") for name in ("ours", "weaver"))
    difference = float(np.abs(ours - theirs).max())
    if not difference < TOLERANCE:
        raise Different(f"logits differ by up to {difference:.3g}, expected at most {TOLERANCE:g}")
    return difference


def measure(quick: bool) -> Outcome:
    """Compare logits, then inference, then training steps."""
    jets, rounds = (512, 1) if quick else (2048, 3)
    with tempfile.TemporaryDirectory() as name:
        sides = Sides(Path(name), jets)
        difference = check_same(sides)
        say(f"inference, {rounds} rounds")
        inference = interleaved(sides.both("infer"), rounds)
        say(f"training steps, {rounds} rounds")
        training = interleaved(sides.both("train"), rounds)
    count = sides.described["jets"]
    results = {name: summary(runs, count) for name, runs in inference.items()}
    steps = {
        name: summary(runs, count) | {"megabytes": round(max(run["memory"] for run in runs) / 1e6)}
        for name, runs in training.items()
    }
    memory = round(steps["ours"]["megabytes"] / steps["weaver"]["megabytes"], 3)
    more = {
        "training": part(
            ratio_of(training["ours"], training["weaver"]),
            "rate of training steps over that of weaver-core",
            steps["ours"],
            steps["weaver"],
        ),
        "memory": part(
            memory, "peak memory of training steps over that of weaver-core's", steps["ours"], steps["weaver"]
        ),
    }
    work = {**sides.described, "batch": BATCH, "largest_difference": float(f"{difference:.2g}")}
    words = "rate of inference over that of weaver-core's Particle Transformer"
    return Outcome(
        "transformer",
        ratio_of(inference["ours"], inference["weaver"]),
        words,
        results["ours"],
        results["weaver"],
        work,
        more,
        inference["weaver"][0]["versions"],
    )


if __name__ == "__main__":
    sys.exit(command("transformer", __doc__, measure))
