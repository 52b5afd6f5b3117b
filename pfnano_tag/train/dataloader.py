"""The training stream: batches of shuffled jets from many files, of any size together.

The sequence of batches is a pure function of the card, the prepared study, the seed, the epoch and the number of
processes that share the jets. Readers and caches change how fast it comes, never what comes: a resumed training sees
the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from pfnano_tag.card.card import Card
from pfnano_tag.card.command import progress
from pfnano_tag.card.resampling import Resampling
from pfnano_tag.errors import DataError, Incomplete, StudyError
from pfnano_tag.models.batch import Batch, FlatInputs
from pfnano_tag.nano.allocation import keep_freed_memory
from pfnano_tag.nano.columns import Index
from pfnano_tag.prepare.prepared import Prepared
from pfnano_tag.prepare.splitting import SPLITS
from pfnano_tag.train.blocks import Block, BlockBuilder
from pfnano_tag.train.cache import USED, BlockReader, Held, Scratch, Source, Streamed, Window
from pfnano_tag.train.decoding import ChunkOfFile, Decoder
from pfnano_tag.train.memory import MemoryPlan, constituents_per_jet
from pfnano_tag.train.order import batches_of, chunk_order, release, seed_of
from pfnano_tag.train.readers import Readers
from pfnano_tag.train.resampling import Drawing, Population, drawing_of
from pfnano_tag.train.sharding import Share, share_of


@dataclass(frozen=True)
class LabelledInputs:
    """Inputs, labels (int64), weights (float32) and truth targets (flat, by identifier) of jets."""

    inputs: FlatInputs
    label: Tensor
    weight: Tensor
    targets: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)


class Stream:
    """Training and validation jets of a study, shared by all networks of a run; a context manager.

    Parameters
    ----------
    source : Source
        Gives the jets of chunks.
    share : Share
        Which chunks and how many jets of the study these are.
    population : Population
        Training jets by class and weight.
    """

    def __init__(self, source: Source, share: Share, population: Population) -> None:
        self._source, self.share, self.population = source, share, population

    @classmethod
    def of_study(
        cls,
        card: Card,
        prepared: Prepared,
        plan: MemoryPlan,
        asked: Callable[[], bool] | None = None,
        share: Share | None = None,
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
            Tells between two chunks whether to stop. Several processes stop together, between two batches: there it
            is asked only while a cache is filled.
        share : Share, optional
            Which of the jets; all when not given.

        Raises
        ------
        DataError
            When a split has no jets, or the cache does not fit.
        UserError
            When files can't be read as they were prepared.
        Incomplete
            When asked to stop.
        """
        for name in USED:
            if not prepared.total(name):
                raise DataError(
                    f"the {name} split has no jets: name more files, or enlarge it in splitting.fractions"
                )
        keep_freed_memory()
        readers = card.resources.readers
        reader: BlockReader = _Here(card, prepared, plan)
        if readers:
            reader = Readers(readers, card, prepared, plan.vectors, plan.targets, plan.in_flight)
        share = share_of(prepared) if share is None else share
        if asked is not None and (share.size == 1 or plan.cache != "none"):
            reader = _Watched(reader, asked)
        try:
            source = _source(reader, prepared, plan, share)
        except BaseException:
            reader.close()
            raise
        return cls(source, share, Population.of_tables(prepared.weights))

    @classmethod
    def of_jets(cls, training: LabelledInputs, validation: LabelledInputs) -> Stream:
        """Return jets that are in memory already, as one chunk each."""
        parts = [(0, "train", training), (1, "validation", validation)]
        blocks = [((file, 0), _block(part, split)) for file, split, part in parts]
        expected = {split: len(part) for _, split, part in parts}
        classes = 1 + max(int(part.label.max()) for part in (training, validation))
        population = Population.of_jets(training.label.numpy(), training.weight.numpy(), classes)
        share = Share(0, (range(1), range(1)), expected, (len(training),))
        return cls(Held(blocks, expected, {}), share, population)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End reader processes, remove the cache."""
        self._source.close()

    def loader(
        self,
        batch_size: int,
        buffer: int,
        buckets: bool,
        seed: int,
        pin: bool = False,
        resampling: Resampling | None = None,
    ) -> Loader:
        """Return the batches of a network's epochs.

        Parameters
        ----------
        batch_size : int
            Jets in a batch of all processes; the last one of an epoch is kept although smaller.
        buffer : int
            Jets that all processes shuffle at a time, at least two batches.
        buckets : bool
            Put the jets of a batch in the order of their lengths.
        seed : int
            Of the study.
        pin : bool
            Put batches into page-locked memory, for a network on a GPU.
        resampling : Resampling, optional
            Draw the jets of each epoch; else each comes once.

        Raises
        ------
        CardError
            When they can't be drawn so.
        """
        drawing = None if resampling is None else drawing_of(resampling, self.population)
        share = self.share if drawing is None else self.share.drawn(drawing.jets)
        return Loader(self._source, share, batch_size, buffer, buckets, seed, pin, drawing)

    def validation(self, size: int) -> Iterator[LabelledInputs]:
        """Yield all validation jets in the order of the files, at least `size` at a time but for the last.

        The tensors hold until the next ones are asked for.
        """
        seen = 0
        for buffer, start, stop in self._source.pools(size):
            seen += stop - start
            yield LabelledInputs(*buffer.flat(start, stop))
        _check_count("validation", seen, self.share.jets["validation"])


@dataclass(frozen=True)
class Loader:
    """Batches of epochs.

    Parameters
    ----------
    source : Source
        Gives windows over the training jets.
    share : Share
        Which chunks and how many jets of the study, or how many that are drawn of them, these are.
    batch_size, buffer, buckets, seed, pin
        As for `Stream.loader`.
    drawing : Drawing, optional
        How the jets of an epoch are drawn; None: each training jet once.
    """

    source: Source
    share: Share
    batch_size: int
    buffer: int
    buckets: bool
    seed: int
    pin: bool = False
    drawing: Drawing | None = None

    def __len__(self) -> int:
        return self.share.steps(self.batch_size)

    @property
    def jets(self) -> int:
        """Jets of an epoch of this process."""
        return self.share.training[self.share.rank]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, each training jet once, or as it is drawn: as many in all processes.

        A process that has no more jets yields empty batches until the others are done.

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
        order, generator = self._chunks(epoch)
        following, _ = self._chunks(epoch + 1)
        draw = None if self.drawing is None else self.drawing.draw(self.seed, epoch)
        window = self.source.window(order, draw, following)
        try:
            yield from self._batches(window, epoch, generator, start)
        finally:
            window.close()

    def _chunks(self, epoch: int) -> tuple[list[ChunkOfFile], torch.Generator]:
        """Order of the chunks of an epoch, and the random numbers behind it."""
        rank = [self.share.rank] if self.share.rank else []
        generator = torch.Generator().manual_seed(seed_of(self.seed, "order", epoch, *rank))
        order = chunk_order([len(chunks) for chunks in self.share.chunks], generator)
        return [(file, self.share.chunks[file][place]) for file, place in order], generator

    def _batches(self, window: Window, epoch: int, generator: torch.Generator, start: int) -> Iterator[Batch]:
        lengths = window.lengths if self.buckets else None
        batch_size, buffer = self.share.batch_size(self.batch_size), self.share.buffer(self.buffer)
        wanted = max(buffer, 2 * batch_size) if buffer < self.jets else self.jets + 1
        seen = done = 0
        more = True
        while more:
            while more and len(window) < wanted:
                more = window.extend() and not self._enough(seen + len(window))
            leaving, staying = release(len(window), not more, batch_size, generator)
            if self.drawing is not None:
                leaving = leaving[: self.jets - seen]
            for jets in batches_of(leaving, batch_size, lengths):
                done += 1
                if done > start:
                    yield self._batch(window, jets)
            seen += len(leaving)
            window.keep(staying)
        if self.drawing is None:
            _check_count("train", seen, self.jets)
        elif seen < self.jets:
            raise StudyError(
                f"of {self.jets} jets per epoch {seen} could be drawn from the files, prepared.json promises "
                "more: run `prepare` again"
            )
        for _ in range(max(done, start), len(self)):
            yield self._batch(window, np.empty(0, dtype=np.int64))

    def alike(self, jets: Iterator[LabelledInputs]) -> Iterator[LabelledInputs]:
        """Yield validation jets with weights that make them like the training's jets, drawn or not."""
        for pool in jets:
            if self.drawing is None:
                yield pool
            else:
                target = self.drawing.target(pool.label.numpy(), pool.weight.numpy())
                yield replace(pool, weight=torch.from_numpy(target))

    def _enough(self, jets: int) -> bool:
        """Whether an epoch has drawn its number of jets; without drawing the last chunk ends it."""
        return self.drawing is not None and jets >= self.jets

    def _batch(self, window: Window, jets: Index) -> Batch:
        batch = self._weighted(window.batch(jets))
        return batch.pinned() if self.pin else batch

    def _weighted(self, batch: Batch) -> Batch:
        """A batch with the weights that drawing leaves."""
        if self.drawing is None or batch.label_B is None or batch.weight_B is None:
            return batch
        weight_B = self.drawing.loss_weight(batch.label_B.numpy(), batch.weight_B.numpy())
        return replace(batch, weight_B=torch.from_numpy(weight_B))


