"""Section `models`: the named networks of a study."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pfnano_tag.card.base import Section
from pfnano_tag.card.scan import Scan, Scanned

Architecture = Literal["mlp", "deepsets", "deepjet", "particle_transformer", "multitask"]
OF_SEQUENCES: tuple[Architecture, ...] = ("particle_transformer", "multitask")
"""Architectures whose batches go through in parts (`training.constituents_at_once`)."""


class Model(Section):
    """One network: architecture, its arguments, and how its training differs from `training`."""

    architecture: Architecture
    """Architecture, as in the model registry."""

    arguments: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the architecture's configuration (sizes; of multitask also `tasks`, a mapping of names to kind,
    target and more, see docs/training.md); unknown ones are errors."""

    training: dict[str, Any] = Field(default_factory=dict)
    """Keys of section `training` that differ for this network, say `attack: fgsm`."""

    scan: Scan | None = None
    """Keys that are scanned: this entry then stands for several trainings, each a model with a name of its own."""

    scanned: Scanned | None = None
    """Which training of a scan this is, as `--print-card` shows it; null: of none."""
