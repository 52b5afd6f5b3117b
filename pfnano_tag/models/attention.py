"""Attention blocks of the Particle Transformer and its later versions.

Dense layers, norms and residuals work on real tokens only; the scores alone are padded.

Shape suffixes: B jets, T real tokens of all jets, L slots of a jet (padded), S >= L slots for its keys, Q query rows
(tokens, or one class token per jet), D width, H heads, E width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfnano_tag.models.dropout import Dropout, dropped
from pfnano_tag.models.layers import ACTIVATIONS, exporting
from pfnano_tag.models.tokens import Tokens


@dataclass(frozen=True)
class Style:
    """What differs between the versions of the Particle Transformer.

    Parameters
    ----------
    rms : bool
        Root-mean-square norm (arXiv:1910.07467) instead of layer norm.
    gated : bool
        SwiGLU feed-forward layers (arXiv:2002.05202).
    scaled : bool
        Extra norms and scales of NormFormer (arXiv:2110.09456): behind the attention, inside the feed-forward layers,
        per head, and on the residual.
    bias : bool
        Whether linear layers have one.
    drop_path : float
        Probability that a jet skips a residual branch in training (stochastic depth, arXiv:1603.09382).
    """

    rms: bool = False
    gated: bool = False
    scaled: bool = True
    bias: bool = True
    drop_path: float = 0.0

    def norm(self, width: int) -> nn.Module:
        """Return a new norm."""
        return nn.RMSNorm(width) if self.rms else nn.LayerNorm(width)


VERSIONS = {
    1: Style(),
    2: Style(gated=True, scaled=False),
    3: Style(rms=True, gated=True, scaled=False, bias=False, drop_path=0.1),
}
"""Versions of the reference implementation, by its numbers."""


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, or a gate."""

    def __init__(self, width: int, hidden: int, dropout: float, activation: str, style: Style) -> None:
        super().__init__()
        self.linear_in = nn.Linear(width, hidden, bias=style.bias)
        self.gate = nn.Linear(width, hidden, bias=style.bias) if style.gated else None
        self.activation = nn.SiLU() if style.gated else ACTIVATIONS[activation]()
        self.drop = Dropout(dropout)
        self.norm = style.norm(hidden) if style.scaled else nn.Identity()
        self.linear_out = nn.Linear(hidden, width, bias=style.bias)

    def forward(self, x_QD: Tensor) -> Tensor:
        """Rows (Q, D)."""
        hidden = self.linear_in(x_QD)
        hidden = self.activation(hidden) if self.gate is None else self.activation(self.gate(x_QD)) * hidden
        out: Tensor = self.linear_out(self.norm(self.drop(hidden)))
        return out


