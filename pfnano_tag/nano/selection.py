"""The jets of a chunk that a table is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.columns import Index, Jagged, list_of_row
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
        pt, eta, phi, mass = (chunk[name].values[row].astype(np.float64) for name in JET_VECTOR)
        if "Jet_rawFactor" in chunk.branches:
            raw = 1 - chunk["Jet_rawFactor"].values[row].astype(np.float64)
        else:
            raw = np.ones(len(row))
        return cls(row, list_of_row(every.offsets)[row], every.offsets, position, pt, eta, phi, mass, raw)

    def linked(self, chunk: Chunk, branch: str) -> tuple[Index, Index, Index]:
        """Follow links to jets.

        Parameters
        ----------
        chunk : Chunk
            Holds the links.
        branch : str
            Jagged index into the jets of the event, such as `JetPFCands_jetIdx`.

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
        event = list_of_row(links.offsets)
        index = links.values.astype(np.int64)
        outside = (index < 0) | (index >= np.diff(self.offsets)[event])
        if outside.any():
            where = int(np.flatnonzero(outside)[0])
            raise chunk.bad(
                f"{branch} is {index[where]} in entry {chunk.start + event[where]}, "
                f"which has {np.diff(self.offsets)[event[where]]} jets ({int(outside.sum())} such links)"
            )
        jet = self.position[self.offsets[event] + index]
        kept = np.flatnonzero(jet >= 0)
        return kept, jet[kept], event[kept]
