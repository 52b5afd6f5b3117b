"""Peak memory of a process and all its descendants, above what it has after its imports.

A watched side prints `ready` when everything is imported, waits for a line, works, and prints a JSON object. Memory
is the proportional set size (PSS): pages that several processes share are counted once in the sum. Linux only.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT, Side, SideFailed, environment

INTERVAL = 0.05
"""Seconds between two looks."""


@dataclass(frozen=True)
class Watched:
    """What was seen.

    Parameters
    ----------
    baseline : float
        After the imports [MB].
    peak : float
        Largest sum over all processes [MB].
    processes : int
        Most processes at a time.
    result : dict
        What the side printed.
    """

    baseline: float
    peak: float
    processes: int
    result: dict[str, Any]

    @property
    def above(self) -> float:
        """Peak above the baseline [MB]."""
        return self.peak - self.baseline


def watch(side: Side) -> Watched:
    """Run a side and look at its memory all the time.

    Raises
    ------
    SideFailed
        With the end of what it said.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            side.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            ready = process.stdout.readline().strip()
            baseline, _ = tree_memory(process.pid)
            if ready == "ready":
                process.stdin.write("go\n")
                process.stdin.flush()
            peak, processes = baseline, 1
            while process.poll() is None:
                memory, number = tree_memory(process.pid)
                peak, processes = max(peak, memory), max(processes, number)
                time.sleep(INTERVAL)
            last = process.stdout.read().strip().splitlines()
        if process.returncode or not last:
            errors.seek(0)
            words = "\n".join(errors.read().strip().splitlines()[-15:])
            raise SideFailed(f"side {side.name!r} ended with exit code {process.returncode}:\n{words}")
    return Watched(baseline, peak, processes, json.loads(last[-1]))


def tree_memory(pid: int) -> tuple[float, int]:
    """Return the proportional set size of a process and its descendants [MB], and their number."""
    total, number, waiting = 0.0, 0, [pid]
    while waiting:
        current = waiting.pop()
        memory = _memory_of(current)
        if memory is not None:
            total, number = total + memory, number + 1
            waiting += _children_of(current)
    return total, number


def _memory_of(pid: int) -> float | None:
    """Return a process's proportional set size [MB]; None when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:")), None)


def _children_of(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            found += map(int, (task / "children").read_text(encoding="ascii").split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
