"""How many files go into one job, from how long they took in the study's last jobs."""

from __future__ import annotations

import logging
from pathlib import Path
from statistics import median

from pfnano_tag.card.card import Card
from pfnano_tag.card.jobs import job_folders, read_report
from pfnano_tag.errors import EXIT_COMPLETE
from pfnano_tag.submit.jobfolder import JobFolder, read_job_folder

log = logging.getLogger(__name__)


def files_per_job(card: Card, stage: str) -> int:
    """Return how many files a job of a stage gets.

    Parameters
    ----------
    card : Card
        `submit.minutes` is the length of a job of `analyze`; without it, or before any job has ended, `submit.files`
        says how many.
    stage : str
        What the jobs do.
    """
    if stage != "analyze" or card.submit.minutes is None:
        return card.submit.files
    times = _times(card)
    if times is None:
        log.info("submit.minutes: no job of this study has ended yet, so each gets %d files", card.submit.files)
        return card.submit.files
    setup, each = times
    number = max(1, int((60 * card.submit.minutes - setup) / max(each, 1e-3)))
    log.info(
        "submit.minutes: %d files per job (%.0f s each, %.0f s to set up, in the last jobs)", number, each, setup
    )
    return number


def _times(card: Card) -> tuple[float, float] | None:
    """Return the median time of set-up and of a file [s], of the last job folder that has any."""
    for path in reversed([folder for folder in job_folders(card) if folder.resolve().is_dir()]):
        job = read_job_folder(path)
        found = _of_folder(job) if job.stage == "analyze" else []
        if found:
            return median(setup for setup, _ in found), median(each for _, each in found)
    return None


def _of_folder(job: JobFolder) -> list[tuple[float, float]]:
    found = []
    for item in job.items:
        report = read_report(Path(job.folder_of(item.index)))
        if report is not None and report.code == EXIT_COMPLETE:
            found.append((report.setup, (report.ended - report.started - report.setup) / len(item.steps)))
    return found
