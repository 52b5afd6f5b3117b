"""What a worker takes until its stage is at work: unpacking the environment, starting Python, opening the file.

One job of `analyze` after the other runs by backend `local`, from a packed environment that each unpacks for itself,
as on a machine without a cache; what happens when is seen from outside, in the log and the ledger. The archive is
made by `scripts/pack_env.sh`, unless PFNANO_TAG_ARCHIVE names one; `--quick` makes none, which can take minutes, and
leaves unpacking out where none is named.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.inputs import path_of
from benchmarks.measuring import ROOT, Different, Missing, SideFailed, environment
from benchmarks.printing import Outcome, command, part, say
from benchmarks.study import write_card
from pfnano_tag.card import read_card
from pfnano_tag.card.folder import analysis_path
from pfnano_tag.card.jobs import read_report

ARCHIVE = "PFNANO_TAG_ARCHIVE"
"""Environment variable: a packed environment, instead of one that is packed now."""
INPUT = "candidates_quarter"
LIMIT = 60.0
"""Seconds for all of it."""
ROUNDS, QUICK_ROUNDS = 3, 1
EVERY = 0.01
"""Seconds between two looks."""
BEGAN, UNPACKED, AT_WORK = "began", "unpacked", "at work"
SAID = re.compile(r"^environment: .* unpacked in \d+ s$", re.M)
"""What the worker script says when it has unpacked its environment (`condor/unpack.sh`)."""
OPENING = """\
import sys, time
from pfnano_tag.analyze.job import make_job
from pfnano_tag.card import read_card
from pfnano_tag.nano.reader import open_file

card = read_card(sys.argv[1])
began = time.perf_counter()
with open_file(sys.argv[2], card) as source:
    make_job(card, "ttbar", source, []).new_plan()
print(time.perf_counter() - began)
"""


def pack(archive: Path) -> None:
    """Pack the environment of this Python.

    Raises
    ------
    SideFailed
        With what was said.
    """
    say("worker: packing the environment, which can take minutes")
    known = {**os.environ, "PFNANO_TAG_ENV": "current", "PATH": f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}"}
    known.pop("PYTHONPATH", None)
    command_line = ["bash", str(ROOT / "scripts" / "pack_env.sh"), "--no-check", str(archive)]
    done = subprocess.run(command_line, env=known, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SideFailed(f"scripts/pack_env.sh ended with exit code {done.returncode}: {done.stderr[-2000:]}")


def watch(process: subprocess.Popen[str], found: Callable[[str], bool], waited: tuple[str, ...]) -> dict[str, float]:
    """Return when what is waited for was there first, while a process runs, by this process's clock [s]."""
    seen: dict[str, float] = {}
    while process.poll() is None and len(seen) < len(waited):
        for name in waited:
            if name not in seen and found(name):
                seen[name] = time.perf_counter()
        time.sleep(EVERY)
    return seen


