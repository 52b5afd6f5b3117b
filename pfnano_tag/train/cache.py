"""Where the jets of an epoch come from: held in memory, kept in a scratch file, or read from the files each time.

Whichever it is, an epoch asks for a window over the chunks in its own order, and validation asks for pools of jets in
the order of the files: the batches are the same.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np

from pfnano_tag.errors import DataError
from pfnano_tag.models.batch import Batch
from pfnano_tag.nano.columns import Index
from pfnano_tag.train.blocks import Block, mapped_block, write_block
from pfnano_tag.train.buffer import JetBuffer
from pfnano_tag.train.decoding import ChunkOfFile
from pfnano_tag.train.resampling import Draw

USED = ("train", "validation")
"""Splits that a training reads."""

LAPS = 100
"""Times that an epoch goes through its chunks at most, to draw its number of jets; two, but for tiny samples."""

_ADVICE = "set TMPDIR to a larger folder, or resources.cache=none"


class Window(Protocol):
    """Training jets that an epoch can choose among: chunks come in, jets that were used leave."""

    def __len__(self) -> int: ...

    def extend(self) -> bool:
        """Take in the next chunk; False when there is none."""
        ...

    def keep(self, jets: Index) -> None:
        """Drop all jets but these (rising); they are numbered anew."""
        ...

    def lengths(self, jets: Index) -> Index:
        """Number of constituents of jets."""
        ...

    def batch(self, jets: Index) -> Batch:
        """Jets as a padded batch."""
        ...

    def close(self) -> None:
        """Give the memory back; not to be used again."""
        ...


class Source(Protocol):
    """Training and validation jets in chunks."""

    def window(self, order: Sequence[ChunkOfFile], draw: Draw | None = None) -> Window:
        """A window over the training jets of chunks, in this order; empty at first.

        With `draw` it takes in the jets that are drawn, and begins again behind the last chunk, `LAPS` times in all.
        """
        ...

    def pools(self, size: int) -> Iterator[tuple[JetBuffer, int, int]]:
        """Validation jets in the order of the files: ranges of whole chunks with at least `size` jets but the last.

        A range holds until the next one is asked for.
        """
        ...

    def close(self) -> None:
        """Give back memory, files and processes."""
        ...


class BlockReader(Protocol):
    """Gives the blocks of chunks, in the order asked for (`Readers`, `Scratch`, or this process)."""

    def blocks(self, chunks: Sequence[ChunkOfFile], splits: Sequence[str]) -> Iterator[Block]:
        """Yield the block of each chunk, with the jets of these splits; it holds until the next one is asked for."""
        ...

    def close(self) -> None:
        """Give back files and processes."""
        ...


class Held:
    """All jets in memory, each copied once.

    Parameters
    ----------
    blocks : iterable of (chunk, Block)
        In the order of the files.
    expected : mapping of str to int
        Jets by split, to choose the size of the arrays.
    constituents : mapping of str to float
        Mean number per jet, by group.
    """

    def __init__(
        self,
        blocks: Iterable[tuple[ChunkOfFile, Block]],
        expected: Mapping[str, int],
        constituents: Mapping[str, float],
    ) -> None:
        self._jets = {split: JetBuffer(round(1.02 * expected[split]) + 1, constituents) for split in USED}
        self._ranges: dict[str, dict[ChunkOfFile, tuple[int, int]]] = {split: {} for split in USED}
        for chunk, block in blocks:
            for split, jets in self._jets.items():
                before = len(jets)
                jets.append(block, block.of_split(split))
                self._ranges[split][chunk] = (before, len(jets))

    def window(self, order: Sequence[ChunkOfFile], draw: Draw | None = None) -> Window:
        """Return a window that copies nothing: it numbers jets where they lie."""
        return _HeldWindow(self._jets["train"], self._ids(order, draw))

    def _ids(self, order: Sequence[ChunkOfFile], draw: Draw | None) -> Iterator[Index]:
        for lap, chunk in product(range(1 if draw is None else LAPS), order):
            start, stop = self._ranges["train"][chunk]
            if draw is None or start == stop:
                yield np.arange(start, stop)
            else:
                yield start + draw(lap, chunk, *self._jets["train"].labels(start, stop))

    def pools(self, size: int) -> Iterator[tuple[JetBuffer, int, int]]:
        """Yield ranges of the validation jets."""
        ranges = list(self._ranges["validation"].values())
        start = 0
        for i, (_, stop) in enumerate(ranges):
            if stop - start >= size or (i == len(ranges) - 1 and stop > start):
                yield self._jets["validation"], start, stop
                start = stop

    def close(self) -> None:
        """Drop the jets."""
        self._jets.clear()


class _HeldWindow:
    def __init__(self, buffer: JetBuffer, following: Iterator[Index]) -> None:
        self._buffer, self._following = buffer, following
        self._ids: Index = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ids)

    def extend(self) -> bool:
        following = next(self._following, None)
        if following is None:
            return False
        self._ids = np.concatenate([self._ids, following])
        return True

    def keep(self, jets: Index) -> None:
        self._ids = self._ids[jets]

    def lengths(self, jets: Index) -> Index:
        return self._buffer.lengths(self._ids[jets])

    def batch(self, jets: Index) -> Batch:
        return self._buffer.batch(self._ids[jets])

    def close(self) -> None:
        self._ids = self._ids[:0]


class Streamed:
    """Jets that are read again for each epoch, from the files or from scratch.

    Parameters
    ----------
    reader : BlockReader
        Gives blocks.
    chunks : sequence of (file, chunk)
        All chunks in the order of the files.
    size : int
        Expected number of jets in a window.
    constituents : mapping of str to float
        Mean number per jet, by group.
    """

    def __init__(
        self, reader: BlockReader, chunks: Sequence[ChunkOfFile], size: int, constituents: Mapping[str, float]
    ) -> None:
        self._reader, self._chunks = reader, chunks
        self._size, self._constituents = size, constituents
        self._spare: list[JetBuffer] = []  # fresh memory is slow: epochs hand theirs on

    def window(self, order: Sequence[ChunkOfFile], draw: Draw | None = None) -> Window:
        """Return a window that copies jets in, and closes up when jets leave."""
        buffer = self._spare.pop() if self._spare else JetBuffer(self._size, self._constituents)
        buffer.clear()
        return _StreamedWindow(self._chosen(order, draw), buffer, self._spare)

    def _chosen(self, order: Sequence[ChunkOfFile], draw: Draw | None) -> Iterator[tuple[Block, Index | None]]:
        for lap in range(1 if draw is None else LAPS):
            for chunk, block in zip(order, self._reader.blocks(order, ("train",)), strict=True):
                train = block.of_split("train")
                if draw is not None:
                    train = train[draw(lap, chunk, block.jets["label"][train], block.jets["weight"][train])]
                yield block, None if draw is None and len(train) == len(block) else train

    def pools(self, size: int) -> Iterator[tuple[JetBuffer, int, int]]:
        """Yield ranges of the validation jets."""
        buffer = JetBuffer(2 * size, self._constituents)
        for block in self._reader.blocks(self._chunks, ("validation",)):
            buffer.append(block, block.of_split("validation"))
            if len(buffer) >= size:
                yield buffer, 0, len(buffer)
                buffer.clear()
        if len(buffer):
            yield buffer, 0, len(buffer)

    def close(self) -> None:
        """End the reader, give back memory."""
        self._spare.clear()
        self._reader.close()


class _StreamedWindow:
    def __init__(
        self, following: Iterator[tuple[Block, Index | None]], buffer: JetBuffer, spare: list[JetBuffer]
    ) -> None:
        self._following, self._buffer, self._spare = following, buffer, spare

    def __len__(self) -> int:
        return len(self._buffer)

    def extend(self) -> bool:
        following = next(self._following, None)
        if following is None:
            return False
        self._buffer.append(*following)
        return True

    def keep(self, jets: Index) -> None:
        self._buffer.keep(jets)

    def lengths(self, jets: Index) -> Index:
        return self._buffer.lengths(jets)

    def batch(self, jets: Index) -> Batch:
        return self._buffer.batch(jets)

    def close(self) -> None:
        self._spare.append(self._buffer)


def scratch_folder() -> Path:
    """Folder for the temporary files of a job: HTCondor's, `TMPDIR`, or the system's."""
    return Path(os.environ.get("_CONDOR_SCRATCH_DIR") or tempfile.gettempdir())


class Scratch:
    """Blocks in one file of the scratch folder. The file has no name: whatever happens, nothing is left behind.

    Parameters
    ----------
    blocks : iterable of (chunk, Block)
        Any order; with the jets of both splits.
    expected : int
        Bytes that they will take, to refuse a full disk at once.

    Raises
    ------
    DataError
        When the blocks don't fit.
    """

    def __init__(self, blocks: Iterable[tuple[ChunkOfFile, Block]], expected: int) -> None:
        folder = scratch_folder()
        self._places: dict[ChunkOfFile, tuple[int, int]] = {}
        try:
            free = shutil.disk_usage(folder).free
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        except OSError as error:
            raise DataError(f"{folder}: can't hold the cache of the jets ({error.strerror}); {_ADVICE}") from error
        if free < expected:
            self.close()
            raise DataError(
                f"{folder}: the cache of the jets needs {expected / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
                f"{_ADVICE}"
            )
        try:
            for chunk, block in blocks:
                start = -(-self._file.tell() // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
                self._file.seek(start)
                self._places[chunk] = (start, write_block(block, self._file))
        except OSError as error:
            self.close()
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DataError(f"{folder}: is full, the cache of the jets does not fit; {_ADVICE}") from error
        except BaseException:
            self.close()
            raise

    def blocks(self, chunks: Sequence[ChunkOfFile], splits: Sequence[str]) -> Iterator[Block]:
        """Yield blocks in the order asked for, with the jets of both splits."""
        for chunk in chunks:
            yield mapped_block(self._file.fileno(), *self._places[chunk])

    def close(self) -> None:
        """Give the space back."""
        self._file.close()
