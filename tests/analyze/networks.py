"""Checkpoints of untrained networks with all inputs of a set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pfnano_tag.card.output import write_json
from pfnano_tag.infer.bookkeeping import feature_counts, save_checkpoint
from pfnano_tag.models.registry import build
from pfnano_tag.nano.schema import FEATURES, INPUT_SETS
from pfnano_tag.prepare.inputs import InputFeature, InputSpec

CLASSES = ("b", "bb", "lepb", "c", "uds", "g")


def inputs(input_set: str = "constituents") -> InputSpec:
    groups = {
        group: tuple(_feature(f"{group}/{name}") for name in names) for group, names in INPUT_SETS[input_set].items()
    }
    return InputSpec(input_set, groups, {"charged": 25, "neutral": 25, "sv": 5}, 0.95)


def _feature(identifier: str) -> InputFeature:
    f = FEATURES[identifier]
    return InputFeature(f.id, f.name, f.transform, 0.1, 2.0, -3.0, f.protected, f.integer, True, f.low, f.high)


def save(
    study: Path,
    name: str,
    seed: int,
    input_set: str = "constituents",
    epoch: int = 1,
    architecture: str = "deepsets",
    arguments: dict[str, Any] | None = None,
) -> Path:
    """Write a checkpoint, called best, into a study's folder."""
    torch.manual_seed(seed)
    spec = inputs(input_set)
    arguments = {"phi": [16], "rho": [16]} if arguments is None else arguments
    module = build(architecture, arguments, feature_counts(spec), len(CLASSES), CLASSES)
    folder = study / "models" / name
    path = save_checkpoint(folder, name, epoch, module, spec, CLASSES, architecture, arguments, {})
    write_json(folder / "best.json", {"epoch": epoch})
    return path
