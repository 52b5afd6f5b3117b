"""Layers shared by the networks.

Shape suffixes: B jets, N constituents of one group (padded), S slots of one group (a fixed number), L slots for the
tokens of all groups (packed to the left, padded), T real tokens of all jets, F features, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def dense_stack(width_in: int, widths: Sequence[int], activation: str, norm: bool, dropout: float) -> nn.Sequential:
    """Linear layers, each followed by an optional layer norm, the activation and dropout.

    Layer norm and not batch norm: a jet's output must not depend on the other jets of its batch, and the
    gradient of an attack must be the same in training and in evaluation.
    """
    layers: list[nn.Module] = []
    for width_out in widths:
        layers.append(nn.Linear(width_in, width_out))
        if norm:
            layers.append(nn.LayerNorm(width_out))
        layers.append(ACTIVATIONS[activation]())
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        width_in = width_out
    return nn.Sequential(*layers)


class RowNorm(nn.Module):
    """Batch norm over the rows of a matrix (T, D) that batches of few rows can't spoil.

    In evaluation it is torch's batch norm. In training it differs twice. A single row has no variance: it is
    normalised with the running statistics and leaves them alone, and so is none. And a batch moves the running
    statistics in proportion to its rows, relative to the largest batch so far: the last batch of an epoch may hold
    two jets, whose mean and variance would otherwise, with a high momentum, decide what the epoch's checkpoint is
    worth.

    Parameters
    ----------
    width : int
        Columns D.
    momentum : float
        Weight of a full batch in the running statistics (torch's convention).
    eps : float
        Added to the variance.
    """

    running_mean: Tensor
    running_var: Tensor
    most_rows: Tensor

    def __init__(self, width: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("most_rows", torch.zeros((), dtype=torch.int64))

    def forward(self, rows_TD: Tensor) -> Tensor:
        """Rows with mean `bias` and standard deviation `weight` in each column (up to `eps`)."""
        momentum, training = 0.0, self.training and len(rows_TD) > 1
        if training:
            self.most_rows.clamp_(min=len(rows_TD))
            momentum = self.momentum * len(rows_TD) / int(self.most_rows)
        statistics = (self.running_mean, self.running_var)
        return F.batch_norm(rows_TD, *statistics, self.weight, self.bias, training, momentum, self.eps)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What the layer multiplies with and adds in evaluation, (D,) each."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


def first_slots(x_BNF: Tensor, mask_BN: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """Bring a padded group to a fixed number of slots, whatever the batch was padded to.

    Parameters
    ----------
    x_BNF : Tensor
        Features; the padding lies behind the constituents and may hold anything.
    mask_BN : Tensor
        bool, True for real constituents.
    slots : int
        Slots S; constituents behind the first S are left out.

    Returns
    -------
    x_BSF : Tensor
        Features, zero where there is no constituent.
    mask_BS : Tensor
        bool.
    """
    missing = max(0, slots - mask_BN.shape[1])
    mask_BS = F.pad(mask_BN[:, :slots], (0, missing))
    x_BSF = F.pad(x_BNF[:, :slots], (0, 0, 0, missing))
    return torch.where(mask_BS[:, :, None], x_BSF, 0), mask_BS


def scatter_rows(rows_TD: Tensor, slots_T: Tensor, size: int) -> Tensor:
    """Place rows at the given slots of a zero matrix of `size` rows; its gradient is a plain gather."""
    return rows_TD.new_zeros(size, rows_TD.shape[1]).index_copy(0, slots_T, rows_TD)


@dataclass(frozen=True)
class Tokens:
    """Where the real tokens of jets go: rows without padding for dense layers, padded sequences for attention.

    Parameters
    ----------
    order_T : Tensor
        int64, brings rows that come group by group, as in `torch.cat([x_BNF[mask_BN] for each group])`, jet by jet.
    slots_T : Tensor
        int64, rising: slot of each row, jet by jet, in the flattened (B * L) sequences.
    mask_BL : Tensor
        bool, True for real tokens, which stand to the left; L is the longest jet's number of tokens, at least 1.
    """

    order_T: Tensor
    slots_T: Tensor
    mask_BL: Tensor

    @classmethod
    def of(cls, masks_BN: Sequence[Tensor]) -> Tokens:
        """Pack the real constituents of several padded groups, one group behind the other.

        Parameters
        ----------
        masks_BN : sequence of Tensor
            bool (B, N) of each group, True for real constituents.
        """
        counts = torch.stack([mask.sum(1) for mask in masks_BN])
        total_B = counts.sum(0)
        length = max(1, int(total_B.max())) if len(total_B) else 1
        before = counts.cumsum(0) - counts
        first = torch.arange(len(total_B), device=total_B.device) * length
        slots = []
        for mask, start in zip(masks_BN, before, strict=True):
            place_BN = (first + start)[:, None] + mask.cumsum(1) - 1
            slots.append(place_BN[mask])
        mask_BL = torch.arange(length, device=total_B.device) < total_B[:, None]
        slots_T, order_T = torch.cat(slots).sort()
        return cls(order_T, slots_T, mask_BL)

    @property
    def _is_full(self) -> bool:
        """Whether all jets are as long as the longest: there is no padding."""
        return len(self.slots_T) == self.mask_BL.numel()

    @property
    def jet_T(self) -> Tensor:
        """Jet of each row, int64."""
        return self.slots_T.div(self.mask_BL.shape[1], rounding_mode="floor")

    def padded(self, rows_TD: Tensor) -> Tensor:
        """Rows as one sequence per jet (B, L, D), zero in the padding."""
        if self._is_full:
            return rows_TD.view(*self.mask_BL.shape, -1)
        return scatter_rows(rows_TD, self.slots_T, self.mask_BL.numel()).view(*self.mask_BL.shape, -1)

    def rows(self, padded_BLD: Tensor) -> Tensor:
        """Rows (T, D) of padded sequences."""
        if self._is_full:
            return padded_BLD.flatten(0, 1)
        return padded_BLD.flatten(0, 1).index_select(0, self.slots_T)
