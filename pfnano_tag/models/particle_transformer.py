"""Particle Transformer: tokens of any constituent groups, pairwise attention bias, class attention.

Qu, Li, Qian, arXiv:2202.03772 (ParT), layer by layer as its reference implementation in weaver-core
(hqucms/weaver-core:weaver/nn/model/ParticleTransformer.py), versions 1 to 3: with the same weights, outputs are the
same in evaluation. With one group it is the network of the paper; with charged, neutral and secondary-vertex tokens,
one embedding each, it is the AK4 form of CMS taggers, which the framework paper (arXiv:2306.17846) trains.

In training, statistics of batch norm are those of real constituents and pairs; the reference's embedding counts its
padding in.

Shape suffixes: B jets, N constituents of one group (padded), T real constituents of all groups and jets, L slots of a
jet (padded), S >= L slots for its keys, F features, D width, H heads, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pfnano_tag.models.attention import VERSIONS, AttentionBlock
from pfnano_tag.models.layers import ACTIVATIONS, RowNorm
from pfnano_tag.models.pairs import PairEmbedding, padding_bias
from pfnano_tag.models.tokens import Part, Tokens


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
        Concatenate the jet features to the class token in front of the classifier (not in the reference).
    dropout : float
        Dropout probability in the particle blocks; version 3 has none.
    activation : str
        relu, gelu or silu, where the version has no gate.
    version : int
        Of the reference: 1 (as published), 2 (SwiGLU, without the scales of NormFormer), 3 (2 with root-mean-square
        norms, without biases, with stochastic depth instead of dropout).
    recompute : bool
        Keep only what enters a block, and compute the rest again for the gradient: less memory for a second pass
        forward.
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
    version: int = 1
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.embed[-1] % self.heads:
            raise ValueError(f"embed ends with {self.embed[-1]}, which heads = {self.heads} does not divide")
        if self.version not in VERSIONS:
            raise ValueError(f"version: found {self.version}, expected one of {', '.join(map(str, VERSIONS))}")


class Embedding(nn.Module):
    """Batch norm of the inputs, then layer norm, linear layer and activation for each width."""

    def __init__(self, features: int, widths: Sequence[int], activation: str) -> None:
        super().__init__()
        self.norm = RowNorm(features)
        layers: list[nn.Module] = []
        for width_in, width_out in zip((features, *widths[:-1]), widths, strict=True):
            layers += [nn.LayerNorm(width_in), nn.Linear(width_in, width_out), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x_TF: Tensor) -> Tensor:
        """Tokens (T, D) of real constituents."""
        tokens_TD: Tensor = self.layers(self.norm(x_TF))
        return tokens_TD


class ParticleTransformer(nn.Module):
    """Class token after particle attention over the tokens of all groups -> logits.

    The pair bias is embedded once and shared by all particle blocks; class blocks have none.

    Attributes
    ----------
    constituents_at_once : int or None
        Where gradients are taken, in training and by attacks, neighbouring jets with so many constituents together go
        through the blocks at once, padded to their longest; batch norm has the constituents and pairs of the whole
        batch. None: all jets at once. The result does not depend on it; a batch in the order of its jets' lengths has
        least padding.
    """

    wants_buckets: ClassVar[bool] = True
    cuts_batches: ClassVar[bool] = True
    targets: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: ParticleTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.constituents_at_once: int | None = None
        self.needs_vectors = bool(config.pair)
        style, width, activation = VERSIONS[config.version], config.embed[-1], config.activation
        groups = {name: features for name, features in config.features.items() if name != "jet"}
        self.embed = nn.ModuleDict({name: Embedding(n, config.embed, activation) for name, n in groups.items()})
        self.pair = PairEmbedding(config.pair, config.heads, activation, style.bias) if config.pair else None
        sizes = (width, config.heads, config.expansion)
        dropout = 0.0 if config.version == 3 else config.dropout
        self.blocks = nn.ModuleList(AttentionBlock(*sizes, dropout, activation, style) for _ in range(config.blocks))
        self.class_blocks = nn.ModuleList(
            AttentionBlock(*sizes, 0.0, activation, style) for _ in range(config.class_blocks)
        )
        self.class_token = nn.Parameter(torch.empty(1, width))
        self.norm = style.norm(width)
        width += config.features.get("jet", 0) if config.jet_inputs else 0
        layers: list[nn.Module] = []
        for width_out in config.head:
            layers += [nn.Linear(width, width_out, bias=style.bias), ACTIVATIONS[activation]()]
            width = width_out
        self.head = nn.Sequential(*layers, nn.Linear(width, config.classes))
        self._initialise()

    def _initialise(self) -> None:
        """Draw weights as the reference does: Xavier's bounds, queries, keys and values each on their own.

        The pair embedding keeps torch's defaults; what a block adds to the residual shrinks with its depth.
        """
        nn.init.trunc_normal_(self.class_token, std=0.02)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("pair."):
                width_out = module.out_features // (3 if name.endswith("project_in") else 1)
                bound = math.sqrt(6 / (width_out + module.in_features))
                nn.init.uniform_(module.weight, -bound, bound)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            for depth, module in enumerate(self.blocks, 1):
                block = cast(AttentionBlock, module)
                for linear in (block.project_out, block.feed.linear_out):
                    linear.weight /= math.sqrt(2 * depth)

    def forward(
        self,
        jet_BF: Tensor,
        x: dict[str, Tensor],
        mask: dict[str, Tensor],
        vectors: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits (B, K); `vectors` are needed when the pair embedding is on."""
        tokens = Tokens.of([mask[name] for name in self.embed])
        x_TD = torch.cat([embed(x[name][mask[name]]) for name, embed in self.embed.items()])
        x_TD = x_TD.index_select(0, tokens.order_T)
        parts = tokens.parts(self.constituents_at_once if torch.is_grad_enabled() else None)
        biases = self._biases(tokens, parts, mask, vectors)
        summaries = [
            self._attend(x_TD[part.rows], part.tokens, bias) for part, bias in zip(parts, biases, strict=True)
        ]
        summary_BD = summaries[0] if len(summaries) == 1 else torch.cat(summaries)
        if self.config.jet_inputs:
            summary_BD = torch.cat([summary_BD, jet_BF], dim=1)
        logits_BK: Tensor = self.head(summary_BD)
        return logits_BK

    def _biases(
        self,
        tokens: Tokens,
        parts: Sequence[Part],
        mask: Mapping[str, Tensor],
        vectors: Mapping[str, Tensor] | None,
    ) -> list[Tensor]:
        """What each part's scores get: of pairs and padding (B, H, L, S), or of padding alone (B, 1, 1, S)."""
        if self.pair is None:
            return [padding_bias(part.tokens.key_mask_BS, self.class_token.dtype) for part in parts]
        if vectors is None:
            raise ValueError("the pair embedding needs the constituents' four-vectors")
        vectors_T4 = torch.cat([vectors[name][mask[name]] for name in self.embed]).index_select(0, tokens.order_T)
        return self.pair.of_parts([(vectors_T4[part.rows], part.tokens) for part in parts])

    def _attend(self, x_TD: Tensor, tokens: Tokens, bias: Tensor) -> Tensor:
        """Blocks over the tokens of some jets -> what the head sees of each (B, D)."""
        for block in self.blocks:
            if self.config.recompute and self.training:
                x_TD = checkpoint(block, x_TD, tokens, bias, use_reentrant=False)
            else:
                x_TD = block(x_TD, tokens, bias)
        return self._summarise(x_TD, tokens)

    def _summarise(self, x_TD: Tensor, tokens: Tokens) -> Tensor:
        """Class tokens (B, D); without class blocks, the mean of each jet's tokens."""
        jets = len(tokens.mask_BL)
        if not self.class_blocks:
            return cast(Tensor, self.norm(tokens.padded(x_TD).sum(1) / tokens.mask_BL.sum(1).clamp(min=1)[:, None]))
        class_BD = self.class_token.expand(jets, -1)
        bias = F.pad(padding_bias(tokens.key_mask_BS, x_TD.dtype), (1, 0))
        for block in self.class_blocks:
            class_BD = cast(AttentionBlock, block).of_class(class_BD, x_TD, tokens, bias)
        return cast(Tensor, self.norm(class_BD))
