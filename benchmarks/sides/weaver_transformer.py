"""The peer: weaver-core's Particle Transformer in its default form, on the same jets with the same weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from weaver.nn.model.ParticleTransformer import ParticleTransformer  # type: ignore[import-not-found]

from benchmarks.measuring import Stopwatch, options_of_side, peak_memory

WARM_UP = 6
"""Calls after which weaver's trimmer begins to cut sequences to the longest jet of a batch."""


def write_weights(options: dict[str, Any]) -> dict[str, Any]:
    """Draw weights, and write them; running statistics are moved away from zero and one."""
    torch.manual_seed(1)
    module = ParticleTransformer(options["features"], options["classes"])
    for name, values in module.state_dict().items():
        if name.endswith("running_mean"):
            values.normal_(0, 0.3)
        elif name.endswith("running_var"):
            values.uniform_(0.5, 2)
    np.savez(options["weights"], **{name: values.numpy() for name, values in module.state_dict().items()})
    return {"parameters": sum(parameter.numel() for parameter in module.parameters())}


class Jets:
    """All jets, padded to the longest as weaver's loader delivers them, and the network with its weights.

    Parameters
    ----------
    options : dict
        Of the side.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        with np.load(options["jets_file"]) as file:
            content = {name: torch.from_numpy(file[name]) for name in file.files}
        counts = content["counts"]
        self.mask = torch.arange(int(counts.max())) < counts[:, None]
        self.x = torch.zeros(*self.mask.shape, options["features"])
        self.vectors = torch.zeros(*self.mask.shape, 4)
        self.x[self.mask], self.vectors[self.mask] = content["x"], content["vectors"]
        self.label, self.order, self.size = content["label"], content["order"], options["batch"]
        self.module = ParticleTransformer(options["features"], options["classes"])
        with np.load(options["weights"]) as file:
            self.module.load_state_dict({name: torch.from_numpy(file[name]) for name in file.files})

    def __call__(self, jets: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.module(
            self.x[jets].mT.contiguous(), self.vectors[jets].mT.contiguous(), self.mask[jets][:, None]
        )
        return logits

    def batches(self) -> Iterator[torch.Tensor]:
        """Yield batches in random order."""
        yield from self.order.split(self.size)

    def warm_up(self) -> None:
        """Let the trimmer begin."""
        for _ in range(WARM_UP):
            self(torch.arange(8))


def infer(options: dict[str, Any]) -> dict[str, Any]:
    """Logits of all jets."""
    jets = Jets(options)
    jets.module.eval()
    out = torch.empty(len(jets.label), options["classes"])
    with torch.inference_mode():
        jets.warm_up()
        with Stopwatch() as watch:
            for indices in jets.batches():
                out[indices] = jets(indices)
    if "logits" in options:
        np.save(options["logits"], out.numpy())
    return {**watch.seconds, "jets": len(jets.label), "versions": {"weaver-core": version("weaver-core")}}


def train(options: dict[str, Any]) -> dict[str, Any]:
    """One epoch of training steps."""
    torch.manual_seed(1)
    jets = Jets(options)
    jets.module.train()
    optimizer = torch.optim.AdamW(jets.module.parameters(), lr=1e-4)
    jets.warm_up()
    before = peak_memory()
    with Stopwatch() as watch:
        for indices in jets.batches():
            loss = functional.cross_entropy(jets(indices), jets.label[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {**watch.seconds, "jets": len(jets.label), "memory": peak_memory() - before}


def main() -> None:
    """Do what the options say and print the result."""
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    options = options_of_side()
    print(json.dumps({"weights": write_weights, "infer": infer, "train": train}[options["do"]](options)))


if __name__ == "__main__":
    main()
