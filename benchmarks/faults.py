"""Faults of the data/MC job, each injected: what is kept, what a rerun does again, whether its result is the same.

The file holds random events (twenty chunks of twelve), the networks are untrained: it is about loss, not about time.
coffea's column is what was recorded with coffea 2026.9.0 on five chunks of 10,000 events; it is not run here.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.injection import PLACES, chunks_done, die_at, in_process
from benchmarks.measuring import ROOT
from benchmarks.printing import machine, say, versions
from pfnano_tag.analyze import stage
from pfnano_tag.analyze.ledger import ledger_folder
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.card.card import Card
from pfnano_tag.errors import Incomplete, UserError

sys.path.insert(0, str(ROOT))
from tests.analyze.events_file import content, damage, write
from tests.analyze.networks import save

CHUNKS, EVENTS = 20, 240
KILLS = 20
OF_COFFEA = {
    "killed": "defaults and recoverable: 0 kept; checkpointer: 20,000 of 40,000",
    "last": "recoverable, one worker: 0 kept (merging=False)",
    "changed": "checkpointer: stale result, no warning",
    "memory": "defaults: 0 kept; skipbadfiles: all others, nothing in the output says so",
    "": "not recorded",
}


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Parameters
    ----------
    fault : str
        What was done.
    ended : str
        How the job ended.
    kept : str
        Chunks in the ledger or the result after that.
    again : str
        Chunks that were begun before, and that the rerun did again.
    same : bool
        Whether the rerun's result (or the one result) is what it has to be.
    coffea : str
        Recorded.
    """

    fault: str
    ended: str
    kept: str
    again: str
    same: bool
    coffea: str


class Bench:
    """The job, its file and its undisturbed result, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for seed, name in enumerate(("first", "second")):
            save(folder, name, seed)
        self.file = write(folder / "mc.root", content("mc", 5), cluster=EVENTS // CHUNKS, runs=(480, 500.0))
        self.card = self.with_models("first")
        self.whole = self.run(folder / "undisturbed.root")

    def with_models(self, *names: str) -> Card:
        """Return a card with some of the two networks, nominal and under FGSM."""
        dataset = {"name": "mc", "files": ["f"], "kind": "mc", "cross_section": 2.0, "roles": ["analyze"]}
        return Card.model_validate(
            {
                "study": {"name": "faults", "folder": str(self.folder)},
                "datasets": [dataset],
                "models": {name: {"architecture": "deepsets"} for name in names},
                "histograms": {"variants": ["fgsm"]},
                "comparison": {"replicas": 4},
                "resources": {"chunk": 0.006},
            }
        )

    def run(self, output: Path, file: Path | None = None, card: Card | None = None) -> Path:
        """Do the job."""
        return stage.run(self.card if card is None else card, "mc", str(file or self.file), output)

    def lost(self, output: Path, file: Path) -> tuple[str, int]:
        """Do a job that ends incomplete; return its last words and how many chunks are in its result."""
        try:
            self.run(output, file)
        except Incomplete as error:
            with JobResult(output) as result:
                return str(error), int(result.sums["chunks"] - result.sums["chunks_lost"])
        raise AssertionError("nothing was lost")


def same_bits(first: Path, second: Path) -> bool:
    """Return whether two results hold the same numbers, to the last bit."""
    with JobResult(first) as a, JobResult(second) as b:
        pairs = [(a.read(name), b.read(name)) for name in a.variables]
        return (
            list(a.variables) == list(b.variables)
            and a.sums == b.sums
            and all(np.array_equal(x.values, y.values) and np.array_equal(x.variances, y.variances) for x, y in pairs)
        )


@contextmanager
def counted() -> Iterator[list[int]]:
    """Yield a list that chunks are added to as they are begun."""
    begun: list[int] = []
    real = stage.process_chunk

    def count(job: Any, card: Any, chunk: Any, vetoed: Any) -> Any:
        begun.append(chunk.start)
        return real(job, card, chunk, vetoed)

    with patch.object(stage, "process_chunk", count):
        yield begun


def rerun(bench: Bench, output: Path, begun: int) -> tuple[int, str, bool]:
    """Do the rest of a job; return chunks kept, chunks begun before and done again, whether the bits are right.

    Parameters
    ----------
    bench : Bench
        The job.
    output : Path
        Of the job that ended early.
    begun : int
        Chunks that it had begun.
    """
    done = chunks_done(output)
    with counted() as chunks:
        bench.run(output)
    return done, str(begun + len(chunks) - CHUNKS), same_bits(output, bench.whole)


def killed(bench: Bench, kills: int) -> Row:
    """SIGKILL in any chunk, at any place of the work on it."""
    same, kept, most = True, [], 0
    for seed in range(kills):
        place, number = PLACES[seed % len(PLACES)], random.Random(seed).randint(1, CHUNKS)
        output = bench.folder / f"killed_{seed}.root"
        code = in_process(lambda output=output: bench.run(output), die_at(place, number))  # type: ignore[misc]
        assert code == -signal.SIGKILL, code
        done, again, right = rerun(bench, output, number)
        kept.append(f"{done}/{number - (place != 'saved')}")
        most = max(most, int(again))
        same &= right
    all_kept = all(done == finished for done, finished in (one.split("/") for one in kept))
    words = "all finished ones" if all_kept else ", ".join(kept)
    return Row(f"SIGKILL in a random chunk, {kills} times", "killed", words, f"at most {most}", same, "killed")


def terminated(bench: Bench) -> Row:
    """SIGTERM in the third chunk."""
    output = bench.folder / "terminated.root"
    code = in_process(lambda: bench.run(output), die_at("predicting", 3, signal.SIGTERM))
    done, again, same = rerun(bench, output, begun=3)
    return Row("SIGTERM in chunk 3", f"exit {code}", f"{done} of 2 done", again, same and code == 75, "")


def broken_basket(bench: Bench, number: int) -> Row:
    """A basket that can't be decompressed; then the file is mended."""
    file = Path(shutil.copy(bench.file, bench.folder / f"broken_{number}.root"))
    output = bench.folder / f"basket_{number}.root"
    damage(file, "PFCands_d0", number)
    words, kept = bench.lost(output, file)
    start = number * EVENTS // CHUNKS
    named = f"entries {start} to {start + EVENTS // CHUNKS} (events 1:" in words and "PFCands_d0" in words
    shutil.copy(bench.file, file)
    with counted() as begun:
        bench.run(output, file)
    last = number == CHUNKS - 1
    fault = f"corrupted basket in {'the last chunk' if last else f'chunk {number + 1}'}"
    same = named and same_bits(output, bench.whole)
    return Row(fault, "exit 75, named", f"{kept} of {CHUNKS}", str(len(begun)), same, "last" if last else "")