class _Here:
    """Reads in this process."""

    def __init__(self, card: Card, prepared: Prepared, plan: MemoryPlan) -> None:
        self._decoder = Decoder(card, prepared, plan.vectors, plan.targets)

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


def _source(reader: BlockReader, prepared: Prepared, plan: MemoryPlan, share: Share) -> Source:
    """Fill the cache of the plan, if it has one."""
    chunks = [(file, chunk) for file, own in enumerate(share.chunks) for chunk in own]
    constituents = constituents_per_jet(prepared)
    if plan.cache == "none":
        kept = share.jets["validation"] if plan.keeps_validation else None
        return Streamed(reader, chunks, plan.window, constituents, kept)
    blocks = progress(reader.blocks(chunks, USED), total=len(chunks), description="reading", unit="chunks")
    if plan.cache == "ram":
        held = Held(zip(chunks, blocks, strict=True), share.jets, constituents)
        reader.close()
        return held
    scratch = Scratch(zip(chunks, blocks, strict=True), plan.scratch)
    reader.close()
    return Streamed(scratch, chunks, plan.window, constituents)


def _block(jets: LabelledInputs, split: str) -> Block:
    """Return jets in memory as a block of one split."""
    flat = jets.inputs
    builder = BlockBuilder(list(flat.groups), list(jets.targets))
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
    targets = {name: values.numpy() for name, values in jets.targets.items()}
    builder.add(counts, jets.label.numpy(), jets.weight.numpy(), splits, targets)
    return builder.block()


def _check_count(split: str, found: int, expected: int) -> None:
    if found != expected:
        raise StudyError(
            f"the files give {found} jets in the {split} split, prepared.json says {expected}: run `prepare` again"
        )
