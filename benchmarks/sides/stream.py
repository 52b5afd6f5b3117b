"""Ours: the training stream of a study, from its files to shuffled padded batches."""

from __future__ import annotations

import json
from typing import Any

import torch

from benchmarks.measuring import Stopwatch, options_of_side
from benchmarks.sides.projections import project, save
from pfnano_tag.card import read_card
from pfnano_tag.card.card import Card
from pfnano_tag.card.files import expand_files
from pfnano_tag.card.folder import prepared_path
from pfnano_tag.models.batch import Batch, collate
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.schema import LOG_SCALES
from pfnano_tag.prepare import stage as prepare_stage
from pfnano_tag.prepare.prepared import Prepared, read_prepared
from pfnano_tag.prepare.splitting import SPLITS
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.memory import check_memory, memory_plan

VECTORS = True
"""Whether batches hold four-vectors, as the Particle Transformer takes them."""


def prepare(options: dict[str, Any]) -> dict[str, Any]:
    """Prepare the study and return what another loader must be told to deliver the same.

    Returns
    -------
    dict
        `tree`; `classes` (class -> branches of flags); `groups` (group -> cap, branches of four-vectors, features
        with branch, logarithm, mean, standard deviation, and whether no value is a placeholder); `plan` of the
        chunks; `kept` (number of jets).
    """
    card = read_card(options["card"])
    prepare_stage.run(card)
    prepared = read_prepared(prepared_path(card), card)
    (path,) = expand_files(card.patterns(card.datasets[0]))
    with PFNanoFile(path, card.jets) as file:
        groups = {
            group: {
                "cap": prepared.inputs.caps.get(group),
                "vectors": [file.stored(f"{group}/{c}") for c in ("px", "py", "pz", "energy")],
                "features": [
                    {
                        "id": feature.id,
                        "branch": file.stored(feature.id),
                        "log": LOG_SCALES.get(feature.transform),
                        "mean": feature.mean,
                        "std": feature.std,
                        "complete": feature.live and not prepared.defaults[feature.id].placeholders,
                    }
                    for feature in features
                ],
            }
            for group, features in prepared.inputs.groups.items()
        }
        flags = {name: [f for f in card.jets.tree.labels[name] if f in file.tree.names] for name in prepared.classes}
        tree = file.tree_name
    kept = sum(prepared.total(split) for split in SPLITS)
    return {"tree": tree, "classes": flags, "groups": groups, "plan": prepared.files[0].chunks, "kept": kept}


def columns_of(batch: Batch, prepared: Prepared) -> dict[str, Any]:
    """Return the checked columns of a batch: sums over constituents of each feature, jet features, the label."""
    assert batch.label_B is not None
    names = {group: [f.id for f in features] for group, features in prepared.inputs.groups.items()}
    found = {"label": batch.label_B.numpy()}
    found |= {name: batch.jet_BF[:, i].double().numpy() for i, name in enumerate(names["jet"])}
    for group, content in batch.groups.items():
        summed = content.x_BNF.double().sum(dim=1).numpy()
        found |= {name: summed[:, i] for i, name in enumerate(names[group])}
        if content.vectors_BN4 is not None:
            summed = content.vectors_BN4.double().sum(dim=1).numpy()
            found |= {f"{group}/{c}": summed[:, i] for i, c in enumerate(("px", "py", "pz", "energy"))}
    return found


def open_stream(card: Card, prepared: Prepared) -> Stream:
    """Return the stream as the training opens it."""
    plan = memory_plan(card, prepared, [card.training.buffer], VECTORS)
    check_memory(card, prepared, plan)
    return Stream.of_study(card, prepared, plan)


def epochs(options: dict[str, Any]) -> dict[str, Any]:
    """Run epochs: the first one with all that opens the stream, the others on their own."""
    card = read_card(options["card"], options.get("set", []))
    prepared = read_prepared(prepared_path(card), card)
    jets = elements = filled = 0
    first, later = Stopwatch(), Stopwatch()
    first.start()
    with open_stream(card, prepared) as stream:
        loader = stream.loader(card.training.batch_size, card.training.buffer, options["buckets"], card.study.seed)
        for batch in loader.epoch(1):
            jets += len(batch)
            for group in batch.groups.values():
                elements += group.mask_BN.numel()
        first.stop()
        for epoch in range(2, options.get("epochs", 1) + 1):
            with later:
                filled += sum(len(batch) for batch in loader.epoch(epoch))
    if "save" in options:
        write_projections(card, prepared, options)
    found = {**first.seconds, "jets": jets, "slots_per_jet": round(elements / max(jets, 1), 2)}
    return found | {"later": {**later.seconds, "jets": filled}}


def write_projections(card: Card, prepared: Prepared, options: dict[str, Any]) -> None:
    """Deliver all jets, those of the training split in batches, and write their projections."""
    with open_stream(card, prepared) as stream:
        loader = stream.loader(card.training.batch_size, card.training.buffer, options["buckets"], card.study.seed)
        found = [project(columns_of(batch, prepared), options["columns"]) for batch in loader.epoch(1)]
        for part in stream.validation(card.training.batch_size):
            every = torch.arange(len(part))
            batch = collate(part.inputs, every, part.label, part.weight)
            found.append(project(columns_of(batch, prepared), options["columns"]))
    save(found, options["save"])


def main() -> None:
    """Do what the options say and print the result."""
    torch.set_num_threads(1)
    options = options_of_side()
    print(json.dumps({"prepare": prepare, "epochs": epochs}[options["do"]](options)))


if __name__ == "__main__":
    main()
