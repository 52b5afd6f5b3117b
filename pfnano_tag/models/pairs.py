"""Pairwise features of constituents and the attention bias made from them.

Features and their order as in the Particle Transformer (Qu, Li, Qian, arXiv:2202.03772, eq. 3) and its reference
implementation: ln kT, ln z, ln Delta, ln m2, with the true rapidity.

Shape suffixes: B jets, L tokens (packed to the left, padded), P real pairs i >= j of all jets, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pfnano_tag.models.layers import dense_stack, scatter_rows

PAIR_FEATURES = ("ln_kt", "ln_z", "ln_delta", "ln_m2")
FLOOR = 1e-8

# Centre and width of the four features for constituents of jets of 20 to 1000 GeV: they only bring the inputs of
# the first layer near unit size, as batch norm would, but without depending on the batch.
TYPICAL_CENTRE = (-1.5, -1.5, -2.5, -1.0)
TYPICAL_WIDTH = (2.5, 1.0, 2.0, 3.0)

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
    pt = torch.hypot(px, py)
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
    delta = torch.hypot(y_a - y_b, phi)
    pt_min = torch.minimum(pt_a, pt_b)
    total = a[..., 3:] + b[..., 3:]
    mass2 = total[..., 3] ** 2 - total[..., :3].square().sum(-1)
    features = torch.stack([pt_min * delta, pt_min / (pt_a + pt_b).clamp(min=FLOOR), delta, mass2], dim=-1)
    return features.clamp(min=FLOOR).log()


class PairEmbedding(nn.Module):
    """Attention bias per head from pair features: computed on real pairs i >= j, then mirrored.

    Parameters
    ----------
    widths : sequence of int
        Widths of the hidden layers.
    heads : int
        Attention heads, the output width.
    activation : str
        relu, gelu or silu.
    """

    centre: Tensor
    width: Tensor

    def __init__(self, widths: Sequence[int], heads: int, activation: str) -> None:
        super().__init__()
        self.heads = heads
        self.layers = nn.Sequential(
            dense_stack(len(PAIR_FEATURES), widths, activation, False, 0.0), nn.Linear(widths[-1], heads)
        )
        self.register_buffer("centre", torch.tensor(TYPICAL_CENTRE), persistent=False)
        self.register_buffer("width", torch.tensor(TYPICAL_WIDTH), persistent=False)

    def forward(self, vectors_BL4: Tensor, mask_BL: Tensor) -> Tensor:
        """Bias (B, H, L, L), zero where either token is padding."""
        jets, length = mask_BL.shape
        below = torch.ones(length, length, dtype=torch.bool, device=mask_BL.device).tril()
        jet_P, i_P, j_P = (mask_BL[:, :, None] & mask_BL[:, None, :] & below).nonzero(as_tuple=True)
        with torch.no_grad():  # four-vectors are data, never attacked here
            tokens = kinematics(vectors_BL4).flatten(0, 1)
            pairs_P4 = pair_features(tokens[jet_P * length + i_P], tokens[jet_P * length + j_P])
            pairs_P4 = (pairs_P4 - self.centre) / self.width
        bias_PH = self.layers(pairs_P4)
        upper = scatter_rows(bias_PH, (jet_P * length + j_P) * length + i_P, jets * length * length)
        both = upper.index_copy(0, (jet_P * length + i_P) * length + j_P, bias_PH)
        return both.view(jets, length, length, self.heads).permute(0, 3, 1, 2)


def padding_bias(mask_BL: Tensor, dtype: torch.dtype) -> Tensor:
    """Bias (B, 1, 1, L) that takes padded keys out of the attention."""
    return torch.where(mask_BL, 0.0, MASKED_SCORE).to(dtype)[:, None, None, :]
