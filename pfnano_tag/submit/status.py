"""What became of the jobs of a study: from their reports, their ledgers, and what the batch system says.

Clocks of different machines are never compared: what a job says of times is the difference of its own clock's.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pfnano_tag.card.card import Card
from pfnano_tag.card.jobs import Report, collect_job, collected, read_report, short_of
from pfnano_tag.errors import EXIT_COMPLETE, EXIT_INCOMPLETE, StudyError
from pfnano_tag.submit.engines import Known, engine_of
from pfnano_tag.submit.items import Item
from pfnano_tag.submit.jobfolder import JobFolder, changed_sections
from pfnano_tag.submit.progress import Counts, counted
from pfnano_tag.submit.submission import submissions_of

log = logging.getLogger(__name__)

Condition = Literal["done", "running", "idle", "held", "incomplete", "failed", "lost", "waiting"]
CONDITIONS: dict[Condition, str] = {
    "done": "complete, its results are in the study",
    "running": "at work",
    "idle": "in the queue",
    "held": "in the queue, but stopped: see why",
    "incomplete": "ended, chunks are missing",
    "failed": "ended with an error, or its results are gone",
    "lost": "left the queue without a report",
    "waiting": "not submitted yet",
}
UNDER_WAY: tuple[Condition, ...] = ("running", "idle")
KILLED = 137
"""Exit code of what was killed by SIGKILL, for want of memory mostly."""
NEARLY_ALL = 0.9
"""Share of the memory asked for from which on a killed job is taken to have been killed for want of it."""


@dataclass(frozen=True)
class ItemStatus:
    """What became of an item.

    Parameters
    ----------
    index : int
        In the job folder.
    name : str
        For people.
    condition : str
        One of `CONDITIONS`.
    why : str
        What is wrong; empty when nothing is.
    attempt : int
        Runs that left a report.
    events, chunks : tuple of int or None
        Done, and all of the files that were begun.
    cpu, memory, setup : float
        Of the last run [s, MB, s].
    memory_short : bool
        Whether memory was what it lacked.
    """

    index: int
    name: str
    condition: Condition
    why: str = ""
    attempt: int = 0
    events: Counts = None
    chunks: Counts = None
    cpu: float = 0.0
    memory: float = 0.0
    setup: float = 0.0
    memory_short: bool = False


@dataclass(frozen=True)
class JobStatus:
    """What became of the items of a job folder.

    Parameters
    ----------
    path : Path
        Job folder.
    stage, backend : str
        What its jobs do, and where.
    items : tuple of ItemStatus
        In order.
    silent : str
        Why the batch system gave no answer; empty when it did.
    other_card : tuple of str
        Sections of the card that were changed since, of those that the stage reads.
    """

    path: Path
    stage: str
    backend: str
    items: tuple[ItemStatus, ...]
    silent: str = ""
    other_card: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[Condition, int]:
        """Items by condition; only what there is."""
        found = Counter(item.condition for item in self.items)
        return {condition: found[condition] for condition in CONDITIONS if found[condition]}

    @property
    def complete(self) -> bool:
        """Whether all items are done."""
        return all(item.condition == "done" for item in self.items)

    @property
    def under_way(self) -> bool:
        """Whether items are running, or will without anybody's help."""
        return any(item.condition in UNDER_WAY for item in self.items)

    def to_json(self) -> dict[str, Any]:
        """Return the status as JSON content."""
        return {**asdict(self), "path": str(self.path), "counts": self.counts}


def status_of(card: Card, job: JobFolder) -> JobStatus:
    """Collect the results of a job folder, and return what became of its items.

    Parameters
    ----------
    card : Card
        The study's card.
    job : JobFolder
        One of the study's.
    """
    silent, known = "", {}
    if submissions_of(job):
        try:
            known = dict(engine_of(job.backend).states(job))
        except StudyError as error:  # what the reports say is worth something by itself
            silent = str(error)
    collect_job(card, job.path)
    taken, memory = collected(job.path), memory_asked(job)
    items = (_one(card, job, item, known, taken, memory, bool(silent)) for item in job.items)
    return JobStatus(job.path, job.stage, job.backend, tuple(items), silent, changed_sections(card, job))


def memory_asked(job: JobFolder) -> dict[int, int]:
    """Return what each item that was submitted asked for last [MB]."""
    pairs = (zip(one.indices, one.memory, strict=True) for one in submissions_of(job))
    return {index: memory for pair in pairs for index, memory in pair}


