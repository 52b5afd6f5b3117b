"""The preparation as a whole: scan the files that have no partial result yet, merge, write, draw.

A partial result is kept per file. It is used again when file and card are the same, so that a killed or incomplete
preparation goes on where it was, and batch jobs (`--partial`) leave exactly what one process would.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfnano_tag.card.card import Card
from pfnano_tag.card.command import progress
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.card.files import expand_files
from pfnano_tag.card.folder import bind, prepared_path, sample_text
from pfnano_tag.card.jobs import collect_results
from pfnano_tag.card.output import write_json
from pfnano_tag.errors import CardError, FileError, Incomplete, nearest
from pfnano_tag.nano.reader import PFNanoFile, open_file
from pfnano_tag.nano.schema import FEATURES, declare, inputs_of, own_features
from pfnano_tag.prepare.merging import of_one_kind, prepared_from
from pfnano_tag.prepare.prepared import SECTIONS, Prepared, write_prepared
from pfnano_tag.prepare.scan import FileScan, check_file, plan_of, scan_file

log = logging.getLogger(__name__)

PARTIAL_FORMAT = 3
SHOWN = 20
"""How many of the lost chunks the last message names."""
BASE_MEMORY, CHUNK_COPIES = 150, 3
"""What the libraries take [MB], and how often a chunk's size the columns read and derived from it take."""


@dataclass(frozen=True)
class Source:
    """A file of a dataset with role `train`."""

    path: str
    dataset: Dataset


def sources_of(card: Card) -> tuple[Source, ...]:
    """Return the training files of a card, in its order.

    Raises
    ------
    CardError
        When no dataset has the role `train`, or a file stands in two of them.
    FileError
        When a path does not exist or a glob matches nothing.
    """
    datasets = card.datasets_for("train")
    if not datasets:
        raise CardError("no dataset has the role train: set roles: [train] for the one to train on")
    sources = [Source(path, d) for d in datasets for path in expand_files(card.patterns(d))]
    seen: dict[str, str] = {}
    for source in sources:
        other = seen.setdefault(source.path, source.dataset.name)
        if other != source.dataset.name:
            raise CardError(f"datasets: {source.path} stands in both {other!r} and {source.dataset.name!r}")
    return tuple(sources)


def run(card: Card) -> Prepared:
    """Scan all training files and write `prepared.json` and the pictures.

    Raises
    ------
    Incomplete
        After everything is saved, when chunks or files are lost.
    UserError
        When nothing sensible can be made of card and files.
    """
    scans, failed = _scan_all(card, _start(card))
    return _finish(card, scans, failed)


def run_partial(card: Card, files: Sequence[str]) -> None:
    """Scan named files of the card and keep their partial results, for `run_merge`.

    Raises
    ------
    CardError
        When a file is not in a training dataset of the card.
    Incomplete
        When chunks or files are lost.
    """
    known = {source.path: source for source in _start(card)}
    missing = [name for name in files if name not in known]
    if missing:
        hints = nearest(missing[0], known)
        raise CardError(
            f"{missing[0]}: not a file of a dataset with role train in this card; "
            f"nearest: {', '.join(hints) or 'none'}"
        )
    scans, failed = _scan_all(card, [known[name] for name in dict.fromkeys(files)])
    _complain([f"{scan.path}: {where}" for scan in scans for where in _lost(scan)] + list(failed.values()))


def run_merge(card: Card) -> Prepared:
    """Merge the partial results of all training files, read none, and write what `run` writes.

    Raises
    ------
    Incomplete
        After everything is saved, when files have no partial result or chunks are lost.
    """
    scans: list[FileScan] = []
    failed: dict[tuple[str, str], str] = {}
    for source in _start(card):
        scan = _read_partial(card, source)
        if scan is None:
            failed[source.dataset.name, source.path] = "no partial result of this card; run prepare --partial on it"
        else:
            scans.append(scan)
    if not scans:
        raise FileError(f"{_partial_folder(card)}: no partial result to merge; run prepare --partial FILE... first")
    return _finish(card, scans, failed)


def plan(card: Card) -> str:
    """Return the plan in words: chunks, branches and size of each file; nothing is written."""
    lines = []
    used: set[str] = set()
    for source in _start(card):
        try:
            with open_file(source.path, card) as file:
                branches = check_file(file, card, source.dataset)
                chunks = plan_of(file, card, branches)
                size = file.uncompressed_bytes(branches) / 1e6
                events = file.num_entries
        except FileError as error:
            lines.append(f"{source.dataset.name}: can't be read: {error}")
            continue
        used |= branches
        lines.append(
            f"{source.dataset.name}: {source.path}: {events} events in {len(chunks)} chunks, "
            f"{len(branches)} branches, {size:.1f} MB uncompressed"
        )
    chunk = card.resources.chunk
    lines.append(f"memory: about {BASE_MEMORY + CHUNK_COPIES * chunk:.0f} MB at chunks of {chunk:g} MB")
    lines.append(f"branches: {', '.join(sorted(used))}")
    return "\n".join(lines)


