"""The jets of a chunk that a table is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.columns import Index, Jagged, list_of_row, outside_lists
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.schema import JET_VECTOR

Array = NDArray[np.floating]


@dataclass(frozen=True)
class SelectedJets:
    """Chosen jets with their four-vectors.

    Parameters
    ----------
    row : ndarray of int64 [jets]
        Row in the chunk's flat collection.
    event : ndarray of int64 [jets]
        Event in the chunk.
    offsets : ndarray of int64 [events + 1]
        Of the flat collection, for links by index in the event.
    position : ndarray of int64 [jets of the chunk]
        Which chosen jet a row is; -1: not chosen.
    pt, eta, phi, mass : ndarray [jets]
        Corrected jet [GeV].
    raw : ndarray [jets]
        Factor to the uncorrected jet, 1 - rawFactor; ones where the file has none.
    """

    row: Index
    event: Index
    offsets: Index
    position: Index
    pt: Array
    eta: Array
    phi: Array
    mass: Array
    raw: Array

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def of(cls, chunk: Chunk, mask: NDArray[np.bool_]) -> SelectedJets:
        """Return the jets of a chunk under a mask over its flat collection."""
        every: Jagged = chunk["Jet_pt"]
        row = np.flatnonzero(mask)
        position = np.full(len(every.values), -1, dtype=np.int64)
        position[row] = np.arange(len(row))
        pt, eta, phi, mass = (aligned(chunk, name, every)[row].astype(np.float64) for name in JET_VECTOR)
        if "Jet_rawFactor" in chunk.branches:
            raw = 1 - aligned(chunk, "Jet_rawFactor", every)[row].astype(np.float64)
        else:
            raw = np.ones(len(row))
        return cls(row, list_of_row(every.offsets)[row], every.offsets, position, pt, eta, phi, mass, raw)

    def linked(self, chunk: Chunk, branch: str, events: tuple[int, int] | None = None) -> tuple[Index, Index, Index]:
        """Follow links to jets.

        Parameters
        ----------
        chunk : Chunk
            Holds the links.
        branch : str
            Jagged index into the jets of the event, such as `JetPFCands_jetIdx`.
        events : (first, last), optional
            Events first to last - 1 of the chunk only.

        Returns
        -------
        links : ndarray of int64 [n]
            Rows of the links to chosen jets.
        jet : ndarray of int64 [n]
            Which chosen jet.
        event : ndarray of int64 [n]
            Event of the chunk.

        Raises
        ------
        BadChunk
            When an index points outside the event's jets.
        """
        links: Jagged = chunk[branch]
        first, last = events if events is not None else (0, len(links))
        offsets = links.offsets[first : last + 1]
        index = integers(chunk, branch, links, slice(int(offsets[0]), int(offsets[-1])))
        event = np.repeat(np.arange(first, last), np.diff(offsets))
        counts = np.diff(self.offsets)
        outside = outside_lists(index, counts.take(event))
        if outside is not None:
            where = int(outside[0])
            raise chunk.bad(
                f"{branch} is {index[where]} in entry {chunk.start + event[where]}, "
                f"which has {counts[event[where]]} jets ({len(outside)} such links)"
            )
        jet = self.offsets.take(event)
        jet += index
        jet = self.position.take(jet)
        kept = np.flatnonzero(jet >= 0)
        if len(kept) < len(jet):
            jet, event = jet.take(kept), event.take(kept)
        return kept + offsets[0], jet, event


def aligned(chunk: Chunk, branch: str, like: Jagged) -> NDArray[Any]:
    """Return the content of a branch that must have as many values in each event as its collection.

    Parameters
    ----------
    chunk : Chunk
        Holds the branch.
    branch : str
        Such as `PFCands_d0`.
    like : Jagged
        Another branch of the collection.

    Raises
    ------
    BadChunk
        When the numbers differ: rows would be taken from another event.
    """
    column = chunk[branch]
    if not isinstance(column, Jagged):
        raise chunk.bad(f"{branch} has one value per event, expected one per row of its collection")
    if column.offsets is not like.offsets and not np.array_equal(column.offsets, like.offsets):
        raise chunk.different_lengths(branch, column, like)
    return column.values


def integers(chunk: Chunk, branch: str, like: Jagged, rows: slice | Index) -> NDArray[np.signedinteger]:
    """Return rows of an index of any integer type, signed; unsigned types would wrap around in arithmetic.

    Parameters
    ----------
    chunk, branch, like
        As for `aligned`.
    rows : slice or ndarray of int64
        Which rows of the content.

    Raises
    ------
    BadChunk
        When the branch holds no integers, or another number of values than its collection.
    """
    values = aligned(chunk, branch, like)[rows]
    if values.dtype.kind not in "iu":
        raise chunk.bad(f"{branch} holds {values.dtype}, expected integers: it is an index")
    return values if values.dtype.kind == "i" else values.astype(np.int64)


def linked_rows(chunk: Chunk, branch: str, links: Jagged, table: Jagged) -> tuple[Index, Index]:
    """Follow links into a table of the same event; those that point to nothing are left out, without complaint.

    Parameters
    ----------
    chunk : Chunk
        Holds the links.
    branch : str
        Index into the table of the event, such as `Jet_genJetIdx`.
    links : Jagged
        Another branch of the collection that has the index.
    table : Jagged
        A branch of the table.

    Returns
    -------
    rows, targets : ndarray of int64 [n]
        Rows of the links, rising, and the rows of the table that they point to.
    """
    index = integers(chunk, branch, links, slice(None)).astype(np.int64)
    event = list_of_row(links.offsets)
    rows = np.flatnonzero((index >= 0) & (index < table.counts[event]))
    return rows, table.offsets[event[rows]] + index[rows]
