"""Which jets each process of a training reads: neighbouring chunks of the study, with about as many training jets.

A share is a pure function of the prepared study and the number of processes. Ranks take the chunks in the order of
the files: a file is opened by few ranks, and what they find, put together by rank, has the order of a single process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pfnano_tag.errors import CardError, DataError, StudyError
from pfnano_tag.nano.columns import Index
from pfnano_tag.prepare.prepared import FileRecord, Prepared
from pfnano_tag.prepare.splitting import SPLITS
from pfnano_tag.train.cache import USED


@dataclass(frozen=True)
class Share:
    """What one rank reads, and how much the others do.

    Parameters
    ----------
    rank : int
        Whose share it is.
    chunks : tuple of range
        Its chunks of each file.
    jets : dict of int
        Its jets by split.
    training : tuple of int
        Training jets of each rank.
    """

    rank: int
    chunks: tuple[range, ...]
    jets: dict[str, int]
    training: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of ranks."""
        return len(self.training)

    @property
    def total(self) -> int:
        """Training jets of all ranks."""
        return sum(self.training)

    def drawn(self, jets: int) -> Share:
        """The share when so many jets are drawn in an epoch, by a process alone.

        Raises
        ------
        CardError
            When several processes share the jets: how many each would draw is not known before it reads.
        """
        if self.size > 1:
            raise CardError(
                f"training.resampling: {self.size} processes can't share jets that are drawn; train in one process, "
                "or take the key out (the loss then has weights)"
            )
        return replace(self, training=(jets,))

    def steps(self, batch_size: int) -> int:
        """Batches in an epoch, the same for all ranks: those of one process with batches of `batch_size` jets."""
        return -(-self.total // batch_size)

    def batch_size(self, batch_size: int) -> int:
        """Jets of this rank in a batch of about `batch_size` jets of all ranks.

        A rank's batches are of one size, chosen so that its jets last for all steps but possibly the last ones.
        """
        return batch_size if self.size == 1 else -(-self.training[self.rank] // self.steps(batch_size))

    def buffer(self, buffer: int) -> int:
        """Jets that this rank shuffles at a time, when all ranks together shuffle `buffer`."""
        return -(-buffer // self.size)


def share_of(prepared: Prepared, rank: int = 0, size: int = 1) -> Share:
    """Return the share of a rank in the jets of a prepared study.

    Parameters
    ----------
    prepared : Prepared
        Says how many jets each chunk has.
    rank, size : int
        Which process, of how many.

    Raises
    ------
    DataError
        When a rank would be left without training jets.
    StudyError
        When the prepared study does not say which chunk has how many jets.
    """
    if size == 1:
        jets = {split: prepared.total(split) for split in USED}
        return Share(0, tuple(range(len(record.chunks)) for record in prepared.files), jets, (jets["train"],))
    counts = _jets_of_chunks(prepared.files)
    filled = int(np.count_nonzero(counts["train"]))
    if filled < size:
        raise DataError(
            f"{size} processes can't share {filled} chunks with training jets: each needs one; lower resources.chunk "
            "and run `prepare` again, or start fewer processes"
        )
    edges = _edges(counts["train"], size)
    training = tuple(int(counts["train"][first:stop].sum()) for first, stop in pairwise(edges))
    first, stop = int(edges[rank]), int(edges[rank + 1])
    before = np.cumsum([0, *(len(record.chunks) for record in prepared.files)])
    ranges = tuple(
        range(*np.clip([first - start, stop - start], 0, len(record.chunks)).tolist())
        for start, record in zip(before[:-1], prepared.files, strict=True)
    )
    return Share(rank, ranges, {split: int(counts[split][first:stop].sum()) for split in USED}, training)


def _jets_of_chunks(files: Sequence[FileRecord]) -> dict[str, Index]:
    """Jets of all chunks in the order of the files, by split."""
    for record in files:
        if len(record.jets) != len(record.chunks):
            raise StudyError(
                f"prepared.json: counts the jets of {len(record.jets)} of {len(record.chunks)} chunks of "
                f"{record.path}, so that several processes can't share them: run `prepare` again"
            )
    table = np.array([counts for record in files for counts in record.jets], dtype=np.int64)
    table = table.reshape(-1, len(SPLITS))
    return {split: table[:, SPLITS.index(split)] for split in USED}


def _edges(weights: Index, parts: int) -> Index:
    """Cut a row of numbers into neighbouring parts, at the places nearest to equal sums; none without a sum."""
    filled = np.flatnonzero(weights)
    sums = np.cumsum(weights[filled])
    edges = [0]
    for part in range(1, parts):
        nearest = int(np.argmin(np.abs(sums - sums[-1] * part / parts))) + 1
        edges.append(min(max(nearest, edges[-1] + 1), len(filled) - parts + part))
    return np.array([0, *filled[edges[1:]], len(weights)], dtype=np.int64)
