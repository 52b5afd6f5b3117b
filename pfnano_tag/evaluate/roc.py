"""ROC curves: signal efficiency and mistag rate for every threshold, exact with weights and ties.

Jets are sorted once; each set of weights (the nominal one, or a bootstrap replica) then costs two cumulative sums.

Shape suffixes: J jets, G groups of equal score, E efficiencies, M mistag rates, R replicas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Signal and background jets in descending order of score.

    Parameters
    ----------
    order_J : ndarray of int64 [J]
        Jets, the highest score first.
    last_G : ndarray of int64 [G]
        Place of the last jet of each group of equal scores.
    threshold_G : ndarray of float64 [G]
        The scores themselves, descending.
    signal_J : ndarray of bool [J]
        Whether a jet is signal, in the sorted order.
    """

    order_J: NDArray[np.int64]
    last_G: NDArray[np.int64]
    threshold_G: Floats
    signal_J: NDArray[np.bool_]

    def curve(self, weight_J: NDArray[np.generic] | None = None) -> tuple[Floats, Floats]:
        """Return signal efficiency and mistag rate when all jets down to each group are accepted.

        Parameters
        ----------
        weight_J : ndarray [J] or None
            Non-negative weight of each jet, in the original order; None: each counts once.

        Returns
        -------
        efficiency, mistag : ndarray of float64 [G]
            Rising to 1; NaN where there is no signal or no background at all.
        """
        if weight_J is None:
            signal_J = self.signal_J.astype(np.float64)
            total_J = np.ones(len(signal_J))
        else:
            total_J = weight_J[self.order_J].astype(np.float64)
            signal_J = np.where(self.signal_J, total_J, 0.0)
        efficiency = np.cumsum(signal_J)[self.last_G]
        mistag = np.cumsum(total_J - signal_J)[self.last_G]
        return _share(efficiency), _share(mistag)


@dataclass(frozen=True)
class Roc:
    """A ROC curve on a grid of signal efficiencies, with bootstrap errors.

    Parameters
    ----------
    efficiency_E, mistag_E : ndarray of float64 [E]
        Points; the mistag rate is interpolated between thresholds.
    error_E : ndarray of float64 [E] or None
        Of the mistag rate at fixed efficiency.
    """

    efficiency_E: Floats
    mistag_E: Floats
    error_E: Floats | None


def rank(score_J: NDArray[np.floating], signal_J: NDArray[np.bool_]) -> Ranking:
    """Sort jets by score.

    Parameters
    ----------
    score_J : ndarray [J]
        Scores; one that is not a number counts as the lowest (so does -1, "undefined", by its value).
    signal_J : ndarray of bool [J]
        Whether a jet is signal (else it is background).
    """
    score = np.where(np.isnan(score_J), -np.inf, score_J).astype(np.float64)
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], len(ranked) > 0))
    return Ranking(order, last, ranked[last], signal_J[order])


def area(efficiency_G: Floats, mistag_G: Floats) -> float:
    """Return the area under efficiency against mistag rate: a tie counts one half (Mann-Whitney); NaN of nothing."""
    if not len(efficiency_G):
        return float("nan")
    heights = np.concatenate([[0.0], efficiency_G])
    return float(np.sum(np.diff(mistag_G, prepend=0.0) * (heights[1:] + heights[:-1])) / 2)


def mistag_at(efficiency_E: Floats, efficiency_G: Floats, mistag_G: Floats) -> Floats:
    """Return the mistag rate at given signal efficiencies, between thresholds by straight lines.

    Parameters
    ----------
    efficiency_E : ndarray [E]
        Signal efficiencies in 0 to 1.
    efficiency_G, mistag_G : ndarray [G]
        From `Ranking.curve`.
    """
    # Where only background is added the efficiency stands still: the lowest mistag rate is the one that is needed.
    first = np.flatnonzero(np.diff(efficiency_G, prepend=0.0) > 0)
    if not len(first):
        return np.full(len(efficiency_E), np.nan)
    start = mistag_G[first[0] - 1] if first[0] > 0 else 0.0
    return np.interp(efficiency_E, np.append(0.0, efficiency_G[first]), np.append(start, mistag_G[first]))


def roc(ranking: Ranking, weights_RJ: NDArray[np.generic] | None = None, efficiency_E: Floats | None = None) -> Roc:
    """Return a ROC curve with errors.

    Parameters
    ----------
    ranking : Ranking
        Of signal and background jets.
    weights_RJ : ndarray [R, J] or None
        Replica weights (`bootstrap.replica_weights`) of the same jets; None: no errors.
    efficiency_E : ndarray [E] or None
        Grid of signal efficiencies; 101 points when None.
    """
    grid = np.linspace(0, 1, 101) if efficiency_E is None else efficiency_E
    mistag = mistag_at(grid, *ranking.curve())
    if weights_RJ is None or len(weights_RJ) < 2:
        return Roc(grid, mistag, None)
    replicas_RE = np.stack([mistag_at(grid, *ranking.curve(weight_J)) for weight_J in weights_RJ])
    return Roc(grid, mistag, np.std(replicas_RE, axis=0, ddof=1))


def _share(cumulated: Floats) -> Floats:
    """Return cumulative sums over their last value."""
    if not len(cumulated) or cumulated[-1] <= 0:
        return np.full(len(cumulated), np.nan)
    return cumulated / cumulated[-1]
