"""PFNano to JetTables with all features, against uproot alone reading the same branches in the same chunks."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.inputs import path_of
from benchmarks.measuring import Different, Side, interleaved, ratio_of, run_side, summary
from benchmarks.printing import Outcome, command, part, say

CHUNK_BYTES = 64e6
"""The default of `resources.chunk`."""
PASSES = 4
"""How often the file is read where two processes share it: opening it, which each does, is then little beside."""
LIMIT = "rate of JetTables over that of uproot alone"


@dataclass(frozen=True)
class Case:
    """A file to read.

    Parameters
    ----------
    input : str
        Name of the input.
    words : str
        What it is.
    rounds : int
        Runs of each side.
    """

    input: str
    words: str
    rounds: int


FULL = (
    Case("candidates_4x", "candidates, ZSTD, 6 jets an event", 7),
    Case("lzma", "candidates, LZMA with CMS-like baskets", 3),
    Case("rntuple", "candidates in an RNTuple, ZSTD", 3),
    Case("btvnano", "btvnano, ZSTD", 3),
    Case("deepjet", "deepjet (flat branches), ZSTD", 3),
    Case("jets_200k", "jets (one entry per jet), ZSTD", 3),
)
QUICK = (
    Case("candidates", FULL[0].words, 3),
    Case("lzma_quarter", FULL[1].words, 1),
    Case("deepjet", FULL[4].words, 1),
    Case("jets_30k", FULL[5].words, 1),
)


def measure_case(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the entry of a case, as in `more`, and what the work was.

    Raises
    ------
    Different
        When the two sides did not read the same values.
    """
    file = path_of(case.input)
    say(f"{case.words}: {file.name}")
    asked = {"file": str(file), "chunk_bytes": CHUNK_BYTES}
    described = run_side(Side("nano", "nano", {**asked, "do": "describe"}))
    same = {"file": str(file), **{key: described[key] for key in ("tree", "branches", "plan")}}
    check_same(described["digests"], run_side(Side("uproot", "uproot_alone", {**same, "do": "describe"}))["digests"])
    sides = (
        Side("nano", "nano", {**asked, "do": "read"}),
        Side("uproot", "uproot_alone", {**same, "do": "read"}),
    )
    runs = interleaved(sides, case.rounds)
    first = runs["nano"][0]
    ours = summary(runs["nano"], first["jets"])
    ours["reading_share"] = round(sum(r["load"] for r in runs["nano"]) / sum(r["cpu"] for r in runs["nano"]), 3)
    work = {
        "file": case.input,
        "megabytes": round(file.stat().st_size / 1e6, 1),
        "entries": described["entries"],
        "jets": first["jets"],
        "constituents": first["constituents"],
        "features": described["features"],
        "branches": len(described["branches"]),
        "chunks": len(described["plan"]),
    }
    words = f"{LIMIT}; {case.words}"
    entry = part(ratio_of(runs["nano"], runs["uproot"]), words, ours, summary(runs["uproot"], first["jets"]))
    return {**entry, "work": work}, work


def check_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Compare digests of all branches in all chunks.

    Raises
    ------
    Different
        Naming a branch.
    """
    wrong = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if wrong:
        raise Different(f"{len(wrong)} branches differ between the sides, such as {wrong[0]}")


def scaling(file: Path, rounds: int) -> dict[str, Any]:
    """Return what a second reading process gains: in CPU seconds of the busier one, and in wall time."""
    say(f"one and two processes: {file.name}")
    asked = {"file": str(file), "chunk_bytes": CHUNK_BYTES / 8, "do": "processes", "passes": PASSES}
    sides = [Side(f"{number}", "nano", {**asked, "processes": number}) for number in (1, 2)]
    runs = interleaved(sides, rounds)
    one, two, jets = runs["1"], runs["2"], runs["1"][0]["jets"]
    words = "CPU seconds of one reading process over those of the busier of two, LZMA"
    entry = part(ratio_of(two, one, "busier"), words, summary(two, jets, "busier"), summary(one, jets, "busier"))
    return {**entry, "wall_ratio": ratio_of(two, one, "wall"), "cpu_ratio": ratio_of(two, one, "cpu")}


def measure(quick: bool) -> Outcome:
    """Run all cases."""
    cases = QUICK if quick else FULL
    files = {case.input: path_of(case.input) for case in cases}  # complains before anything is measured
    entries = {case.input: measure_case(case) for case in cases}
    more = {name: entry for name, (entry, _) in list(entries.items())[1:]}
    if not quick:
        more["two_processes"] = scaling(files["lzma"], 5)
    entry, work = entries[cases[0].input]
    return Outcome("read", entry["ratio"], entry["ratio_is"], entry["ours"], entry["other"], work, more)


if __name__ == "__main__":
    sys.exit(command("read", __doc__, measure))
