"""A part of the data/MC job of one file, and the parts put together."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pfnano_tag.analyze.ledger import Ledger, locked
from pfnano_tag.analyze.parts import Kept, Part
from pfnano_tag.analyze.stage import do_chunks, do_job, opened
from pfnano_tag.analyze.stopping import TimeLimit, stopping
from pfnano_tag.card import Card
from pfnano_tag.card.hashing import content_hash
from pfnano_tag.card.output import write_whole
from pfnano_tag.errors import DataError, Incomplete, StudyError

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
        The folder with the part.

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
        with locked(target, folder), stopping():
            ledger = Ledger(folder, content_hash(job.key), job.key)
            ledger.start(job.new_plan())
            named = None if models is None else tuple(models)
            Kept(folder, part, dataset, file, named).write()
            numbers = part.chunks(len(ledger.plan))
            try:
                lost = do_chunks(job, ledger, limit, numbers)
            except DataError:
                ledger.discard()
                raise
            if lost:
                chunks = "; ".join(str(error) for error in lost.values())
                raise Incomplete(
                    f"{folder}: {len(lost)} of {len(numbers)} chunks are lost, a rerun tries again: {chunks}"
                )
    return folder


def join(card: Card, output: Path, kept: Sequence[Kept]) -> None:
    """Make the output of parts; chunks that they lost are tried once more.

    Parameters
    ----------
    card : Card
        The study's card.
    output : Path
        What they are parts of.
    kept : sequence of Kept
        The parts.

    Raises
    ------
    StudyError
        When they were made with another card, or other models, files or chunks.
    Incomplete
        When chunks are lost; the output says so.
    UserError
        When the file can't be opened here, say.
    """
    limit = TimeLimit(card.resources.max_minutes)
    first = kept[0]
    with (
        opened(card, first.dataset, first.file, output, first.models) as (job, target),
        locked(target) as folder,
        stopping(),
    ):
        ledger = Ledger(folder, content_hash(job.key), job.key)
        if not ledger.is_finished(*job.outputs(target)):
            _take_over(ledger, [Ledger(one.folder, ledger.key, job.key) for one in kept], len(kept) == first.part.of)
            before = _version(target)
            try:
                do_job(job, ledger, target, limit)
            except Incomplete:
                if _version(target) != before:  # chunks are lost; else it was told to stop, and goes on next time
                    _remove(kept)
                raise
        _remove(kept)


def _take_over(ledger: Ledger, parts: Sequence[Ledger], whole: bool) -> None:
    """Link the chunks of parts into the file's ledger; they stay where they are until all is done."""
    for part in parts:
        if not part.known or not (whole or ledger.known):
            raise StudyError(f"{part.folder}: made with another card or other models; remove it and submit new jobs")
    ledger.start(parts[0].plan)
    for part in parts:
        if part.plan != ledger.plan:
            raise StudyError(
                f"{part.folder}: its chunks are not those of other parts (resources.chunk was changed); remove it "
                "and submit new jobs"
            )
    for part in parts:
        for path in (*part.folder.glob("chunk_*.npz"), *part.folder.glob("begun_*")):
            place = ledger.folder / path.name
            if not place.exists():
                _link(path, place)


def _link(path: Path, place: Path) -> None:
    try:
        os.link(path, place)
    except OSError:  # a disk without hard links
        with write_whole(place) as temporary:
            shutil.copy(path, temporary)


def _version(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _remove(kept: Sequence[Kept]) -> None:
    for one in kept:
        shutil.rmtree(one.folder)
