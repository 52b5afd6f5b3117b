"""Particle Transformer for AK4 jets: charged, neutral and secondary-vertex tokens, pairwise attention bias.

Qu, Li, Qian, arXiv:2202.03772 (ParT); blocks in the NormFormer form of its reference implementation
(Shleifer et al., arXiv:2110.09456); the AK4 form with one embedding per group follows the CMS tagger that the
framework paper (arXiv:2306.17846) trains.

Shape suffixes: B jets, N constituents of one group (padded), T real constituents of one group of all jets,
L tokens of all groups (packed to the left), F features, D width, H heads, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfnano_tag.models.layers import dense_stack, pack_slots, scatter_rows
from pfnano_tag.models.pairs import PairEmbedding, padding_bias


@dataclass(frozen=True)
class ParticleTransformerConfig:
    """Sizes of `ParticleTransformer`; the defaults are those of the reference.

    Parameters
    ----------
    features : dict of str to int
        Number of features per group; `jet` holds the jet features.
    classes : int
        Output nodes.
    embed : tuple of int
        Widths of each group's embedding; the last is the model width D.
    pair : tuple of int
        Hidden widths of the pair embedding; empty: no pairwise bias, no four-vectors needed.
    heads : int
        Attention heads; divides D.
    blocks, class_blocks : int
        Particle attention blocks and class attention blocks.
    expansion : int
        Hidden width of the feed-forward layers, in units of D.
    head : tuple of int
        Hidden widths of the classifier behind the class token.
    jet_inputs : bool
        Concatenate the jet features to the class token in front of the classifier.
    dropout : float
        Dropout probability in the particle blocks (attention and residual branches).
    activation : str
        relu, gelu or silu.
    """

    features: dict[str, int]
    classes: int
    embed: tuple[int, ...] = (128, 512, 128)
    pair: tuple[int, ...] = (64, 64, 64)
    heads: int = 8
    blocks: int = 8
    class_blocks: int = 2
    expansion: int = 4
    head: tuple[int, ...] = ()
    jet_inputs: bool = True
    dropout: float = 0.1
    activation: str = "gelu"

    def __post_init__(self) -> None:
        if self.embed[-1] % self.heads:
            raise ValueError(f"embed ends with {self.embed[-1]}, which heads = {self.heads} does not divide")


class AttentionBlock(nn.Module):
    """Pre-norm attention and feed-forward with the extra norms and scales of NormFormer.

    The output is `x + norm(attention(norm(x)))` followed by `w * x + fc2(norm(act(fc1(norm(x)))))`.
    """

    def __init__(self, width: int, heads: int, expansion: int, dropout: float, activation: str) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_in = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.head_scale = nn.Parameter(torch.ones(heads))
        self.project = nn.Linear(width, width)
        self.norm_attention = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)
        self.feed_in = dense_stack(width, (expansion * width,), activation, False, dropout)
        self.norm_feed = nn.LayerNorm(width)
        self.norm_hidden = nn.LayerNorm(expansion * width)
        self.feed_out = nn.Linear(expansion * width, width)
        self.residual_scale = nn.Parameter(torch.ones(width))

    def attend(self, query_BLD: Tensor, key_BLD: Tensor, bias: Tensor) -> Tensor:
        """Scaled dot-product attention with a bias that broadcasts to (B, H, Lq, Lk)."""
        q = self._split(self.query(query_BLD))
        k, v = (self._split(part) for part in self.key_value(key_BLD).chunk(2, dim=-1))
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        out = out * self.head_scale[:, None, None]
        attended: Tensor = self.project(out.transpose(1, 2).flatten(2))
        return attended

    def forward(self, x_BLD: Tensor, bias: Tensor) -> Tensor:
        """Self-attention of all tokens."""
        normed = self.norm_in(x_BLD)
        return self._finish(x_BLD, self.attend(normed, normed, bias))

    def forward_class(self, class_B1D: Tensor, x_BLD: Tensor, bias: Tensor) -> Tensor:
        """Attention of the class token to itself and all tokens (CaiT, arXiv:2103.17239)."""
        keys = self.norm_in(torch.cat([class_B1D, x_BLD], dim=1))
        return self._finish(class_B1D, self.attend(class_B1D, keys, bias))

    def _finish(self, residual: Tensor, attended: Tensor) -> Tensor:
        x = residual + self.drop(self.norm_attention(attended))
        hidden = self.norm_hidden(self.feed_in(self.norm_feed(x)))
        out: Tensor = self.residual_scale * x + self.drop(self.feed_out(hidden))
        return out

    def _split(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class ParticleTransformer(nn.Module):
    """Class token after particle attention over the tokens of all groups -> logits.

    The pair bias is embedded once and shared by all particle blocks; class blocks have none.
    """

    wants_buckets: ClassVar[bool] = True

    def __init__(self, config: ParticleTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.needs_vectors = bool(config.pair)
        width = config.embed[-1]
        self.embed = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(features, config.embed[0]),
                    nn.LayerNorm(config.embed[0]),
                    dense_stack(config.embed[0], config.embed[1:], config.activation, False, 0.0),
                )
                for name, features in config.features.items()
                if name != "jet"
            }
        )
        self.pair = PairEmbedding(config.pair, config.heads, config.activation) if config.pair else None
        sizes = (width, config.heads, config.expansion)
        self.blocks = nn.ModuleList(
            AttentionBlock(*sizes, config.dropout, config.activation) for _ in range(config.blocks)
        )
        self.class_blocks = nn.ModuleList(
            AttentionBlock(*sizes, 0.0, config.activation) for _ in range(config.class_blocks)
        )
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        nn.init.trunc_normal_(self.class_token, std=0.02)
        self.norm = nn.LayerNorm(width)
        width += config.features.get("jet", 0) if config.jet_inputs else 0
        widths = (width, *config.head)
        self.head = nn.Sequential(
            dense_stack(width, config.head, config.activation, False, 0.0), nn.Linear(widths[-1], config.classes)
        )

    def forward(
        self,
        jet_BF: Tensor,
        x: dict[str, Tensor],
        mask: dict[str, Tensor],
        vectors: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits (B, K); `vectors` are needed when the pair embedding is on."""
        slots, mask_BL = pack_slots([mask[name] for name in self.embed])
        tokens_BLD = self._pack([embed(x[name][mask[name]]) for name, embed in self.embed.items()], slots, mask_BL)
        padding = padding_bias(mask_BL, tokens_BLD.dtype)
        bias = padding
        if self.pair is not None:
            if vectors is None:
                raise ValueError("the pair embedding needs the constituents' four-vectors")
            rows = [vectors[name][mask[name]] for name in self.embed]
            bias = self.pair(self._pack(rows, slots, mask_BL), mask_BL) + padding
        for block in self.blocks:
            tokens_BLD = block(tokens_BLD, bias)
        summary_BD = self._summarise(tokens_BLD, F.pad(padding, (1, 0)))
        if self.config.jet_inputs:
            summary_BD = torch.cat([summary_BD, jet_BF], dim=1)
        logits_BK: Tensor = self.head(summary_BD)
        return logits_BK

    def _summarise(self, tokens_BLD: Tensor, bias: Tensor) -> Tensor:
        class_B1D = self.class_token.expand(len(tokens_BLD), -1, -1)
        for block in self.class_blocks:
            class_B1D = cast(AttentionBlock, block).forward_class(class_B1D, tokens_BLD, bias)
        summary_BD: Tensor = self.norm(class_B1D).squeeze(1)
        return summary_BD

    @staticmethod
    def _pack(rows: list[Tensor], slots: list[Tensor], mask_BL: Tensor) -> Tensor:
        """Rows of all groups as one padded sequence per jet (B, L, ...)."""
        packed = scatter_rows(torch.cat(rows), torch.cat(slots), mask_BL.numel())
        return packed.view(*mask_BL.shape, -1)
