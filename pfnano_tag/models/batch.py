"""Flat inputs of many jets, and padded batches of some of them.

Jets stay flat (matrices of all constituents plus offsets) until the last moment: padding exists only
inside a `Batch`, and only up to the longest jet of that batch.

Shape suffixes: J jets, B jets of a batch, N constituents (flat: of all jets; in a batch: padded), F features,
4 four-vector components (px, py, pz, E in GeV), K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class GroupInputs:
    """Scaled inputs of one constituent group of all jets.

    Parameters
    ----------
    x_NF : Tensor
        float32, transformed and scaled features.
    default_NF : Tensor
        bool, True where a value is a placeholder.
    offsets : Tensor
        int64, (J + 1,); jet j owns rows `offsets[j]:offsets[j + 1]`.
    vectors_N4 : Tensor or None
        float32 four-vectors px, py, pz, E [GeV].
    """

    x_NF: Tensor
    default_NF: Tensor
    offsets: Tensor
    vectors_N4: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """Number of constituents of each jet, int64 (J,)."""
        return self.offsets.diff()

    def select(self, indices: Tensor) -> GroupInputs:
        """Constituents of the given jets, in the given order (`indices` int64)."""
        rows, counts = _rows_of(self.offsets, indices)
        offsets = torch.zeros(len(indices) + 1, dtype=torch.int64)
        torch.cumsum(counts, 0, out=offsets[1:])
        vectors = None if self.vectors_N4 is None else self.vectors_N4[rows]
        return GroupInputs(self.x_NF[rows], self.default_NF[rows], offsets, vectors)

    @classmethod
    def concatenate(cls, parts: Sequence[GroupInputs]) -> GroupInputs:
        """Jets of several parts, one part after the other."""
        counts = torch.cat([part.counts for part in parts])
        offsets = torch.zeros(len(counts) + 1, dtype=torch.int64)
        torch.cumsum(counts, 0, out=offsets[1:])
        vectors = [part.vectors_N4 for part in parts if part.vectors_N4 is not None]
        return cls(
            torch.cat([part.x_NF for part in parts]),
            torch.cat([part.default_NF for part in parts]),
            offsets,
            torch.cat(vectors) if len(vectors) == len(parts) else None,
        )


@dataclass(frozen=True)
class FlatInputs:
    """Scaled inputs of many jets: a matrix of jet features and flat constituent groups.

    Parameters
    ----------
    jet_JF : Tensor
        float32 jet features, transformed and scaled.
    jet_default_JF : Tensor
        bool, True where a jet feature is a placeholder.
    groups : dict of str to GroupInputs
        Constituent groups in the order of the input specification.
    """

    jet_JF: Tensor
    jet_default_JF: Tensor
    groups: dict[str, GroupInputs]

    def __len__(self) -> int:
        return len(self.jet_JF)

    @property
    def lengths(self) -> Tensor:
        """Number of constituents of each jet over all groups, int64 (J,)."""
        total = torch.zeros(len(self), dtype=torch.int64)
        for group in self.groups.values():
            total += group.counts
        return total

    @property
    def nbytes(self) -> int:
        """Memory that the tensors take [bytes]."""
        tensors = [self.jet_JF, self.jet_default_JF]
        for group in self.groups.values():
            tensors += [group.x_NF, group.default_NF, group.offsets]
            tensors += [] if group.vectors_N4 is None else [group.vectors_N4]
        return sum(tensor.nbytes for tensor in tensors)

    def select(self, indices: Tensor) -> FlatInputs:
        """The given jets (int64 indices or a bool mask over jets), in the given order."""
        indices = indices.nonzero().squeeze(1) if indices.dtype == torch.bool else indices
        groups = {name: group.select(indices) for name, group in self.groups.items()}
        return FlatInputs(self.jet_JF[indices], self.jet_default_JF[indices], groups)

    @classmethod
    def concatenate(cls, parts: Sequence[FlatInputs]) -> FlatInputs:
        """Jets of several parts, one part after the other; all parts have the same groups."""
        return cls(
            torch.cat([part.jet_JF for part in parts]),
            torch.cat([part.jet_default_JF for part in parts]),
            {name: GroupInputs.concatenate([part.groups[name] for part in parts]) for name in parts[0].groups},
        )


@dataclass(frozen=True)
class GroupBatch:
    """One constituent group of a batch, padded with zeros behind the real constituents.

    Parameters
    ----------
    x_BNF : Tensor
        float32 features, zero in the padding.
    mask_BN : Tensor
        bool, True for real constituents.
    default_BNF : Tensor
        bool, True for placeholders and padding.
    vectors_BN4 : Tensor or None
        float32 four-vectors [GeV], zero in the padding.
    """

    x_BNF: Tensor
    mask_BN: Tensor
    default_BNF: Tensor
    vectors_BN4: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Inputs of some jets as a network takes them, with labels (int64) and weights where known."""

    jet_BF: Tensor
    jet_default_BF: Tensor
    groups: dict[str, GroupBatch]
    label_B: Tensor | None = None
    weight_B: Tensor | None = None

    def __len__(self) -> int:
        return len(self.jet_BF)

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What an attack may move: `jet` (B, F) and each group's x (B, N, F)."""
        return {"jet": self.jet_BF} | {name: group.x_BNF for name, group in self.groups.items()}

    def with_inputs(self, jet_BF: Tensor, x: dict[str, Tensor]) -> Batch:
        """The same jets with other input values; masks, placeholders and four-vectors stay."""
        groups = {name: replace(group, x_BNF=x[name]) for name, group in self.groups.items()}
        return replace(self, jet_BF=jet_BF, groups=groups)


