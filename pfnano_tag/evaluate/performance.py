"""All numbers of one set of scores: AUCs, ROC curves, working points, efficiencies in bins of pT.

A network's discriminants and the scores that other taggers left in the files go the same way.

Shape suffixes: J jets, R replicas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.evaluation import Evaluation
from pfnano_tag.evaluate.auc import Auc, auc_with_replicas
from pfnano_tag.evaluate.discriminants import compared
from pfnano_tag.evaluate.efficiency import WorkingPoint, passing_share, working_point
from pfnano_tag.evaluate.roc import Roc, rank, roc
from pfnano_tag.evaluate.scores import Scores
from pfnano_tag.infer.discriminants import discriminant
from pfnano_tag.nano.taggers import STORED_TAGGERS

Floats = NDArray[np.float64]

# A score "b against all others" stands beside BvsL: with c vetoed both order b and light jets.
STORED_AS = {"BvsAll": "BvsL"}


@dataclass(frozen=True)
class InBins:
    """Signal efficiency and mistag rate at one working point, in bins of pT, with errors (NaN: no jets)."""

    efficiency: Floats
    efficiency_error: Floats
    mistag: Floats
    mistag_error: Floats


@dataclass(frozen=True)
class Performance:
    """How well a score separates what a discriminant compares.

    Parameters
    ----------
    auc : Auc
        With replicas.
    roc : Roc
        Curve with errors.
    working_points : tuple of WorkingPoint
        One for each mistag rate of the card.
    in_pt : dict of InBins
        Mistag rate -> efficiencies in bins of pT, at the threshold of that working point; without those that have
        no threshold.
    """

    auc: Auc
    roc: Roc
    working_points: tuple[WorkingPoint, ...]
    in_pt: dict[float, InBins]

    def to_json(self) -> dict[str, Any]:
        """Return working points and efficiencies as JSON content (the AUC stands elsewhere)."""
        return {
            "working_points": [asdict(point) for point in self.working_points],
            "in_pt": {
                f"{mistag:g}": {name: numbers(values) for name, values in asdict(binned).items()}
                for mistag, binned in self.in_pt.items()
            },
            "roc": {
                "efficiency": numbers(self.roc.efficiency_E),
                "mistag": numbers(self.roc.mistag_E),
                "error": None if self.roc.error_E is None else numbers(self.roc.error_E),
            },
        }


def of_networks(
    scores: Scores, evaluation: Evaluation, pt_edges: Floats, weights_RJ: NDArray[np.uint8]
) -> dict[str, dict[str, Performance]]:
    """Return network -> discriminant -> performance; discriminants without jets on both sides are left out."""
    values: dict[str, dict[str, NDArray[np.floating]]] = {
        name: {wanted: discriminant(wanted, nodes, scores.classes) for wanted in evaluation.discriminants}
        for name, nodes in scores.probabilities.items()
    }
    return _performances(values, scores, evaluation, pt_edges, weights_RJ)


def of_stored(
    scores: Scores, evaluation: Evaluation, pt_edges: Floats, weights_RJ: NDArray[np.uint8]
) -> dict[str, dict[str, Performance]]:
    """Return stored tagger -> discriminant -> performance, for those that all files have."""
    values: dict[str, dict[str, NDArray[np.floating]]] = {}
    for tagger, branches in STORED_TAGGERS.items():
        for separates, branch in branches.items():
            wanted = STORED_AS.get(separates, separates)
            if branch in scores.stored and wanted in evaluation.discriminants:
                values.setdefault(tagger, {})[wanted] = scores.stored[branch]
    return _performances(values, scores, evaluation, pt_edges, weights_RJ)


def stored_branches(evaluation: Evaluation) -> tuple[str, ...]:
    """Return the branches of stored taggers that can stand beside the card's discriminants."""
    return tuple(
        branch
        for branches in STORED_TAGGERS.values()
        for separates, branch in branches.items()
        if STORED_AS.get(separates, separates) in evaluation.discriminants
    )


def numbers(values: Sequence[float] | NDArray[np.floating]) -> list[float | None]:
    """Return numbers as JSON holds them: NaN and infinity become null."""
    return [float(value) if np.isfinite(value) else None for value in values]


def _performances(
    values: Mapping[str, Mapping[str, NDArray[np.floating]]],
    scores: Scores,
    evaluation: Evaluation,
    pt_edges: Floats,
    weights_RJ: NDArray[np.uint8],
) -> dict[str, dict[str, Performance]]:
    sides = {name: compared(name, scores.label_J, scores.classes) for name in evaluation.discriminants}
    usable = [name for name, (chosen, signal) in sides.items() if signal.any() and (chosen & ~signal).any()]
    weights = {name: np.ascontiguousarray(weights_RJ[:, sides[name][0]]) for name in usable}
    return {
        tagger: {
            name: _performance(score_J, *sides[name], scores.pt_J, evaluation.mistags, pt_edges, weights[name])
            for name, score_J in by_name.items()
            if name in usable
        }
        for tagger, by_name in values.items()
    }


def _performance(
    score_J: NDArray[np.floating],
    chosen_J: NDArray[np.bool_],
    signal_J: NDArray[np.bool_],
    pt_J: NDArray[np.floating],
    mistags: Sequence[float],
    pt_edges: Floats,
    weights_RJ: NDArray[np.uint8],
) -> Performance:
    score, signal, pt = score_J[chosen_J], signal_J[chosen_J], pt_J[chosen_J]
    ranking = rank(score, signal)
    points = tuple(working_point(ranking, mistag, weights_RJ) for mistag in mistags)
    in_pt = {}
    for point in points:
        if point.threshold is not None:
            passes = score.astype(np.float64) >= point.threshold
            kept = passing_share(pt[signal], passes[signal], pt_edges, weights_RJ[:, signal])
            mistagged = passing_share(pt[~signal], passes[~signal], pt_edges, weights_RJ[:, ~signal])
            in_pt[point.mistag] = InBins(*kept, *mistagged)
    return Performance(auc_with_replicas(ranking, weights_RJ), roc(ranking, weights_RJ), points, in_pt)
