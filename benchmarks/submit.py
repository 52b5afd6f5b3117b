"""10,000 jobs: `submit jobs`, `submit status`, collecting results, and `submit retry`; seconds, and memory by size.

The batch system is a stand-in (its commands answer at once, with a row for each job in the queue), and so are the
jobs: of twenty, sixteen left a result, one is incomplete with its ledger, one was killed for its memory and left no
report, one is running with a ledger that grows, one is in the queue. The job folder and what reads it are real.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import Different, SideFailed, environment
from benchmarks.printing import Outcome, command, part, say
from pfnano_tag.submit.jobfolder import JobFolder, read_job_folder

SIZES, QUICK_SIZES = (2500, 5000, 10_000), (500, 1000, 2000)
LIMITS = {"jobs": 20.0, "status": 10.0, "collect": 60.0, "retry": 20.0}
"""CPU seconds for 10,000 jobs, of the command and all that it calls; in proportion for fewer."""
MEMORY = 500
"""Limit of the memory of each command [MB]."""
OF_TWENTY = {"done": 16, "incomplete": 1, "lost": 1, "running": 1, "idle": 1}
CHUNKS, DONE = 10, 6
"""Chunks of a file, and how many of them are in the ledger of a job that has not ended."""
CARD = """\
study: {{name: many, folder: {folder}/study}}
datasets: [{{name: dy, kind: mc, roles: [analyze], cross_section: 1.0, files: "{folder}/data/*.root"}}]
"""
COLLECT = (
    "import sys\n"
    "from pfnano_tag.card import read_card\n"
    "from pfnano_tag.card.jobs import collect_results\n"
    "print(collect_results(read_card(sys.argv[1])))\n"
)
STAND_INS = {
    "sbatch": 'echo $$ >>"{folder}/numbers"; wc -l <"{folder}/numbers"',
    "squeue": 'cat "{folder}/queue"',
    "sacct": "echo 'Slurm accounting storage is disabled' >&2; exit 1",
    "scancel": "exit 0",
}


@dataclass(frozen=True)
class Run:
    """A command that was run.

    Parameters
    ----------
    said : str
        Its output.
    cpu, wall : float
        Of it and what it called [s].
    memory : float
        Largest resident memory of one process [MB].
    """

    said: str
    cpu: float
    wall: float
    memory: float


class Many:
    """A study with many files, and a batch system that is none.

    Parameters
    ----------
    folder : Path
        Where all of it goes.
    size : int
        Files; there is a job for each.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.card = folder / "card.yaml"
        self.card.write_text(CARD.format(folder=folder), encoding="utf-8")
        for name in ("bin", "data"):
            (folder / name).mkdir()
        for name, text in STAND_INS.items():
            (folder / "bin" / name).write_text(
                f"#!/usr/bin/env bash\n{text.format(folder=folder)}\n", encoding="utf-8"
            )
            (folder / "bin" / name).chmod(0o755)
        for index in range(size):
            (folder / "data" / f"file_{index:05d}.root").touch()

    def run(self, *arguments: str, codes: Sequence[int] = (0,)) -> Run:
        """Run Python with arguments; return what it said and took."""
        known = environment()
        known["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{known['PATH']}"
        with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, *arguments], env=known, stdout=said, stderr=errors, cwd=self.folder
            )
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            for file in (said, errors):
                file.seek(0)
            if process.returncode not in codes:
                raise SideFailed(f"{' '.join(arguments)}: exit code {process.returncode}: {errors.read()[-2000:]}")
            return Run(said.read(), usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)

    def submit(self, action: str, *options: str, codes: Sequence[int] = (0,)) -> Run:
        """Run `submit`."""
        return self.run("-m", "pfnano_tag.submit", action, str(self.card), *options, codes=codes)

    def pretend(self, job: JobFolder) -> dict[str, int]:
        """Leave what jobs would leave, and what squeue would say; return how many there are of each kind."""
        counts = dict.fromkeys(OF_TWENTY, 0)
        turns = [kind for kind, times in OF_TWENTY.items() for _ in range(times)]
        names = [
            word.partition("=")[2]
            for line in (job.path / "submissions" / "001.sh").read_text().splitlines()
            for word in line.split()
            if word.startswith("--job-name=")
        ]
        rows = []
        for item in job.items:
            kind = turns[item.index % len(turns)]
            counts[kind] += 1
            array, task = divmod(item.index, 1000)
            folder, output = job.folder_of(item.index), item.outputs[0]
            if kind in ("running", "idle"):
                state = "RUNNING|None" if kind == "running" else "PENDING|Resources"
                rows.append(f"{names[array]}|{array + 1}|{task}|{state}|0|")
            if kind == "lost":
                words = "slurmstepd-node: error: StepId=5.batch exceeded memory limit (9 > 1), being killed\n"
                (job.path / "logs" / f"001.{array}.{task}.out").write_text(words)
            elif kind != "idle":
                _leave(folder, output, kind)
        (self.folder / "queue").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        return counts


