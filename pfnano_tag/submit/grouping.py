"""How many files go into one job, or how many jobs share a file, from how long files took in the last jobs."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median

from pfnano_tag.analyze.parts import Part
from pfnano_tag.card.card import Card
from pfnano_tag.card.jobs import job_folders, read_report
from pfnano_tag.errors import EXIT_COMPLETE
from pfnano_tag.submit.jobfolder import JobFolder, read_job_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grouping:
    """How files and jobs go together; one of the numbers is 1.

    Parameters
    ----------
    files : int
        Files per job.
    parts : int
        Jobs per file, each of which does a part of its chunks.
    """

    files: int = 1
    parts: int = 1


ONE_EACH = Grouping()


def grouping_of(card: Card, stage: str) -> Grouping:
    """Return how many files a job of a stage gets, or how many jobs share a file.

    Parameters
    ----------
    card : Card
        `submit.minutes` is the length of a job of `analyze`; without it, or before any job has ended, `submit.files`
        and `submit.parts` say it.
    stage : str
        What the jobs do.
    """
    if stage != "analyze":
        return Grouping(files=card.submit.files)
    stated = Grouping(card.submit.files, card.submit.parts)
    if card.submit.minutes is None:
        return stated
    last = _measured(card)
    if last is None:
        log.info("submit.minutes: no job of this study has ended yet, so submit.files and submit.parts say it")
        return stated
    measured = f"{last.each:.0f} s for a file, {last.setup:.0f} s to set up, in the last jobs"
    room = 60 * card.submit.minutes - last.setup
    if room <= 0:
        log.warning("submit.minutes: a job takes longer to set up; one job per file (%s)", measured)
        return ONE_EACH
    files = int(room / max(last.each, 1e-3))
    if files:
        log.info("submit.minutes: %d files per job (%s)", files, measured)
        return Grouping(files=files)
    parts = max(1, int(min(math.ceil(last.each / room), last.chunks)))  # one without a chunk has nothing to do
    log.info("submit.minutes: %d jobs per file (%s)", parts, measured)
    return Grouping(parts=parts)


@dataclass(frozen=True)
class _Measured:
    """What a file took: the time of set-up and of the rest [s], and how many chunks it has."""

    setup: float
    each: float
    chunks: float


def _measured(card: Card) -> _Measured | None:
    """Return the medians of the last job folder that has jobs that ended."""
    for path in reversed([folder for folder in job_folders(card) if folder.resolve().is_dir()]):
        job = read_job_folder(path)
        found = _of_folder(job) if job.stage == "analyze" else []
        if found:
            return _Measured(*(median(getattr(one, field.name) for one in found) for field in fields(_Measured)))
    return None


def _of_folder(job: JobFolder) -> list[_Measured]:
    found = []
    for item in job.items:
        report = read_report(Path(job.folder_of(item.index)))
        if report is not None and report.code == EXIT_COMPLETE:
            files = sum(1 if step.part is None else 1 / Part.parse(step.part).of for step in item.steps)
            chunks = math.inf if report.chunks is None else report.chunks[1] / files
            found.append(_Measured(report.setup, (report.ended - report.started - report.setup) / files, chunks))
    return found
