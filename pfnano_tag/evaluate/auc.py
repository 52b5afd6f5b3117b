"""Area under the ROC curve, with an error that respects jets of one event, and differences between models.

Shape suffixes: J jets, K classes, R replicas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.evaluate.bootstrap import error_of
from pfnano_tag.evaluate.roc import Ranking, area, rank


@dataclass(frozen=True)
class Auc:
    """An AUC and its bootstrap replicas.

    Parameters
    ----------
    value : float
        Of the sample.
    replicas_R : ndarray of float64 [R]
        Of the bootstrap replicas; empty without.
    """

    value: float
    replicas_R: NDArray[np.float64]

    @property
    def error(self) -> float | None:
        """Standard deviation of the replicas; None without."""
        return error_of(self.replicas_R)

    def minus(self, other: Auc) -> tuple[float, float | None]:
        """Return the difference to another AUC of the same events and its error, correlation included."""
        if len(self.replicas_R) != len(other.replicas_R):
            return self.value - other.value, None
        return self.value - other.value, error_of(self.replicas_R - other.replicas_R)


def auc(
    score_J: NDArray[np.floating], signal_J: NDArray[np.bool_], weight_J: NDArray[np.generic] | None = None
) -> float:
    """Return the probability that a signal jet has a higher score than a background jet (ties count one half).

    Parameters
    ----------
    score_J : ndarray [J]
        Scores; NaN counts as the lowest.
    signal_J : ndarray of bool [J]
        Signal, else background.
    weight_J : ndarray [J] or None
        Non-negative weights.

    Returns
    -------
    float
        NaN when there is no signal or no background.
    """
    return _area(rank(score_J, signal_J), weight_J)


def auc_with_replicas(ranking: Ranking, weights_RJ: NDArray[np.generic]) -> Auc:
    """Return the AUC of ranked jets with replicas.

    Parameters
    ----------
    ranking : Ranking
        From `roc.rank`.
    weights_RJ : ndarray [R, J]
        Replica weights of the same jets (`bootstrap.replica_weights`); R may be 0.
    """
    replicas = np.array([_area(ranking, weight_J) for weight_J in weights_RJ], dtype=np.float64)
    return Auc(_area(ranking, None), replicas)


def differences(aucs: Mapping[str, Mapping[str, Auc]]) -> dict[str, dict[str, list[float | None]]]:
    """Return all differences of two models, first minus second, per discriminant that both have.

    Parameters
    ----------
    aucs : mapping
        Model -> discriminant -> AUC, all from the same events and replicas.

    Returns
    -------
    dict
        "first - second" -> discriminant -> [difference, error].
    """
    names = list(aucs)
    pairs = [(first, second) for i, first in enumerate(names) for second in names[i + 1 :]]
    return {
        f"{first} - {second}": {
            name: list(aucs[first][name].minus(aucs[second][name])) for name in aucs[first] if name in aucs[second]
        }
        for first, second in pairs
    }


def _area(ranking: Ranking, weight_J: NDArray[np.generic] | None) -> float:
    return area(*ranking.curve(weight_J))
