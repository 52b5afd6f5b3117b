"""SLURM: arrays of one task per item; asked by the numbers that sbatch gave."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from pfnano_tag.card.card import Card
from pfnano_tag.card.output import write_whole
from pfnano_tag.submit.engines import Known, State
from pfnano_tag.submit.jobfolder import JobFolder, template
from pfnano_tag.submit.submission import Submission, ask, submissions_of

LONGEST_ARRAY = 1000
"""Tasks of one array; SLURM's own default limit (MaxArraySize) is 1001."""
WARNING = 120
"""Seconds before the time limit at which a job is told to stop."""
QUEUED: dict[str, State] = {"PENDING": "idle", "CONFIGURING": "idle", "REQUEUED": "idle", "SUSPENDED": "held"}
RUNNING = ("RUNNING", "COMPLETING", "STOPPED", "SIGNALING", "STAGE_OUT")


class Slurm:
    """SLURM, through its command-line tools."""

    def write(self, card: Card, job: JobFolder, submission: Submission) -> str:
        """Write the lists of items and the script that calls sbatch for each; return the command that submits."""
        script = submission.place(job, ".sh")
        script.parent.mkdir(exist_ok=True)
        shutil.copy(template("slurm/jobs.sh"), job.path / "jobs.sh")
        commands = [shlex.join(command) for command in self._arrays(card, job, submission)]
        with write_whole(script) as temporary:
            temporary.write_text("\n".join(["#!/usr/bin/env bash", "set -euo pipefail", *commands, ""]))
        return f"bash {shlex.quote(str(script))}"

    def submit(self, card: Card, job: JobFolder, submission: Submission) -> Submission:
        """Write and submit; SLURM names each array by a number."""
        self.write(card, job, submission)
        said = ask(["bash", str(submission.place(job, ".sh"))])
        ids = [line.partition(";")[0].strip() for line in said.splitlines() if line.strip()]
        return replace(submission, ids=tuple(ids))

    def states(self, job: JobFolder) -> Mapping[int, Known]:
        """Return what the queue says of each item."""
        found = {index: Known("gone") for one in submissions_of(job) for index in one.indices}
        for one in submissions_of(job):
            if one.ids:
                lists = dict(zip(one.ids, _chunks(one), strict=True))
                for array, task, state, reason in _queue(one.ids):
                    index = lists[array][task]
                    found[index] = Known("held" if reason.startswith("JobHeld") else state, reason)
        return found

    def remove(self, job: JobFolder, indices: Iterable[int]) -> None:
        """Cancel items."""
        chosen = set(indices)
        for one in submissions_of(job):
            for array, part in zip(one.ids, _chunks(one), strict=True) if one.ids else ():
                tasks = [task for task, index in enumerate(part) if index in chosen]
                if tasks:
                    ask(["scancel", *(f"{array}_{task}" for task in tasks)])

    def _arrays(self, card: Card, job: JobFolder, submission: Submission) -> Iterator[list[str]]:
        slot = card.submit.slot(job.stage)
        memory = dict(zip(submission.indices, submission.memory, strict=True))
        for number, part in enumerate(_chunks(submission)):
            list_of = submission.place(job, f".{number}.txt")
            with write_whole(list_of) as temporary:
                temporary.write_text("".join(f"{index}\n" for index in part), encoding="utf-8")
            options = {
                "parsable": "",
                "job-name": f"pfnano_{job.stage}",
                "array": f"0-{len(part) - 1}",
                "cpus-per-task": str(slot.cpus or card.resources.threads),
                "mem": f"{max(memory[index] for index in part)}M",
                "time": str(slot.time),
                "signal": f"B:TERM@{WARNING}",
                "output": str(job.path / "logs" / f"{submission.number:03d}.{number}.%a.out"),
                **({"ntasks": str(slot.processes)} if slot.processes > 1 else {}),
                **({"gpus-per-task": str(slot.gpus)} if slot.gpus else {}),
                **card.submit.slurm,
            }
            words = [f"--{key}={value}" if value else f"--{key}" for key, value in options.items()]
            yield ["sbatch", *words, *map(str, (job.path / "jobs.sh", job.path, list_of, card.submit.retries))]


def _chunks(submission: Submission) -> list[tuple[int, ...]]:
    """Return the items of each array: alike in memory, and no more than an array may have."""
    groups: dict[int, list[int]] = {}
    for index, memory in zip(submission.indices, submission.memory, strict=True):
        groups.setdefault(memory, []).append(index)
    return [
        tuple(group[first : first + LONGEST_ARRAY])
        for group in groups.values()
        for first in range(0, len(group), LONGEST_ARRAY)
    ]


def _queue(ids: Iterable[str]) -> Iterator[tuple[str, int, State, str]]:
    """Yield array, task, state and reason of what is in the queue."""
    said = ask(["squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(ids)}", "--format=%F|%K|%T|%r"])
    for line in said.splitlines():
        array, task, state, reason = line.split("|", 3)
        if state in RUNNING:
            yield array, int(task), "running", ""
        elif state in QUEUED and re.fullmatch(r"\d+", task):
            yield array, int(task), QUEUED[state], reason
