"""What a benchmark prints: a table for people, and one JSON object as the last line."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.measuring import Missing

MISSING = 3
"""Exit code where a peer or an input is missing."""
PACKAGES = ("pfnano_tag", "uproot", "awkward", "numpy", "torch")


@dataclass(frozen=True)
class Outcome:
    """Result of a benchmark.

    Parameters
    ----------
    name : str
        Of the benchmark.
    ratio : float
        Ours over theirs, above 1 where ours is faster; against a limit: below 1.
    ratio_is : str
        What it is a ratio of.
    ours, other : dict
        Seconds, rates and settings of both sides.
    work : dict
        What both did.
    more : dict
        Further ratios by name, each a dict with `ratio` and `ratio_is`.
    versions : dict
        Of packages that are not ours to ask for, such as the peer's.
    """

    name: str
    ratio: float
    ratio_is: str
    ours: dict[str, Any]
    other: dict[str, Any]
    work: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the content of the last line."""
        content = asdict(self)
        content["versions"] = versions() | self.versions
        content["machine"] = machine()
        content["more"] = content.pop("more")
        return content


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that do the work."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """Return the kind of machine: processor, usable cores, memory, load of the last minute."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def table(outcome: Outcome) -> str:
    """Return the ratios of a benchmark as a table in Markdown, the first one on top."""
    first = part(outcome.ratio, outcome.ratio_is, outcome.ours, outcome.other)
    entries = {outcome.name: first} | {f"{outcome.name}: {name}": entry for name, entry in outcome.more.items()}
    rows = [("benchmark", "ratio", "ours", "other", "ratio of")]
    rows += [
        (name, f"{entry['ratio']:.3g}", figure(entry["ours"]), figure(entry["other"]), entry["ratio_is"])
        for name, entry in entries.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def figure(side: Mapping[str, Any]) -> str:
    """Return what a side reached, with its unit: an AUC, jets per second, seconds, or memory."""
    if "auc" in side:
        return f"AUC {side['auc']:.4f}"
    if "jets_per_second" in side:
        return f"{side['jets_per_second']:,} jets/s"
    if "cpu_seconds" in side:
        return f"{side['cpu_seconds']:g} s"
    if "wall_seconds" in side:
        return f"{side['wall_seconds']:g} s (wall)"
    return f"{side['megabytes']:,} MB"


def command(name: str, description: str, measure: Callable[[bool], Outcome]) -> int:
    """Parse the command line of a benchmark, run it and print its result.

    Parameters
    ----------
    name : str
        Of the benchmark.
    description : str
        For `--help`.
    measure : callable
        Takes whether to be quick.

    Returns
    -------
    int
        Exit code: 0, or 3 where a peer or an input is missing (one line says which command makes it).
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--quick", action="store_true", help="smaller inputs and fewer rounds: under a minute")
    options = parser.parse_args()
    try:
        outcome = measure(options.quick)
    except Missing as missing:
        print(f"{name}: {missing}", file=sys.stderr)
        return MISSING
    print(table(outcome))
    print(json.dumps(outcome.to_json()))
    return 0


def say(words: str) -> None:
    """Tell on standard error what is being measured."""
    print(words, file=sys.stderr, flush=True)


def part(ratio: float, ratio_is: str, ours: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return one entry of `more`."""
    return {"ratio": ratio, "ratio_is": ratio_is, "ours": dict(ours), "other": dict(other)}
