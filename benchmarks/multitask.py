"""Training of a network with three tasks against Salt's GN2, with the same weights, jets and effective batch."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.inputs import path_of
from benchmarks.measuring import Different, Side, interleaved, ratio_of, run_side, summary
from benchmarks.peers import python_of
from benchmarks.printing import Outcome, command, part, say

TRACKS = 40
"""Tracks that Salt pads a jet to."""
SIZES = {"jets_features": 2, "tracks_features": 19, "classes": 4, "origins": 6, "vertices": 5}
"""Inputs and classes as in GN2, but for the six origins that ours knows; vertices per jet of the random labels."""
WEIGHTS = {"origin": 0.5, "vertex": 1.5}
"""Of the losses of the tasks, as in GN2."""
BATCH = 256
PT = 20.0
"""Lowest transverse momentum of the generated jets [GeV], that of the card's default."""
ATTENTION = "torch-math"
"""What Salt falls back to without a GPU."""
TOLERANCE = 2e-5
"""Largest difference of logits."""
WORDS = {
    "full": f"rate of training steps over Salt's, {TRACKS} tracks in every jet (asked: at least 3)",
    "real": f"the same, real multiplicities, which Salt pads to {TRACKS} tracks (asked: at least 6)",
    "ordered": f"the same, {TRACKS} tracks in every jet, pairs in both orders on both sides",
}


class Sides:
    """Both sides on one set of jets.

    Parameters
    ----------
    folder : Path
        For jets and weights.
    jets : int
        How many.
    full : bool
        Whether every jet has all tracks; else as many as generated jets have charged constituents.
    """

    def __init__(self, folder: Path, jets: int, full: bool) -> None:
        self.folder, self.python, self.name = folder, python_of("salt"), "full" if full else "real"
        self.options: dict[str, Any] = {
            **SIZES,
            "tracks": TRACKS,
            "jets_file": str(folder / f"jets_{self.name}.npz"),
            "weights": str(folder / "weights.npz"),
            "weights_of_tasks": WEIGHTS,
            "batch": BATCH,
            "attention": ATTENTION,
            "ordered": False,
        }
        source = {"file": str(path_of("candidates")), "events": 4 * jets, "pt": PT, "jets": jets, "full": full}
        self.described = run_side(Side("jets", "multitask", {**self.options, **source, "do": "jets"}))

    def ours(self, do: str, **options: Any) -> Side:
        """Return our side."""
        label = "ordered" if options.get("ordered") else "ours"
        return Side(label, "multitask", {**self.options, "do": do, **options})

    def salt(self, do: str, **options: Any) -> Side:
        """Return Salt's side."""
        return Side("salt", "salt_multitask", {**self.options, "do": do, **options}, self.python)


def pairs_in_salts_order(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows of the tracks of all ordered pairs i != j, jet by jet, by i, then by j."""
    firsts = np.cumsum(counts) - counts
    both = [np.nonzero(~np.eye(count, dtype=bool)) for count in counts]
    return tuple(  # type: ignore[return-value]
        np.concatenate([first + pair[side] for first, pair in zip(firsts, both, strict=True)]) for side in (0, 1)
    )


def largest_difference(ours: Path, theirs: Path, jets: Path) -> float:
    """Return the largest difference of any logit; a pair i < j of ours is the mean of Salt's two orders."""
    with np.load(ours) as mine, np.load(theirs) as salts, np.load(jets) as content:
        found = [np.abs(mine[name] - salts[name]).max() for name in ("flavour", "origin")]
        i, j = pairs_in_salts_order(content["counts"])
        tracks = len(content["x"])
        place, order = np.unique(i * tracks + j, return_index=True)

        def logits(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float32]:
            rows: NDArray[np.float32] = salts["vertex"][order[np.searchsorted(place, one * tracks + other)]]
            return rows

        pairs = mine["vertex_pairs"]
        if 2 * pairs.shape[1] != len(i):
            raise Different(f"{pairs.shape[1]} pairs of tracks, expected half of Salt's {len(i)}")
        mean = 0.5 * (logits(pairs[0], pairs[1]) + logits(pairs[1], pairs[0]))
        return float(max(*found, np.abs(mine["vertex"] - mean).max()))


def check_same(sides: Sides, quick: bool) -> tuple[float, int]:
    """Compare the logits of all tasks.

    Returns
    -------
    difference : float
        The largest.
    parameters : int
        Of Salt's network.

    Raises
    ------
    Different
        When it is too large.
    """
    say("comparing the logits of all tasks")
    theirs = sides.folder / "salt.npz"
    described = run_side(sides.salt("prepare", outputs=str(theirs)))
    difference = 0.0
    for ordered in (False,) if quick else (False, True):
        ours = sides.folder / f"ours_{ordered}.npz"
        run_side(sides.ours("outputs", outputs=str(ours), ordered=ordered))
        difference = max(difference, largest_difference(ours, theirs, Path(sides.options["jets_file"])))
    if not difference < TOLERANCE:
        raise Different(f"logits differ by up to {difference:.3g}, expected at most {TOLERANCE:g}")
    return difference, described["parameters"]


def measure(quick: bool) -> Outcome:
    """Compare logits, then time training steps, with jets full of tracks and with real ones."""
    full_jets, real_jets, rounds = (64, 256, 1) if quick else (512, 1024, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        full, real = Sides(folder, full_jets, full=True), Sides(folder, real_jets, full=False)
        difference, parameters = check_same(real, quick)
        say(f"training steps, {rounds} rounds")
        both = [full.ours("train"), full.salt("train")]
        runs = {
            "full": interleaved(both if quick else [*both, full.ours("train", ordered=True)], rounds),
            "real": interleaved([real.ours("train"), real.salt("train")], rounds),
        }
    if not quick:
        runs["ordered"] = {"ours": runs["full"].pop("ordered"), "salt": runs["full"]["salt"]}
    entries = {}
    for label, some in runs.items():
        found = {
            side: summary(results, results[0]["jets"])
            | {"megabytes": round(max(run["memory"] for run in results) / 1e6)}
            for side, results in some.items()
        }
        entries[label] = part(ratio_of(some["ours"], some["salt"]), WORDS[label], found["ours"], found["salt"])
    first = entries.pop("full")
    work = {
        "real": real.described,
        "tracks": TRACKS,
        "batch": BATCH,
        "parameters": parameters,
        "attention": ATTENTION,
        "largest_difference": float(f"{difference:.2g}"),
    }
    versions = runs["full"]["salt"][0]["versions"]
    return Outcome(
        "multitask", first["ratio"], first["ratio_is"], first["ours"], first["other"], work, entries, versions
    )


if __name__ == "__main__":
    sys.exit(command("multitask", __doc__, measure))