def weights_not_finite(bench: Bench) -> Row:
    """Weights that are NaN: the events are dropped and counted."""
    branches = content("mc", 5)
    weight = np.array(branches["genWeight"])
    weight[30:33] = np.nan
    file = write(bench.folder / "nan.root", {**branches, "genWeight": weight}, cluster=12, runs=(480, 500.0))
    output = bench.run(bench.folder / "nan_result.root", file)
    with JobResult(output) as result:
        fine = all(np.isfinite(result.read(name).values).all() for name in result.variables)
        dropped = int(result.sums["entries_bad_weight"])
    return Row(
        "NaN weight of 3 events", "exit 0, counted", f"{EVENTS - dropped} events", "-", fine and dropped == 3, ""
    )


def changed_card(bench: Bench) -> Row:
    """A rerun that asks for one more network."""
    output = Path(shutil.copy(bench.whole, bench.folder / "changed.root"))
    shutil.copytree(ledger_folder(bench.whole), ledger_folder(output))
    both = bench.with_models("first", "second")
    with counted() as begun:
        bench.run(output, card=both)
    with JobResult(output) as result:
        fresh = list(result.info["models"]) == ["first", "second"]
    same = fresh and same_bits(output, bench.run(bench.folder / "both.root", card=both))
    return Row("card asks for a second network", "redone", "-", str(len(begun)), same, "changed")


def no_memory(bench: Bench) -> list[Row]:
    """Memory for two events at a time, then for none of the third chunk."""
    real, rows = stage.process_chunk, []
    for fits, fault in ((2, "chunk 3 fits in slices only"), (0, "chunk 3 never fits")):
        output = bench.folder / f"memory_{fits}.root"

        def hungry(job: Any, card: Any, chunk: Any, vetoed: Any, fits: int = fits) -> Any:
            if 24 <= chunk.start < 36 and chunk.num_events > fits:
                raise MemoryError
            return real(job, card, chunk, vetoed)

        with patch.object(stage, "process_chunk", hungry):
            if fits:
                bench.run(output)
                rows.append(Row(fault, "exit 0", f"{CHUNKS} of {CHUNKS}", "-", close(output, bench.whole), "memory"))
                continue
            _, kept = bench.lost(output, bench.file)
        _, again, same = rerun(bench, output, CHUNKS)
        rows.append(Row(fault, "exit 75", f"{kept} of {CHUNKS}", again, same, "memory"))
    return rows


