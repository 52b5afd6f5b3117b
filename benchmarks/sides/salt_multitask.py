"""The peer: Salt's GN2, put together from its classes as its configuration does, on jets padded to 40 tracks."""

from __future__ import annotations

import json
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from salt.models import (  # type: ignore[import-not-found]
    ClassificationTask,
    GlobalAttentionPooling,
    SaltModel,
    Transformer,
    VertexingTask,
)
from torch import nn

from benchmarks.measuring import Stopwatch, options_of_side, peak_memory

WIDTH, OUT, HIDDEN = 256, 128, [128, 64, 32]
Inputs = dict[str, torch.Tensor]


def network(options: dict[str, Any]) -> SaltModel:
    """Return GN2 (umami-hep/salt:salt/configs/GN2/GN2.yaml) for other numbers of inputs and classes."""
    head = {"input_size": OUT, "hidden_layers": HIDDEN, "activation": "ReLU"}
    beside = {**head, "context_size": OUT}
    names = {key: [f"class{i}" for i in range(options[key])] for key in ("classes", "origins")}
    tasks = [
        ClassificationTask(
            name="jets_classification",
            input_name="jets",
            label="flavour_label",
            class_names=names["classes"],
            loss=nn.CrossEntropyLoss(),
            dense_config={**head, "output_size": options["classes"]},
        ),
        ClassificationTask(
            name="track_origin",
            input_name="tracks",
            label="ftagTruthOriginLabel",
            class_names=names["origins"],
            weight=options["weights_of_tasks"]["origin"],
            loss=nn.CrossEntropyLoss(),
            dense_config={**beside, "output_size": options["origins"]},
        ),
        VertexingTask(
            name="track_vertexing",
            input_name="tracks",
            label="ftagTruthVertexIndex",
            weight=options["weights_of_tasks"]["vertex"],
            loss=nn.BCEWithLogitsLoss(reduction="none"),
            dense_config={**beside, "input_size": 2 * OUT, "output_size": 1},
        ),
    ]
    for task in tasks:  # as Salt's wrapper for Lightning does
        task.global_object, task.model_name = "jets", "GN2"
    variables = {group: [f"{group}{i}" for i in range(options[f"{group}_features"])] for group in ("jets", "tracks")}
    dense = {"output_size": WIDTH, "hidden_layers": [WIDTH], "activation": "ReLU"}
    return SaltModel(
        init_nets=[
            {"input_name": "tracks", "dense_config": dense, "variables": variables, "global_object": "jets"},
        ],
        encoder=Transformer(
            num_layers=4,
            embed_dim=WIDTH,
            out_dim=OUT,
            attn_type=options["attention"],
            norm="LayerNorm",
            dense_kwargs={"activation": "ReLU", "gated": False},
            attn_kwargs={"num_heads": 8},
        ),
        pool_net=GlobalAttentionPooling(OUT),
        tasks=nn.ModuleList(tasks),
    )


def prepare(options: dict[str, Any]) -> dict[str, Any]:
    """Draw and write weights, the same for both tracks of a pair; write the outputs."""
    torch.manual_seed(1)
    module = network(options)
    state = module.state_dict()
    first = state["tasks.2.net.net.0.weight"]
    first[:, 2 * OUT :] = first[:, OUT : 2 * OUT]  # [jet, track, track]
    for name, values in state.items():
        if name.startswith("tasks."):
            values.mul_(3)  # logits of order one, which show differences
    state["encoder.registers"].normal_()
    np.savez(options["weights"], **{name: values.numpy() for name, values in state.items()})
    write_outputs(options)
    return {"parameters": sum(parameter.numel() for parameter in module.parameters())}


class Jets:
    """Jets padded to a fixed number of tracks, as Salt's files hold them, and the network with its weights.

    Parameters
    ----------
    options : dict
        Of the side.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        with np.load(options["jets_file"]) as file:
            content = {name: torch.from_numpy(file[name]) for name in file.files}
        real = torch.arange(options["tracks"]) < content["counts"][:, None]
        self.inputs = {"jets": content["jet"], "tracks": self._padded(content["x"], real, 0.0)}
        self.padding, self.order, self.size = ~real, content["order"], options["batch"]
        self.flavour = content["label"]
        self.track_labels = {
            "ftagTruthOriginLabel": self._padded(content["origin"], real, -1),
            "ftagTruthVertexIndex": self._padded(content["vertex"], real, -1),
        }
        self.module = network(options)
        with np.load(options["weights"]) as file:
            self.module.load_state_dict({name: torch.from_numpy(file[name]) for name in file.files})

    @staticmethod
    def _padded(rows: torch.Tensor, real: torch.Tensor, padding: float) -> torch.Tensor:
        values = torch.full((*real.shape, *rows.shape[1:]), padding, dtype=rows.dtype)
        values[real] = rows
        return values

    def of(self, jets: torch.Tensor) -> tuple[Inputs, Inputs, dict[str, Inputs]]:
        """Return inputs, padding and labels of jets; new dicts, to which Salt adds its registers."""
        labels = {name: values[jets] for name, values in self.track_labels.items()}
        inputs = {name: values[jets] for name, values in self.inputs.items()}
        return (
            inputs,
            {"tracks": self.padding[jets]},
            {"jets": {"flavour_label": self.flavour[jets]}, "tracks": labels},
        )


def write_outputs(options: dict[str, Any]) -> None:
    """Write logits of flavours, of the origin of real tracks, and of ordered pairs, all jets in one batch."""
    jets = Jets(options)
    jets.module.eval()
    inputs, padding, _ = jets.of(torch.arange(len(jets.flavour)))
    with torch.inference_mode():
        found, _ = jets.module(inputs, dict(padding), None)
    origin = found["tracks"]["track_origin"][~padding["tracks"]]
    content = {
        "flavour": found["jets"]["jets_classification"],
        "origin": origin,
        "vertex": found["tracks"]["track_vertexing"].squeeze(-1),
    }
    np.savez(options["outputs"], **{name: values.numpy() for name, values in content.items()})


def train(options: dict[str, Any]) -> dict[str, Any]:
    """One epoch of training steps."""
    torch.manual_seed(1)
    jets = Jets(options)
    jets.module.train()
    optimizer = torch.optim.AdamW(jets.module.parameters(), lr=1e-4)
    step(jets, optimizer, torch.arange(4))
    before = peak_memory()
    with Stopwatch() as watch:
        for indices in jets.order.split(jets.size):
            step(jets, optimizer, indices)
    memory = peak_memory() - before
    return {**watch.seconds, "jets": len(jets.flavour), "memory": memory, "versions": {"salt-ml": version("salt-ml")}}


def step(jets: Jets, optimizer: torch.optim.Optimizer, indices: torch.Tensor) -> None:
    """One training step: the sum of the tasks' losses, as Salt's wrapper makes it."""
    _, losses = jets.module(*jets.of(indices))
    loss = sum(losses.values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main() -> None:
    """Do what the options say and print the result."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    options = options_of_side()
    print(json.dumps({"prepare": prepare, "train": train}[options["do"]](options)))


if __name__ == "__main__":
    main()
