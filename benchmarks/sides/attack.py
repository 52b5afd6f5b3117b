"""Ours: training steps with and without an attack, and the attack alone, on the same batches in memory."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import torch

from benchmarks.measuring import Stopwatch, options_of_side
from benchmarks.sides.stream import open_stream
from pfnano_tag.attack.gradient import input_gradient
from pfnano_tag.attack.registry import make
from pfnano_tag.card import read_card
from pfnano_tag.card.folder import prepared_path
from pfnano_tag.models.batch import Batch, call, evaluating
from pfnano_tag.prepare.inputs import InputSpec
from pfnano_tag.prepare.prepared import read_prepared
from pfnano_tag.train.optimisation import bound_gradient
from pfnano_tag.train.stage import recipe_of
from pfnano_tag.train.wrapper import Trainer


class Network:
    """A network of a card at the beginning of its training, with its first batches.

    Parameters
    ----------
    options : dict
        `card`, `model`, `batches`.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        card = read_card(options["card"])
        prepared = read_prepared(prepared_path(card), card)
        with open_stream(card, prepared) as stream:
            self.trainer = Trainer(recipe_of(card, prepared, options["model"]), stream)
            self.batches = list(islice(self.trainer.loader.epoch(1), options["batches"]))
        self.module, self.settings = self.trainer.module.train(), self.trainer.recipe.settings
        self.inputs, self.attack = prepared.inputs, card.attacks[options["attack"]]
        self.trainer.objective.gradient(self.module, self.batches[0].select(torch.arange(8)), 1, 0)
        self.trainer.optimizer.step()  # makes its state

    @property
    def jets(self) -> int:
        """Jets of all batches."""
        return sum(len(batch) for batch in self.batches)

    def parts(self) -> list[Batch]:
        """What passes through the network at once."""
        limit = self.settings.constituents_at_once if self.module.wants_buckets else None
        return [part for batch in self.batches for part in ([batch] if limit is None else batch.parts(limit))]


def steps(network: Network) -> dict[str, Any]:
    """Training steps, attacked where the card says so."""
    trainer = network.trainer
    with Stopwatch() as watch:
        for number, batch in enumerate(network.batches):
            trainer.objective.gradient(network.module, batch, 1, number)
            bound_gradient(network.module, network.settings.gradient_clip)
            trainer.optimizer.step()
    return watch.seconds


def attacks(network: Network) -> dict[str, Any]:
    """Check the attack, then, part by part in turns: the attack, the gradient that it takes, a training's gradients.

    Returns
    -------
    dict
        CPU seconds: `cpu` of the attack, `inputs` of the gradient of the inputs alone, `parameters` of the loss and
        the gradients of the parameters; and what `check` returns.
    """
    checked = check(network)
    loss = network.trainer.loss
    distort = make(network.attack, network.inputs, loss=loss)
    attack, inputs, parameters = Stopwatch(), Stopwatch(), Stopwatch()
    for number, part in enumerate(network.parts()):
        with inputs:
            input_gradient(network.module, part, loss)
        with attack:
            distort(network.module, part)
        with parameters:
            network.trainer.objective.gradient(network.module, part, 1, number)
    return {**attack.seconds, "inputs": inputs.cpu, "parameters": parameters.cpu, **checked}


def check(network: Network) -> dict[str, Any]:
    """Attack the first batch, and do the same feature by feature in loops, from gradients of a plain `backward`.

    Returns
    -------
    dict
        `different`: values that are not the same bit for bit; `moved`: share of the values that the attack moves.
    """
    loss, batch = network.trainer.loss, network.batches[0]
    attacked = make(network.attack, network.inputs, loss=loss)(network.module, batch)
    leaves = {name: x.clone().requires_grad_() for name, x in batch.inputs.items()}
    with evaluating(network.module):
        groups = {name: x for name, x in leaves.items() if name != "jet"}
        loss(call(network.module, batch.with_inputs(leaves["jet"], groups)), batch.label_B).backward()
    different = moved = total = 0
    for name, x in batch.inputs.items():
        gradient = leaves[name].grad
        expected = x if gradient is None else x + network.attack.epsilon * gradient.sign()
        expected = restored(expected, batch, name, network.inputs)
        different += int((attacked.inputs[name] != expected).sum())
        moved, total = moved + int((expected != x).sum()), total + x.numel()
    return {"different": different, "moved": moved / total}


def restored(attacked: torch.Tensor, batch: Batch, group: str, inputs: InputSpec) -> torch.Tensor:
    """Put back what no attack may change: features that are protected, placeholders, padding."""
    nominal, result = batch.inputs[group], attacked.clone()
    default = batch.jet_default_BF if group == "jet" else batch.groups[group].default_BNF
    for column, feature in enumerate(inputs.groups[group]):
        for jet in range(len(batch)):
            kept = default[jet, ..., column]
            if group != "jet":
                kept = kept | ~batch.groups[group].mask_BN[jet]
            if feature.protected:
                kept = torch.ones_like(kept)
            result[jet, ..., column] = torch.where(kept, nominal[jet, ..., column], attacked[jet, ..., column])
    return result


def main() -> None:
    """Do what the options say and print the result."""
    torch.set_num_threads(1)
    options = options_of_side()
    network = Network(options)
    work = {"steps": steps, "attacks": attacks}[options["do"]]
    print(json.dumps({**work(network), "jets": network.jets}))


if __name__ == "__main__":
    main()
