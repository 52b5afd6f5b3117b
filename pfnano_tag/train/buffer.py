"""The jet buffer: scaled jets of many chunks in a few large arrays, from which batches are gathered.

A jet is copied into the buffer once, and once more into its batch. Row 0 of each group stands for padding, so that
gathering rows pads as well.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfnano_tag.models.batch import Batch, FlatInputs, GroupBatch, GroupInputs, padded_rows, target_tensor
from pfnano_tag.nano.columns import Index, offsets_of, rows_of_lists
from pfnano_tag.nano.targets import TARGETS
from pfnano_tag.train.blocks import Block, Records, targets_in, words

GROWTH = 1.25
"""Factor by which an array grows when the expected size was too small."""
STEP = 1 << 13
"""Rows moved at once when the buffer closes up."""


class JetBuffer:
    """Jets of one split, in memory.

    Parameters
    ----------
    jets : int
        Expected number of jets; more are taken too.
    constituents : mapping of str to float
        Expected number of constituents per jet, by group.
    """

    def __init__(self, jets: int, constituents: Mapping[str, float]) -> None:
        self._expected = {"jet": jets} | {name: round(jets * mean) + 1 for name, mean in constituents.items()}
        self._records: dict[str, Records] = {}
        self._used: dict[str, int] = {"jet": 0}

    def __len__(self) -> int:
        return self._used["jet"]

    @property
    def nbytes(self) -> int:
        """Memory of the jets inside [bytes]."""
        return sum(records[: self._used[name]].nbytes for name, records in self._records.items())

    @property
    def groups(self) -> list[str]:
        """Constituent groups in their order."""
        return [name for name in self._records if name != "jet"]

    def append(self, block: Block, chosen: Index | None = None) -> None:
        """Copy jets of a block behind those that are there.

        Parameters
        ----------
        block : Block
            Of the same features as all blocks before.
        chosen : ndarray of int64, optional
            Which jets; all when not given.
        """
        if not self._records:
            self._allocate(block)
        jets = self._copy("jet", block.jets, chosen)
        for place, (name, records) in enumerate(block.groups.items()):
            first, rows, offsets = self._used[name], None, block.offsets(name)
            if chosen is not None:
                rows, offsets = rows_of_lists(offsets, chosen)
            self._copy(name, records, rows)
            jets["starts"][:, place] = first + offsets[:-1]

    def _allocate(self, block: Block) -> None:
        self._records["jet"] = np.empty(self._expected["jet"], dtype=block.jets.dtype)
        for name, records in block.groups.items():
            self._records[name] = np.empty(self._expected.get(name, 0) + 1, dtype=records.dtype)
            padding = np.zeros((), dtype=records.dtype)
            padding["default"] = True
            for target in targets_in(records):
                padding[target] = TARGETS[target].unknown
            self._records[name][0] = padding
            self._used[name] = 1

    def _copy(self, name: str, records: Records, rows: Index | None) -> Records:
        """Copy records (None: all) behind those used; returns them at their new place."""
        first = self._used[name]
        stop = first + (len(records) if rows is None else len(rows))
        there = self._records[name]
        if stop > len(there):
            self._records[name] = np.empty(max(stop, round(GROWTH * len(there))), dtype=there.dtype)
            words(self._records[name])[:first] = words(there[:first])
        new = self._records[name][first:stop]
        if rows is None:
            words(new)[:] = words(records)
        else:
            words(records).take(rows, axis=0, out=words(new), mode="clip")
        self._used[name] = stop
        return new

    def keep(self, chosen: Index) -> None:
        """Drop all jets but these (rising), which close up in place."""
        if not self._records:
            return
        jets = self._records["jet"]
        _close_up(jets, chosen, 0)
        self._used["jet"] = len(chosen)
        for place, name in enumerate(self.groups):
            counts, starts = jets["counts"][: len(chosen), place], jets["starts"][: len(chosen), place]
            offsets = offsets_of(counts)
            rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
            _close_up(self._records[name], rows, 1)
            starts[:] = 1 + offsets[:-1]
            self._used[name] = 1 + len(rows)

    def clear(self) -> None:
        """Drop all jets; the memory stays for others."""
        self._used = {name: 0 if name == "jet" else 1 for name in self._used}

    def labels(self, start: int, stop: int) -> tuple[NDArray, NDArray]:
        """Return class and weight of a range of jets, as they were appended."""
        jets = self._records["jet"][start:stop]
        return jets["label"], jets["weight"]

    def lengths(self, jets: Index) -> Index:
        """Return the number of constituents of jets over all groups."""
        return self._records["jet"]["counts"][jets].sum(axis=1, dtype=np.int64)

    def batch(self, jets: Index) -> Batch:
        """Return jets as a batch with labels and weights, each group padded to its longest jet."""
        chosen = _taken(self._records["jet"], jets)
        starts, counts = chosen["starts"], chosen["counts"]
        groups, targets = {}, _targets_of(chosen)
        for i, name in enumerate(self.groups):
            rows_BN, mask_BN = padded_rows(starts[:, i], counts[:, i])
            padded = _taken(self._records[name], rows_BN)
            groups[name] = self._padded(padded, mask_BN)
            targets |= _targets_of(padded)
        label, weight = torch.from_numpy(chosen["label"].astype(np.int64)), _tensor(chosen["weight"])
        return Batch(_tensor(chosen["x"]), torch.from_numpy(chosen["default"]), groups, label, weight, targets)

    @staticmethod
    def _padded(padded: Records, mask_BN: NDArray[np.bool_]) -> GroupBatch:
        # few look at placeholders (attacks) and four-vectors (pairs), one by one: they stay where they lie
        vectors = torch.from_numpy(padded["vectors"]) if "vectors" in (padded.dtype.names or ()) else None
        default_BNF = torch.from_numpy(padded["default"])
        return GroupBatch(_tensor(padded["x"]), torch.from_numpy(mask_BN), default_BNF, vectors)

    def flat(self, start: int, stop: int) -> tuple[FlatInputs, Tensor, Tensor, dict[str, Tensor]]:
        """Return inputs, labels, weights and targets of a range of jets, neighbours as they were appended.

        The inputs share the buffer's memory: they hold until jets are dropped.
        """
        jets = self._records["jet"][start:stop]
        groups, targets = {}, _targets_of(jets)
        for place, name in enumerate(self.groups):
            offsets = offsets_of(jets["counts"][:, place])
            first = int(jets["starts"][0, place]) if len(jets) else 1
            rows = self._records[name][first : first + int(offsets[-1])]
            vectors = torch.from_numpy(rows["vectors"]) if "vectors" in (rows.dtype.names or ()) else None
            x, default = torch.from_numpy(rows["x"]), torch.from_numpy(rows["default"])
            groups[name] = GroupInputs(x, default, torch.from_numpy(offsets), vectors)
            targets |= _targets_of(rows)
        flat = FlatInputs(torch.from_numpy(jets["x"]), torch.from_numpy(jets["default"]), groups)
        label, weight = torch.from_numpy(jets["label"].astype(np.int64)), torch.from_numpy(jets["weight"].copy())
        return flat, label, weight, targets


def _taken(records: Records, rows: NDArray[np.int64]) -> Records:
    """Return records of rows, in the shape of the rows."""
    taken = words(records).take(rows, axis=0, mode="clip")  # rows are in range: clip spares numpy a check
    return taken.view(records.dtype)[..., 0]


def _targets_of(records: Records) -> dict[str, Tensor]:
    """Return the targets that records hold, in their shape."""
    return {name: target_tensor(records[name]) for name in targets_in(records)}


def _tensor(field: NDArray) -> Tensor:
    """Return a field of records as a contiguous tensor (torch copies short rows twice as fast as numpy)."""
    return torch.from_numpy(field).contiguous()


def _close_up(records: Records, rows: NDArray[np.int64], first: int) -> None:
    """Move rows (rising) to `first` and behind; a step never reads what an earlier one wrote over."""
    values = words(records)
    for start in range(0, len(rows), STEP):
        chosen = rows[start : start + STEP]
        values[first + start : first + start + len(chosen)] = values.take(chosen, axis=0, mode="clip")