class AttentionBlock(nn.Module):
    """Pre-norm attention and feed-forward layers, each with a residual.

    Parameters
    ----------
    width, heads, expansion : int
        D, H, and the hidden width of the feed-forward layers in units of D.
    dropout : float
        Of attention weights, residual branches and hidden units.
    activation : str
        relu, gelu or silu, where the style has no gate.
    style : Style
        Norms, gates and scales.
    """

    def __init__(self, width: int, heads: int, expansion: int, dropout: float, activation: str, style: Style) -> None:
        super().__init__()
        self.heads, self.dropout, self.drop_path = heads, dropout, style.drop_path
        self.norm_in = style.norm(width)
        self.project_in = nn.Linear(width, 3 * width, bias=style.bias)
        self.project_out = nn.Linear(width, width, bias=style.bias)
        self.head_scale = nn.Parameter(torch.ones(heads)) if style.scaled else None
        self.norm_attention = style.norm(width) if style.scaled else nn.Identity()
        self.drop = Dropout(dropout)
        self.norm_feed = style.norm(width)
        self.feed = FeedForward(width, expansion * width, dropout, activation, style)
        self.residual_scale = nn.Parameter(torch.ones(width)) if style.scaled else None

    def forward(self, x_TD: Tensor, tokens: Tokens, bias: Tensor) -> Tensor:
        """Self-attention of all tokens.

        Parameters
        ----------
        x_TD : Tensor
            Real tokens.
        tokens : Tokens
            Where they go in their jets.
        bias : Tensor
            Added to the scores, broadcast to (B, H, L, S).
        """
        width = x_TD.shape[1]
        query_TD, others_TD = self.project_in(self.norm_in(x_TD)).split([width, 2 * width], dim=-1)
        key_BSD, value_BSD = tokens.keys(others_TD).chunk(2, dim=-1)
        attended = tokens.rows(self._attend(tokens.padded(query_TD), key_BSD, value_BSD, bias))
        return self._finish(x_TD, attended, tokens.jet_T, len(tokens.mask_BL))

    def of_class(self, class_BD: Tensor, x_TD: Tensor, tokens: Tokens, bias: Tensor) -> Tensor:
        """Attention of each jet's class token to itself and the jet's tokens (CaiT, arXiv:2103.17239).

        As in the reference, the query is the class token as it is; keys and values are normed. With one query per jet
        no token needs a key or a value of its own: the query goes through the keys' weights, and the mean token of
        each head through the values' weights. (The keys' offset shifts all scores of a query alike, and drops out.)

        Parameters
        ----------
        class_BD : Tensor
            Class tokens.
        x_TD, tokens, bias
            As for `forward`; `bias` broadcasts to (B, H, 1, 1 + S).
        """
        width, heads = class_BD.shape[1], self.heads
        of_query, of_key, of_value = self.project_in.weight.unflatten(0, (3, heads, width // heads)).unbind()
        query_BD = F.linear(class_BD, of_query.flatten(0, 1), self._offset(0))
        others_BSD = tokens.keys(self.norm_in(x_TD))
        every_BSD = torch.cat([self.norm_in(class_BD)[:, None], others_BSD], dim=1)
        query_HBD = query_BD.unflatten(1, (heads, -1)).transpose(0, 1) @ of_key
        score_BHS = query_HBD.transpose(0, 1) @ every_BSD.transpose(1, 2) * (width // heads) ** -0.5
        mean_BHD = (score_BHS + bias.squeeze(2)).softmax(-1) @ every_BSD
        attended_HBE = mean_BHD.transpose(0, 1) @ of_value.transpose(1, 2)
        attended = attended_HBE.transpose(0, 1).flatten(1)
        offset = self._offset(2)
        every = torch.arange(len(class_BD), device=class_BD.device)
        return self._finish(class_BD, attended if offset is None else attended + offset, every, len(class_BD))

    def _offset(self, part: int) -> Tensor | None:
        """Offset of the queries (0), keys (1) or values (2), if there is one."""
        offset: Tensor | None = self.project_in.bias
        return None if offset is None else offset.chunk(3)[part]

    def _attend(self, query_BLD: Tensor, key_BSD: Tensor, value_BSD: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query_BLD, key_BSD, value_BSD))
        dropout = self.dropout if self.training else 0.0
        # torch's kernel decides on a layout that the exporter takes for another; for CPUs it has none with dropout
        if exporting() or (dropout and q.device.type == "cpu"):
            out = dropped((q * q.shape[-1] ** -0.5 @ k.transpose(2, 3) + bias).softmax(-1), dropout) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        return out.transpose(1, 2).flatten(2)

    def _finish(self, x_QD: Tensor, attended_QD: Tensor, jet_Q: Tensor, jets: int) -> Tensor:
        """Residuals and feed-forward layers of rows, whose jets are given."""
        attended: Tensor = self.project_out(attended_QD)
        if self.head_scale is not None:
            attended = (attended.unflatten(-1, (self.heads, -1)) * self.head_scale[:, None]).flatten(-2)
        x = x_QD + self._kept(self.drop(self.norm_attention(attended)), jet_Q, jets)
        fed = self._kept(self.drop(self.feed(self.norm_feed(x))), jet_Q, jets)
        return fed + x if self.residual_scale is None else torch.addcmul(fed, self.residual_scale, x)

    def _kept(self, branch_QD: Tensor, jet_Q: Tensor, jets: int) -> Tensor:
        """Drop the branch of some jets as a whole, and scale that of the others up."""
        if not self.training or self.drop_path == 0:
            return branch_QD
        keep = 1 - self.drop_path
        kept_B = branch_QD.new_empty(jets, 1).bernoulli_(keep) / keep
        return branch_QD * kept_B.index_select(0, jet_Q)
