"""Job folders of a study, and what their jobs leave: reports, and results that are collected into the study.

A job works in its item's folder, `jobs/NAME/items/INDEX/`, which has the shape of a study's folder: what it leaves at
`analysis/dy/file.root` there is what the study has at `analysis/dy/file.root`. Its last act is a report with the size
of each result, so that what is half written, half transferred or gone is known. Whoever looks for results collects
them first (`collect_results`): `submit`, `compare`, and the commands that look at trained networks.
"""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pfnano_tag.card.output import write_json
from pfnano_tag.errors import EXIT_COMPLETE, EXIT_INCOMPLETE

if TYPE_CHECKING:  # the runner of a job imports this module, and waits with little memory
    from pfnano_tag.card.card import Card

log = logging.getLogger(__name__)

REPORT, LAST_REPORT, COLLECTED = "report.json", "report.last.json", "collected.json"
COLLECTING = "collecting.json"
"""Attempts whose results are being moved: whoever collects after a kill finds some of them in the study already."""
KEEP_INCOMPLETE = ("analyze", "prepare")
"""Stages whose results are worth something when chunks are lost: what comes after them says what they lack."""


@dataclass(frozen=True)
class Report:
    """What a job says at its end.

    Parameters
    ----------
    attempt : int
        Which run of the item this was, counted from 1.
    code : int
        Exit code: 0 complete, 75 incomplete, 2 bad input, 1 a bug; 128 + number for a signal.
    error : str
        Last error message; empty when there was none.
    host : str
        Machine.
    started, ended : float
        By the clock of that machine [s since 1970].
    cpu : float
        CPU time of the stage, its processes included [s].
    memory : float
        Largest resident memory of one process [MB].
    setup : float
        Time until the stage was started: unpacking, staging [s].
    results : tuple of str
        Files and folders that belong into the study, by path below the item's folder.
    sizes : dict
        Sizes of their files [bytes].
    events, chunks : tuple of int or None
        How many are done, and how many there are, where the stage counts them.
    """

    attempt: int
    code: int
    error: str = ""
    host: str = ""
    started: float = 0.0
    ended: float = 0.0
    cpu: float = 0.0
    memory: float = 0.0
    setup: float = 0.0
    results: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    events: tuple[int, int] | None = None
    chunks: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON content."""
        return asdict(self)


def next_attempt(item: Path) -> int:
    """Return the number of the run that begins; the worker script has put the report of the last one aside."""
    return (
        max((report.attempt for name in (REPORT, LAST_REPORT) if (report := read_report(item, name))), default=0) + 1
    )


def read_report(item: Path, name: str = REPORT) -> Report | None:
    """Return the report of an item's folder; None where there is none, or it can't be read."""
    try:
        content = json.loads((item / name).read_text(encoding="utf-8"))
        tuples = {key: tuple(content[key]) for key in ("results", "events", "chunks") if content.get(key)}
        return Report(**{**content, **tuples})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s: not a job's report (%s)", item / name, error)
        return None


def job_folders(card: Card) -> list[Path]:
    """Return the job folders of a study, oldest first."""
    return sorted((path.parent for path in (card.folder / "jobs").glob("*/job.json")), key=_made)


def short_of(item: Path, report: Report) -> list[str]:
    """Return which files of a report are not there, or not with their size: on their way, or lost."""
    return [name for name, size in report.sizes.items() if _size(item / name) != size]


def collect_results(card: Card) -> int:
    """Move the results of jobs that ended into the study; of incomplete jobs, copy what is there.

    Returns
    -------
    int
        How many items had something new.
    """
    return sum(collect_job(card, job) for job in job_folders(card))


def collect_job(card: Card, job: Path) -> int:
    """Move the results of one job folder into the study; what is being collected by another process is left to it.

    Returns
    -------
    int
        How many items had something new.
    """
    with _locked(job) as mine:
        if not mine:
            return 0
        known, begun, keep = collected(job), _attempts(job / COLLECTING), _stage(job) in KEEP_INCOMPLETE
        ready: dict[str, tuple[int, bool, Sequence[str]]] = {}
        for item in sorted((job / "items").iterdir()):
            report = read_report(item)
            if report is None or known.get(item.name, 0) >= report.attempt:
                continue
            whole = report.code == EXIT_COMPLETE
            if not (whole or (keep and report.code == EXIT_INCOMPLETE)):
                continue
            left = _left(item, card.folder, report, begun.get(item.name) == report.attempt)
            if left is not None:
                ready[item.name] = (report.attempt, whole, left)
        if not ready:
            return 0
        write_json(job / COLLECTING, {name: attempt for name, (attempt, _, _) in ready.items()})
        found = 0
        for name, (attempt, whole, results) in ready.items():
            if _taken(job / "items" / name, card.folder, results, whole):
                known[name] = attempt
                found += 1
        write_json(job / COLLECTED, known)
        (job / COLLECTING).unlink()
        log.info("%s: results of %d items collected", job, found)
    return found


def collected(job: Path) -> dict[str, int]:
    """Return the last attempt that was collected, by the name of the item's folder."""
    return _attempts(job / COLLECTED)


def _attempts(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(content)


def _left(item: Path, study: Path, report: Report, begun: bool) -> list[str] | None:
    """Return which results are still to be taken, where that was begun before; None where some are short."""
    if not begun:
        return None if short_of(item, report) else list(report.results)
    left = []
    for name in report.results:
        files = {file: size for file, size in report.sizes.items() if file == name or file.startswith(f"{name}/")}
        sizes = {file.removeprefix(name): size for file, size in files.items()}
        if _has(item / name, sizes):
            left.append(name)
        elif _has(_new(study / name), sizes):
            _rename(study / name)
        elif not _has(study / name, sizes):
            return None
    return left


def _has(place: Path, sizes: Mapping[str, int]) -> bool:
    return place.exists() and all(_size(Path(f"{place}{rest}")) == size for rest, size in sizes.items())


def _taken(item: Path, study: Path, names: Sequence[str], whole: bool) -> bool:
    """Take results of an item; return whether all could be."""
    try:
        for name in names:
            _take(item / name, study / name, whole)
    except OSError as error:
        if whole:
            raise
        # where the disk is shared, the next attempt may be at work on them by now
        log.info("%s: changed while it was collected (%s); the next time", item, error)
        return False
    return True


def _stage(job: Path) -> str:
    return str(_about(job).get("stage", ""))


def _made(job: Path) -> tuple[str, str]:
    return str(_about(job).get("made", "")), job.name


def _about(job: Path) -> dict[str, Any]:
    """Return what a job folder says of itself; nothing where that can't be read, which `submit status` refuses."""
    try:
        return dict(json.loads((job / "job.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        log.warning("%s: can't be read: %s", job / "job.json", error)
        return {}


@contextmanager
def _locked(job: Path) -> Iterator[bool]:
    try:
        handle = (job / ".collecting").open("w")
    except OSError as error:  # another user's study: to be looked at, not to be changed
        log.warning("%s: results can't be collected: %s", job, error.strerror)
        yield False
        return
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _take(source: Path, target: Path, move: bool) -> None:
    """Put a result in its place, whole or not at all; a link or copy where the job needs it once more."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = _new(target)
    _remove(new)
    if move:
        shutil.move(source, new)
    elif source.is_dir():
        shutil.copytree(source, new)
    else:
        shutil.copy2(source, new)
    _rename(target)


def _new(target: Path) -> Path:
    return target.with_name(f".{target.name}.collected")


def _rename(target: Path) -> None:
    if target.is_dir():
        _remove(target)
    _new(target).replace(target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
