"""Flat inputs of many jets, and padded batches of some of them.

Jets stay flat (matrices of all constituents plus offsets) until the last moment: padding exists only
inside a `Batch`, and only up to the longest jet of that batch.

Shape suffixes: J jets, B jets of a batch, N constituents (flat: of all jets; in a batch: padded), F features,
4 four-vector components (px, py, pz, E in GeV), K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pfnano_tag.nano.targets import TARGETS, group_of


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

    def select(self, indices: Tensor) -> FlatInputs:
        """The given jets (int64 indices or a bool mask over jets), in the given order."""
        indices = indices.nonzero().squeeze(1) if indices.dtype == torch.bool else indices
        groups = {name: group.select(indices) for name, group in self.groups.items()}
        return FlatInputs(self.jet_JF[indices], self.jet_default_JF[indices], groups)


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
    """Inputs of some jets as a network takes them, with labels (int64) and weights where known.

    `targets` holds the truth that further heads learn from, by identifier (`nano.targets`): whole numbers are int64,
    real ones float32; (B,) for the jet, (B, N) for constituents, unknown (-1 or NaN) in the padding.
    """

    jet_BF: Tensor
    jet_default_BF: Tensor
    groups: dict[str, GroupBatch]
    label_B: Tensor | None = None
    weight_B: Tensor | None = None
    targets: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.jet_BF)

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor (the first axis runs over jets) replaced by its `change`."""
        groups = {
            name: GroupBatch(
                change(group.x_BNF),
                change(group.mask_BN),
                change(group.default_BNF),
                None if group.vectors_BN4 is None else change(group.vectors_BN4),
            )
            for name, group in self.groups.items()
        }
        label = None if self.label_B is None else change(self.label_B)
        weight = None if self.weight_B is None else change(self.weight_B)
        targets = {name: change(values) for name, values in self.targets.items()}
        return Batch(change(self.jet_BF), change(self.jet_default_BF), groups, label, weight, targets)

    def select(self, indices: Tensor) -> Batch:
        """The given jets (int64), in the given order; the padding stays as wide as it is."""
        return self.each(lambda values: values[indices])

    def parts(self, constituents: int) -> list[Batch]:
        """Cut into neighbouring jets with about so many constituents together, each part padded to its longest jet.

        Parameters
        ----------
        constituents : int
            Of all groups; one jet's more at most.
        """
        if not self.groups or not len(self):
            return [self]
        behind_B = torch.stack([group.mask_BN.sum(1) for group in self.groups.values()]).sum(0).cumsum(0)
        part_B = (behind_B - 1).clamp(min=0).div(constituents, rounding_mode="floor")
        sizes = part_B.unique_consecutive(return_counts=True)[1].tolist()
        if len(sizes) == 1:
            return [self]
        every = torch.arange(len(self), device=behind_B.device).split(sizes)
        return [self.select(indices).trimmed() for indices in every]

    def split(self, jets: int) -> list[Batch]:
        """Cut into neighbouring jets, so many at most, each part padded to its longest jet."""
        if len(self) <= jets:
            return [self]
        every = torch.arange(len(self), device=self.jet_BF.device).split(jets)
        return [self.select(indices).trimmed() for indices in every]

    def trimmed(self) -> Batch:
        """The same jets, each group padded to its longest jet."""
        groups = {}
        targets = dict(self.targets)
        for name, group in self.groups.items():
            longest = int(group.mask_BN.sum(1).max()) if len(self) else 0
            targets |= {key: values[:, :longest] for key, values in targets.items() if group_of(key) == name}
            vectors = None if group.vectors_BN4 is None else group.vectors_BN4[:, :longest]
            groups[name] = GroupBatch(
                group.x_BNF[:, :longest], group.mask_BN[:, :longest], group.default_BNF[:, :longest], vectors
            )
        return replace(self, groups=groups, targets=targets)

    def with_jets(self, indices: Tensor, jets: Batch) -> Batch:
        """The same batch, in which the given jets (int64) have the input values of `jets`."""
        x = {name: value.index_copy(0, indices, jets.inputs[name]) for name, value in self.inputs.items()}
        return self.with_inputs(x.pop("jet"), x)

    def pinned(self) -> Batch:
        """The same batch in page-locked memory, from where a GPU takes it without waiting."""
        return self.each(Tensor.pin_memory)

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device; from page-locked memory the copy goes on beside what follows."""
        if self.jet_BF.device == device:
            return self
        return self.each(lambda values: values.to(device, non_blocking=True))

    @property
    def masks(self) -> dict[str, Tensor]:
        """Real constituents of each group."""
        return {name: group.mask_BN for name, group in self.groups.items()}

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
    vectors = {name: group.vectors_BN4 for name, group in batch.groups.items() if group.vectors_BN4 is not None}
    logits_BK: Tensor = module(batch.jet_BF, x, batch.masks, vectors or None)
    return logits_BK


def call_all(module: nn.Module, batch: Batch, of_jets: bool = False) -> dict[str, Tensor]:
    """Outputs of all tasks of a network, or of those of jets: `flavour` (B, K), which is all that most networks have.

    What they are is said by `models.multitask.Multitask.outputs`.
    """
    if not module.targets:
        return {"flavour": call(module, batch)}
    x = {name: group.x_BNF for name, group in batch.groups.items()}
    found: dict[str, Tensor] = module.outputs(  # type: ignore[operator]
        batch.jet_BF, x, batch.masks, of_jets=of_jets
    )
    return found


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


def collate(
    flat: FlatInputs,
    indices: Tensor,
    label: Tensor | None = None,
    weight: Tensor | None = None,
    targets: Mapping[str, Tensor] | None = None,
) -> Batch:
    """Pad the given jets into a batch, each group to its longest jet of this batch.

    Parameters
    ----------
    flat : FlatInputs
        All jets.
    indices : Tensor
        int64 (B,), jets of the batch.
    label, weight : Tensor or None
        Labels (J,) and weights (J,) of all jets.
    targets : mapping of str to Tensor or None
        Truth targets of all jets (J,) and all constituents (N,), by identifier.
    """
    return Batch(
        flat.jet_JF[indices],
        flat.jet_default_JF[indices],
        {name: _pad(group, indices) for name, group in flat.groups.items()},
        None if label is None else label[indices],
        None if weight is None else weight[indices],
        {} if targets is None else {name: _target(flat, name, values, indices) for name, values in targets.items()},
    )


def bucketed(lengths: Tensor, batch_size: int) -> list[Tensor]:
    """Batches of jets of similar length, short ones first; the last may be smaller.

    Parameters
    ----------
    lengths : Tensor
        int64 (J,), what to sort by (number of constituents).
    batch_size : int
        Jets in a batch.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    order = torch.argsort(lengths, stable=True)
    return [part for part in order.split(batch_size) if len(part)]


