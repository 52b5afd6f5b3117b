"""The networks of the coffea processor: DeepSets of the package; a transformer of weaver-core, or of the package.

Weights are the same as ours. weaver-core's Particle Transformer has one or two kinds of constituents; here are three,
put together of its classes in the way in which its `ParticleTransformerTagger` puts two together.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.sides.weaver_names import name_in_weaver
from pfnano_tag.models.deepsets import DeepSets, DeepSetsConfig
from pfnano_tag.models.particle_transformer import ParticleTransformer, ParticleTransformerConfig

NODES = ("b", "bb", "lepb", "c", "uds", "g")

Inputs = Mapping[str, Tensor]
Network = Callable[[Tensor, Inputs, Inputs, Inputs | None], Tensor]
"""From jet (B, F), and groups: x (B, N, F), mask (B, N), four-vectors (B, N, 4), to logits (B, K)."""


def network(options: Mapping[str, Any], widths: dict[str, int]) -> tuple[bool, Network]:
    """Return whether a network needs four-vectors, and the network.

    Parameters
    ----------
    options : mapping
        `folder` and `model` (where weights are), `network` (`deepsets`, `package` or `weaver`), `weaver`: a folder
        with weaver-core.
    widths : dict of int
        Features of each group.
    """
    with np.load(Path(options["folder"]) / f"{options['model']}.npz") as file:
        weights = {name: torch.from_numpy(file[name]) for name in file.files}
    if options["network"] == "weaver":
        sys.path.append(options["weaver"])  # behind the packages of this environment
        return True, _weaver(weights, widths)
    module: nn.Module
    if options["network"] == "package":
        module = ParticleTransformer(ParticleTransformerConfig(widths, len(NODES), jet_inputs=False))
    else:
        module = DeepSets(DeepSetsConfig(widths, len(NODES)))
    module.load_state_dict(weights)
    return options["network"] == "package", module.eval()


def _weaver(weights: Mapping[str, Tensor], widths: Mapping[str, int]) -> Network:
    logging.disable(logging.CRITICAL)
    reference: Any = import_module("weaver.nn.model.ParticleTransformer")

    class Tagger(nn.Module):
        """One embedding for each group, then a transformer of all of them."""

        def __init__(self) -> None:
            super().__init__()
            embed = (128, 512, 128)
            self.embed = nn.ModuleDict(
                {group: reference.Embed(n, embed) for group, n in widths.items() if group != "jet"}
            )
            self.part = reference.ParticleTransformer(embed[-1], len(NODES), embed_dims=[], trim=False)

        def forward(self, jet: Tensor, x: Inputs, mask: Inputs, vectors: Inputs) -> Tensor:
            embedded = [embed(x[group].mT.contiguous()) for group, embed in self.embed.items()]
            momenta = torch.cat([vectors[group] for group in self.embed], dim=1).mT.contiguous()
            real = torch.cat([mask[group] for group in self.embed], dim=1)[:, None]
            logits: Tensor = self.part(torch.cat(embedded, dim=1), momenta, real)
            return logits

    tagger = Tagger()
    embeddings = {group: f"embed.{group}" for group in tagger.embed}
    wanted = tagger.state_dict()
    for name, values in weights.items():
        if not name.endswith("most_rows"):
            theirs = name_in_weaver(name, embeddings)
            wanted[theirs] = values.reshape(wanted[theirs].shape)
    tagger.load_state_dict(wanted)
    return tagger.eval()


def probabilities(
    module: Network,
    scaled: Mapping[str, Sequence[np.ndarray]],
    counts: Mapping[str, np.ndarray],
    vectors: Mapping[str, np.ndarray] | None,
    size: int,
) -> np.ndarray:
    """Return probabilities of flat jets, in batches padded to the longest jet of each.

    Parameters
    ----------
    module : callable
        From `network`.
    scaled : mapping
        Group -> columns of its features.
    counts : mapping of ndarray
        Group of constituents -> number in each jet.
    vectors : mapping of ndarray, or None
        Group -> four-vectors [N, 4] in GeV.
    size : int
        Jets of a batch.
    """
    jet = torch.from_numpy(np.stack(scaled["jet"], axis=1))
    flat = {group: np.stack(scaled[group], axis=1) for group in counts}
    starts = {group: np.concatenate([[0], np.cumsum(one)]) for group, one in counts.items()}
    out = []
    for first in range(0, len(jet), size):
        last = min(first + size, len(jet))
        x, mask, momenta = {}, {}, {}
        for group, one in counts.items():
            here, rows = one[first:last], slice(starts[group][first], starts[group][last])
            longest = max(1, int(here.max(initial=0)))
            mask[group] = torch.from_numpy(np.arange(longest) < here[:, None])
            x[group] = torch.zeros(last - first, longest, flat[group].shape[1])
            x[group][mask[group]] = torch.from_numpy(flat[group][rows])
            if vectors is not None:
                momenta[group] = torch.zeros(last - first, longest, 4)
                momenta[group][mask[group]] = torch.from_numpy(vectors[group][rows])
        with torch.inference_mode():
            out.append(module(jet[first:last], x, mask, momenta or None).softmax(1).numpy())
    return np.concatenate(out) if out else np.zeros((0, len(NODES)), dtype=np.float32)
