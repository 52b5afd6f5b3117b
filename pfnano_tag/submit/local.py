"""Jobs on this machine: the same worker script, several at a time."""

from __future__ import annotations

import fcntl
import logging
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pfnano_tag.card.card import Card
from pfnano_tag.card.command import progress
from pfnano_tag.card.jobs import read_report
from pfnano_tag.errors import EXIT_BAD_INPUT, EXIT_COMPLETE, EXIT_INCOMPLETE, DataError, Incomplete, OutputError
from pfnano_tag.submit.engines import Known
from pfnano_tag.submit.items import Item
from pfnano_tag.submit.jobfolder import JobFolder
from pfnano_tag.submit.submission import Submission

log = logging.getLogger(__name__)


class Local:
    """Worker processes of this machine.

    Parameters
    ----------
    processes : int
        Workers at a time.
    """

    def __init__(self, processes: int = 2) -> None:
        self.processes = processes

    def write(self, card: Card, job: JobFolder, submission: Submission) -> str:
        """Return the command that runs one item; nothing needs to be written."""
        return f"bash {job.path / 'worker.sh'} INDEX {job.path}"

    def submit(self, card: Card, job: JobFolder, submission: Submission) -> Submission:
        """Run the items to their end; one that fails does not keep the others from running."""
        run_local(job, submission.indices, self.processes)
        return submission

    def states(self, job: JobFolder) -> Mapping[int, Known]:
        """Return which items are being run by another process."""
        running = _is_running(job)
        return {item.index: Known("running" if running else "gone") for item in job.items}

    def remove(self, job: JobFolder, indices: Iterable[int]) -> None:
        """Do nothing: there is no queue that items could be stuck in."""


def run_local(job: JobFolder, indices: Sequence[int], processes: int) -> None:
    """Run items; one that fails does not keep the others from running.

    Parameters
    ----------
    job : JobFolder
        From `write_job_folder`.
    indices : sequence of int
        Which items.
    processes : int
        Workers at a time.

    Raises
    ------
    OutputError
        When items of the job folder are being run already.
    """
    with (job.path / ".running").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{job.path}: its jobs are being run on this machine already; wait for them") from error
        items = [job.items[index] for index in indices]
        with ThreadPoolExecutor(processes) as pool:
            for _ in progress(pool.map(partial(_run_one, job), items), len(items), job.stage, "items"):
                pass


def outcome(job: JobFolder, indices: Sequence[int]) -> None:
    """Say how items ended.

    Raises
    ------
    DataError
        When a worker found bad input; the message names the items and their logs.
    Incomplete
        When workers lost chunks.
    RuntimeError
        When a worker failed in any other way (a bug, no memory).
    """
    reports = {index: read_report(job.folder_of(index)) for index in indices}
    failed = {index: report for index, report in reports.items() if report is None or report.code != EXIT_COMPLETE}
    if not failed:
        log.info("%d items complete", len(reports))
        return
    text = f"{len(failed)} of {len(reports)} items are not complete:\n" + "\n".join(
        f"  {_named(job.items[index])}: exit code {report.code if report else 'unknown'} "
        f"({report.error if report else 'no report'}; log: {job.folder_of(index) / 'log.txt'})"
        for index, report in failed.items()
    )
    codes = {report.code if report else 1 for report in failed.values()}
    if codes == {EXIT_INCOMPLETE}:
        raise Incomplete(text)
    if codes <= {EXIT_INCOMPLETE, EXIT_BAD_INPUT}:
        raise DataError(text)
    raise RuntimeError(text)


def _named(item: Item) -> str:
    files = [step.file for step in item.steps if step.file is not None]
    return ", ".join(files) or item.name


def _run_one(job: JobFolder, item: Item) -> int:
    with (job.path / "logs" / f"{item.index}.out").open("wb") as out:
        command = ["bash", str(job.path / "worker.sh"), str(item.index), str(job.path)]
        return subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False).returncode


def _is_running(job: JobFolder) -> bool:
    with (job.path / ".running").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
