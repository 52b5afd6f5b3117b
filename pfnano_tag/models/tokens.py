"""Where the tokens of jets stand: rows without padding for dense layers, padded sequences for attention.

Shape suffixes: B jets, N constituents of one group (padded), T real tokens of all groups and jets, L slots of a jet
(packed to the left, padded), S >= L slots for its keys, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pfnano_tag.models.layers import exporting, scatter_rows

REGISTER = 16
"""So many float32 fill a register of a CPU. What is left over, torch's kernels of softmax and attention take one by
one: attention of jets with 15 keys takes longer than with 16."""


@dataclass(frozen=True)
class Tokens:
    """Places of the real tokens of some jets, from `Tokens.of`.

    Parameters
    ----------
    order_T : Tensor
        int64, brings rows that come group by group, as in `torch.cat([x_BNF[mask_BN] for each group])`, jet by jet.
    jet_T : Tensor
        int64, rising: jet of each row.
    slots_T, key_slots_T : Tensor
        int64, rising: slot of each row in the flattened (B * L) and (B * S) sequences.
    mask_BL, key_mask_BS : Tensor
        bool, True for real tokens, which stand to the left. L is the longest jet's number of tokens, at least 1; S
        has some more where that is faster.
    free_keys : Tensor or None
        int64, slots of (B * S) that no row has; None where that is not known.
    """

    order_T: Tensor
    jet_T: Tensor
    slots_T: Tensor
    key_slots_T: Tensor
    mask_BL: Tensor
    key_mask_BS: Tensor
    free_keys: Tensor | None

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
        if exporting():
            length = sum(mask.shape[1] for mask in masks_BN)
        else:
            length = max(1, int(total_B.max())) if len(total_B) else 1
        before = counts.cumsum(0) - counts
        first = torch.arange(len(total_B), device=total_B.device) * length
        slots = []
        for mask, start in zip(masks_BN, before, strict=True):
            place_BN = (first + start)[:, None] + mask.cumsum(1) - 1
            slots.append(place_BN[mask])
        slots_T, order_T = torch.cat(slots).sort()
        jet_T = slots_T.div(length, rounding_mode="floor")
        return cls._placed(order_T, jet_T, slots_T - jet_T * length, total_B, length)

    @classmethod
    def _placed(cls, order_T: Tensor, jet_T: Tensor, place_T: Tensor, total_B: Tensor, length: int) -> Tokens:
        keys = _key_slots(length)
        key_mask_BS = torch.arange(keys, device=total_B.device) < total_B[:, None]
        mask_BL = key_mask_BS[:, :length]
        free = None if exporting() else (~key_mask_BS).flatten().nonzero().squeeze(1)
        return cls(order_T, jet_T, jet_T * length + place_T, jet_T * keys + place_T, mask_BL, key_mask_BS, free)

    def parts(self, constituents: int | None) -> list[Part]:
        """Cut into neighbouring jets with about so many tokens together, each part padded to its longest jet.

        Parameters
        ----------
        constituents : int or None
            Tokens of a part, one jet's more at most; None: all jets are one part.
        """
        if constituents is None or not len(self.mask_BL):
            return [Part(slice(None), slice(None), self)]
        counts_B = self.mask_BL.sum(1)
        behind_B = counts_B.cumsum(0)
        if int(behind_B[-1]) <= constituents:
            return [Part(slice(None), slice(None), self)]
        part_B = (behind_B - 1).clamp(min=0).div(constituents, rounding_mode="floor")
        ends = part_B.unique_consecutive(return_counts=True)[1].cumsum(0).tolist()
        rows = [0, *(int(behind_B[end - 1]) for end in ends)]
        jets = [0, *ends]
        return [
            self._part(slice(*jets[i : i + 2]), slice(*rows[i : i + 2]), counts_B[jets[i] : jets[i + 1]])
            for i in range(len(ends))
        ]

    def _part(self, jets: slice, rows: slice, counts_B: Tensor) -> Part:
        jet_T = self.jet_T[rows]
        place_T = self.slots_T[rows] - jet_T * self.mask_BL.shape[1]
        every_T = torch.arange(len(jet_T), device=jet_T.device)
        length = max(1, int(counts_B.max()))
        return Part(jets, rows, self._placed(every_T, jet_T - jets.start, place_T, counts_B, length))

    def padded(self, rows_TD: Tensor) -> Tensor:
        """Rows as one sequence per jet (B, L, D), zero in the padding."""
        return _sequences(rows_TD, self.slots_T, self.mask_BL)

    def keys(self, rows_TD: Tensor) -> Tensor:
        """Rows as one sequence per jet (B, S, D) for keys and values, zero in the padding."""
        return _sequences(rows_TD, self.key_slots_T, self.key_mask_BS, self.free_keys)

    def rows(self, padded_BLD: Tensor) -> Tensor:
        """Rows (T, D) of padded sequences."""
        rows = padded_BLD.flatten(0, 1)
        return rows if _is_full(self.slots_T, self.mask_BL) else rows.index_select(0, self.slots_T)


@dataclass(frozen=True)
class Part:
    """Some neighbouring jets of a batch.

    Parameters
    ----------
    jets, rows : slice
        Which jets, and which of the batch's rows (T) are theirs.
    tokens : Tokens
        Of these jets alone, in order already.
    """

    jets: slice
    rows: slice
    tokens: Tokens


def _key_slots(length: int) -> int:
    if exporting():
        return length
    if torch.is_grad_enabled():  # the softmax of the scores is a step of its own, which is slow below one register
        return max(length, REGISTER)
    over = length % REGISTER  # a few more keys cost less than copies of all keys and values into longer sequences
    return length if over <= REGISTER // 2 else length + REGISTER - over


def _sequences(rows_TD: Tensor, slots_T: Tensor, mask_BL: Tensor, free: Tensor | None = None) -> Tensor:
    shape = (*mask_BL.shape, rows_TD.shape[1])
    if _is_full(slots_T, mask_BL):
        return rows_TD.view(shape)
    return scatter_rows(rows_TD, slots_T, mask_BL.numel(), free).view(shape)


def _is_full(slots_T: Tensor, mask_BL: Tensor) -> bool:
    """Whether all jets fill their slots: there is no padding."""
    return not exporting() and len(slots_T) == mask_BL.numel()
