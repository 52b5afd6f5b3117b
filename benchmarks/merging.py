"""Merging of 250, 500 and 1,000 job outputs of 25 variables x 500 categories: peak memory against one output plus
200 MB, seconds against the number of outputs, two processes against one, ten more outputs against all again.

Eight outputs are written, and stand under many names (hard links): what is read lies in the system's cache, and the
time that a disk takes is not in the seconds.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from itertools import islice, product
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Different, Side
from benchmarks.printing import Outcome, command, part, say
from benchmarks.watching import Watched, watch
from pfnano_tag.analyze.result import Category, Content, Cutflow, Variable, write_result

COUNTS, QUICK_COUNTS = (250, 500, 1000), (15, 30, 60)
VARIABLES, CATEGORIES, BINS = 25, 500, 50
WRITTEN = 8
"""Outputs of different content."""
NEW = 10
"""Outputs that come after a first merging."""
ALLOWED = 200.0
"""Memory beside that of one output's content [MB]."""
DATASET = {"name": "dy", "files": "dy_*.root", "kind": "mc", "cross_section": 1.0}
MEGABYTES = VARIABLES * CATEGORIES * (BINS + 2) * 2 * 8 / 1e6
"""Content of one output."""


def categories() -> tuple[Category, ...]:
    """Return the categories of a variable, with names as long as those of a study."""
    regions = [f"region_{number}" for number in range(3)]
    flavours = ("b", "bb", "lepb", "c", "uds", "g", "undefined")
    models, variants = ("deepsets", "deepjet", "transformer"), ("nominal", "fgsm", "pgd")
    systematics = ("nominal", "jes_up", "jes_down", "jer")
    return tuple(
        islice(map(Category._make, product(regions, flavours, models, variants, systematics, [-1])), CATEGORIES)
    )


def write_outputs(folder: Path, count: int) -> dict[str, float]:
    """Write outputs; return the sum over all of them, by variable."""
    folder.mkdir()
    rows, random = categories(), np.random.default_rng(1)
    info: dict[str, Any] = {"dataset": DATASET["name"], "kind": "mc", "settings": "s" * 64, "models": {}, "lost": []}
    expected: dict[str, float] = {}
    for number in range(WRITTEN):
        contents = {}
        times = len(range(number, count, WRITTEN))
        for place in range(VARIABLES):
            variable = Variable(f"variable_{place}", "input", "x", "x", "GeV", BINS, 0.0, 1.0, rows)
            filled = random.poisson(20.0, variable.shape) * (random.random(variable.shape) < 1 / 3)
            weights = filled * random.uniform(0.5, 1.5, variable.shape)
            contents[variable.name] = variable, Content(weights, weights**2)
            expected[variable.name] = expected.get(variable.name, 0.0) + times * float(weights.sum())
        flow = Cutflow(("all", "selected"), np.array([9.0, 5.0]), np.array([9.0, 5.0]))
        write_result(folder / f"written_{number}", info, {"files": 1.0}, {"region_0": flow}, contents)
    for number in range(count):
        os.link(folder / f"written_{number % WRITTEN}", folder / f"dy_{number:05}.root")
    return expected


def check_same(seen: Mapping[str, Watched], expected: Mapping[str, float]) -> None:
    """Check that runs on the same outputs found the same bits, and the largest the sums that were written.

    Raises
    ------
    Different
        Naming two runs, or a variable.
    """
    known: dict[int, tuple[str, str]] = {}
    for name, watched in seen.items():
        files, digest = watched.result["files"], watched.result["digest"]
        first, theirs = known.setdefault(files, (name, digest))
        if digest != theirs:
            raise Different(f"the histograms of {first} and {name} differ")
    most = max(seen.values(), key=lambda watched: int(watched.result["files"]))
    for name, total in most.result["totals"].items():
        if not isclose(total, expected[name], rel_tol=1e-11):
            raise Different(f"{name}: the merged sum is {total!r}, that of what was written {expected[name]!r}")


def wall_of(watched: Watched) -> dict[str, Any]:
    """Return what a run took, with the time of the clock alone."""
    return {key: number for key, number in figures(watched).items() if key != "cpu_seconds"}


def figures(watched: Watched) -> dict[str, Any]:
    """Return what a run took."""
    result = watched.result
    return {
        "files": result["files"],
        "cpu_seconds": round(result["cpu"], 1),
        "wall_seconds": round(result["wall"], 1),
        "megabytes": round(watched.above),
        "processes": watched.processes,
    }


def ratio_of(key: str, first: Watched, second: Watched, factor: float = 1.0) -> float:
    """Return a time of one run over (some times) that of another."""
    return float(f"{first.result[key] / second.result[key] / factor:.3g}")


def measure(quick: bool) -> Outcome:
    """Merge with one and two processes, then once more with ten outputs more."""
    counts = QUICK_COUNTS if quick else COUNTS
    few, most = counts[0], counts[-1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say(f"merging: {WRITTEN} outputs under {most} names")
        expected = write_outputs(folder / "outputs", most)
        size = (folder / "outputs" / "written_0").stat().st_size
        asked = {f"{n}_by_{p}": (n, p, "") for n in counts for p in (1, 2)}
        kept = str(folder / "kept")
        asked |= {"before": (most - NEW, 1, kept), "again": (most, 1, kept)}
        seen = {}
        for one, (count, processes, place) in asked.items():
            options = {"dataset": DATASET, "outputs": str(folder / "outputs"), "count": count}
            seen[one] = watch(Side(one, "merging", {**options, "processes": processes, "kept": place}))
            say(f"{one}: {figures(seen[one])}")
        sums = sum(path.stat().st_size for path in Path(kept).rglob("*.root"))
    check_same(seen, expected)
    alone, together, start = seen[f"{most}_by_1"], seen[f"{most}_by_2"], seen[f"{few}_by_1"]
    work = {
        "variables": VARIABLES,
        "categories": CATEGORIES,
        "bins": BINS,
        "content_megabytes": round(MEGABYTES, 1),
        "file_megabytes": round(size / 1e6, 1),
        "kept_megabytes": round(sums / 1e6, 1),
        "runs": {one: figures(watched) for one, watched in seen.items()},
        "memory_is": "proportional set size of all processes, looked at every 50 ms",
    }
    more = {
        "linear": part(
            ratio_of("cpu", alone, start, most / few),
            f"CPU seconds of {most} outputs over {most // few} times those of {few}; 1: linear",
            figures(alone),
            figures(start),
        ),
        "two_processes": part(
            ratio_of("wall", alone, together),
            "wall time of one process over that of two (needs two free cores)",
            wall_of(together),
            wall_of(alone),
        ),
        "again": part(
            ratio_of("cpu", seen["again"], alone),
            f"CPU seconds with {NEW} new outputs, sums of the others kept, over those of all outputs",
            figures(seen["again"]),
            figures(alone),
        ),
    }
    limit = MEGABYTES + ALLOWED
    words = f"peak memory above the imports, {most} outputs, one process, over one output's content + {ALLOWED:g} MB"
    ours = {"megabytes": round(alone.above), "by_outputs": {n: round(seen[f"{n}_by_1"].above) for n in counts}}
    ratio = float(f"{alone.above / limit:.3g}")
    return Outcome("merging", ratio, words, ours, {"megabytes": round(limit)}, work, more)


if __name__ == "__main__":
    sys.exit(command("merging", __doc__ or "", measure))
