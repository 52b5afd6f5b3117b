"""A chunk in too little memory: smaller batches first, then slices of its entries, then it is lost, alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.arrays import COLUMN
from pfnano_tag.card import Card
from pfnano_tag.errors import BadChunk
from pfnano_tag.nano.reader import Chunk

log = logging.getLogger(__name__)
Partial = dict[str, NDArray[Any]]
Process = Callable[[Card, Chunk], Partial]
"""Gives the partial result of a chunk, with the batch size of a card."""

SMALLEST_BATCH = 32
"""Jets; smaller batches save nothing that counts beside the branches of a chunk."""
PARTS = 4
"""Into how many slices a range of entries is cut that does not fit."""

CELLS = ("index", "values", "variances")
SUMMED = ("sums", "cutflow_raw", "cutflow_weighted", "slices")
UNITED = ("sections", "all_sections", "vetoed")


def in_memory(card: Card, chunk: Chunk, process: Process, sliced: bool = False) -> Partial:
    """Return the partial result of a chunk, whatever it takes.

    Parameters
    ----------
    card : Card
        Section `resources`.
    chunk : Chunk
        Events.
    process : callable
        What is done to a chunk, or to a slice of one.
    sliced : bool
        Begin with slices: the whole has ended processes before.

    Returns
    -------
    dict of ndarray
        What `process` returns (slices added up), and `slices`: in how many pieces it was done.

    Raises
    ------
    BadChunk
        When even single events don't fit, or something can't be read.
    """
    batch = card.resources.batch_size
    while not sliced:
        partial = _attempt(process, _with_batch(card, batch), chunk)
        if partial is not None:
            return {**partial, "slices": np.ones(1)}
        if batch <= SMALLEST_BATCH:
            break
        batch = max(SMALLEST_BATCH, batch // 2)
        log.warning("%s: out of memory; again with %d jets a batch", chunk, batch)
    log.warning("%s: now in slices of its entries", chunk)
    return _in_slices(_with_batch(card, min(batch, SMALLEST_BATCH)), chunk, process)


def added(first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]]) -> Partial:
    """Return the partial result of two ranges of entries together.

    Parameters
    ----------
    first, second : mapping of ndarray
        Of neighbours, in this order.

    Raises
    ------
    ValueError
        When they hold something that nobody has said how to add.
    """
    columns = [name for name in first if name.startswith(COLUMN)]
    unknown = (first.keys() | second.keys()) - {*CELLS, *SUMMED, *UNITED, *columns}
    if unknown:
        raise ValueError(f"partial results of slices: no rule to add {', '.join(sorted(unknown))}")
    index, place = np.unique(np.concatenate([first["index"], second["index"]]), return_inverse=True)
    cells = {
        name: np.bincount(place, np.concatenate([first[name], second[name]]), len(index))
        for name in ("values", "variances")
    }
    sums = {name: first[name] + second[name] for name in SUMMED}
    united = {name: np.union1d(first[name], second[name]) for name in UNITED}
    rows = {name: np.concatenate([first[name], second[name]]) for name in columns}
    return {"index": index, **cells, **sums, **united, **rows}


def _in_slices(card: Card, chunk: Chunk, process: Process) -> Partial:
    waiting, total = _parts(chunk.start, chunk.stop), None
    while waiting:
        start, stop = waiting.pop(0)
        try:
            partial = _attempt(process, card, chunk.file.chunk(start, stop))
        except BadChunk as error:
            raise chunk.bad(f"{error.reason} (entries {start} to {stop})") from error
        if partial is not None:
            partial = {**partial, "slices": np.ones(1)}
            total = partial if total is None else added(total, partial)
        elif stop - start == 1:
            raise chunk.bad(f"out of memory even with single events (entry {start}); give the job more memory")
        else:
            waiting = [*_parts(start, stop), *waiting]
    assert total is not None
    return total


def _parts(start: int, stop: int) -> list[tuple[int, int]]:
    edges = np.unique(np.linspace(start, stop, PARTS + 1).astype(np.int64)).tolist()
    return list(pairwise(edges))


def _attempt(process: Process, card: Card, chunk: Chunk) -> Partial | None:
    """Return a partial result, or None when there is no memory for it; then nothing of the attempt is kept."""
    try:
        return process(card, chunk)
    except (MemoryError, RuntimeError) as error:  # torch's allocators raise the second
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
    chunk.drop()
    return None


def _with_batch(card: Card, batch: int) -> Card:
    return card.model_copy(update={"resources": card.resources.model_copy(update={"batch_size": batch})})
