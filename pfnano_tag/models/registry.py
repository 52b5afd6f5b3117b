"""Architectures by the name that the card gives them."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from pfnano_tag.errors import CardError, nearest
from pfnano_tag.models.deepjet import DeepJet, DeepJetConfig
from pfnano_tag.models.deepsets import DeepSets, DeepSetsConfig
from pfnano_tag.models.layers import ACTIVATIONS
from pfnano_tag.models.mlp import MLP, MLPConfig
from pfnano_tag.models.multitask import Multitask, MultitaskConfig
from pfnano_tag.models.particle_transformer import ParticleTransformer, ParticleTransformerConfig
from pfnano_tag.models.tasks import KINDS, Positive, Task


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
    "multitask": Architecture(Multitask, MultitaskConfig),
}

# Set from the inputs and labels, never by the card.
_GIVEN = ("features", "classes", "flavours")


def build(
    architecture: str,
    arguments: dict[str, Any],
    features: dict[str, int],
    classes: int,
    flavours: Sequence[str] = (),
) -> nn.Module:
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
    flavours : sequence of str
        Their names, for tasks that are for some of them.

    Raises
    ------
    CardError
        When the architecture or an argument is unknown, or a value has the wrong type or size.
    """
    resolved = resolve(architecture, arguments)
    entry = ARCHITECTURES[architecture]
    try:
        values = {name: _as_configured(value) for name, value in resolved.items()}
        if any(field.name == "flavours" for field in dataclasses.fields(entry.config)):
            values["flavours"] = tuple(flavours)
        return entry.network(entry.config(features=features, classes=classes, **values))
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
    known = {f.name: _default(f) for f in dataclasses.fields(config) if f.name not in _GIVEN}
    problems = [
        f"{name}: unknown argument; nearest: {', '.join(nearest(name, known) or known)}"
        for name in arguments
        if name not in known
    ]
    values = {name: arguments.get(name, default) for name, default in known.items()}
    problems += [text for name, value in values.items() for text in _problems(name, value, hints[name])]
    if problems:
        raise CardError(f"arguments of architecture {architecture}: " + "; ".join(problems))
    return {name: _as_json(value) for name, value in values.items()}


def _problems(name: str, value: Any, hint: Any) -> list[str]:
    """What is wrong with an argument."""
    if hint != dict[str, Task]:
        return [text] if (text := _problem(name, value, hint)) else []
    if not isinstance(value, dict):
        return [f"{name}: found {value!r}, expected a mapping of names to tasks (kind, target, ...)"]
    return [text for task, entry in value.items() for text in _problems_of_task(f"{name}.{task}", entry)]


def _problems_of_task(name: str, entry: Any) -> list[str]:
    """What is wrong with a task of the card."""
    if not isinstance(entry, dict):
        return [f"{name}: found {entry!r}, expected a mapping with kind, target, ..."]
    if entry.get("kind") not in KINDS:
        found = f"found {entry['kind']!r}" if "kind" in entry else "missing"
        return [f"{name}.kind: {found}, expected one of {', '.join(KINDS)}"]
    kind = KINDS[entry["kind"]]
    hints, keys = typing.get_type_hints(kind), [f.name for f in dataclasses.fields(kind)]
    problems = [
        f"{name}.{key}: unknown key of kind {kind.kind}; nearest: {', '.join(nearest(str(key), keys) or keys)}"
        for key in entry
        if key not in ("kind", *keys)
    ]
    if entry.get("target") not in kind.targets:
        found = f"found {entry['target']!r}" if "target" in entry else "missing"
        problems.append(f"{name}.target: {found}, expected one of {', '.join(kind.targets)} (kind {kind.kind})")
    problems += [
        text
        for key in keys
        if key in entry and key != "target" and (text := _problem(f"{name}.{key}", entry[key], hints[key]))
    ]
    if problems:
        return problems
    try:
        _task(entry)
    except ValueError as error:
        return [f"{name}.{error}"]
    return []


def _problem(name: str, value: Any, hint: Any) -> str | None:
    """What is wrong with a value, or None."""
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        return None if value in choices else f"{name}: found {value!r}, expected one of {', '.join(choices)}"
    if hint is Positive:
        fine = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
        return None if fine else f"{name}: found {value!r}, expected a number above 0"
    if hint == tuple[str, ...]:
        fine = isinstance(value, (list, tuple)) and all(isinstance(word, str) for word in value)
        return None if fine else f"{name}: found {value!r}, expected a list of names"
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


def _task(entry: Mapping[str, Any]) -> Task:
    """A task of the card, which is right."""
    keys: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items() if key != "kind"
    }
    return KINDS[entry["kind"]](**keys)


def _as_configured(value: Any) -> Any:
    """A resolved argument as a configuration takes it: sequences as tuples, tasks as such."""
    if isinstance(value, dict):
        return {name: _task(entry) for name, entry in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _as_json(value: Any) -> Any:
    """An argument as plain JSON, the keys of tasks with their defaults."""
    if isinstance(value, dict):
        tasks = {name: _task(entry) for name, entry in value.items()}
        return {
            name: {"kind": task.kind} | {f.name: _as_json(getattr(task, f.name)) for f in dataclasses.fields(task)}
            for name, task in tasks.items()
        }
    return list(value) if isinstance(value, tuple) else value


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
