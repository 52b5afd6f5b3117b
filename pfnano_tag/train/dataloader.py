"""The training stream: batches of shuffled jets from many files, of any size together.

The sequence of batches is a pure function of the card, the prepared study, the seed and the epoch. Readers and caches
change how fast it comes, never what comes: a resumed training sees the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from pfnano_tag.card.card import Card
from pfnano_tag.card.command import progress
from pfnano_tag.errors import DataError, Incomplete, StudyError
from pfnano_tag.models.batch import Batch, FlatInputs
from pfnano_tag.nano.allocation import keep_freed_memory
from pfnano_tag.prepare.prepared import Prepared
from pfnano_tag.prepare.splitting import SPLITS
from pfnano_tag.train.blocks import Block, BlockBuilder
from pfnano_tag.train.cache import USED, BlockReader, Held, Scratch, Source, Streamed, Window
from pfnano_tag.train.decoding import ChunkOfFile, Decoder
from pfnano_tag.train.memory import MemoryPlan, constituents_per_jet
from pfnano_tag.train.order import batches_of, chunk_order, release, seed_of
from pfnano_tag.train.readers import Readers


@dataclass(frozen=True)
class LabelledInputs:
    """Inputs, labels (int64) and weights (float32) of jets."""

    inputs: FlatInputs
    label: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.label)


class Stream:
    """Training and validation jets of a study, shared by all networks of a run; a context manager.

    Parameters
    ----------
    source : Source
        Gives the jets of chunks.
    chunks : sequence of int
        Number of chunks of each file.
    jets : dict of int
        Jets by split.
    """

    def __init__(self, source: Source, chunks: Sequence[int], jets: dict[str, int]) -> None:
        self._source, self.chunks, self.jets = source, list(chunks), jets

    @classmethod
    def of_study(
        cls, card: Card, prepared: Prepared, plan: MemoryPlan, asked: Callable[[], bool] | None = None
    ) -> Stream:
        """Return the jets of a prepared study.

        Parameters
        ----------
        card : Card
            Section `resources` says how they are read and kept.
        prepared : Prepared
            Names files, chunks and jets.
        plan : MemoryPlan
            From `memory_plan`.
        asked : callable, optional
            Tells between two chunks whether to stop.

        Raises
        ------
        DataError
            When a split has no jets, or the cache does not fit.
        UserError
            When files can't be read as they were prepared.
        Incomplete
            When asked to stop.
        """
        jets = {split: prepared.total(split) for split in USED}
        for name, count in jets.items():
            if not count:
                raise DataError(
                    f"the {name} split has no jets: name more files, or enlarge it in splitting.fractions"
                )
        keep_freed_memory()
        readers = card.resources.readers
        reader: BlockReader = _Here(card, prepared, plan.vectors)
        if readers:
            reader = Readers(readers, card, prepared, plan.vectors, in_flight=plan.in_flight)
        if asked is not None:
            reader = _Watched(reader, asked)
        try:
            source = _source(reader, prepared, plan)
        except BaseException:
            reader.close()
            raise
        return cls(source, [len(record.chunks) for record in prepared.files], jets)

    @classmethod
    def of_jets(cls, training: LabelledInputs, validation: LabelledInputs) -> Stream:
        """Return jets that are in memory already, as one chunk each."""
        parts = [(0, "train", training), (1, "validation", validation)]
        blocks = [((file, 0), _block(part, split)) for file, split, part in parts]
        expected = {split: len(part) for _, split, part in parts}
        return cls(Held(blocks, expected, {}), [1, 1], expected)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End reader processes, remove the cache."""
        self._source.close()

    def loader(self, batch_size: int, buffer: int, buckets: bool, seed: int, pin: bool = False) -> Loader:
        """Return the batches of a network's epochs.

        Parameters
        ----------
        batch_size : int
            Jets in a batch; the last one of an epoch is kept although smaller.
        buffer : int
            Jets that are shuffled at a time, at least two batches.
        buckets : bool
            Put jets of similar length together.
        seed : int
            Of the study.
        pin : bool
            Put batches into page-locked memory, for a network on a GPU.
        """
        return Loader(self._source, self.chunks, self.jets["train"], batch_size, buffer, buckets, seed, pin)

    def validation(self, size: int) -> Iterator[LabelledInputs]:
        """Yield all validation jets in the order of the files, at least `size` at a time but for the last.

        The tensors hold until the next ones are asked for.
        """
        seen = 0
        for buffer, start, stop in self._source.pools(size):
            seen += stop - start
            yield LabelledInputs(*buffer.flat(start, stop))
        _check_count("validation", seen, self.jets["validation"])


