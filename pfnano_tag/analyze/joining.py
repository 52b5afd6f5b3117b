"""A part of the data/MC job of one file, and the parts put together."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from pfnano_tag.analyze.ledger import Ledger, locked
from pfnano_tag.analyze.parts import ABOUT, Kept, Part, ledger_folder, waiting
from pfnano_tag.analyze.stage import do_chunks, do_job, opened
from pfnano_tag.analyze.stopping import TimeLimit, stopping
from pfnano_tag.card import Card
from pfnano_tag.card.files import absolute, expand_files
from pfnano_tag.card.folder import analysis_path
from pfnano_tag.card.hashing import content_hash
from pfnano_tag.card.output import write_whole
from pfnano_tag.errors import DataError, FileError, Incomplete, StudyError

log = logging.getLogger(__name__)


def run_part(
    card: Card,
    dataset: str,
    file: str,
    part: Part,
    output: str | Path | None = None,
    models: Sequence[str] | None = None,
) -> Path:
    """Do a part of the chunks of one file, or what is left of them; nothing is summed.

    Parameters
    ----------
    card, dataset, file, output, models
        As for `stage.run`.
    part : Part
        Which chunks.

    Returns
    -------
    Path
        The folder with the part; the output where that is complete.

    Raises
    ------
    UserError
        As `stage.run`.
    Incomplete
        After all that could be done is saved: chunks were lost, or the job was told to stop.
    """
    limit = TimeLimit(card.resources.max_minutes)
    with opened(card, dataset, file, output, models) as (job, target):
        folder = part.folder(target)
        whole = Ledger(ledger_folder(target), content_hash(job.key), job.key)
        if whole.is_finished(*job.outputs(target)):
            log.info("%s: complete already (%d chunks): nothing to do", target, len(whole.plan))
            return target
        with locked(target, folder), stopping():
            ledger = Ledger(folder, content_hash(job.key), job.key)
            ledger.start(job.new_plan())
            named = None if models is None else tuple(models)
            kept = Kept(folder, part, dataset, absolute(file), named)
            kept.write()
            numbers = part.chunks(len(ledger.plan))
            if not numbers:
                log.info("part %s has none of the %d chunks: nothing to do", part, len(ledger.plan))
            try:
                lost = do_chunks(job, ledger, limit, numbers)
            except DataError:
                ledger.discard()
                raise
            replace(kept, ended=True).write()
            if lost:
                chunks = "; ".join(str(error) for error in lost.values())
                raise Incomplete(
                    f"{folder}: {len(lost)} of {len(numbers)} chunks are lost, a rerun tries again: {chunks}"
                )
    return folder


def join(card: Card, output: Path, kept: Sequence[Kept], whole: bool) -> None:
    """Make the output of parts; chunks that they lost are tried once more.

    Parameters
    ----------
    card : Card
        The study's card.
    output : Path
        What they are parts of.
    kept : sequence of Kept
        The parts, of the same models.
    whole : bool
        Whether they are all parts of the file; else they may have chunks that the output lacks.

    Raises
    ------
    StudyError
        When they were made with another card, or other models, files or chunks.
    OutputError
        When the output, or a part, is in work.
    Incomplete
        When chunks are lost (the output says so), or more parts are needed.
    UserError
        When the file can't be opened here, say.
    """
    limit = TimeLimit(card.resources.max_minutes)
    first = kept[0]
    with (
        opened(card, first.dataset, _file_of(card, first, output), output, first.models) as (job, target),
        locked(target) as folder,
        stopping(),
    ):
        there = [one for one in kept if one.folder.exists()]  # another process may just have put them together
        about = {one.folder: _version(one.folder / ABOUT) for one in there}
        before = _version(target)
        ledger = Ledger(folder, content_hash(job.key), job.key)
        with ExitStack() as stack:
            for one in there:
                stack.enter_context(locked(target, one.folder))
            parts = {one.folder: Ledger(one.folder, ledger.key, job.key) for one in there}
            foreign = [place for place, part in parts.items() if not part.known]
            if foreign and (whole or len(foreign) == len(parts)):
                raise StudyError(
                    f"{foreign[0]}: made with another card or file, or other models; remove it and submit new jobs"
                )
            own = [place for place in parts if place not in foreign]
            try:
                if not ledger.is_finished(*job.outputs(target)):
                    if len(there) < len(kept):
                        raise Incomplete(f"{output}: another process has taken parts of it away meanwhile")
                    _take_over(ledger, [parts[place] for place in own], kept, whole)
                    do_job(job, ledger, target, limit)
            except Incomplete:
                if _version(target) == before:  # told to stop: goes on next time; else chunks are lost
                    raise
                stack.close()
                _remove(own, about)
                raise
        _remove(own, about)


def _file_of(card: Card, one: Kept, output: Path) -> str:
    """Return the file of an output as the card names it; jobs may have had a copy of it, which is gone."""
    try:
        listed = expand_files(card.patterns(card.dataset(one.dataset)))
    except FileError:
        return one.file
    named = [file for file in listed if analysis_path(card, one.dataset, file) == output]
    return named[0] if len(named) == 1 else one.file


def _take_over(ledger: Ledger, parts: Sequence[Ledger], kept: Sequence[Kept], whole: bool) -> None:
    """Link the chunks of parts into the file's ledger; they stay where they are until all is done."""
    plan = parts[0].plan
    for part in parts:
        if part.plan != plan:
            raise StudyError(
                f"{part.folder}: its chunks are not those of other parts (resources.chunk was changed); remove it "
                "and submit new jobs"
            )
    if not (ledger.known and ledger.plan == plan):
        if not whole:  # the output is of another card, or of other chunks
            raise Incomplete(waiting(kept))
        ledger.restart(plan)
    for part in parts:
        for path in (*part.folder.glob("chunk_*.npz"), *part.folder.glob("begun_*")):
            place = ledger.folder / path.name
            if place.exists():
                continue
            if path.suffix:
                _link(path, place)
            else:  # a note is written in place
                _copy(path, place)


def _link(path: Path, place: Path) -> None:
    try:
        os.link(path, place)
    except OSError:  # a disk without hard links
        _copy(path, place)


def _copy(path: Path, place: Path) -> None:
    try:
        with write_whole(place) as temporary:
            shutil.copy(path, temporary)
    except FileNotFoundError as error:  # only `collect_results` heeds no lock
        raise StudyError(f"{path}: new results of this part were collected meanwhile; run again") from error


def _version(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _remove(folders: Sequence[Path], about: Mapping[Path, tuple[int, int] | None]) -> None:
    """Remove parts, but not what was collected or begun in their place meanwhile."""
    for folder in folders:
        if _version(folder / ABOUT) == about[folder]:
            (folder / ABOUT).unlink()  # first: what is left of it is no part, if this is killed
            shutil.rmtree(folder)
