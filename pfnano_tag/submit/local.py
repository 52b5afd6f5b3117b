"""Jobs on this machine: the same worker script, several at a time."""

from __future__ import annotations

import logging
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pfnano_tag.card.command import progress
from pfnano_tag.errors import EXIT_BAD_INPUT, EXIT_COMPLETE, EXIT_INCOMPLETE, DataError, Incomplete
from pfnano_tag.submit.jobfolder import JobFolder
from pfnano_tag.submit.split import Item

log = logging.getLogger(__name__)


def run_local(job: JobFolder, processes: int) -> None:
    """Run all items; one that fails does not keep the others from running.

    Parameters
    ----------
    job : JobFolder
        From `write_job_folder`.
    processes : int
        Workers at a time.

    Raises
    ------
    DataError
        When a worker found bad input; the message names the items and their logs.
    Incomplete
        When workers lost chunks.
    RuntimeError
        When a worker failed in any other way (a bug, no memory).
    """
    with ThreadPoolExecutor(processes) as pool:
        codes = pool.map(partial(_run_one, job), job.items)
        outcome = list(zip(job.items, progress(codes, len(job.items), "analyze", "files"), strict=True))
    failed = [(item, code) for item, code in outcome if code != EXIT_COMPLETE]
    if not failed:
        log.info("%d items complete, outputs in %s", len(outcome), job.output)
        return
    text = f"{len(failed)} of {len(outcome)} items are not complete:\n" + "\n".join(
        f"  {item.file}: exit code {code}{_last_words(job, item)}" for item, code in failed
    )
    codes_seen = {code for _, code in failed}
    if codes_seen == {EXIT_INCOMPLETE}:
        raise Incomplete(text)
    if codes_seen <= {EXIT_INCOMPLETE, EXIT_BAD_INPUT}:
        raise DataError(text)
    raise RuntimeError(text)


def _run_one(job: JobFolder, item: Item) -> int:
    with (job.path / "logs" / f"{item.index}.out").open("wb") as out:
        command = ["bash", str(job.path / "worker.sh"), str(item.index), str(job.path), str(job.output)]
        return subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False).returncode


def _last_words(job: JobFolder, item: Item) -> str:
    """Return the worker's error message, if any, and where its log is."""
    log_file = job.path / "logs" / f"{item.index}.out"
    lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines if line.startswith(("error: ", "incomplete: "))]
    return f" ({said[-1] if said else 'no message'}; log: {log_file})"
