"""Training jets in memory, and the order in which an epoch sees them.

The order is a pure function of seed and epoch: a resumed training sees the same batches. One permutation per
epoch and vectorised gathering take the place of per-jet work (the papers' fast tensor loader); architectures that
ask for it get batches of jets of similar length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pfnano_tag.models.batch import Batch, FlatInputs, bucketed, collate, shuffled

POOL = 16
"""Batches in a pool of length-sorted jets: 16 x 512 jets bring padding to a few per cent."""


@dataclass(frozen=True)
class LabelledInputs:
    """Inputs, labels (int64) and weights (float32) of all jets of a split."""

    inputs: FlatInputs
    label: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def concatenate(cls, parts: list[LabelledInputs]) -> LabelledInputs:
        """Jets of several parts, one part after the other."""
        return cls(
            FlatInputs.concatenate([part.inputs for part in parts]),
            torch.cat([part.label for part in parts]),
            torch.cat([part.weight for part in parts]),
        )


@dataclass(frozen=True)
class Loader:
    """Batches of an epoch.

    Parameters
    ----------
    jets : LabelledInputs
        All jets.
    batch_size : int
        Jets in a batch; the last one is kept although smaller.
    buckets : bool
        Put jets of similar length together.
    seed : int
        Of the study.
    """

    jets: LabelledInputs
    batch_size: int
    buckets: bool
    seed: int

    def __len__(self) -> int:
        return -(-len(self.jets) // self.batch_size)

    def order(self, epoch: int) -> list[Tensor]:
        """Jets of each batch of an epoch; every jet in exactly one of them."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, "order", epoch))
        if not self.buckets:
            return shuffled(len(self.jets), self.batch_size, generator)
        return bucketed(self.jets.inputs.lengths, self.batch_size, generator, POOL)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Batches of an epoch, with labels and weights."""
        for indices in self.order(epoch):
            yield collate(self.jets.inputs, indices, self.jets.label, self.jets.weight)


def seed_of(seed: int, *names: str | int) -> int:
    """A seed (63 bits) for one purpose, so that no two purposes share random numbers."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