def one_job(folder: Path, file: Path, archive: Path | None) -> dict[str, float]:
    """Run a job of `analyze` from beginning to end.

    Parameters
    ----------
    folder : Path
        Where the study goes; empty.
    file : Path
        PFNano file.
    archive : Path or None
        Packed environment; None: this Python, by path.

    Returns
    -------
    dict of float
        Seconds to `unpack` (0 without an archive), to `start` Python until its stage has opened the file, to `open`
        the file, which is measured apart, and all before the first chunk (`all`).

    Raises
    ------
    SideFailed
        When the job fails.
    Different
        When it left no result, or was not seen to begin.
    """
    dataset = {"name": "ttbar", "files": str(file), "kind": "mc", "roles": ["analyze"], "cross_section": 1.0}
    submit = {} if archive is None else {"environment": str(archive)}
    path = write_card(folder, str(file), datasets=[dataset], histograms={"outputs": False}, submit=submit)
    item = folder / "study" / "jobs" / "analyze-0001" / "items" / "0"
    ledger = item / "analysis" / "ttbar" / f"{file.stem}.root.ledger"

    def found(name: str) -> bool:
        if name == AT_WORK:
            return (ledger / "plan.json").exists()
        log = item / "log.txt"
        return log.exists() and (name == BEGAN or SAID.search(log.read_text(encoding="utf-8")) is not None)

    options = ["jobs", str(path), "--backend", "local", "--no-models", "--processes", "1"]
    command_line = [sys.executable, "-m", "pfnano_tag.submit", *options]
    waited = (BEGAN, AT_WORK) if archive is None else (BEGAN, UNPACKED, AT_WORK)
    process = subprocess.Popen(
        command_line, env=environment(), text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    seen = watch(process, found, waited)
    _, errors = process.communicate()
    if process.returncode:
        raise SideFailed(f"{' '.join(command_line)}: exit code {process.returncode}: {errors[-2000:]}")
    report = read_report(item)
    if report is None or report.code or not analysis_path(read_card(path), "ttbar", str(file)).exists():
        raise Different(f"{item}: the job left no result: {report}")
    if list(seen) != list(waited):
        raise Different(f"{item}: {', '.join(seen) or 'nothing'} was seen of the job, expected {', '.join(waited)}")
    opened = _opened(path, file)
    unpacked = seen.get(UNPACKED, seen[BEGAN])
    return {
        "unpack": unpacked - seen[BEGAN],
        "start": max(seen[AT_WORK] - unpacked - opened, 0.0),
        "open": opened,
        "all": seen[AT_WORK] - seen[BEGAN],
    }


def _opened(card: Path, file: Path) -> float:
    """Return what opening the file takes, in a process that has imported everything [s]."""
    command_line = [sys.executable, "-c", OPENING, str(card), str(file)]
    done = subprocess.run(command_line, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SideFailed(f"opening {file}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return float(done.stdout)


def measure(quick: bool) -> Outcome:
    """Run some jobs, one at a time."""
    file = path_of(INPUT)
    named = os.environ.get(ARCHIVE)
    if named is not None and not Path(named).is_file():
        raise Missing(f"{ARCHIVE}: {named} is not there; make it with: bash scripts/pack_env.sh {named}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = None if named is None else Path(named).absolute()
        if archive is None and not quick:
            archive = folder / "environment.tar.zst"
            pack(archive)
        if archive is None:
            say(f"worker: no archive is named ({ARCHIVE}), so unpacking is left out")
        rounds = QUICK_ROUNDS if quick else ROUNDS
        runs = [one_job(folder / f"round {number}", file, archive) for number in range(rounds)]
        work: dict[str, Any] = {"file_megabytes": round(file.stat().st_size / 1e6, 1), "rounds": rounds}
        work["archive_megabytes"] = None if archive is None else round(archive.stat().st_size / 1e6, 1)
    return outcome(runs, work)


def outcome(runs: list[dict[str, float]], work: dict[str, Any]) -> Outcome:
    """Return medians over the limit; unpacking is named where it was done."""
    without = work["archive_megabytes"] is None
    words = {
        "all": "seconds until the stage is at work, " + ("nothing to unpack" if without else "unpacking included"),
        "unpack": "seconds to check and unpack the environment",
        "start": "seconds to start Python and import, for the runner and the stage",
        "open": "seconds to open the file and plan its chunks",
    }
    parts = {
        name: part(
            round(median(run[name] for run in runs) / LIMIT, 4),
            f"{text}, over the limit of all",
            {"wall_seconds": round(median(run[name] for run in runs), 2), "runs": len(runs)},
            {"wall_seconds": LIMIT},
        )
        for name, text in words.items()
        if name != "unpack" or not without
    }
    first = parts.pop("all")
    return Outcome("worker", first["ratio"], first["ratio_is"], first["ours"], first["other"], work, parts)


if __name__ == "__main__":
    sys.exit(command("worker", __doc__ or "", measure))
