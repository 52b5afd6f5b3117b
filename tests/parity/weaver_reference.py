"""Makes the reference outputs of weaver-core's Particle Transformer, in weaver's own environment.

    bash benchmarks/peers.sh weaver
    benchmarks/peers/weaver/bin/python tests/parity/weaver_reference.py

Writes `weaver_part_<version>.npz` and `weaver_tagger_<version>.npz` beside this file: all weights under weaver's
names (drawn at random, batch norm's running statistics included), inputs, masks, and the outputs in evaluation, in
double precision and in single.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from weaver.nn.model.ParticleTransformer import ParticleTransformer, ParticleTransformerTagger

SIZES = {"embed_dims": (12, 16, 8), "pair_embed_dims": (6, 6), "num_heads": 2, "num_layers": 2, "num_cls_layers": 2}
FEATURES, CLASSES, JETS = {"pf": 5, "sv": 3}, 4, 12
LENGTHS = {"pf": 9, "sv": 3}


def constituents(group: str, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Inputs x (B, N, F), four-vectors v (B, N, 4) and mask (B, N) of a group; some jets have none of it."""
    length = LENGTHS[group]
    counts = torch.randint(0, length + 1, (JETS,), generator=generator)
    counts[0], counts[1] = length, 0
    if group == "pf":
        counts[1] = 1  # a jet without any constituent has no defined output in weaver
    counts[2:].clamp_(min=1 if group == "pf" else 0)
    mask = torch.arange(length) < counts[:, None]
    momentum = torch.randn(JETS, length, 3, generator=generator).double() * torch.tensor([8.0, 8.0, 15.0])
    energy = (momentum.square().sum(-1, keepdim=True) + 0.1396**2).sqrt()
    x = torch.randn(JETS, length, FEATURES[group], generator=generator).double()
    return {"x": x * mask[..., None], "v": torch.cat([momentum, energy], -1) * mask[..., None], "mask": mask}


def randomise(network: torch.nn.Module, generator: torch.Generator) -> None:
    """Move all weights away from their first values, which hide mistakes behind ones and zeros."""
    for name, values in network.state_dict().items():
        if name.endswith("running_var"):
            values.mul_(0.5 + torch.rand(values.shape, generator=generator))
        elif values.dtype.is_floating_point:
            values.add_(0.2 * torch.randn(values.shape, generator=generator))


def write(name: str, network: torch.nn.Module, groups: tuple[str, ...]) -> None:
    """Write weights, inputs and outputs."""
    generator = torch.Generator().manual_seed(7)
    randomise(network, generator)
    network.double().eval()
    inputs = {group: constituents(group, generator) for group in groups}
    arguments = [tensor for part in inputs.values() for tensor in (part["x"].mT, part["v"].mT, part["mask"][:, None])]
    with torch.no_grad():
        output = network(*arguments)
        weights = {key: value.clone() for key, value in network.state_dict().items()}
        single = network.float()(*(tensor.float() if tensor.is_floating_point() else tensor for tensor in arguments))
    content = {f"weight/{key}": value.numpy() for key, value in weights.items()}
    content |= {f"{group}/{key}": value.numpy() for group, part in inputs.items() for key, value in part.items()}
    path = Path(__file__).with_name(f"{name}.npz")
    np.savez_compressed(path, double=output.numpy(), single=single.numpy(), **content)
    print(f"{path}: {sum(p.numel() for p in network.parameters())} parameters")


def main() -> None:
    """Write all references."""
    logging.disable(logging.CRITICAL)
    for version in (1, 2, 3):
        torch.manual_seed(version)
        plain = ParticleTransformer(FEATURES["pf"], CLASSES, version=version, trim=False, **SIZES)
        write(f"weaver_part_{version}", plain, ("pf",))
        tagger = ParticleTransformerTagger(*FEATURES.values(), CLASSES, version=version, trim=False, **SIZES)
        write(f"weaver_tagger_{version}", tagger, ("pf", "sv"))


if __name__ == "__main__":
    main()
