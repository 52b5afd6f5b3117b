"""Blocks: the scaled jets of a chunk as records, in memory or in a file that is mapped without a copy.

All that belongs to a jet lies side by side, and so does all that belongs to a constituent: a shuffled batch then
touches few places of the memory. A reader process hands its blocks over in files without a name, and a cache on disk
is made of the same bytes. No torch here: reader processes import this.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.columns import Index, offsets_of
from pfnano_tag.nano.jets import VECTOR
from pfnano_tag.nano.targets import TARGETS, group_of, of_group
from pfnano_tag.prepare.scaled import Matrices
from pfnano_tag.prepare.splitting import SPLITS

Records = NDArray[Any]
"""A structured array."""

_LENGTH = struct.Struct("<Q")


def constituent_type(features: int, vectors: bool, targets: Sequence[str] = ()) -> np.dtype[Any]:
    """Record of a constituent: `x`, `vectors` (px, py, pz, E in GeV) where they are wanted, targets, `default`."""
    fields: list[Any] = [("x", np.float32, (features,)), ("default", np.bool_, (features,))]
    if vectors:
        fields.insert(1, ("vectors", np.float32, (len(VECTOR),)))
    return np.dtype(_of_targets(targets) + fields, align=True)


def _of_targets(targets: Sequence[str]) -> list[Any]:
    return [(name, TARGETS[name].dtype) for name in targets]


def targets_in(records: Records) -> tuple[str, ...]:
    """Return the targets that records have; each is a field with the target's identifier."""
    return tuple(name for name in records.dtype.names or () if name in TARGETS)


def jet_type(features: int, groups: int, targets: Sequence[str] = ()) -> np.dtype[Any]:
    """Record of a jet: features, label, weight, split, targets, and by group the number of constituents.

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
    return np.dtype(fields + _of_targets(targets), align=True)


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
    targets : sequence of str
        Truth targets that the records hold too.
    """

    def __init__(self, groups: list[str], targets: Sequence[str] = ()) -> None:
        self._order, self._targets = groups, tuple(targets)
        self._memory: dict[str, Records] = {}
        self._used: dict[str, int] = {}
        self._finished: dict[str, int] = {}

    def allocate(self, group: str, rows: int, features: int, vectors: bool) -> Matrices:
        """Return views on the fields of the next records (`prepare.scaled.Allocate`)."""
        targets = of_group(self._targets, group)
        kind = _type_of(group, features, len(self._order), vectors, targets)
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
        targets: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Say what the jets allocated last are, now that their features are filled.

        Parameters
        ----------
        counts : mapping of ndarray of int [jets]
            Constituents of each jet, by group.
        label, weight, split : ndarray [jets]
            Class, training weight, index in `SPLITS`.
        targets : mapping of ndarray, optional
            Values of the builder's targets, by identifier.
        """
        jets = self._last("jet")
        for name, values in (("label", label), ("weight", weight), ("split", split)):
            jets[name] = values
        for place, group in enumerate(self._order):
            jets["counts"][:, place] = counts[group]
        for name in self._targets:
            self._last(group_of(name))[name] = (targets or {})[name]
        self._finished = dict(self._used)

    def _last(self, group: str) -> Records:
        """Return the records allocated since the jets that were finished."""
        return self._memory[group][self._finished.get(group, 0) : self._used[group]]

    def discard(self) -> None:
        """Forget what was allocated since the last block."""
        self._used, self._finished = {}, {}

    def block(self) -> Block:
        """Return all jets since the last block; it holds until `allocate` is called again."""
        parts = {name: self._memory[name][: self._used[name]] for name in ("jet", *self._order)}
        self.discard()
        return Block(parts.pop("jet"), parts)


def _type_of(group: str, features: int, groups: int, vectors: bool, targets: Sequence[str]) -> np.dtype[Any]:
    if group == "jet":
        return jet_type(features, groups, targets)
    return constituent_type(features, vectors, targets)


def words(records: Records) -> NDArray[np.int32]:
    """Return records as rows of 32-bit words, sharing their memory: rows are copied at once, not field by field."""
    return records.view(np.int32).reshape(len(records), records.dtype.itemsize // 4)


def write_block(block: Block, file: BinaryIO) -> int:
    """Write a block at the file's position; returns the number of bytes."""
    header = {
        name: [len(records), records.dtype["x"].shape[0], block.has_vectors.get(name, False), targets_in(records)]
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
    for name, (rows, features, vectors, targets) in header.items():
        kind = _type_of(name, features, len(header) - 1, vectors, targets)
        parts[name] = np.ndarray(rows, kind, memory, place)
        place += _whole_lines(parts[name].nbytes)
    return Block(parts.pop("jet"), parts)


def _whole_lines(length: int) -> int:
    """Round up to whole cache lines of 64 bytes, so that records are aligned."""
    return -(-length // 64) * 64
