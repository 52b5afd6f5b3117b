"""Architectures by the name that the card gives them."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any

from torch import nn

from pfnano_tag.errors import CardError, nearest
from pfnano_tag.models.deepjet import DeepJet, DeepJetConfig
from pfnano_tag.models.deepsets import DeepSets, DeepSetsConfig
from pfnano_tag.models.layers import ACTIVATIONS
from pfnano_tag.models.mlp import MLP, MLPConfig
from pfnano_tag.models.particle_transformer import ParticleTransformer, ParticleTransformerConfig


@dataclass(frozen=True)
class Architecture:
    """A network class and the frozen dataclass that configures it."""

    network: type[nn.Module]
    config: type[Any]


ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture(MLP, MLPConfig),
    "deepsets": Architecture(DeepSets, DeepSetsConfig),
    "deepjet": Architecture(DeepJet, DeepJetConfig),
    "particle_transformer": Architecture(ParticleTransformer, ParticleTransformerConfig),
}

# Set from the inputs and labels, never by the card.
_GIVEN = ("features", "classes")


def build(architecture: str, arguments: dict[str, Any], features: dict[str, int], classes: int) -> nn.Module:
    """Build a network with freshly drawn weights.

    Parameters
    ----------
    architecture : str
        Key of :data:`ARCHITECTURES`.
    arguments : dict
        Sizes as in the card; what is left out has the configuration's default.
    features : dict of str to int
        Number of features per group, `jet` included.
    classes : int
        Number of outputs.

    Raises
    ------
    CardError
        When the architecture or an argument is unknown, or a value has the wrong type or size.
    """
    resolved = resolve(architecture, arguments)
    entry = ARCHITECTURES[architecture]
    try:
        return entry.network(entry.config(features=features, classes=classes, **_tuples(resolved)))
    except ValueError as error:
        raise CardError(f"arguments of architecture {architecture}: {error}") from error


def resolve(architecture: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """All arguments of an architecture with their defaults filled in, as plain JSON values.

    Raises
    ------
    CardError
        As for `build`; every problem is listed.
    """
    if architecture not in ARCHITECTURES:
        hint = ", ".join(nearest(architecture, ARCHITECTURES) or ARCHITECTURES)
        raise CardError(f"unknown architecture {architecture!r}; nearest: {hint}")
    config = ARCHITECTURES[architecture].config
    hints = typing.get_type_hints(config)
    known = {f.name: f.default for f in dataclasses.fields(config) if f.name not in _GIVEN}
    problems = [
        f"{name}: unknown argument; nearest: {', '.join(nearest(name, known) or known)}"
        for name in arguments
        if name not in known
    ]
    values = {name: arguments.get(name, default) for name, default in known.items()}
    problems += [text for name, value in values.items() if (text := _problem(name, value, hints[name]))]
    if problems:
        raise CardError(f"arguments of architecture {architecture}: " + "; ".join(problems))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _problem(name: str, value: Any, hint: Any) -> str | None:
    """What is wrong with an argument, or None."""
    if hint is bool:
        return None if isinstance(value, bool) else f"{name}: found {value!r}, expected true or false"
    if hint is int:
        fine = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return None if fine else f"{name}: found {value!r}, expected a whole number of at least 0"
    if hint is float:
        fine = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1
        return None if fine else f"{name}: found {value!r}, expected a number from 0 to below 1"
    if hint is str:
        fine = value in ACTIVATIONS
        return None if fine else f"{name}: found {value!r}, expected one of {', '.join(ACTIVATIONS)}"
    widths = isinstance(value, (list, tuple)) and all(
        isinstance(width, int) and not isinstance(width, bool) and width > 0 for width in value
    )
    return None if widths else f"{name}: found {value!r}, expected a list of positive whole numbers"


def _tuples(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}
