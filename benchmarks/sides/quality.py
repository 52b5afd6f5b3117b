"""Ours: a Particle Transformer trained on jets that another side trains on as well."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measuring import Stopwatch, options_of_side
from benchmarks.sides.weaver_names import name_in_weaver
from pfnano_tag.card import read_card
from pfnano_tag.card.folder import prepared_path
from pfnano_tag.evaluate.metrics import auc_name
from pfnano_tag.infer.conversion import to_inputs
from pfnano_tag.infer.prediction import inference_batches
from pfnano_tag.models.batch import FlatInputs, GroupInputs, call, collate, evaluating
from pfnano_tag.prepare import stage as prepare
from pfnano_tag.prepare.prepared import read_prepared
from pfnano_tag.prepare.sample import training_jets
from pfnano_tag.train.dataloader import LabelledInputs, Stream
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.optimisation import rate_factor
from pfnano_tag.train.stage import recipe_of
from pfnano_tag.train.validation import separation
from pfnano_tag.train.wrapper import Trainer

EMBEDDINGS = {"charged": "embeds.0", "neutral": "embeds.1", "sv": "embeds.2"}
"""Our groups, and the names of their embeddings in the network that the other side puts together."""
SPLITS = {"train": "train", "test": "validation"}
"""What jets are for, and the split that they come from; no epoch is chosen by them."""


def write_jets(options: dict[str, Any]) -> dict[str, Any]:
    """Prepare the study; write scaled inputs and labels of all jets with constituents, and the learning rates."""
    card = read_card(options["card"])
    prepare.run(card)
    prepared = read_prepared(prepared_path(card), card)
    content: dict[str, NDArray[Any]] = {}
    for purpose, split in SPLITS.items():
        parts = []
        for jets in training_jets(card, prepared, (split,)):
            flat = to_inputs(jets.table, prepared.inputs, vectors=True)
            some = (flat.lengths > 0).nonzero().squeeze(1)[: options["jets"]]  # weaver has no jets without any
            parts.append((flat.select(some), jets.label[some.numpy()]))
        content[f"{purpose}/label"] = np.concatenate([label for _, label in parts])
        for group in EMBEDDINGS:
            groups = [flat.groups[group] for flat, _ in parts]
            content[f"{purpose}/{group}/x"] = torch.cat([g.x_NF for g in groups]).numpy()
            content[f"{purpose}/{group}/vectors"] = torch.cat([_vectors(g) for g in groups]).numpy()
            content[f"{purpose}/{group}/counts"] = torch.cat([g.counts for g in groups]).numpy()
    settings = card.training
    steps = -(-len(content["train/label"]) // settings.batch_size)
    content["rates"] = np.array(
        [
            settings.learning_rate * rate_factor(settings.schedule, step, steps, settings.epochs)
            for step in range(steps * settings.epochs)
        ]
    )
    temporary = Path(options["jets_file"]).with_suffix(".tmp.npz")
    np.savez(temporary, **content)
    temporary.rename(options["jets_file"])
    jets = {purpose: len(content[f"{purpose}/label"]) for purpose in SPLITS}
    lengths = sum(content[f"train/{group}/counts"] for group in EMBEDDINGS)
    return {
        "jets": jets,
        "mean": round(float(np.mean(lengths)), 2),
        "classes": list(prepared.classes),
        "features": {group: len(prepared.inputs.groups[group]) for group in EMBEDDINGS},
    }


def _vectors(group: GroupInputs) -> torch.Tensor:
    assert group.vectors_N4 is not None
    return group.vectors_N4


def jets_of(path: str, purpose: str) -> LabelledInputs:
    """Return the jets that are for something, with weight 1."""
    with np.load(path) as file:
        content = {
            name.removeprefix(f"{purpose}/"): torch.from_numpy(file[name]) for name in file.files if purpose in name
        }
    groups = {}
    for name in EMBEDDINGS:
        x, counts = content[f"{name}/x"], content[f"{name}/counts"]
        offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        groups[name] = GroupInputs(x, torch.zeros_like(x, dtype=torch.bool), offsets, content[f"{name}/vectors"])
    label = content["label"]
    nothing = torch.zeros(len(label), 0)
    return LabelledInputs(FlatInputs(nothing, nothing.bool(), groups), label, torch.ones(len(label)))


def sums_of(jets: LabelledInputs) -> list[float]:
    """Return sums of inputs and four-vectors of each group, and of labels, over padded batches."""
    sums = np.zeros(2 * len(EMBEDDINGS) + 1)
    for indices in torch.arange(len(jets)).split(4096):
        batch = collate(jets.inputs, indices, jets.label)
        found = []
        for group in batch.groups.values():
            assert group.vectors_BN4 is not None
            found += [float(group.x_BNF.double().sum()), float(group.vectors_BN4.double().sum())]
        sums += [*found, float(jets.label[indices].sum())]
    return [float(value) for value in sums]


def trainer_of(options: dict[str, Any], training: LabelledInputs, test: LabelledInputs) -> Trainer:
    """Return the training of the card's only network with another seed."""
    card = read_card(options["card"], [f"study.seed={options['seed']}"])
    prepared = read_prepared(prepared_path(card), card)
    (name,) = card.models
    recipe = recipe_of(card, prepared, name)
    folder = recipe.folder.with_name(f"{name}_{options['seed']}")
    return Trainer(replace(recipe, folder=folder), Stream.of_jets(training, test))