def padded_rows(
    starts: NDArray[np.int64], counts: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows of the constituents of some jets, padded to the longest of them, and which are real.

    Parameters
    ----------
    starts, counts : ndarray of int [B]
        First row and number of constituents of each jet.

    Returns
    -------
    rows : ndarray of int64 [B, N]
        0 in the padding.
    mask : ndarray of bool [B, N]
    """
    place = np.arange(counts.max(initial=0))
    mask_BN = place < counts[:, None]
    rows_BN = starts[:, None] + place
    np.multiply(rows_BN, mask_BN, out=rows_BN)
    return rows_BN, mask_BN


def _rows_of(offsets: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the constituents of the given jets, jet after jet, and the jets' counts."""
    starts = offsets[indices]
    counts = offsets[indices + 1] - starts
    ends = counts.cumsum(0)
    shift = starts - (ends - counts)
    rows = torch.arange(int(ends[-1]) if len(ends) else 0) + shift.repeat_interleave(counts)
    return rows, counts


def _target(flat: FlatInputs, name: str, values: Tensor, indices: Tensor) -> Tensor:
    """Values of a target for the given jets, padded where it is one of constituents."""
    if group_of(name) == "jet":
        return values[indices]
    rows_BN, mask_BN = _padded_rows_of(flat.groups[group_of(name)], indices)
    values_BN = values.numpy().take(rows_BN, mode="clip")
    values_BN[~mask_BN] = TARGETS[name].unknown
    return torch.from_numpy(values_BN)


def target_tensor(values: NDArray[np.generic]) -> Tensor:
    """Return values of a target as tensors have them: whole numbers as int64, real ones as float32."""
    return torch.from_numpy(values.astype(np.int64 if values.dtype.kind == "i" else np.float32))


def _padded_rows_of(group: GroupInputs, indices: Tensor) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    offsets, jets = group.offsets.numpy(), indices.numpy()
    starts = offsets[jets]
    return padded_rows(starts, offsets[jets + 1] - starts)


def _pad(group: GroupInputs, indices: Tensor) -> GroupBatch:
    rows_BN, mask_BN = _padded_rows_of(group, indices)

    def fill(values: Tensor, padding: float | bool) -> Tensor:
        out = values.numpy().take(rows_BN, axis=0, mode="clip")  # rows are in range: clip spares numpy a check
        out[~mask_BN] = padding
        return torch.from_numpy(out)

    vectors = None if group.vectors_N4 is None else fill(group.vectors_N4, 0.0)
    return GroupBatch(fill(group.x_NF, 0.0), torch.from_numpy(mask_BN), fill(group.default_NF, True), vectors)