def _one(
    card: Card,
    job: JobFolder,
    item: Item,
    known: Mapping[int, Known],
    taken: Mapping[str, int],
    memory: Mapping[int, int],
    silent: bool,
) -> ItemStatus:
    folder = job.folder_of(item.index)
    report, now = read_report(folder), known.get(item.index)
    events, chunks = (None, None) if report is None else (report.events, report.chunks)
    if now is not None and now.state == "running":
        live = counted(folder, item)  # where the disk is shared
        events, chunks = (live[0] or events, live[1] or chunks)
    condition, why = _condition(card, folder, item, report, now, taken, item.index in memory, silent)
    numbers = {} if report is None else {"cpu": report.cpu, "memory": report.memory, "setup": report.setup}
    return ItemStatus(
        item.index,
        item.name,
        condition,
        why,
        0 if report is None else report.attempt,
        events,
        chunks,
        **numbers,
        memory_short=condition != "done" and _memory_short(report, now, memory.get(item.index, 0)),
    )


def _condition(
    card: Card,
    folder: Path,
    item: Item,
    report: Report | None,
    now: Known | None,
    taken: Mapping[str, int],
    submitted: bool,
    silent: bool,
) -> tuple[Condition, str]:
    """Return the condition of an item, and why: the batch system knows what is queued, the report what ended."""
    if now is not None and now.state != "gone":
        return now.state, now.why
    if report is None:
        if not submitted:
            return "waiting", ""
        if silent:
            return "lost", "no report yet; the batch system gives no answer, so it may be running"
        return "lost", (now.why if now is not None else "") or "no report"
    if report.code == EXIT_INCOMPLETE:
        return "incomplete", report.error
    if report.code != EXIT_COMPLETE:
        return "failed", f"exit code {report.code}: {report.error}"
    if taken.get(folder.name, 0) >= report.attempt:
        gone = item.gone(card.folder)
        return ("failed", f"its result is gone: {card.folder / gone[0]}") if gone else ("done", "")
    short = short_of(folder, report)
    if short:
        return "failed", f"said to be complete, but what came back of it is short: {folder / short[0]}"
    return "failed", f"its results could not be collected into {card.folder}"


def _memory_short(report: Report | None, now: Known | None, asked: int) -> bool:
    if now is not None and now.memory_short:
        return True
    return report is not None and report.code == KILLED and report.memory >= NEARLY_ALL * asked > 0


def table(statuses: Sequence[JobStatus], everything: bool = False, shown: int = 20) -> str:
    """Return the statuses in words: one line per job folder, and what is wrong.

    Parameters
    ----------
    statuses : sequence of JobStatus
        Of the job folders, in order.
    everything : bool
        Whether to list items with which nothing is wrong, and all of those with which something is.
    shown : int
        How many of the latter are listed otherwise.
    """
    return "\n".join(line for status in statuses for line in _lines(status, everything, shown))


def _lines(status: JobStatus, everything: bool, shown: int) -> Iterable[str]:
    counts = ", ".join(f"{count} {condition}" for condition, count in status.counts.items())
    yield f"{status.path.name} ({status.stage} on {status.backend}): {len(status.items)} jobs: {counts}"
    if status.other_card:
        yield f"  made with another card: {', '.join(status.other_card)} changed since; `submit jobs` makes new ones"
    if status.silent:
        yield f"  no answer from the batch system, so this is from reports alone: {status.silent}"
    yield from (f"  {line}" for line in _numbers(status.items))
    listed = [item for item in status.items if everything or item.condition not in ("done", "running", "idle")]
    cut = listed if everything else listed[:shown]
    if cut:
        width = max(len(item.name) for item in cut)
        for item in cut:
            chunks = "" if item.chunks is None else f"{item.chunks[0]} of {item.chunks[1]} chunks"
            yield f"  {item.index:>5}  {item.name:<{width}}  {item.condition:<10}  {chunks:<16}  {item.why}".rstrip()
    if len(listed) > len(cut):
        yield f"  and {len(listed) - len(cut)} more (--all lists them)"


def _numbers(items: Sequence[ItemStatus]) -> Iterable[str]:
    ran = [item for item in items if item.attempt]
    counts = [item.events for item in items if item.events is not None]
    if counts:
        done, whole = (sum(count[place] for count in counts) for place in (0, 1))
        begun = "" if len(counts) == len(items) else f" in the {len(counts)} jobs that counted them"
        yield f"events: {done:,} of {whole:,}{begun}"
    if ran:
        cpu, memory, setup = (max(getattr(item, key) for item in ran) for key in ("cpu", "memory", "setup"))
        total = sum(item.cpu for item in ran)
        yield (
            f"CPU time of the last runs: {_time(total)}, longest {_time(cpu)}; largest memory {memory:.0f} MB; "
            f"longest set-up {_time(setup)}"
        )


def _time(seconds: float) -> str:
    """Return a time in words, to two digits or so."""
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
