"""Constituents of a plain tree with one entry per jet, as DeepNTuples and the inputs of other trainings have them.

A constituent branch is jagged, or of a fixed length with the number of constituents beside it. The order is the
tree's; values are taken as they are, then bounded like those of all layouts, which changes nothing within bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.errors import MissingBranch
from pfnano_tag.nano.bounds import four_vector
from pfnano_tag.nano.candidates import Content
from pfnano_tag.nano.columns import Index, Jagged, offsets_of, rank_in_list, rows_of_lists
from pfnano_tag.nano.jets import VECTOR
from pfnano_tag.nano.layouts import Status
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.schema import Feature


def vectors_of(group: str, branches: frozenset[str]) -> tuple[str, ...]:
    """Return the names of a group's four-vector; empty where the tree has not all four components."""
    names = tuple(f"{group}/{component}" for component in VECTOR)
    return names if branches.issuperset(names) else ()


def read(
    chunk: Chunk, row: Index, group: str, features: Sequence[Feature], status: Mapping[str, Status], cap: int
) -> Content:
    """Return one group's constituents in the tree's order, truncated, with four-vectors where the tree has them.

    Parameters
    ----------
    chunk : Chunk
        Entries, one jet each.
    row : ndarray of int64 [jets]
        Chosen entries.
    group : str
        `charged`, `neutral` or `sv`.
    features : sequence of Feature
        Of that group.
    status : mapping
        How each can be had.
    cap : int
        Constituents kept per jet.

    Raises
    ------
    MissingBranch
        When branches have a fixed length and the number of constituents is not known.
    BadChunk
        When branches of the group have different lengths, or a number of constituents makes no sense.
    """
    names = [f.id for f in features if status[f.id] != "missing"]
    vector = vectors_of(group, chunk.branches)
    columns = _aligned(chunk, group, [*names, *vector])
    chosen, offsets = _rows(columns, chunk, row, cap)
    found = {name: column.values if chosen is None else column.values[chosen] for name, column in columns.items()}
    values = [(f, found.get(f.id, np.full(offsets[-1], f.default, dtype=np.float32))) for f in features]
    absent: dict[str, NDArray[np.bool_]] = {}
    if f"{group}/chi2" in found and group == "charged":
        absent["track"] = found["charged/chi2"] < 0
    if f"{group}/drminsv" in found:
        absent["vertex"] = found[f"{group}/drminsv"] >= 0
    momentum = four_vector(*(found[name] for name in vector)) if vector else {}
    return Content(values, momentum, offsets, absent)


def _aligned(chunk: Chunk, group: str, names: Sequence[str]) -> dict[str, Jagged]:
    """Return the columns of a group as jagged ones of the same lengths."""
    columns: dict[str, Jagged] = {}
    first = ""
    for name in names:
        column = chunk[name]
        jagged = column if isinstance(column, Jagged) else _unpadded(chunk, group, name, column)
        if first and not np.array_equal(jagged.offsets, columns[first].offsets):
            raise chunk.bad(f"{chunk.file.stored(name)} and {chunk.file.stored(first)} have different lengths")
        first = first or name
        columns[name] = jagged
    return columns


def _unpadded(chunk: Chunk, group: str, name: str, column: NDArray[np.floating]) -> Jagged:
    """Return a column of fixed length without its padding."""
    stored = chunk.file.stored(name)
    if column.ndim != 2:
        raise MissingBranch(
            f"{chunk.file.path}: {stored} has one value per jet, {name} is a list of its constituents' "
            "(jets.tree.branches)"
        )
    if f"{group}/n" not in chunk.branches:
        raise MissingBranch(
            f"{chunk.file.path}: {stored} has a fixed length; name the branch with the number of constituents in "
            f"jets.tree.branches: {group}/n"
        )
    numbers = chunk[f"{group}/n"]
    if isinstance(numbers, Jagged) or numbers.ndim != 1:
        raise chunk.bad(f"{chunk.file.stored(f'{group}/n')} holds lists, expected one number of constituents per jet")
    count = numbers.astype(np.int64)
    if (count < 0).any():
        raise chunk.bad(f"{chunk.file.stored(f'{group}/n')} is {count.min()} for a jet; it can't be negative")
    count = np.minimum(count, column.shape[1])
    return Jagged(column[np.arange(column.shape[1]) < count[:, None]], offsets_of(count))


def _rows(columns: Mapping[str, Jagged], chunk: Chunk, row: Index, cap: int) -> tuple[Index | None, Index]:
    """Return the rows of the chosen jets' first `cap` constituents (None: all there are), and their offsets."""
    if not columns:
        return None, np.zeros(len(row) + 1, dtype=np.int64)
    offsets = next(iter(columns.values())).offsets
    everything = len(row) == chunk.num_events
    rows = None
    if not everything:
        rows, offsets = rows_of_lists(offsets, row)
    counts = np.diff(offsets)
    if (counts > cap).any():
        kept = np.flatnonzero(rank_in_list(offsets) < cap)
        rows = kept if rows is None else rows[kept]
        offsets = offsets_of(np.minimum(counts, cap))
    return rows, offsets
