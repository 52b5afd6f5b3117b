"""The metrics of an epoch: their names, what kind they are, and which of two values is the better one.

Names, as in `metrics.jsonl`: `training_loss`, `validation_loss`, `validation_accuracy`, `auc_BvsL`,
`efficiency_BvsL_0.01` (signal efficiency at 1 % mistag rate), `learning_rate`; `evaluate.tasks` has those of tasks
beside the flavour.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pfnano_tag.card.evaluation import Evaluation
from pfnano_tag.errors import CardError, nearest
from pfnano_tag.infer.discriminants import DISCRIMINANTS, places

Metrics = dict[str, Any]

KINDS = ("loss", "accuracy", "auc", "efficiency", "resolution", "pair", "learning_rate")
"""Metrics of a kind belong on one page."""


def auc_name(discriminant: str) -> str:
    """Return the name of a discriminant's AUC."""
    return f"auc_{discriminant}"


def efficiency_name(discriminant: str, mistag: float) -> str:
    """Return the name of a discriminant's signal efficiency at a mistag rate."""
    return f"efficiency_{discriminant}_{mistag:g}"


def separable(evaluation: Evaluation, classes: Iterable[str]) -> tuple[str, ...]:
    """Return the card's discriminants that have both sides among the classes."""
    there = tuple(classes)
    return tuple(
        name
        for name in evaluation.discriminants
        if places(DISCRIMINANTS[name].signal, there) and places(DISCRIMINANTS[name].background, there)
    )


def metric_names(evaluation: Evaluation, classes: Iterable[str]) -> tuple[str, ...]:
    """Return the metrics that can tell which epoch is the best.

    Parameters
    ----------
    evaluation : Evaluation
        The card's section: discriminants and mistag rates.
    classes : iterable of str
        Flavour classes that have validation jets.
    """
    names = separable(evaluation, classes)
    return (
        "validation_loss",
        "training_loss",
        "validation_accuracy",
        *(auc_name(name) for name in names),
        *(efficiency_name(name, mistag) for name in names for mistag in evaluation.mistags),
    )


def check_metric(key: str, metric: str, known: Sequence[str]) -> None:
    """Refuse a metric that is not there.

    Parameters
    ----------
    key : str
        Where it was asked for: a key of the card.
    metric : str
        What was asked for.
    known : sequence of str
        What there is.

    Raises
    ------
    CardError
        Names the nearest ones, and all.
    """
    if metric not in known:
        near = nearest(metric, known)
        hint = f"nearest: {', '.join(near)}; " if near else ""
        raise CardError(
            f"{key}: found {metric!r}, no metric of this training; {hint}the card's discriminants and mistag rates, "
            f"and the classes of the validation jets, allow: {', '.join(grouped(known))}"
        )


def grouped(metrics: Iterable[str]) -> list[str]:
    """Return names of metrics, those that differ in discriminant and number alone as one: `auc_{BvsL,CvsL}`."""
    varies = re.compile(rf"(?<![A-Za-z])({'|'.join(DISCRIMINANTS)}|(?:\d+\.)?\d+(?:e-?\d+)?)(?![A-Za-z0-9])")
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for metric in metrics:
        pieces = varies.split(metric)  # what stays and what varies, in turn
        kinds = ("D" if piece in DISCRIMINANTS else "N" for piece in pieces[1::2])
        groups.setdefault((*pieces[::2], *kinds), []).append(pieces)
    lines = []
    for alike in groups.values():
        choices = [list(dict.fromkeys(column)) for column in zip(*alike, strict=True)]
        lines.append("".join(one[0] if len(one) == 1 else f"{{{','.join(one)}}}" for one in choices))
    return lines


def kind_of(metric: str) -> str | None:
    """Return the kind of a metric, one of `KINDS`; None of anything else (the epoch's number)."""
    kinds = ("auc", "efficiency", "resolution", "pair", "learning_rate")
    for kind in kinds:  # first: the name of a task, which users choose, may end in anything
        if metric == kind or metric.startswith(f"{kind}_"):
            return kind
    return metric.rpartition("_")[2] if metric.endswith(("_loss", "_accuracy")) else None


def lower_is_better(metric: str) -> bool:
    """Whether the best value of a metric is its lowest."""
    kind = kind_of(metric)
    return metric.endswith("loss") if kind is None else kind in ("loss", "resolution")


def is_known(value: object) -> bool:
    """Whether a metric has a value: a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def best_of(history: Sequence[Metrics], metric: str) -> Metrics:
    """Return the epoch with the best value of a metric, the first of equals.

    Parameters
    ----------
    history : sequence of dict
        Metrics of each epoch, at least one; an epoch that has no value (None, NaN) is worse than any that has one.
    metric : str
        Which of them decides.
    """
    sign = 1 if lower_is_better(metric) else -1

    def rank(metrics: Mapping[str, Any]) -> tuple[bool, float]:
        value = metrics.get(metric)
        return (False, sign * value) if value is not None and is_known(value) else (True, 0.0)

    return min(history, key=rank)
