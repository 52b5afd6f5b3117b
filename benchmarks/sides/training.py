"""Ours: a training of several epochs, with all that an epoch is made of."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from benchmarks.measuring import options_of_side
from benchmarks.sides.stream import open_stream
from pfnano_tag.card import read_card
from pfnano_tag.card.folder import prepared_path
from pfnano_tag.prepare.prepared import read_prepared
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.stage import recipe_of
from pfnano_tag.train.wrapper import Trainer


def train(options: dict[str, Any]) -> dict[str, Any]:
    """Train the only network of a card.

    Returns
    -------
    dict
        Means of the epochs behind the first: `wall` of the whole epoch (training, validation, checkpoint), `cpu` of
        this process in it, `training`: wall seconds of its training part; `jets` of an epoch; `weights`: a digest of
        the network at the end.
    """
    card = read_card(options["card"], options["set"])
    prepared = read_prepared(prepared_path(card), card)
    (name,) = card.models
    with Interruption() as interruption, open_stream(card, prepared) as stream:
        trainer = Trainer(recipe_of(card, prepared, name), stream)
        trainer.run(interruption)
    later = trainer.timings[1:]
    weights = hashlib.sha256()
    for values in trainer.module.state_dict().values():
        weights.update(values.numpy().tobytes())
    jets = stream.share.jets["train"]
    return {
        "wall": sum(timing["wall_seconds"] for timing in later) / len(later),
        "cpu": sum(timing["cpu_seconds"] for timing in later) / len(later),
        "training": sum(jets / timing["jets_per_second"] for timing in later) / len(later),
        "jets": jets,
        "validation_jets": stream.share.jets["validation"],
        "weights": weights.hexdigest(),
    }


def main() -> None:
    """Train and print the result."""
    torch.set_num_threads(1)
    print(json.dumps(train(options_of_side())))


if __name__ == "__main__":
    main()
