"""Pairwise features of constituents and the attention bias made from them.

Features and their order as in the Particle Transformer (Qu, Li, Qian, arXiv:2202.03772, eq. 3) and its reference
implementation: ln kT, ln z, ln Delta, ln m2, with the true rapidity.

Shape suffixes: B jets, T real tokens of all jets, L slots of a jet (packed to the left, padded), S >= L slots for its
keys, P real pairs i >= j of all jets, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfnano_tag.models.layers import ACTIVATIONS, RowNorm, exporting
from pfnano_tag.models.tokens import Tokens

PAIR_FEATURES = ("ln_kt", "ln_z", "ln_delta", "ln_m2")
FLOOR = 1e-8

# Added to the attention scores of padded keys. Finite, because a jet without constituents has no other key: its
# softmax must stay finite; exp(-3e4) is exactly zero, and half precision can hold the number.
MASKED_SCORE = -3e4


def kinematics(vectors: Tensor) -> Tensor:
    """Transverse momentum, rapidity and azimuth in front of the four-vector.

    Parameters
    ----------
    vectors : Tensor
        (..., 4): px, py, pz, E [GeV].

    Returns
    -------
    Tensor
        (..., 7): pT [GeV], y = 0.5 ln(1 + 2 pz / max(E - pz, 1e-20)), phi, px, py, pz, E.
    """
    px, py, pz, energy = vectors.unbind(-1)
    pt = _hypot(px, py)
    ratio = 1 + 2 * pz / (energy - pz).clamp(min=1e-20)  # (E + pz) / (E - pz); rounding may bring it to zero
    rapidity = 0.5 * torch.log(ratio.clamp(min=FLOOR))
    return torch.stack([pt, rapidity, torch.atan2(py, px), px, py, pz, energy], dim=-1)


def pair_features(a: Tensor, b: Tensor) -> Tensor:
    """Ln kT, ln z, ln Delta, ln m2 of pairs; every logarithm has the floor 1e-8.

    Parameters
    ----------
    a, b : Tensor
        (..., 7) from `kinematics`.

    Returns
    -------
    Tensor
        (..., 4), symmetric in a and b.
    """
    pt_a, y_a, phi_a = a[..., 0], a[..., 1], a[..., 2]
    pt_b, y_b, phi_b = b[..., 0], b[..., 1], b[..., 2]
    phi = torch.remainder(phi_a - phi_b + math.pi, 2 * math.pi) - math.pi
    delta = _hypot(y_a - y_b, phi)
    pt_min = torch.minimum(pt_a, pt_b)
    total = a[..., 3:] + b[..., 3:]
    mass2 = total[..., 3] ** 2 - total[..., :3].square().sum(-1)
    features = torch.stack([pt_min * delta, pt_min / (pt_a + pt_b).clamp(min=FLOOR), delta, mass2], dim=-1)
    return features.clamp(min=FLOOR).log()


def _hypot(a: Tensor, b: Tensor) -> Tensor:
    """Length of a vector; ONNX has no operator that minds overflow, which momenta in GeV don't reach."""
    return (a.square() + b.square()).sqrt() if exporting() else torch.hypot(a, b)


@dataclass(frozen=True)
class _Pairs:
    """The real pairs i >= j of some jets: their features, and where in the jets' matrices they stand.

    Parameters
    ----------
    features_P4 : Tensor
        From `pair_features`.
    place_P, mirrored_P : Tensor
        int64, place of (i, j) and of (j, i) in the flattened (B, L, S) matrices.
    tokens : Tokens
        Of these jets.
    """

    features_P4: Tensor
    place_P: Tensor
    mirrored_P: Tensor
    tokens: Tokens

    @classmethod
    def of(cls, vectors_T4: Tensor, tokens: Tokens) -> _Pairs:
        mask_BL = tokens.mask_BL
        length, keys = mask_BL.shape[1], tokens.key_mask_BS.shape[1]
        below = torch.ones(length, length, dtype=torch.bool, device=mask_BL.device).tril()
        jet_P, i_P, j_P = (mask_BL[:, :, None] & mask_BL[:, None, :] & below).nonzero(as_tuple=True)
        first_P = jet_P * length
        first, second = first_P + i_P, first_P + j_P
        with torch.no_grad():  # four-vectors are data, never attacked here
            of_tokens = tokens.padded(kinematics(vectors_T4)).flatten(0, 1)
            features_P4 = pair_features(of_tokens.index_select(0, first), of_tokens.index_select(0, second))
        return cls(features_P4, first * keys + j_P, second * keys + i_P, tokens)

    def bias(self, embedded_PH: Tensor) -> Tensor:
        """Embedded pairs as matrices (B, H, L, S); padded keys have `MASKED_SCORE`."""
        # Heads come first, so that each head's bias is a contiguous matrix; both halves of it are set.
        heads, length = embedded_PH.shape[1], self.tokens.mask_BL.shape[1]
        padding_B11S = padding_bias(self.tokens.key_mask_BS, embedded_PH.dtype)
        empty_HBLS = padding_B11S.transpose(0, 1).repeat(heads, 1, length, 1)
        both = empty_HBLS.view(heads, -1)
        for place_P in (self.place_P, self.mirrored_P):
            both = both.index_copy_(1, place_P, embedded_PH.t())
        return both.view_as(empty_HBLS).transpose(0, 1)


