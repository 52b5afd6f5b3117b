"""SLURM: arrays of one task per item, asked for by name.

The name of an array says which items it holds, so that one answer of squeue tells of 10,000 items, and arrays that
were submitted by hand are known, too. SLURM forgets what has ended after some minutes: then sacct knows it, where a
site has it, and else what SLURM has written into the job's log.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from pfnano_tag.card.card import Card
from pfnano_tag.card.output import write_whole
from pfnano_tag.errors import OutputError, StudyError
from pfnano_tag.submit.engines import Known, State
from pfnano_tag.submit.jobfolder import JobFolder, template
from pfnano_tag.submit.submission import NoAnswer, Submission, ask, submissions_of

log = logging.getLogger(__name__)

LONGEST_ARRAY = 1000
"""Tasks of one array; SLURM's own default limit (MaxArraySize) is 1001."""
WARNING = 120
"""Seconds before the time limit at which a job is told to stop; a quarter of the time of short jobs."""
QUEUED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "SUSPENDED")
RUNNING = ("RUNNING", "COMPLETING", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
HELD = ("SPECIAL_EXIT", "REQUEUE_HOLD", "RESV_DEL_HOLD")
HELD_FOR = ("JobHeld", "DependencyNeverSatisfied", "launch_failed_requeued_held", "launch failed requeued held")
"""Reasons for which a job is pending until somebody helps."""
ASKED = ("Name", "ArrayJobID", "ArrayTaskID", "State", "Reason", "exit_code")
MEMORY = re.compile(r"exceeded memory limit|oom[-_ ]kill|out of memory", re.IGNORECASE)
SAID = re.compile(r"^(?:slurmstepd|srun|slurmd)[^:]*: (?:error: )?(.*)")
"""A line of a log that SLURM has written."""
TAIL = 4096
"""Bytes at a log's end in which SLURM's words are looked for."""


@dataclass(frozen=True)
class Array:
    """Items that are, or were, one SLURM array.

    Parameters
    ----------
    name : str
        By which SLURM is asked; different for each array there ever was.
    submission : Submission
        That it belongs to.
    number : int
        In the submission, counted from 0.
    indices : tuple of int
        The item of each task.
    """

    name: str
    submission: Submission
    number: int
    indices: tuple[int, ...]

    def log(self, job: JobFolder, task: int | str) -> Path:
        """Return where SLURM and the batch script write what they say of a task."""
        return job.path / "logs" / f"{self.submission.number:03d}.{self.number}.{task}.out"


class Slurm:
    """SLURM, through its command-line tools."""

    def write(self, card: Card, job: JobFolder, submission: Submission) -> str:
        """Write the lists of items and the script that calls sbatch for each; return the command that submits.

        Raises
        ------
        OutputError
            When SLURM can't name the folder.
        """
        self._commands(card, job, submission)
        return f"bash {shlex.quote(str(submission.place(job, '.sh')))}"

    def submit(self, card: Card, job: JobFolder, submission: Submission) -> Submission:
        """Write and submit, all or nothing; SLURM names each array by a number.

        Raises
        ------
        NoAnswer
            When some of the jobs may be in the queue: SLURM did not answer, or could not be told to cancel them.
        StudyError
            When SLURM is not there, or refuses; none of the jobs are in the queue.
        """
        ids: list[str] = []
        for command in self._commands(card, job, submission):
            try:
                ids.append(sbatch(command))
            except StudyError as error:
                if ids:
                    _take_back(job, submission, error)
                if isinstance(error, NoAnswer):
                    raise
                raise StudyError(f"{error}; none of the jobs of {job.path} are submitted") from error
        return replace(submission, ids=tuple(ids))

    def states(self, job: JobFolder) -> Mapping[int, Known]:
        """Return what is known of each item: in the queue, or how it ended; the last submission of it counts."""
        arrays = [array for one in submissions_of(job) for array in _arrays(job, one)]
        found: dict[tuple[str, int], Known] = dict(_queue(job, arrays))
        unknown = [array for array in arrays if any((array.name, task) not in found for task in _tasks(array))]
        if unknown:
            found = dict(_history(job, unknown)) | found
        return {
            index: found.get((array.name, task)) or _from_log(job, array, task)
            for array in arrays
            for task, index in enumerate(array.indices)
        }

    def remove(self, job: JobFolder, indices: Iterable[int]) -> None:
        """Cancel items."""
        chosen = set(indices)
        for one in submissions_of(job):
            for identifier, array in zip(one.ids, _arrays(job, one), strict=False):
                tasks = [str(task) for task, index in enumerate(array.indices) if index in chosen]
                if tasks:
                    ask(["scancel", f"{identifier}_[{','.join(tasks)}]"])

    def _commands(self, card: Card, job: JobFolder, submission: Submission) -> list[list[str]]:
        """Write everything; return what submits each array."""
        if "\\" in str(job.path):
            raise OutputError(f"{job.path}: SLURM takes no backslash in the name of a log's folder")
        script = submission.place(job, ".sh")
        script.parent.mkdir(exist_ok=True)
        with write_whole(job.path / "jobs.sh") as temporary:
            shutil.copyfile(template("slurm/jobs.sh"), temporary)
        commands = [self._command(card, job, array) for array in _arrays(job, submission)]
        lines = ["#!/usr/bin/env bash", "set -euo pipefail", *map(shlex.join, commands), ""]
        with write_whole(script) as temporary:
            temporary.write_text("\n".join(lines), encoding="utf-8")
        return commands

    def _command(self, card: Card, job: JobFolder, array: Array) -> list[str]:
        slot = card.submit.slot(job.stage)
        memory = dict(zip(array.submission.indices, array.submission.memory, strict=True))
        list_of = array.submission.place(job, f".{array.number}.txt")
        with write_whole(list_of) as temporary:
            temporary.write_text("".join(f"{index}\n" for index in array.indices), encoding="utf-8")
        options = {
            "parsable": "",
            "job-name": array.name,
            "array": f"0-{len(array.indices) - 1}",
            "ntasks": str(slot.processes),
            "cpus-per-task": str(slot.cpus or card.resources.threads),
            "mem": f"{memory[array.indices[0]]}M",
            "time": str(slot.time),
            "signal": f"B:USR1@{min(WARNING, 15 * (slot.time or 1))}",
            "output": str(array.log(job, "TASK")).replace("%", "%%").replace("TASK.out", "%a.out"),
            **({"gpus-per-task": str(slot.gpus)} if slot.gpus else {}),
            **card.submit.slurm,
        }
        return ["sbatch", *words(options), *map(str, (job.path / "jobs.sh", job.path, list_of, card.submit.retries))]


def words(options: Mapping[str, str]) -> list[str]:
    """Return options of sbatch as it wants them."""
    return [f"--{key}={value}" if value else f"--{key}" for key, value in options.items()]


def sbatch(command: Sequence[str]) -> str:
    """Submit; return SLURM's number.

    Variables of a SLURM job that this may be running in are not for the job that is submitted.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_") or key == "SLURM_CONF"}
    return ask(command, environment=kept).strip().partition(";")[0]


def squeue(names: Sequence[str], owner: int) -> Iterator[list[str]]:
    """Yield a row (`ASKED`) for each task that the queue still knows.

    Parameters
    ----------
    names : sequence of str
        Of jobs or arrays.
    owner : int
        Whose they are: SLURM sends no others.
    """
    columns = ",".join(f"{name}:|" for name in ASKED)
    options = ["--noheader", "--array", "--states=all", f"--user={owner}", f"--name={','.join(names)}"]
    for line in ask(["squeue", *options, f"--Format={columns}"]).splitlines():
        row = line.strip().split("|")
        if len(row) > len(ASKED):
            yield row[: len(ASKED)]


def known(state: str, reason: str, code: int = 0) -> Known:
    """Return what SLURM's words mean.

    Parameters
    ----------
    state, reason : str
        As squeue and sacct have them.
    code : int
        Exit status as the system has it: exit code times 256, or signal.
    """
    word = state.split()[0].rstrip("+") if state else ""
    why = "" if reason in ("", "None") else reason
    if word in HELD or (word in QUEUED and why.startswith(HELD_FOR)):
        return Known("held", why or word)
    if word in QUEUED or word in RUNNING:
        place: State = "idle" if word in QUEUED else "running"
        return Known(place, why if place == "idle" else "")
    if word == "COMPLETED":
        return Known("gone")
    ended = f"exit code {code >> 8}" if code >> 8 else f"signal {code & 127}" if code & 127 else ""
    text = ", ".join(part for part in (state, why if why != "NonZeroExitCode" else "", ended) if part)
    return Known("gone", text, word.startswith("OUT_OF_ME"))  # sacct may cut it short


def _take_back(job: JobFolder, submission: Submission, refused: StudyError) -> None:
    """Cancel the arrays that were submitted before one that was refused.

    Raises
    ------
    NoAnswer
        When they can't be.
    """
    names = ",".join(array.name for array in _arrays(job, submission))
    try:
        ask(["scancel", f"--name={names}"])
    except StudyError as error:
        raise NoAnswer(f"{refused}; what was submitted before could not be cancelled: {error}") from error


def _tasks(array: Array) -> range:
    return range(len(array.indices))


def _arrays(job: JobFolder, submission: Submission) -> list[Array]:
    """Return the arrays of a submission: alike in memory, and no longer than an array may be."""
    groups: dict[int, list[int]] = {}
    for index, memory in zip(submission.indices, submission.memory, strict=True):
        groups.setdefault(memory, []).append(index)
    parts = [
        tuple(group[first : first + LONGEST_ARRAY])
        for group in groups.values()
        for first in range(0, len(group), LONGEST_ARRAY)
    ]
    head = f"pfnano_{job.stage}.{job.name[:8]}.{submission.number:03d}"
    return [Array(f"{head}.{number}", submission, number, part) for number, part in enumerate(parts)]


def _queue(job: JobFolder, arrays: Sequence[Array]) -> Iterator[tuple[tuple[str, int], Known]]:
    """Yield what the queue knows, by the name of the array and the task; what is in it after what has left it."""
    if not arrays:
        return
    by_name = {array.name: array for array in arrays}
    rows = []
    for name, _, task, state, reason, code in squeue(list(by_name), job.path.stat().st_uid):
        if task.isdigit() and int(task) in _tasks(by_name[name]):
            now = known(state, reason, int(code) if code.isdigit() else 0)
            if now.state == "gone" and now.why:
                now = _told_by_log(job, by_name[name], int(task), now)
            rows.append(((name, int(task)), now))
    yield from sorted(rows, key=lambda row: row[1].state != "gone")  # an array may have been submitted twice


def _history(job: JobFolder, arrays: Sequence[Array]) -> Iterator[tuple[tuple[str, int], Known]]:
    """Yield what accounting knows; many sites have none."""
    by_name = {array.name: array for array in arrays}
    first = min(array.submission.place(job, ".json").stat().st_mtime for array in arrays)
    since = (datetime.fromtimestamp(first) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
    options = ["--noheader", "--parsable2", "--allocations", f"--starttime={since}", f"--name={','.join(by_name)}"]
    options += [f"--user={job.path.stat().st_uid}", "--format=JobName,JobID,State,ExitCode"]
    try:
        said = ask(["sacct", *options])
    except StudyError as error:
        log.debug("%s: %s; how jobs ended that have left the queue is known from logs alone", job.path, error)
        return
    for line in said.splitlines():
        name, identifier, state, code = line.split("|")
        task = identifier.partition("_")[2]
        if name in by_name and task.isdigit() and int(task) in _tasks(by_name[name]):
            exit_code, _, number = code.partition(":")
            now = known(state, "", (int(exit_code) << 8) + int(number or 0))
            yield (name, int(task)), _told_by_log(job, by_name[name], int(task), now) if now.why else now


def _from_log(job: JobFolder, array: Array, task: int) -> Known:
    """Return what a log says of a task that SLURM itself knows nothing of any more."""
    return _told_by_log(job, array, task, Known("gone"))


def _told_by_log(job: JobFolder, array: Array, task: int, now: Known) -> Known:
    """Return what is known of a task that has ended, with what SLURM wrote into its log."""
    try:
        with array.log(job, task).open("rb") as handle:
            handle.seek(max(0, os.fstat(handle.fileno()).st_size - TAIL))
            lines = handle.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return now
    said = [match[1].strip("* ") for line in lines if (match := SAID.match(line))]
    short = next((line for line in said if MEMORY.search(line)), None)
    if short is not None and (not now.why or now.memory_short or "signal 9" in now.why):
        return replace(now, why=f"{now.why}: {short}" if now.why else short, memory_short=True)
    return replace(now, why=now.why or (said[-1] if said else ""))