def _leave(folder: Path, output: str, kind: str) -> None:
    """Write result, ledger and report of a job."""
    ledger = folder / f"{output}.ledger"
    ledger.mkdir(parents=True)
    plan = [[600 * number, 600 * (number + 1)] for number in range(CHUNKS)]
    text = json.dumps({"plan": plan, "finished": "yes" if kind == "done" else None})
    (ledger / "plan.json").write_text(text)
    (ledger / "lock").touch()
    if kind != "done":
        for number in range(DONE):
            (ledger / f"chunk_{number:05d}.npz").write_bytes(b"0" * 1000)
    if kind == "running":
        return
    (folder / output).write_bytes(b"0" * 1000)
    results, sizes = [output], {output: 1000}
    if kind == "done":
        results.append(f"{output}.ledger")
        sizes |= {f"{output}.ledger/plan.json": len(text), f"{output}.ledger/lock": 0}
    events = [6000, 6000] if kind == "done" else [600 * DONE, 6000]
    chunks = [CHUNKS if kind == "done" else DONE, CHUNKS]
    report = {
        "attempt": 1, "code": 0 if kind == "done" else 75, "error": "" if kind == "done" else "incomplete: 4 chunks",
        "host": "node", "started": 1.0, "ended": 100.0, "cpu": 90.0, "memory": 500.0, "setup": 3.0,
        "results": results, "sizes": sizes, "events": events, "chunks": chunks,
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "log.txt").write_text("what was said\n")


def runs_of(folder: Path, size: int) -> dict[str, Run]:
    """Submit, collect, ask and submit again what is missing; check what is said; return what each took."""
    say(f"submit: {size} jobs")
    many = Many(folder, size)
    found = {"jobs": many.submit("jobs", "--backend", "slurm", "--stage", "analyze")}
    job = read_job_folder(folder / "study" / "jobs" / "analyze-0001")
    counts = many.pretend(job)
    found["collect"] = many.run("-c", COLLECT, str(many.card))
    found["status"] = many.submit("status", "--json", codes=(75,))
    check(folder, counts, found)
    found["retry"] = many.submit("retry")
    again = json.loads((job.path / "submissions" / "002.json").read_text())["indices"]
    if len(again) != counts["incomplete"] + counts["lost"]:
        raise Different(f"{len(again)} jobs were submitted again, expected those that are missing: {counts}")
    return found


def check(folder: Path, counts: dict[str, int], found: dict[str, Run]) -> None:
    """Raise `Different` unless what is said is what there is."""
    said = json.loads(found["status"].said)[0]["counts"]
    if said != counts:
        raise Different(f"status says {said}, expected {counts}")
    results = len(list((folder / "study" / "analysis" / "dy").glob("*.root")))
    if results != counts["done"] + counts["incomplete"]:
        raise Different(f"{results} results were collected, expected {counts['done']} and {counts['incomplete']}")


def measure(quick: bool) -> Outcome:
    """Go through all sizes."""
    sizes = QUICK_SIZES if quick else SIZES
    by_size: dict[int, dict[str, Run]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            by_size[size] = runs_of(Path(name), size)
    parts = {name: _part(name, by_size) for name in LIMITS}
    memory = {name: {size: round(runs[name].memory) for size, runs in by_size.items()} for name in LIMITS}
    most = max(by_name[sizes[-1]] for by_name in memory.values())
    parts["memory"] = part(
        round(most / MEMORY, 3),
        "memory over the limit",
        {"megabytes": most, "by_size": memory},
        {"megabytes": MEMORY},
    )
    first = parts.pop("jobs")
    work = {"jobs": sizes[-1], "sizes": list(sizes), "kinds_of_twenty": OF_TWENTY}
    return Outcome("submit", first["ratio"], first["ratio_is"], first["ours"], first["other"], work, parts)


def _part(name: str, by_size: dict[int, dict[str, Run]]) -> dict[str, Any]:
    runs = {size: one[name] for size, one in by_size.items()}
    largest = max(runs)
    limit = LIMITS[name] * largest / SIZES[-1]
    ours = {
        "cpu_seconds": round(runs[largest].cpu, 2),
        "wall_seconds": round(runs[largest].wall, 2),
        "cpu_seconds_by_size": {size: round(run.cpu, 2) for size, run in runs.items()},
    }
    ratio = round(runs[largest].cpu / limit, 3)
    return part(ratio, f"{name}: CPU seconds over the limit", ours, {"cpu_seconds": round(limit, 2)})


if __name__ == "__main__":
    sys.exit(command("submit", __doc__ or "", measure))