def call(module: nn.Module, batch: Batch) -> Tensor:
    """Logits (B, K) of a network for a batch."""
    x = {name: group.x_BNF for name, group in batch.groups.items()}
    mask = {name: group.mask_BN for name, group in batch.groups.items()}
    vectors = {name: group.vectors_BN4 for name, group in batch.groups.items() if group.vectors_BN4 is not None}
    logits_BK: Tensor = module(batch.jet_BF, x, mask, vectors or None)
    return logits_BK


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and each of its parts back into the mode it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def collate(flat: FlatInputs, indices: Tensor, label: Tensor | None = None, weight: Tensor | None = None) -> Batch:
    """Pad the given jets into a batch, each group to its longest jet of this batch.

    Parameters
    ----------
    flat : FlatInputs
        All jets.
    indices : Tensor
        int64 (B,), jets of the batch.
    label, weight : Tensor or None
        Labels (J,) and weights (J,) of all jets.
    """
    return Batch(
        flat.jet_JF[indices],
        flat.jet_default_JF[indices],
        {name: _pad(group, indices) for name, group in flat.groups.items()},
        None if label is None else label[indices],
        None if weight is None else weight[indices],
    )


def bucketed(
    lengths: Tensor, batch_size: int, generator: torch.Generator | None = None, pool: int | None = None
) -> list[Tensor]:
    """Batches of jets of similar length; every jet is in exactly one batch.

    Jets are shuffled (with a generator), cut into pools of `pool` batches, sorted by length inside a pool and
    cut into batches, whose order is shuffled again: random enough for training, with hardly any padding.

    Parameters
    ----------
    lengths : Tensor
        int64 (J,), what to sort by (number of constituents).
    batch_size : int
        Jets in a batch; one batch may be smaller.
    generator : torch.Generator or None
        Source of randomness; None keeps all in the order of lengths.
    pool : int or None
        Batches in a pool; None sorts all jets at once, 1 leaves the random order of jets.
    """
    if batch_size < 1 or (pool is not None and pool < 1):
        raise ValueError(f"batch_size {batch_size} and pool {pool} must be at least 1")
    count = len(lengths)
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    pools = [order] if pool is None else list(order.split(pool * batch_size))
    batches: list[Tensor] = []
    for jets in pools:
        ordered = jets[torch.argsort(lengths[jets], stable=True)]
        batches += [part for part in ordered.split(batch_size) if len(part)]
    if generator is None:
        return batches
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def shuffled(count: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Random batches of `count` jets; every jet is in exactly one batch, the last one may be smaller."""
    return [part for part in torch.randperm(count, generator=generator).split(batch_size) if len(part)]


def _rows_of(offsets: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the constituents of the given jets, jet after jet, and the jets' counts."""
    starts = offsets[indices]
    counts = offsets[indices + 1] - starts
    ends = counts.cumsum(0)
    shift = starts - (ends - counts)
    rows = torch.arange(int(ends[-1]) if len(ends) else 0) + shift.repeat_interleave(counts)
    return rows, counts


def _pad(group: GroupInputs, indices: Tensor) -> GroupBatch:
    rows, counts = _rows_of(group.offsets, indices)
    width = int(counts.max()) if len(counts) else 0
    mask_BN = torch.arange(width) < counts[:, None]
    slots = mask_BN.flatten().nonzero().squeeze(1)
    shape = (len(indices), width)

    def fill(values: Tensor, padding: float | bool) -> Tensor:
        out = torch.full((shape[0] * shape[1], values.shape[1]), padding, dtype=values.dtype)
        return out.index_copy_(0, slots, values.index_select(0, rows)).view(*shape, values.shape[1])

    vectors = None if group.vectors_N4 is None else fill(group.vectors_N4, 0.0)
    return GroupBatch(fill(group.x_NF, 0.0), mask_BN, fill(group.default_NF, True), vectors)
