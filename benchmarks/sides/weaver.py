"""The peer: weaver-core's dataset in torch's DataLoader, put together as in its `train.py`."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml  # type: ignore[import-untyped]
from torch.utils.data import DataLoader
from weaver.utils.dataset import SimpleIterDataset  # type: ignore[import-not-found]

from benchmarks.measuring import Stopwatch, options_of_side
from benchmarks.sides.projections import project, save

WARM_UP = {"share": 0.01, "fetch_step": 1.0, "workers": 0, "batch_size": 512, "kept": False}
"""A short epoch before the measurement."""


def loader(options: dict[str, Any], folder: Path) -> Any:
    """Return the data loader of one epoch; of endless epochs where all jets are kept in memory."""
    config = folder / "data.yaml"
    config.write_text(yaml.safe_dump(options["config"], sort_keys=False), encoding="utf-8")
    before = "batch_size" not in signature(SimpleIterDataset.__init__).parameters  # versions before 0.5
    versioned = {} if before else {"batch_size": options["batch_size"]}
    dataset = SimpleIterDataset(
        {"_": [options["file"]]},
        str(config),
        **versioned,
        for_training=True,
        load_range_and_fraction=((0, options["share"]), 1) if before else ((0, options["share"]), 1, 1),
        fetch_step=options["fetch_step"],
        infinity_mode=options["kept"],
        in_memory=options["kept"],
        name="train",
    )
    return DataLoader(dataset, batch_size=options["batch_size"], num_workers=options["workers"])


def columns_of(batch: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return the checked columns of a batch: sums over constituents of each variable, jet variables, the label."""
    inputs, labels, _ = batch
    found = {"label": labels["_label_"].numpy()}
    for group, description in config["inputs"].items():
        values = inputs[group].numpy().astype(np.float64)
        summed = values if values.ndim == 2 else values.sum(axis=2)
        found |= {f"{group}/{entry[0]}": summed[:, i] for i, entry in enumerate(description["vars"])}
    return found


def later_epoch(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Time the second epoch of jets that the first one has left in memory."""
    watch, jets, seen = Stopwatch(), 0, 0
    for batch in loader(options, folder):
        number = len(batch[1]["_label_"])
        seen += number
        if watch.running:
            jets += number
        elif seen >= options["jets"]:
            watch.start()
        if jets >= options["jets"]:
            break
    watch.stop()
    return {**watch.seconds, "jets": jets}


def first_epoch(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Time an epoch with all that it needs; then write projections of another one's jets where asked to."""
    with Stopwatch() as watch:
        jets = sum(len(batch[1]["_label_"]) for batch in loader(options, folder))
    if "save" in options:
        batches = loader(options, folder)
        save([project(columns_of(b, options["config"]), options["columns"]) for b in batches], options["save"])
    return {**watch.seconds, "jets": jets}


def main() -> None:
    """Let weaver's kernels be compiled or read from its cache, then measure."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    options = options_of_side()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first_epoch({"file": options["file"], **WARM_UP, "config": options["config"]}, folder)
        result = later_epoch(options, folder) if options["kept"] else first_epoch(options, folder)
    print(json.dumps({**result, "versions": {"weaver-core": version("weaver-core")}}))


if __name__ == "__main__":
    main()