def nodes_of(module: torch.nn.Module, jets: LabelledInputs) -> torch.Tensor:
    """Return the probabilities of the classes."""
    out = []
    batches = inference_batches(module, jets.inputs, 512)
    with evaluating(module), torch.inference_mode():
        out = [call(module, collate(jets.inputs, indices)) for indices in batches]
    found = torch.cat(out)
    return torch.empty_like(found).index_copy(0, torch.cat(batches), found).softmax(1)


def aucs(options: dict[str, Any], nodes: NDArray[np.floating]) -> dict[str, float]:
    """Return the AUC of each discriminant that is asked for, on the test jets."""
    card = read_card(options["card"])
    prepared = read_prepared(prepared_path(card), card)
    label = jets_of(options["jets_file"], "test").label.numpy()
    found = separation(nodes.astype(np.float64), label, prepared.classes, card.evaluation)
    return {name: float(found[auc_name(name)] or 0.0) for name in options["discriminants"]}


def train(options: dict[str, Any]) -> dict[str, Any]:
    """Train, and apply the network of the last epoch to the test jets."""
    training, test = (jets_of(options["jets_file"], purpose) for purpose in SPLITS)
    trainer = trainer_of(options, training, test)
    with Interruption() as interruption, Stopwatch() as watch:
        trainer.run(interruption)
    nodes = nodes_of(trainer.module, test).numpy()
    parameters = sum(values.numel() for values in trainer.module.parameters())
    seen = [*sums_of(training), *sums_of(test)]
    return {**watch.seconds, "auc": aucs(options, nodes), "parameters": parameters, "sums": seen}


def score(options: dict[str, Any]) -> dict[str, Any]:
    """Return the AUCs of nodes that another side has written."""
    return {"auc": aucs(options, np.load(options["nodes"]))}


def check(options: dict[str, Any]) -> dict[str, Any]:
    """Compare the logits of some test jets with those of the other side's network with the same weights.

    Returns
    -------
    dict
        `difference`, the largest, and `size`, the largest logit.
    """
    test = jets_of(options["jets_file"], "test")
    module = trainer_of({**options, "seed": 1}, test, test).module.eval()
    with np.load(options["weights"]) as file:
        theirs = {name: torch.from_numpy(file[name]) for name in file.files}
    for name, values in module.state_dict().items():
        if not name.endswith("most_rows"):
            values.copy_(theirs[name_in_weaver(name, EMBEDDINGS)].reshape(values.shape))
    expected = theirs["logits"]
    with torch.inference_mode():
        found = call(module, collate(test.inputs, torch.arange(len(expected))))
    return {"difference": float((found - expected).abs().max()), "size": float(expected.abs().max())}


def main() -> None:
    """Do what the options say and print the result."""
    torch.set_num_threads(1)
    options = options_of_side()
    print(json.dumps({"jets": write_jets, "train": train, "score": score, "check": check}[options["do"]](options)))


if __name__ == "__main__":
    main()