def close(first: Path, second: Path) -> bool:
    """Return whether all sums of weights of kinematics agree to 1e-12, and the totals of all else."""
    with JobResult(first) as a, JobResult(second) as b:
        for name, variable in a.variables.items():
            x, y = a.read(name).values, b.read(name).values
            if variable.kind not in ("kinematics", "stored"):
                x, y = x.sum(), y.sum()
            if not np.allclose(x, y, rtol=1e-12, atol=1e-12):
                return False
    return True


def disk_full(bench: Bench) -> Row:
    """From the third chunk on the system refuses to write more than 100 bytes to a file."""
    output = bench.folder / "full.root"
    real, begun = stage.process_chunk, []

    def limited(*arguments: Any) -> Any:
        begun.append(0)
        if len(begun) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        return real(*arguments)

    code = in_process(lambda: bench.run(output), [patch.object(stage, "process_chunk", limited)])
    done, again, same = rerun(bench, output, begun=3)
    return Row("disk full in chunk 3", f"exit {code}", f"{done} of 2 done", again, same and code == 2, "")


def two_jobs(bench: Bench) -> Row:
    """A second job on the output of one that stands still in its third chunk."""
    output, refused = bench.folder / "two.root", []

    def second() -> None:
        try:
            bench.run(output)
        except UserError as error:
            refused.append(str(error))

    real, begun = stage.process_chunk, []

    def asked(*arguments: Any) -> Any:
        begun.append(0)
        if len(begun) == 3:
            code = in_process(second_or_exit, [])
            refused.append(str(code))
        return real(*arguments)

    def second_or_exit() -> None:
        second()
        os._exit(2 if refused else 0)

    with patch.object(stage, "process_chunk", asked):
        bench.run(output)
    same = refused == ["2"] and same_bits(output, bench.whole)
    return Row("two jobs on one output", "second: exit 2", "first goes on", "-", same, "")


def truncated(bench: Bench) -> list[Row]:
    """A partial result cut in half, and an input cut in half."""
    output = bench.folder / "cut.root"
    in_process(lambda: bench.run(output), die_at("before", 5))
    cut = ledger_folder(output) / "chunk_00001.npz"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with counted() as begun:
        bench.run(output)
    again = str(len(begun) - (CHUNKS - 4))
    rows = [Row("truncated partial result", "noticed", "3 of 4 done", again, same_bits(output, bench.whole), "")]
    file = bench.folder / "half.root"
    file.write_bytes(bench.file.read_bytes()[: bench.file.stat().st_size // 2])
    code = in_process(lambda: bench.run(bench.folder / "half_result.root", file), [])
    nothing = not (bench.folder / "half_result.root").exists()
    return [*rows, Row("truncated input", f"exit {code}", "nothing written", "-", nothing and code == 2, "")]


def all_rows(bench: Bench, kills: int) -> list[Row]:
    """Inject everything."""
    steps: list[Callable[[], Row | list[Row]]] = [
        lambda: killed(bench, kills),
        lambda: terminated(bench),
        lambda: broken_basket(bench, 2),
        lambda: broken_basket(bench, CHUNKS - 1),
        lambda: weights_not_finite(bench),
        lambda: changed_card(bench),
        lambda: no_memory(bench),
        lambda: disk_full(bench),
        lambda: two_jobs(bench),
        lambda: truncated(bench),
    ]
    rows: list[Row] = []
    for step in steps:
        found = step()
        rows += found if isinstance(found, list) else [found]
        say(f"{rows[-1].fault}: {'as it has to be' if rows[-1].same else 'WRONG'}")
    return rows


def table(rows: list[Row]) -> str:
    """Return the table in Markdown."""
    cells = [("fault", "the job ends", "chunks kept", "done again", "result", "coffea, recorded")]
    cells += [(r.fault, r.ended, r.kept, r.again, "right" if r.same else "WRONG", OF_COFFEA[r.coffea]) for r in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def main() -> int:
    """Inject all faults and print the table; exit code 1 where a result is not what it has to be."""
    kills = 5 if "--quick" in sys.argv[1:] else KILLS
    with tempfile.TemporaryDirectory() as name:
        rows = all_rows(Bench(Path(name)), kills)
    print(table(rows))
    wrong = sum(not row.same for row in rows)
    found = {"name": "faults", "ratio": float(wrong), "ratio_is": "faults that were not survived as promised"}
    print(json.dumps({**found, "rows": [asdict(row) for row in rows], "versions": versions(), "machine": machine()}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
