"""Ours: the network with several tasks on jets from a file, with Salt's weights."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import Stopwatch, options_of_side, peak_memory
from benchmarks.sides.salt_names import name_in_salt
from pfnano_tag.card.training import Training
from pfnano_tag.models.batch import Batch, FlatInputs, GroupInputs, collate
from pfnano_tag.models.losses import CrossEntropy
from pfnano_tag.models.multitask import Multitask
from pfnano_tag.models.registry import build
from pfnano_tag.nano.allocation import keep_freed_memory
from pfnano_tag.nano.features import read_jets
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.prepare.inputs import InputSpec
from pfnano_tag.train.objective import Objective
from pfnano_tag.train.order import batches_of

NO_INPUTS = InputSpec("", {}, {}, 0.0)
GROUP = "charged"


def write_jets(options: dict[str, Any]) -> dict[str, Any]:
    """Write random inputs and labels for jets with as many tracks as generated ones, or with a fixed number.

    Returns
    -------
    dict
        `jets`, and their `mean`, `p90` and `most` tracks.
    """
    random = np.random.default_rng(1)
    if options["full"]:
        counts = np.full(options["jets"], options["tracks"])
    else:
        with PFNanoFile(options["file"]) as file:
            chunk = file.chunk(0, min(options["events"], file.num_entries))
            mask = (chunk["Jet_pt"].values > options["pt"]) & (np.abs(chunk["Jet_eta"].values) < 2.5)
            table = read_jets(chunk, (f"{GROUP}/ptrel",), mask, {GROUP: options["tracks"]}, 0.95)
        counts = table.groups[GROUP].counts
        counts = counts[counts > 0][: options["jets"]]
    rows, jets = int(counts.sum()), len(counts)
    np.savez(
        options["jets_file"],
        jet=random.normal(size=(jets, options["jets_features"])).astype(np.float32),
        x=random.normal(size=(rows, options["tracks_features"])).astype(np.float32),
        counts=counts.astype(np.int64),
        label=random.integers(0, options["classes"], jets),
        origin=random.integers(0, options["origins"], rows),
        vertex=random.integers(0, options["vertices"], rows),
        order=random.permutation(jets),
    )
    p90, most = np.percentile(counts, [90, 100])
    return {"jets": jets, "mean": round(float(counts.mean()), 2), "p90": float(p90), "most": float(most)}


def network(options: dict[str, Any]) -> Multitask:
    """Return our network with Salt's weights."""
    weights_of = options["weights_of_tasks"]
    vertex = {"kind": "edges", "target": f"{GROUP}/vertex", "weight": weights_of["vertex"]}
    if options["ordered"]:
        vertex["ordered"] = True
    tasks = {
        "origin": {"kind": "constituents", "target": f"{GROUP}/origin", "weight": weights_of["origin"]},
        "vertex": vertex,
    }
    arguments = {"registers": 1, "jet_inputs": False, "tasks": tasks}
    features = {"jet": options["jets_features"], GROUP: options["tracks_features"]}
    module = build("multitask", arguments, features, options["classes"])
    assert isinstance(module, Multitask)
    with np.load(options["weights"]) as file:
        weights = {name: torch.from_numpy(file[name]) for name in file.files}
    for name, values in module.state_dict().items():
        theirs = name_in_salt(name)
        if theirs is not None:  # one track's columns stand for both where pairs are not ordered
            values.copy_(weights[theirs][..., : values.shape[-1]] if values.ndim > 1 else weights[theirs])
    return module


class Jets:
    """All jets, flat, with labels and targets.

    Parameters
    ----------
    options : dict
        Of the side.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        with np.load(options["jets_file"]) as file:
            content = {name: torch.from_numpy(file[name]) for name in file.files}
        offsets = torch.nn.functional.pad(content["counts"].cumsum(0), (1, 0))
        group = GroupInputs(content["x"], torch.zeros_like(content["x"], dtype=torch.bool), offsets)
        default = torch.zeros_like(content["jet"], dtype=torch.bool)
        self.flat = FlatInputs(content["jet"], default, {GROUP: group})
        self.label, self.order = content["label"], content["order"].numpy()
        self.targets = {f"{GROUP}/{name}": content[name] for name in ("origin", "vertex")}

    def batch(self, indices: torch.Tensor) -> Batch:
        """Return jets as a batch."""
        return collate(self.flat, indices, self.label, targets=self.targets)


def outputs(options: dict[str, Any]) -> dict[str, Any]:
    """Outputs of all tasks, all jets in one batch; pairs with the places of their tracks."""
    module, jets = network(options).eval(), Jets(options)
    batch = jets.batch(torch.arange(len(jets.label)))
    group = batch.groups[GROUP]
    with torch.inference_mode():
        found = module.outputs(batch.jet_BF, {GROUP: group.x_BNF}, {GROUP: group.mask_BN})
    np.savez(options["outputs"], **{name.replace("/", "_"): values.numpy() for name, values in found.items()})
    return {"jets": len(jets.label)}


def train(options: dict[str, Any]) -> dict[str, Any]:
    """One epoch of training steps in batches of similar length, as the training makes them."""
    keep_freed_memory()  # as the command that trains does
    torch.manual_seed(1)
    module, jets = network(options).train(), Jets(options)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    objective = Objective(CrossEntropy(), Training(), None, NO_INPUTS, 1)
    lengths = jets.flat.lengths.numpy()
    batches = list(batches_of(jets.order, options["batch"], lambda some: lengths[some]))
    objective.gradient(module, jets.batch(torch.arange(4)), 1, 0)
    optimizer.step()
    before = peak_memory()
    with Stopwatch() as watch:
        for number, indices in enumerate(batches):
            objective.gradient(module, jets.batch(torch.from_numpy(indices)), 1, number)
            optimizer.step()
    return {**watch.seconds, "jets": len(jets.label), "memory": peak_memory() - before}


def main() -> None:
    """Do what the options say and print the result."""
    torch.set_num_threads(1)
    options = options_of_side()
    print(json.dumps({"jets": write_jets, "outputs": outputs, "train": train}[options["do"]](options)))


if __name__ == "__main__":
    main()
