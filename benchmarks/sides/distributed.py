"""Ours: training of the Particle Transformer in one process, or in several that share the jets; one thread each."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch

from benchmarks.measuring import Stopwatch, options_of_side
from benchmarks.sides.transformer import NO_INPUTS, jets_of
from pfnano_tag.card.launch import launch_of
from pfnano_tag.card.training import Training
from pfnano_tag.models.batch import collate
from pfnano_tag.models.losses import CrossEntropy
from pfnano_tag.models.particle_transformer import ParticleTransformer, ParticleTransformerConfig
from pfnano_tag.train.dataloader import LabelledInputs, Stream
from pfnano_tag.train.distributed import World, joined
from pfnano_tag.train.objective import Objective
from pfnano_tag.train.optimisation import bound_gradient

CHECKED = 100
"""Jets whose gradient is compared between one process and several."""


def network(options: dict[str, Any], **arguments: Any) -> ParticleTransformer:
    """Return the published network, with the same weights each time."""
    torch.manual_seed(1)
    features = {"jet": 0, "charged": options["features"]}
    config = ParticleTransformerConfig(features=features, classes=options["classes"], jet_inputs=False, **arguments)
    return ParticleTransformer(config).train()


def share_of(jets: int, world: World) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Return the jets of this process, and how many each has: neighbours, uneven by a few."""
    edges = [0, *(jets * (rank + 1) // world.size + 3 for rank in range(world.size - 1)), jets]
    sizes = tuple(stop - start for start, stop in pairwise(edges))
    return torch.arange(edges[world.rank], edges[world.rank + 1]), sizes


def gradient_of_few(options: dict[str, Any], world: World, jets: LabelledInputs) -> list[float]:
    """Return loss and norm of the gradient of some jets, without dropout and in one part."""
    module = network(options, dropout=0.0)
    objective = Objective(CrossEntropy(), Training(constituents_at_once=None), None, NO_INPUTS, 1, world)
    own, _ = share_of(CHECKED, world)
    loss = objective.gradient(module, collate(jets.inputs, own, jets.label, jets.weight), 1, 0)
    total = world.add_gradients(module, loss).sum()
    return [float(total), float(bound_gradient(module, None))]


def train(options: dict[str, Any], world: World) -> dict[str, Any]:
    """Train for an epoch of steps, each process on its jets."""
    flat, label, _ = jets_of(options)
    jets = LabelledInputs(flat, label, torch.ones(len(label)))
    checked = gradient_of_few(options, world, jets)
    own, sizes = share_of(len(jets), world)
    part = LabelledInputs(flat.select(own), label[own], jets.weight[own])
    stream = Stream.of_jets(part, part)
    stream.share = replace(stream.share, rank=world.rank, training=sizes)
    loader = stream.loader(options["batch"], len(jets), True, 1)
    module, settings = network(options), Training()
    objective = Objective(CrossEntropy(), settings, None, NO_INPUTS, 1, world)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    seen, watch = 0, Stopwatch()
    world.wait()
    with watch:
        for number, batch in enumerate(loader.epoch(1)):
            world.add_gradients(module, objective.gradient(module, batch, 1, number))
            bound_gradient(module, settings.gradient_clip)
            optimizer.step()
            seen += len(batch)
        world.wait()
    busiest, everyone = float(world.table(watch.cpu).max()), int(world.sums(seen)[0])
    return {**watch.seconds, "busiest": busiest, "jets": everyone, "steps": len(loader), "checked": checked}


def start(processes: int) -> None:
    """Start this module in several processes, as torchrun does."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    common = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "benchmarks.sides.distributed", sys.argv[1]]
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    started = [subprocess.Popen(command, env=os.environ | common | rank) for rank in ranks]
    codes = [process.wait() for process in started]
    if any(codes):
        sys.exit(f"processes ended with exit codes {codes}")


def main() -> None:
    """Do what the options say; the first of the processes prints the result."""
    torch.set_num_threads(1)
    options, launch = options_of_side(), launch_of()
    if options["processes"] > 1 and launch.size == 1:
        start(options["processes"])
        return
    with joined(launch, torch.device("cpu")) as world:
        found = train(options, world)
    if world.leads:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