def _start(card: Card) -> tuple[Source, ...]:
    """Return the training files after all checks that need no file.

    A folder that is bound to another card is refused; none is bound before there is a result to protect.
    """
    if (card.folder / "study.json").exists():
        bind(card)
    collect_results(card)
    declare(own_features(card.jets.tree))
    inputs_of(card.inputs)
    unknown = [name for name in card.inputs.droppable if name not in FEATURES]
    if unknown:
        hints = ", ".join(nearest(unknown[0], FEATURES)) or "none"
        raise CardError(f"inputs.droppable: {unknown[0]!r} is no feature (group/name); nearest: {hints}")
    return sources_of(card)


def _scan_all(card: Card, sources: Sequence[Source]) -> tuple[list[FileScan], dict[tuple[str, str], str]]:
    scans: list[FileScan] = []
    failed: dict[tuple[str, str], str] = {}
    for source in progress(sources, total=len(sources), description="prepare", unit="files"):
        try:
            with open_file(source.path, card) as file:
                of_one_kind([*scans, file], card)
                scans.append(_scan_or_reuse(card, source, file))
        except FileError as error:
            if len(sources) == 1:
                raise
            failed[source.dataset.name, source.path] = str(error)
            log.warning("lost: %s", error)
    if not scans:
        raise FileError("none of the files can be opened:\n  " + "\n  ".join(failed.values()))
    return scans, failed


def _scan_or_reuse(card: Card, source: Source, file: PFNanoFile) -> FileScan:
    kept = _read_partial(card, source)
    if kept is not None and kept.identity == file.identity and not kept.lost:
        log.info("%s: partial result kept", source.path)
        return kept
    scan = scan_file(file, card, source.dataset)
    write_json(partial_path(card, source), {"key": _key(card, source), "scan": scan.to_json()})
    for where in _lost(scan):
        log.warning("lost: %s, %s", scan.path, where)
    return scan


def _finish(card: Card, scans: Sequence[FileScan], failed: dict[tuple[str, str], str]) -> Prepared:
    from pfnano_tag.prepare.pictures import draw

    prepared = prepared_from(card, scans, failed)
    bind(card)
    write_prepared(prepared_path(card), prepared)
    draw(prepared, card.folder / "prepared", sample_text(card, "train"))
    log.info(
        "%s: %d training, %d validation, %d test jets in %d classes",
        prepared_path(card),
        *(prepared.total(split) for split in ("train", "validation", "test")),
        len(prepared.classes),
    )
    _complain(
        [
            where if where.startswith(record.path) else f"{record.path}: {where}"  # a file's error names it already
            for record in prepared.files
            for where in record.lost
        ]
    )
    return prepared


def _complain(lost: Sequence[str]) -> None:
    if lost:
        raise Incomplete(
            f"{len(lost)} chunks or files are missing from the result (all others are saved; run again to go on):\n  "
            + "\n  ".join([*lost[:SHOWN], *([f"and {len(lost) - SHOWN} more"] if len(lost) > SHOWN else [])])
        )


def _lost(scan: FileScan) -> list[str]:
    return [f"entries {start} to {stop}: {reason}" for start, stop, reason in scan.lost]


def _partial_folder(card: Card) -> Path:
    return card.folder / "prepared" / "scan"


def partial_path(card: Card, source: Source) -> Path:
    """Return where the partial result of a file is kept: readable, and different for equal names elsewhere."""
    mark = hashlib.sha256(f"{source.dataset.name}\n{source.path}".encode()).hexdigest()[:12]
    return _partial_folder(card) / f"{Path(source.path).stem[:80]}-{mark}.json"


def _key(card: Card, source: Source) -> dict[str, Any]:
    """Return what a partial result depends on, besides the file itself."""
    sections = [name for name in SECTIONS if name != "datasets"]
    return {
        "format": PARTIAL_FORMAT,
        "sections": card.hash(*sections),
        "dataset": source.dataset.name,
        "kind": source.dataset.kind,
        "path": source.path,
        "chunk": card.resources.chunk,  # another size is another plan
    }


def _read_partial(card: Card, source: Source) -> FileScan | None:
    """Return the kept partial result of a file; None when there is none for this card."""
    path = partial_path(card, source)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["key"] != _key(card, source):
            return None
        return FileScan.from_json(content["scan"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: not a partial result (%s): it is made again", path, error)
        return None
