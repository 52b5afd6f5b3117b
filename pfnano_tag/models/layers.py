"""Layers shared by the networks.

Shape suffixes: B jets, N constituents of one group (padded), L slots for the tokens of all groups (packed to the
left, padded), T real tokens of all jets, D width.
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


class RowNorm(nn.BatchNorm1d):
    """Batch norm over rows that are all real, for networks whose reference has batch norm.

    In training, statistics are those of the batch's rows; of fewer than two rows there are none, and the running ones
    are used.
    """

    def forward(self, rows_TD: Tensor) -> Tensor:
        """Normalised rows (T, D); T may be zero."""
        if self.training and len(rows_TD) < 2:
            return F.batch_norm(rows_TD, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(rows_TD)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What the layer multiplies with and adds in evaluation, (D,) each."""
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


def scatter_rows(rows_TD: Tensor, slots_T: Tensor, size: int) -> Tensor:
    """Place rows at the given slots of a zero matrix of `size` rows; its gradient is a plain gather."""
    return rows_TD.new_zeros(size, rows_TD.shape[1]).index_copy(0, slots_T, rows_TD)


@dataclass(frozen=True)
class Tokens:
    """Where the real tokens of jets go: rows without padding for dense layers, padded sequences for attention.

    Parameters
    ----------
    slots_T : Tensor
        int64, slot of each row in the flattened (B * L) sequences; rows come group by group, as in
        `torch.cat([x_BNF[mask_BN] for each group])`.
    mask_BL : Tensor
        bool, True for real tokens, which stand to the left; L is the longest jet's number of tokens, at least 1.
    """

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
        return cls(torch.cat(slots), mask_BL)

    @property
    def jet_T(self) -> Tensor:
        """Jet of each row, int64."""
        return self.slots_T.div(self.mask_BL.shape[1], rounding_mode="floor")

    def padded(self, rows_TD: Tensor) -> Tensor:
        """Rows as one sequence per jet (B, L, D), zero in the padding."""
        return scatter_rows(rows_TD, self.slots_T, self.mask_BL.numel()).view(*self.mask_BL.shape, -1)

    def rows(self, padded_BLD: Tensor) -> Tensor:
        """Rows (T, D) of padded sequences."""
        return padded_BLD.flatten(0, 1).index_select(0, self.slots_T)
