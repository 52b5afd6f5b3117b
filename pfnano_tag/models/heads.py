"""Heads of networks with several tasks: per jet, per constituent, per pair of constituents.

The first layer of a head on constituents sees [summary of the jet, constituent, ...]. It is linear, so it is applied
to each of these on its own, once per jet and once per constituent, and the results are added: a matrix of pairs
exists only behind it, at the width of the first hidden layer.

Shape suffixes: B jets, N constituents of one group (padded), T real constituents of that group in all jets, in the
order of `x_BNF[mask_BN]`, P pairs i < j of real constituents of a jet, C width of a jet's summary, D width of a
constituent, H width of the first layer, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfnano_tag.models.layers import ACTIVATIONS, dense_stack


def jets_of(mask_BN: Tensor) -> Tensor:
    """Jet of each real constituent, int64 (T,)."""
    counts_B = mask_BN.sum(1)
    return torch.arange(len(counts_B), device=counts_B.device).repeat_interleave(counts_B)


def pairs_of(mask_BN: Tensor) -> tuple[Tensor, Tensor]:
    """Rows i < j of all pairs of real constituents of the same jet, int64 (P,) each, sorted by j, then by i.

    Parameters
    ----------
    mask_BN : Tensor
        bool, True for real constituents; a row is a constituent's place in `x_BNF[mask_BN]`.
    """
    before_T = (mask_BN.cumsum(1) - 1)[mask_BN]  # constituents of the same jet in front of it: its partners
    row_T = torch.arange(len(before_T), device=mask_BN.device)
    j_P = row_T.repeat_interleave(before_T)
    first_T = row_T - before_T
    i_P = torch.arange(len(j_P), device=mask_BN.device) - (before_T.cumsum(0) - before_T - first_T)[j_P]
    return i_P, j_P


class ContextLinear(nn.Module):
    """Linear layer of [summary, constituent, ...], whose columns are applied to each of these on their own.

    Parameters
    ----------
    context : int
        C, the first columns; 0 where there is no summary.
    width : int
        D, the columns of each constituent.
    outputs : int
        H.
    constituents : int
        How many stand side by side.
    """

    def __init__(self, context: int, width: int, outputs: int, constituents: int = 1) -> None:
        super().__init__()
        whole = nn.Linear(context + constituents * width, outputs)
        self.weight, self.bias = whole.weight, whole.bias
        self.context, self.width = context, width

    def of_context(self, context_BC: Tensor) -> Tensor:
        """What jets add to the outputs (B, H), the bias included."""
        return F.linear(context_BC, self.weight[:, : self.context], self.bias)

    def of_constituent(self, x_TD: Tensor, place: int = 0) -> Tensor:
        """What constituents at a place, the first or the second, add to the outputs (T, H)."""
        start = self.context + place * self.width
        return F.linear(x_TD, self.weight[:, start : start + self.width])


def _behind(widths: Sequence[int], activation: str) -> nn.Sequential:
    """Activation and linear layer for each width but the first, which another layer has made."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [ACTIVATIONS[activation](), nn.Linear(width_in, width_out)]
    return nn.Sequential(*layers)


class JetHead(nn.Module):
    """Dense layers on the summary of a jet -> (B, O).

    Parameters
    ----------
    context : int
        C.
    hidden : sequence of int
        Widths of the hidden layers.
    outputs : int
        O.
    activation : str
        relu, gelu or silu.
    """

    def __init__(self, context: int, hidden: Sequence[int], outputs: int, activation: str) -> None:
        super().__init__()
        self.hidden = dense_stack(context, hidden, activation, norm=False, dropout=0.0)
        self.out = nn.Linear((context, *hidden)[-1], outputs)

    def forward(self, context_BC: Tensor) -> Tensor:
        """Outputs (B, O)."""
        out_BO: Tensor = self.out(self.hidden(context_BC))
        return out_BO


class ConstituentHead(nn.Module):
    """Dense layers on each constituent beside the summary of its jet -> (T, O).

    Parameters
    ----------
    context, width : int
        C and D.
    hidden : sequence of int
        Widths of the hidden layers.
    outputs : int
        O.
    activation : str
        relu, gelu or silu.
    """

    def __init__(self, context: int, width: int, hidden: Sequence[int], outputs: int, activation: str) -> None:
        super().__init__()
        widths = (*hidden, outputs)
        self.first = ContextLinear(context, width, widths[0])
        self.rest = _behind(widths, activation)

    def forward(self, context_BC: Tensor, x_TD: Tensor, mask_BN: Tensor) -> Tensor:
        """Outputs (T, O) of the real constituents."""
        of_jet_TH = self.first.of_context(context_BC).index_select(0, jets_of(mask_BN))
        out_TO: Tensor = self.rest(self.first.of_constituent(x_TD) + of_jet_TH)
        return out_TO


class PairHead(nn.Module):
    """Dense layers on each pair i < j of constituents beside the summary of their jet -> (P,).

    The first layer of the vertexing head of Salt (ATLAS GN1 and GN2) takes [summary, i, j] of all ordered pairs with
    weights [W_g | W_1 | W_2]; its loss is the mean over both orders, and its vertices are made from the mean of the
    two outputs. Here a pair is evaluated once, as W_g g + W_1 (x_i + x_j) + b: Salt's head with W_1 = W_2, where both
    orders are equal. With `ordered` the weights are Salt's own, and the output is the mean of both orders; only the
    loss differs then, which is taken of that mean.

    Parameters
    ----------
    context, width : int
        C and D.
    hidden : sequence of int
        Widths of the hidden layers.
    activation : str
        relu, gelu or silu.
    ordered : bool
        Different weights for the two constituents, and the mean of both orders: twice the work.
    """

    def __init__(self, context: int, width: int, hidden: Sequence[int], activation: str, ordered: bool) -> None:
        super().__init__()
        self.ordered = ordered
        widths = (*hidden, 1)
        self.first = ContextLinear(context, width, widths[0], 2 if ordered else 1)
        self.rest = _behind(widths, activation)

    def forward(self, context_BC: Tensor, x_TD: Tensor, mask_BN: Tensor) -> Tensor:
        """Outputs (P,) of the pairs of `pairs_of(mask_BN)`; the same for i, j and j, i."""
        i_P, j_P = pairs_of(mask_BN)
        # Half of the jet's part comes with each constituent: a sum over constituents is cheaper than one over pairs.
        of_jet_TH = (0.5 * self.first.of_context(context_BC)).index_select(0, jets_of(mask_BN))
        one_TH = self.first.of_constituent(x_TD) + of_jet_TH
        if not self.ordered:
            return self._behind_first(one_TH, one_TH, i_P, j_P)
        other_TH = self.first.of_constituent(x_TD, 1) + of_jet_TH
        both_P = self._behind_first(one_TH, other_TH, i_P, j_P) + self._behind_first(one_TH, other_TH, j_P, i_P)
        return 0.5 * both_P

    def _behind_first(self, one_TH: Tensor, other_TH: Tensor, one_P: Tensor, other_P: Tensor) -> Tensor:
        hidden_PH = one_TH.index_select(0, one_P) + other_TH.index_select(0, other_P)
        out_P1: Tensor = self.rest(hidden_PH)
        return out_P1.squeeze(1)