@dataclass(frozen=True)
class Loader:
    """Batches of epochs.

    Parameters
    ----------
    source : Source
        Gives windows over the training jets.
    chunks : list of int
        Number of chunks of each file.
    jets : int
        Training jets.
    batch_size, buffer, buckets, seed, pin
        As for `Stream.loader`.
    """

    source: Source
    chunks: list[int]
    jets: int
    batch_size: int
    buffer: int
    buckets: bool
    seed: int
    pin: bool = False

    def __len__(self) -> int:
        return -(-self.jets // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, each training jet exactly once.

        Parameters
        ----------
        epoch : int
            Number of the epoch.
        start : int
            Batches to leave out; they are not made.

        Raises
        ------
        StudyError
            When the files give another number of jets than they were prepared with.
        """
        generator, next_one = (torch.Generator().manual_seed(seed_of(self.seed, "order", epoch + i)) for i in (0, 1))
        window = self.source.window(chunk_order(self.chunks, generator), chunk_order(self.chunks, next_one))
        try:
            yield from self._batches(window, generator, start)
        finally:
            window.close()

    def _batches(self, window: Window, generator: torch.Generator, start: int) -> Iterator[Batch]:
        lengths = window.lengths if self.buckets else None
        wanted = max(self.buffer, 2 * self.batch_size) if self.buffer < self.jets else self.jets + 1
        seen = done = 0
        more = True
        while more:
            while more and len(window) < wanted:
                more = window.extend()
            leaving, staying = release(len(window), not more, self.batch_size, generator)
            for jets in batches_of(leaving, self.batch_size, lengths, generator):
                done += 1
                if done > start:
                    batch = window.batch(jets)
                    yield batch.pinned() if self.pin else batch
            seen += len(leaving)
            window.keep(staying)
        _check_count("train", seen, self.jets)


class _Here:
    """Reads in this process."""

    def __init__(self, card: Card, prepared: Prepared, vectors: bool) -> None:
        self._decoder = Decoder(card, prepared, vectors)

    def blocks(self, chunks: Sequence[ChunkOfFile], splits: Sequence[str]) -> Iterator[Block]:
        return (self._decoder.block(chunk, splits) for chunk in chunks)

    def close(self) -> None:
        self._decoder.close()


class _Watched:
    """Asks between two blocks whether to stop."""

    def __init__(self, reader: BlockReader, asked: Callable[[], bool]) -> None:
        self._reader, self._asked = reader, asked

    def blocks(self, chunks: Sequence[ChunkOfFile], splits: Sequence[str]) -> Iterator[Block]:
        return self._watched(self._reader.blocks(chunks, splits))

    def _watched(self, blocks: Iterator[Block]) -> Iterator[Block]:
        for block in blocks:
            if self._asked():
                raise Incomplete("stopped while reading jets; go on with --resume")
            yield block

    def close(self) -> None:
        self._reader.close()


def _source(reader: BlockReader, prepared: Prepared, plan: MemoryPlan) -> Source:
    """Fill the cache of the plan, if it has one."""
    chunks = [(file, chunk) for file, record in enumerate(prepared.files) for chunk in range(len(record.chunks))]
    constituents = constituents_per_jet(prepared)
    if plan.cache == "none":
        kept = prepared.total("validation") if plan.keeps_validation else None
        return Streamed(reader, chunks, plan.window, constituents, kept)
    blocks = progress(reader.blocks(chunks, USED), total=len(chunks), description="reading", unit="chunks")
    if plan.cache == "ram":
        held = Held(zip(chunks, blocks, strict=True), {s: prepared.total(s) for s in USED}, constituents)
        reader.close()
        return held
    scratch = Scratch(zip(chunks, blocks, strict=True), plan.scratch)
    reader.close()
    return Streamed(scratch, chunks, plan.window, constituents)


def _block(jets: LabelledInputs, split: str) -> Block:
    """Return jets in memory as a block of one split."""
    flat = jets.inputs
    builder = BlockBuilder(list(flat.groups))
    x, default, _ = builder.allocate("jet", len(flat), flat.jet_JF.shape[1], False)
    x[:], default[:] = flat.jet_JF.numpy(), flat.jet_default_JF.numpy()
    for name, group in flat.groups.items():
        rows, features = group.x_NF.shape
        x, default, vectors = builder.allocate(name, rows, features, group.vectors_N4 is not None)
        x[:], default[:] = group.x_NF.numpy(), group.default_NF.numpy()
        if vectors is not None and group.vectors_N4 is not None:
            vectors[:] = group.vectors_N4.numpy()
    counts = {name: group.counts.numpy() for name, group in flat.groups.items()}
    splits = np.full(len(jets), SPLITS.index(split), dtype=np.uint8)
    builder.add(counts, jets.label.numpy(), jets.weight.numpy(), splits)
    return builder.block()


def _check_count(split: str, found: int, expected: int) -> None:
    if found != expected:
        raise StudyError(
            f"the files give {found} jets in the {split} split, prepared.json says {expected}: run `prepare` again"
        )
