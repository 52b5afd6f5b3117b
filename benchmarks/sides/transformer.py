"""Ours: the Particle Transformer on jets from a file, in inference and in training."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import Stopwatch, options_of_side, peak_memory
from benchmarks.sides.weaver_names import name_in_weaver
from pfnano_tag.card.training import Training
from pfnano_tag.infer.prediction import inference_batches
from pfnano_tag.models.batch import FlatInputs, GroupInputs, call, collate
from pfnano_tag.models.losses import CrossEntropy
from pfnano_tag.models.particle_transformer import ParticleTransformer, ParticleTransformerConfig
from pfnano_tag.nano.allocation import keep_freed_memory
from pfnano_tag.nano.features import read_jets
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.prepare.inputs import InputSpec
from pfnano_tag.train.objective import Objective
from pfnano_tag.train.order import batches_of

GROUPS = ("charged", "neutral", "sv")
CAPS = {"charged": 25, "neutral": 25, "sv": 5}
NO_INPUTS = InputSpec("", {}, {}, 0.0)
EMBEDDINGS = {"charged": "embed"}


def write_jets(options: dict[str, Any]) -> dict[str, Any]:
    """Write four-vectors of the constituents of generated jets above a transverse momentum, with random inputs.

    Returns
    -------
    dict
        `jets`, and their `mean`, `p90` and `most` constituents.
    """
    with PFNanoFile(options["file"]) as file:
        chunk = file.chunk(0, min(options["events"], file.num_entries))
        mask = (chunk["Jet_pt"].values > options["pt"]) & (np.abs(chunk["Jet_eta"].values) < 2.5)
        table = read_jets(chunk, ("charged/ptrel", "neutral/ptrel", "sv/pt"), mask, CAPS, 0.95)
    tables = [table.groups[name] for name in GROUPS]
    jet = np.concatenate([np.repeat(np.arange(len(table)), part.counts) for part in tables])
    order = np.argsort(jet, kind="stable")
    columns = [np.concatenate([part.columns[name] for part in tables]) for name in ("px", "py", "pz", "energy")]
    vectors, jet = np.stack(columns, axis=1)[order], jet[order]
    counts = np.bincount(jet, minlength=len(table))
    rank = np.arange(len(jet)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = rank < options["most"]
    counts = np.minimum(counts, options["most"])
    counts = counts[counts > 0][: options["jets"]]
    vectors = vectors[kept][: counts.sum()]
    random = np.random.default_rng(1)
    x = random.normal(size=(len(vectors), options["features"])).astype(np.float32)
    label = random.integers(0, options["classes"], len(counts))
    order = random.permutation(len(counts))
    np.savez(options["jets_file"], x=x, vectors=vectors, counts=counts, label=label, order=order)
    p90, most = np.percentile(counts, [90, 100])
    return {"jets": len(counts), "mean": round(float(counts.mean()), 2), "p90": float(p90), "most": float(most)}


def network(options: dict[str, Any]) -> ParticleTransformer:
    """Return our network with weaver's weights."""
    with np.load(options["weights"]) as file:
        weights = {name: torch.from_numpy(file[name]) for name in file.files}
    features = {"jet": 0, "charged": options["features"]}
    module = ParticleTransformer(
        ParticleTransformerConfig(features=features, classes=options["classes"], jet_inputs=False)
    )
    for name, values in module.state_dict().items():
        if not name.endswith("most_rows"):
            values.copy_(weights[name_in_weaver(name, EMBEDDINGS)].reshape(values.shape))
    return module


def jets_of(options: dict[str, Any]) -> tuple[FlatInputs, torch.Tensor, torch.Tensor]:
    """Return inputs, labels, and the random order in which the jets come."""
    with np.load(options["jets_file"]) as file:
        content = {name: torch.from_numpy(file[name]) for name in file.files}
    offsets = torch.nn.functional.pad(content["counts"].cumsum(0), (1, 0))
    default = torch.zeros_like(content["x"], dtype=torch.bool)
    group = GroupInputs(content["x"], default, offsets, content["vectors"])
    count = len(content["counts"])
    flat = FlatInputs(torch.zeros(count, 0), torch.zeros(count, 0, dtype=torch.bool), {"charged": group})
    return flat, content["label"], content["order"]


def infer(options: dict[str, Any]) -> dict[str, Any]:
    """Logits of all jets, in the batches of `predict`."""
    keep_freed_memory()  # as the commands that apply networks do
    module, (flat, label, _) = network(options).eval(), jets_of(options)
    out = torch.empty(len(label), options["classes"])
    with torch.inference_mode():
        call(module, collate(flat, torch.arange(8)))
        with Stopwatch() as watch:
            for indices in inference_batches(module, flat, options["batch"]):
                out[indices] = call(module, collate(flat, indices))
    if "logits" in options:
        np.save(options["logits"], out.numpy())
    return {**watch.seconds, "jets": len(label)}


def train(options: dict[str, Any]) -> dict[str, Any]:
    """One epoch of training steps in batches of similar length, as the training makes them."""
    keep_freed_memory()  # as the command that trains does
    torch.manual_seed(1)
    module, (flat, label, order) = network(options).train(), jets_of(options)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    objective = Objective(CrossEntropy(), Training(), None, NO_INPUTS, 1)
    lengths = flat.lengths.numpy()
    batches = list(batches_of(order.numpy(), options["batch"], lambda jets: lengths[jets]))
    call(module, collate(flat, torch.arange(8)))
    before = peak_memory()
    with Stopwatch() as watch:
        for indices in batches:
            batch = collate(flat, torch.from_numpy(indices), label)
            objective.gradient(module, batch, 1, 0)
            optimizer.step()
    return {**watch.seconds, "jets": len(label), "memory": peak_memory() - before}


def main() -> None:
    """Do what the options say and print the result."""
    torch.set_num_threads(1)
    options = options_of_side()
    print(json.dumps({"jets": write_jets, "infer": infer, "train": train}[options["do"]](options)))


if __name__ == "__main__":
    main()
