"""Interleaved runs of the sides of a benchmark, each in its own process and environment; CPU seconds, medians.

A side is a module of `benchmarks.sides` that takes its options as one JSON argument, does its work once between
`Stopwatch.start` and `Stopwatch.stop`, and prints a JSON object as its last line. Absolute times mean little on a
shared machine: sides take turns, and what counts is the ratio of medians of CPU seconds.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
"""Variables of the caller's environment that a side sees; all else is the same for every run."""


class Missing(Exception):
    """A peer or an input is not there; the message names the command that makes it."""


class SideFailed(Exception):
    """A side ended with an error."""


class Different(Exception):
    """The sides have not done the same: nothing can be compared."""


@dataclass(frozen=True)
class Side:
    """One of the things compared.

    Parameters
    ----------
    name : str
        Short, unique in the benchmark.
    module : str
        Below `benchmarks.sides`.
    options : dict
        JSON content that the side gets.
    python : Path
        Interpreter of the side's environment.
    """

    name: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    python: Path = Path(sys.executable)

    def command(self) -> list[str]:
        """Return the command line of one run."""
        return [str(self.python), "-m", f"benchmarks.sides.{self.module}", json.dumps(self.options)]


def environment() -> dict[str, str]:
    """Return the environment of every side: one thread, this repository, nothing else of the caller's."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA")}
    return kept | threads | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}


def run_side(side: Side) -> dict[str, Any]:
    """Run a side once.

    Returns
    -------
    dict
        What it printed last: `cpu`, `wall` [s] and whatever else it says.

    Raises
    ------
    SideFailed
        With the end of what it said.
    """
    done = subprocess.run(side.command(), capture_output=True, text=True, cwd=ROOT, env=environment(), check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        words = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise SideFailed(f"side {side.name!r} ended with exit code {done.returncode}:\n{words}")
    try:
        content: dict[str, Any] = json.loads(lines[-1])
    except json.JSONDecodeError as error:
        raise SideFailed(f"side {side.name!r}: the last line is no JSON object: {lines[-1][:200]}") from error
    return content


def interleaved(sides: Sequence[Side], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Run sides in turns, in reverse order every second round, so that a drift of the machine hits all alike.

    Returns
    -------
    dict
        Name of the side -> results of its runs.
    """
    results: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            results[side.name].append(run_side(side))
    return results


def summary(runs: Iterable[Mapping[str, Any]], jets: int, key: str = "cpu") -> dict[str, Any]:
    """Return the median of some runs and their spread.

    Parameters
    ----------
    runs : iterable of mapping
        Results of one side.
    jets : int
        Jets that each run dealt with.
    key : str
        `cpu`, `wall`, or another time that the runs tell.

    Returns
    -------
    dict
        `{key}_seconds`, `jets_per_second`, `runs`, `spread` ((largest - least) / median).
    """
    seconds = [float(run[key]) for run in runs]
    middle = median(seconds)
    return {
        f"{key}_seconds": _rounded(middle),
        "jets_per_second": round(jets / middle),
        "runs": len(seconds),
        "spread": _rounded((max(seconds) - min(seconds)) / middle),
    }


def ratio_of(ours: Iterable[Mapping[str, Any]], theirs: Iterable[Mapping[str, Any]], key: str = "cpu") -> float:
    """Return how many times as fast ours is: median seconds of theirs over median seconds of ours."""
    return _rounded(median(float(run[key]) for run in theirs) / median(float(run[key]) for run in ours))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


class Stopwatch:
    """CPU seconds of this process and of its children that have ended, and wall seconds, between two moments."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0
        self._started: tuple[float, float] | None = None

    def start(self) -> None:
        """Begin or go on."""
        self._started = (_cpu_seconds(), time.perf_counter())

    def stop(self) -> None:
        """Pause; the time since `start` is added."""
        if self._started is None:
            raise RuntimeError("stopped without a start")
        self.cpu += _cpu_seconds() - self._started[0]
        self.wall += time.perf_counter() - self._started[1]
        self._started = None

    def __enter__(self) -> Stopwatch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._started is not None

    @property
    def seconds(self) -> dict[str, float]:
        """`cpu` and `wall` so far."""
        return {"cpu": self.cpu, "wall": self.wall}


def peak_memory() -> int:
    """Return the most memory that this process has held so far [bytes]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _cpu_seconds() -> float:
    """Return user and system seconds of this process, all its threads, and its children that were waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def options_of_side() -> dict[str, Any]:
    """Return the options that a side was started with."""
    content: dict[str, Any] = json.loads(sys.argv[1])
    return content
