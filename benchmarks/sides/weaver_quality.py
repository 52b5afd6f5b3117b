"""The peer: weaver-core's Particle Transformer, trained in a plain loop as weaver's trainer does."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from weaver.nn.model.ParticleTransformer import (  # type: ignore[import-not-found]
    Embed,
    ParticleTransformer,
    SequenceTrimmer,
)

from benchmarks.measuring import Stopwatch, options_of_side

GROUPS = ("charged", "neutral", "sv")
CHECKED = 256
"""Test jets whose logits are compared."""


class Tagger(nn.Module):
    """weaver's `ParticleTransformerTagger` with three groups in place of two, from the same parts.

    Parameters
    ----------
    features : dict of int
        Inputs of each group.
    classes : int
        Outputs.
    sizes : dict
        Arguments of our network.
    """

    def __init__(self, features: dict[str, int], classes: int, sizes: dict[str, Any]) -> None:
        super().__init__()
        self.trimmers = nn.ModuleList(SequenceTrimmer(enabled=True) for _ in GROUPS)
        self.embeds = nn.ModuleList(Embed(features[group], sizes["embed"], activation="gelu") for group in GROUPS)
        self.part = ParticleTransformer(
            input_dim=sizes["embed"][-1],
            num_classes=classes,
            embed_dims=[],
            pair_embed_dims=sizes["pair"],
            num_heads=sizes["heads"],
            num_layers=sizes["blocks"],
            num_cls_layers=sizes["class_blocks"],
            trim=False,
        )

    def forward(self, groups: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Logits, from x (B, F, N), four-vectors (B, 4, N) and mask (B, 1, N) of each group."""
        with torch.no_grad():
            trimmed = [trim(*group) for trim, group in zip(self.trimmers, groups, strict=True)]
        vectors, mask = (torch.cat([group[i] for group in trimmed], dim=2) for i in (1, 2))
        tokens = [embed(group[0]) for embed, group in zip(self.embeds, trimmed, strict=True)]
        logits: torch.Tensor = self.part(torch.cat(tokens, dim=1), vectors, mask)
        return logits


class Jets:
    """Jets padded to the longest, as weaver's loader delivers them.

    Parameters
    ----------
    path : str
        File that our side wrote.
    purpose : str
        train or test.
    """

    def __init__(self, path: str, purpose: str) -> None:
        self.groups = []
        with np.load(path) as file:
            self.label = torch.from_numpy(file[f"{purpose}/label"])
            for group in GROUPS:
                x, vectors, counts = (
                    torch.from_numpy(file[f"{purpose}/{group}/{part}"]) for part in ("x", "vectors", "counts")
                )
                mask = torch.arange(int(counts.max())) < counts[:, None]
                self.groups.append((*(self._padded(rows, mask) for rows in (x, vectors)), mask[:, None]))

    @staticmethod
    def _padded(rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        values = torch.zeros(*mask.shape, rows.shape[1])
        values[mask] = rows
        return values.mT.contiguous()

    def of(self, indices: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        """Return the inputs of jets."""
        return [tuple(values[indices] for values in group) for group in self.groups]

    def sums(self) -> list[float]:
        """Return sums of inputs and four-vectors of each group, and of labels: what a network gets."""
        found = [float(values.double().sum()) for x, vectors, _ in self.groups for values in (x, vectors)]
        return [*found, float(self.label.sum())]


def network(options: dict[str, Any]) -> Tagger:
    """Return the network with freshly drawn weights."""
    torch.manual_seed(options["seed"])
    return Tagger(options["features"], options["classes"], options["sizes"])


def train(options: dict[str, Any]) -> dict[str, Any]:
    """Train in random batches with the given learning rates; write the nodes of the test jets."""
    module, jets = network(options), Jets(options["jets_file"], "train")
    with np.load(options["jets_file"]) as file:
        rates = iter(file["rates"].tolist())
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=options["weight_decay"])
    module.train()
    with Stopwatch() as watch:
        for _ in range(options["epochs"]):
            for indices in torch.randperm(len(jets.label)).split(options["batch"]):
                optimizer.param_groups[0]["lr"] = next(rates)
                loss = functional.cross_entropy(module(jets.of(indices)), jets.label[indices])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    test = Jets(options["jets_file"], "test")
    module.eval()
    with torch.inference_mode():
        logits = [module(test.of(indices)) for indices in torch.arange(len(test.label)).split(512)]
    np.save(options["nodes"], torch.cat(logits).softmax(1).numpy())
    parameters = sum(values.numel() for values in module.parameters())
    return {**watch.seconds, "parameters": parameters, "sums": [*jets.sums(), *test.sums()], "left": len(list(rates))}


def write_weights(options: dict[str, Any]) -> dict[str, Any]:
    """Write weights, with running statistics moved away from zero and one, and the logits of some test jets."""
    module, test = network({**options, "seed": 1}).eval(), Jets(options["jets_file"], "test")
    for name, values in module.state_dict().items():
        if name.endswith("running_mean"):
            values.normal_(0, 0.3)
        elif name.endswith("running_var"):
            values.uniform_(0.5, 2)
    with torch.inference_mode():
        logits = module(test.of(torch.arange(min(CHECKED, len(test.label)))))
    np.savez(options["weights"], logits=logits.numpy(), **{k: v.numpy() for k, v in module.state_dict().items()})
    return {"jets": len(logits)}


def main() -> None:
    """Do what the options say and print the result."""
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    options = options_of_side()
    print(json.dumps({"train": train, "weights": write_weights}[options["do"]](options)))


if __name__ == "__main__":
    main()
