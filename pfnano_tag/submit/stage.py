"""Submitting a stage of a study: items, job folder, batch system."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pfnano_tag.card.card import Card
from pfnano_tag.card.jobs import collect_job, collect_results
from pfnano_tag.errors import UserError
from pfnano_tag.submit.engines import engine_of
from pfnano_tag.submit.grouping import grouping_of
from pfnano_tag.submit.items import Item
from pfnano_tag.submit.jobfolder import JobFolder, remove_folder, write_job_folder
from pfnano_tag.submit.local import Local, outcome
from pfnano_tag.submit.split import items_of
from pfnano_tag.submit.submission import NoAnswer, Submission, next_submission

SHOWN = 20
"""Items that a dry run names."""


def make(
    card: Card,
    stage: str,
    backend: str,
    datasets: Sequence[str] = (),
    models: Sequence[str] | None = None,
    folder: Path | None = None,
) -> tuple[JobFolder, Submission]:
    """Make a job folder for a stage, and its first submission, which is not handed over yet.

    Parameters
    ----------
    card : Card
        The study's card.
    stage, backend : str
        What the jobs do, and where.
    datasets, models : sequence of str
        As for `split.items_of`.
    folder : Path, optional
        Job folder to make.

    Raises
    ------
    UserError
        When something that the jobs need is missing.
    """
    collect_results(card)
    items = _items(card, stage, datasets, models)
    job = write_job_folder(card, stage, backend, items, folder, models)
    memory = card.submit.slot(stage).memory or card.submit.memory
    return job, next_submission(job, range(len(items)), [memory] * len(items))


def hand_over(card: Card, job: JobFolder, submission: Submission, processes: int = 2, new: bool = False) -> str:
    """Submit, and write down what became of it; jobs of this machine run to their end, and are collected.

    Parameters
    ----------
    card : Card
        The study's card.
    job : JobFolder
        Whose items are submitted.
    submission : Submission
        Which items.
    processes : int
        Workers at a time, on this machine.
    new : bool
        Whether the job folder was made for this submission, and goes when the batch system refuses it.

    Returns
    -------
    str
        What to tell the user.

    Raises
    ------
    NoAnswer
        When the batch system may have the jobs, or not; the job folder stays, and the submission is written down.
    UserError
        When the batch system is not there, or refuses.
    Incomplete, DataError, RuntimeError
        When jobs of this machine are not complete (`local.outcome`).
    """
    if job.backend == "local":
        Local(processes).submit(card, job, submission).write(job)
        collect_job(card, job.path)
        outcome(job, submission.indices)
        return f"{len(submission.indices)} jobs complete"
    with _nothing_left(card, job, new):
        done = _submitted(card, job, submission)
    done.write(job)
    return f"submitted as {', '.join(done.ids)}; `submit status` tells how they are"


def to_submit(card: Card, job: JobFolder, submission: Submission) -> str:
    """Write what the batch system reads, into a new job folder; return the command that hands it over.

    Raises
    ------
    OutputError
        When the batch system can't name the job folder, which goes.
    """
    with _nothing_left(card, job, new=True):
        command = engine_of(job.backend).write(card, job, submission)
    submission.write(job)
    return command


@contextmanager
def _nothing_left(card: Card, job: JobFolder, new: bool) -> Iterator[None]:
    """Remove a job folder made for a submission that was refused; not where the batch system may have the jobs."""
    try:
        yield
    except NoAnswer:
        raise
    except UserError:
        if new:
            remove_folder(card, job.path)
        raise


def _submitted(card: Card, job: JobFolder, submission: Submission) -> Submission:
    """Submit; what may be in the queue is written down, as SLURM is asked for the arrays that are."""
    try:
        return engine_of(job.backend).submit(card, job, submission)
    except NoAnswer as error:
        submission.write(job)
        raise NoAnswer(
            f"{error}; {job.path} stays, as the jobs may be in the queue: `submit status` tells when the batch "
            "system answers again, `submit retry` submits what is not there"
        ) from error
    except KeyboardInterrupt:
        submission.write(job)
        raise


def describe(
    card: Card, stage: str, backend: str, datasets: Sequence[str] = (), models: Sequence[str] | None = None
) -> str:
    """Return what would be submitted: items, what each asks for, and the batch system's files; nothing stays."""
    items = _items(card, stage, datasets, models)
    slot = card.submit.slot(stage)
    lines = [
        f"{len(items)} jobs of {stage} for {backend}",
        f"each: {slot.cpus or card.resources.threads} cores, {slot.memory} MB of memory, {slot.disk} MB of disk, "
        f"{slot.time} minutes, {slot.gpus} GPUs, {slot.processes} processes",
        f"environment: {card.submit.environment or 'this Python, by path'}",
        *(f"  {item.index} {item.name}: {_told(item)}" for item in items[:SHOWN]),
        *([f"  and {len(items) - SHOWN} more"] if len(items) > SHOWN else []),
    ]
    with tempfile.TemporaryDirectory(prefix="pfnano_tag_") as place:
        job = write_job_folder(card, stage, backend, items, Path(place) / "jobs" / "JOB", models, link=False)
        submission = next_submission(job, range(len(items)), [slot.memory or 0] * len(items))
        lines.append(engine_of(backend).write(card, job, submission))
        for path in sorted((job.path / "submissions").glob("*")) if backend != "local" else []:
            text = path.read_text(encoding="utf-8").splitlines()
            lines += [f"-- {path.relative_to(job.path)}", *text[:60]]
    return "\n".join(lines)


def _told(item: Item) -> str:
    return "; ".join(step.file or " ".join(step.arguments) for step in item.steps)


def _items(card: Card, stage: str, datasets: Sequence[str], models: Sequence[str] | None) -> tuple[Item, ...]:
    return items_of(card, stage, datasets, models, grouping_of(card, stage))