class PairEmbedding(nn.Module):
    """Attention bias per head from pair features: computed on real pairs i >= j, then mirrored.

    As in the reference: batch norm of the features, then linear layers, each followed by batch norm and (but for
    the last) the activation. Statistics are those of real pairs.

    Parameters
    ----------
    widths : sequence of int
        Widths of the hidden layers.
    heads : int
        Attention heads, the output width.
    activation : str
        relu, gelu or silu.
    bias : bool
        Whether the linear layers have one.
    """

    def __init__(self, widths: Sequence[int], heads: int, activation: str, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.norm = RowNorm(len(PAIR_FEATURES))
        sizes = (len(PAIR_FEATURES), *widths, heads)
        self.linear = nn.ModuleList(
            nn.Linear(width_in, width_out, bias=bias) for width_in, width_out in pairwise(sizes)
        )
        self.norms = nn.ModuleList(RowNorm(width) for width in sizes[1:])
        self.activation = ACTIVATIONS[activation]()

    def forward(self, vectors_T4: Tensor, tokens: Tokens) -> Tensor:
        """Bias (B, H, L, S); padded keys have `MASKED_SCORE`."""
        return self.of_parts([(vectors_T4, tokens)])[0]

    def of_parts(self, parts: Sequence[tuple[Tensor, Tokens]]) -> list[Tensor]:
        """Bias of each part of a batch; the statistics of batch norm are those of all pairs.

        Parameters
        ----------
        parts : sequence of (Tensor, Tokens)
            Four-vectors (T, 4) of each part, and where they go in their jets.
        """
        found = [_Pairs.of(vectors_T4, tokens) for vectors_T4, tokens in parts]
        if len(found) == 1:
            return [found[0].bias(self.embed(found[0].features_P4))]
        embedded = self.embed(torch.cat([pairs.features_P4 for pairs in found]))
        sizes = [len(pairs.features_P4) for pairs in found]
        return [pairs.bias(rows) for pairs, rows in zip(found, embedded.split(sizes), strict=True)]

    def embed(self, pairs_P4: Tensor) -> Tensor:
        """Embedded pairs (P, H)."""
        return self._embed_by_batch(pairs_P4) if self.training else self._embed_folded(pairs_P4)

    def _embed_by_batch(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        for linear, norm in zip(self.linear, self.norms, strict=True):
            x = norm(linear(x if linear is self.linear[0] else self.activation(x)))
        return x

    def _embed_folded(self, x: Tensor) -> Tensor:
        """In evaluation batch norm is a scale and a shift: they are taken into the linear layers."""
        scale_in, shift_in = self.norm.scale_and_shift()
        for linear, norm in zip(self.linear, self.norms, strict=True):
            scale, shift = norm.scale_and_shift()  # type: ignore[operator]
            weight = linear.weight * scale[:, None]
            if linear.bias is not None:
                shift = shift + scale * linear.bias
            if linear is self.linear[0]:
                x = F.linear(x, weight * scale_in, shift + weight @ shift_in)
            else:
                x = F.linear(self.activation(x), weight, shift)
        return x


def padding_bias(mask_BS: Tensor, dtype: torch.dtype) -> Tensor:
    """Bias (B, 1, 1, S) that takes padded keys out of the attention."""
    return torch.where(mask_BS, 0.0, MASKED_SCORE).to(dtype)[:, None, None, :]
