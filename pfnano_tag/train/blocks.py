"""Blocks: the scaled jets of a chunk as records, in memory or in a file that is mapped without a copy.

All that belongs to a jet lies side by side, and so does all that belongs to a constituent: a shuffled batch then
touches few places of the memory. A reader process hands its blocks over in files without a name, and a cache on disk
is made of the same bytes. No torch here: reader processes import this.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.columns import Index, offsets_of
from pfnano_tag.nano.jets import VECTOR
from pfnano_tag.prepare.scaled import Matrices
from pfnano_tag.prepare.splitting import SPLITS

Records = NDArray[Any]
"""A structured array."""

_LENGTH = struct.Struct("<Q")


def constituent_type(features: int, vectors: bool) -> np.dtype[Any]:
    """Record of a constituent: `x`, `vectors` (px, py, pz, E in GeV) where they are wanted, `default`."""
    fields: list[Any] = [("x", np.float32, (features,)), ("default", np.bool_, (features,))]
    if vectors:
        fields.insert(1, ("vectors", np.float32, (len(VECTOR),)))
    return np.dtype(fields, align=True)


def jet_type(features: int, groups: int) -> np.dtype[Any]:
    """Record of a jet: features, label, weight, split, and by group the number of constituents.

    `starts`, the first row of the constituents in each group, is set by the buffer that holds them.
    """
    fields: list[Any] = [
        ("starts", np.int64, (groups,)),
        ("x", np.float32, (features,)),
        ("weight", np.float32),
        ("counts", np.int32, (groups,)),
        ("default", np.bool_, (features,)),
        ("label", np.uint8),
        ("split", np.uint8),
    ]
    return np.dtype(fields, align=True)


@dataclass(frozen=True)
class Block:
    """Jets of a chunk with labels and weights, training and validation jets in the file's order.

    Parameters
    ----------
    jets : structured ndarray [jets]
        See `jet_type`.
    groups : dict of structured ndarray [constituents]
        By group, jet after jet; see `constituent_type`.
    """

    jets: Records
    groups: dict[str, Records]

    def __len__(self) -> int:
        return len(self.jets)

    def offsets(self, group: str) -> Index:
        """Rows of each jet's constituents, int64 [jets + 1]."""
        return offsets_of(self.jets["counts"][:, list(self.groups).index(group)])

    def of_split(self, split: str) -> Index:
        """Jets of a split, rising."""
        return np.flatnonzero(self.jets["split"] == SPLITS.index(split))

    @property
    def has_vectors(self) -> Mapping[str, bool]:
        """Whether the constituents have four-vectors, by group."""
        return {name: "vectors" in (records.dtype.names or ()) for name, records in self.groups.items()}


class BlockBuilder:
    """Makes the records of blocks part by part, as the matrices that `scaled_jets` fills.

    Each block takes the memory of the one before.

    Parameters
    ----------
    groups : sequence of str
        Constituent groups in their order.
    """

    def __init__(self, groups: list[str]) -> None:
        self._order = groups
        self._memory: dict[str, Records] = {}
        self._used: dict[str, int] = {}
        self._finished = 0

    def allocate(self, group: str, rows: int, features: int, vectors: bool) -> Matrices:
        """Return views on the fields of the next records (`prepare.scaled.Allocate`)."""
        kind = jet_type(features, len(self._order)) if group == "jet" else constituent_type(features, vectors)
        first = self._used.get(group, 0)
        stop = first + rows
        there = self._memory.get(group)
        if there is None or there.dtype != kind or len(there) < stop:
            new = self._memory[group] = np.empty(stop + stop // (2 if first else 8), dtype=kind)
            if there is not None and first:
                words(new)[:first] = words(there[:first])
        self._used[group] = stop
        records = self._memory[group][first:stop]
        return records["x"], records["default"], records["vectors"] if vectors else None

    def add(
        self,
        counts: Mapping[str, NDArray[np.integer[Any]]],
        label: NDArray[np.integer[Any]],
        weight: NDArray[np.floating[Any]],
        split: NDArray[np.uint8],
    ) -> None:
        """Say what the jets allocated last are, now that their features are filled.

        Parameters
        ----------
        counts : mapping of ndarray of int [jets]
            Constituents of each jet, by group.
        label, weight, split : ndarray [jets]
            Class, training weight, index in `SPLITS`.
        """
        jets = self._memory["jet"][self._finished : self._used["jet"]]
        for name, values in (("label", label), ("weight", weight), ("split", split)):
            jets[name] = values
        for place, group in enumerate(self._order):
            jets["counts"][:, place] = counts[group]
        self._finished = self._used["jet"]

    def discard(self) -> None:
        """Forget what was allocated since the last block."""
        self._used, self._finished = {}, 0

    def block(self) -> Block:
        """Return all jets since the last block; it holds until `allocate` is called again."""
        parts = {name: self._memory[name][: self._used[name]] for name in ("jet", *self._order)}
        self.discard()
        return Block(parts.pop("jet"), parts)


def words(records: Records) -> NDArray[np.int32]:
    """Return records as rows of 32-bit words, sharing their memory: rows are copied at once, not field by field."""
    return records.view(np.int32).reshape(len(records), records.dtype.itemsize // 4)


def write_block(block: Block, file: BinaryIO) -> int:
    """Write a block at the file's position; returns the number of bytes."""
    header = {
        name: [len(records), records.dtype["x"].shape[0], block.has_vectors.get(name, False)]
        for name, records in (("jet", block.jets), *block.groups.items())
    }
    text = json.dumps(header).encode()
    length = _whole_lines(_LENGTH.size + len(text))
    file.write((_LENGTH.pack(len(text)) + text).ljust(length, b"\0"))
    for records in (block.jets, *block.groups.values()):
        if len(records):
            file.write(words(records).data.cast("B"))
        padding = _whole_lines(records.nbytes) - records.nbytes
        file.write(bytes(padding))
        length += records.nbytes + padding
    file.flush()
    return length


def mapped_block(descriptor: int, start: int, length: int) -> Block:
    """Return a block that lies in a file; pages are read when they are touched, and freed with the block.

    Parameters
    ----------
    descriptor : int
        Of the open file; it may be closed afterwards.
    start : int
        Where the block begins, a multiple of `mmap.ALLOCATIONGRANULARITY`.
    length : int
        What `write_block` returned.
    """
    memory = mmap.mmap(descriptor, length, access=mmap.ACCESS_READ, offset=start)
    (size,) = _LENGTH.unpack_from(memory)
    header = json.loads(memory[_LENGTH.size : _LENGTH.size + size])
    place = _whole_lines(_LENGTH.size + size)
    parts: dict[str, Records] = {}
    for name, (rows, features, vectors) in header.items():
        kind = jet_type(features, len(header) - 1) if name == "jet" else constituent_type(features, vectors)
        parts[name] = np.ndarray(rows, kind, memory, place)
        place += _whole_lines(parts[name].nbytes)
    return Block(parts.pop("jet"), parts)


def _whole_lines(length: int) -> int:
    """Round up to whole cache lines of 64 bytes, so that records are aligned."""
    return -(-length // 64) * 64
