"""Keys of section `training` that have an effect only beside another key: what would be ignored is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pfnano_tag.card.models import OF_SEQUENCES, Architecture
from pfnano_tag.card.training import Training


@dataclass(frozen=True)
class Condition:
    """What some keys need in order to have an effect.

    Parameters
    ----------
    keys : tuple of str
        Keys of section `training`.
    holds : callable
        Whether the training of a network of some architecture uses the keys.
    words : str
        The condition as a card states it.
    """

    keys: tuple[str, ...]
    holds: Callable[[Training, str], bool]
    words: str


CONDITIONS = (
    Condition(
        ("constituents_at_once",),
        lambda _, architecture: architecture in OF_SEQUENCES,
        f"a network of sequences ({', '.join(OF_SEQUENCES)})",
    ),
    Condition(("label_smoothing",), lambda settings, _: settings.loss == "cross_entropy", "loss: cross_entropy"),
    Condition(("focal_gamma", "focal_alpha"), lambda settings, _: settings.loss == "focal", "loss: focal"),
    Condition(
        ("attack_every", "attack_fraction", "attack_after", "attack_loss"),
        lambda settings, _: settings.attack is not None,
        "an attack",
    ),
    Condition(
        ("attack_kl_weight",),
        lambda settings, _: settings.attack is not None and settings.attack_loss == "kl",
        "an attack and attack_loss: kl",
    ),
)


def without_effect(
    base: Training,
    models: Mapping[str, tuple[Training, Mapping[str, Any], str]],
    sharing: Callable[[str, str], list[str]] = lambda name, _: [name],
) -> list[str]:
    """Return the keys that differ from their default and that nothing uses, one line per problem.

    A key of the card's section counts as used when one network takes it from there and uses it:
    `training.attack_every` may serve the networks that have an attack, beside others that have none.

    Parameters
    ----------
    base : Training
        Section `training` of the card.
    models : mapping
        Per network the resolved section, which keys are the network's own, and the architecture.
    sharing : callable
        Gives the networks that have a key (second) of a network (first) from the same place of the card: the
        trainings of a scan share what is not scanned.
    """
    problems = []
    for key, condition in _chosen(base):
        takers = [(settings, kind) for settings, own, kind in models.values() if key not in own]
        if not models:  # what they will be is not known yet
            takers = [(base, kind) for kind in get_args(Architecture)]
        if takers and not any(condition.holds(settings, kind) for settings, kind in takers):
            problems.append(_line("training", base, key, condition))
    for name, (settings, own, _) in models.items():
        where = f"models.{name}.training"
        problems += [
            _line(where, settings, key, condition)
            for key, condition in _chosen(settings)
            if key in own and not any(condition.holds(*models[other][::2]) for other in sharing(name, key))
        ]
    late = {f"models.{name}.training": settings for name, (settings, _, _) in models.items()} or {"training": base}
    problems += [
        f"{where}.attack_after: after {settings.attack_after} epochs none of {settings.epochs} is left to attack"
        for where, settings in late.items()
        if settings.attack is not None and settings.attack_after >= settings.epochs
    ]
    return problems


def _chosen(settings: Training) -> Iterator[tuple[str, Condition]]:
    """Yield the dependent keys that don't have their default."""
    for condition in CONDITIONS:
        for key in condition.keys:
            default = Training.model_fields[key].get_default(call_default_factory=True)
            if getattr(settings, key) != default:
                yield key, condition


def _line(where: str, settings: Training, key: str, condition: Condition) -> str:
    found = getattr(settings, key)
    return f"{where}.{key}: {found!r} has no effect without {condition.words}; add that, or take the key out"
