"""The content of `evaluation/results.json`.

Keys: `models` (per network: `auc` as discriminant -> [value, error], `working_points`, `in_pt`, `roc`, `loss`,
`accuracy`, `confusion`, `epoch`, `hash`, `history`), `stored` (the same for taggers that the files hold scores of),
`differences` ("first - second" -> discriminant -> [difference, error]), and what all this was measured on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.card import Card
from pfnano_tag.evaluate.auc import differences
from pfnano_tag.evaluate.confusion import accuracy, confusion
from pfnano_tag.evaluate.loss import Course
from pfnano_tag.evaluate.performance import Performance, numbers
from pfnano_tag.evaluate.scores import Scores
from pfnano_tag.infer.bookkeeping import Tagger
from pfnano_tag.prepare.prepared import Prepared

Performances = Mapping[str, Mapping[str, Performance]]


@dataclass(frozen=True)
class Evaluated:
    """What was computed.

    Parameters
    ----------
    networks, stored : mapping
        Name -> discriminant -> performance; of our networks, and of taggers stored in the files.
    taggers : mapping of Tagger
        The networks.
    courses : mapping of Course
        Network -> what its training wrote.
    pt_edges : ndarray of float64
        Bin edges [GeV].
    """

    networks: Performances
    stored: Performances
    taggers: Mapping[str, Tagger]
    courses: Mapping[str, Course]
    pt_edges: NDArray[np.float64]


def as_json(card: Card, prepared: Prepared, scores: Scores, found: Evaluated) -> dict[str, Any]:
    """Return the results as JSON content: no NaN, every number with all digits.

    Parameters
    ----------
    card, prepared
        The study.
    scores : Scores
        Of the test split.
    found : Evaluated
        What was computed from them.
    """
    counts = np.bincount(scores.label_J, minlength=len(scores.classes))
    every = {**found.stored, **found.networks}
    aucs = {name: {d: p.auc for d, p in by_name.items()} for name, by_name in every.items()}
    return {
        "study": card.study.name,
        "card": card.hash(),
        "split": "test",
        "complete": prepared.complete,
        "classes": list(scores.classes),
        "jets": {name: int(count) for name, count in zip(scores.classes, counts, strict=True)},
        "events_with_jets": len(np.unique(scores.event_id_J)),
        "replicas": card.evaluation.replicas,
        "weights": "each jet counts once",
        "pt_edges": found.pt_edges.tolist(),
        "models": {name: _of_model(name, scores, found) for name in found.networks},
        "stored": {name: _measured(by_name) for name, by_name in found.stored.items()},
        "differences": differences(aucs),
    }


def _of_model(name: str, scores: Scores, found: Evaluated) -> dict[str, Any]:
    nodes_JK, tagger = scores.probabilities[name], found.taggers[name]
    truth_J = nodes_JK[np.arange(len(scores)), scores.label_J].astype(np.float64)
    return {
        **_measured(found.networks[name]),
        "loss": float(-np.log(np.maximum(truth_J, 1e-30)).mean()),
        "accuracy": accuracy(nodes_JK, scores.label_J),
        "confusion": [numbers(row) for row in confusion(nodes_JK, scores.label_J)],
        "epoch": tagger.epoch,
        "hash": tagger.hash,
        "architecture": tagger.architecture,
        "parameters": sum(parameter.numel() for parameter in tagger.module.parameters()),
        "attack": tagger.training.get("attack"),
        "history": found.courses[name].history,
    }


def _measured(by_name: Mapping[str, Performance]) -> dict[str, Any]:
    contents = {name: performance.to_json() for name, performance in by_name.items()}
    return {
        "auc": {name: [performance.auc.value, performance.auc.error] for name, performance in by_name.items()},
        **{
            key: {name: content[key] for name, content in contents.items()}
            for key in ("working_points", "in_pt", "roc")
        },
    }
