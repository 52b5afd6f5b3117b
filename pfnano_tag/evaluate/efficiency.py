"""Working points: the threshold that lets a given share of background through, and what it keeps of the signal.

Shape suffixes: J jets, G groups of equal score, R replicas, X bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.evaluate.bootstrap import error_of
from pfnano_tag.evaluate.roc import Ranking

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WorkingPoint:
    """A threshold and what passes it (score >= threshold).

    Parameters
    ----------
    mistag : float
        Mistag rate that was asked for.
    threshold : float or None
        Lowest score whose mistag rate does not exceed it; None where even the highest score lets more through.
    reached : float
        Mistag rate at that threshold.
    efficiency : float
        Signal efficiency at that threshold.
    error : float or None
        Bootstrap error of the efficiency at this mistag rate, the threshold found anew in each replica.
    background_jets : int
        Background jets above the threshold: with few of them the working point is hardly known.
    """

    mistag: float
    threshold: float | None
    reached: float
    efficiency: float
    error: float | None
    background_jets: int


def working_point(ranking: Ranking, mistag: float, weights_RJ: NDArray[np.generic]) -> WorkingPoint:
    """Return the working point of a mistag rate.

    Parameters
    ----------
    ranking : Ranking
        Of signal and background jets.
    mistag : float
        Share of the background that may pass.
    weights_RJ : ndarray [R, J]
        Replica weights of the same jets.
    """
    efficiency_G, mistag_G = ranking.curve()
    group = _last_within(mistag_G, mistag)
    replicas = np.array([_efficiency_at(ranking, mistag, weight_J) for weight_J in weights_RJ], dtype=np.float64)
    background = int(np.count_nonzero(~ranking.signal_J))
    found = group >= 0
    reached = float(mistag_G[group]) if found else 0.0
    return WorkingPoint(
        mistag=mistag,
        threshold=float(ranking.threshold_G[group]) if found else None,
        reached=reached,
        efficiency=float(efficiency_G[group]) if found else 0.0,
        error=error_of(replicas),
        background_jets=round(reached * background),
    )


def passing_share(
    values_J: NDArray[np.floating],
    passes_J: NDArray[np.bool_],
    edges: NDArray[np.floating],
    weights_RJ: NDArray[np.generic],
) -> tuple[Floats, Floats]:
    """Return the share of jets that pass, in bins of a variable, with bootstrap errors.

    Parameters
    ----------
    values_J : ndarray [J]
        The variable (say pT [GeV]).
    passes_J : ndarray of bool [J]
        Whether a jet passes.
    edges : ndarray [X + 1]
        Bin edges; jets outside are left out.
    weights_RJ : ndarray [R, J]
        Replica weights.

    Returns
    -------
    share, error : ndarray of float64 [X]
        NaN in bins without jets; the error is NaN with fewer than two replicas. Where none or all of n jets pass, the
        bootstrap knows no error: there it is 1/(n + 1), the length of Wilson's interval (68 %).
    """
    bins = len(edges) - 1
    place_J = np.searchsorted(edges, values_J, side="right") - 1
    inside_J = (place_J >= 0) & (place_J < bins)
    place, passes = place_J[inside_J], passes_J[inside_J]

    def share(weight: NDArray[np.generic] | None) -> Floats:
        total = np.bincount(place, weight, minlength=bins).astype(np.float64)
        kept = np.bincount(place[passes], None if weight is None else weight[passes], minlength=bins)
        return np.divide(kept, total, out=np.full(bins, np.nan), where=total > 0)

    nominal = share(None)
    jets = np.bincount(place, minlength=bins)
    replicas = np.stack([share(weight_J[inside_J]) for weight_J in weights_RJ]) if len(weights_RJ) > 1 else None
    error = np.full(bins, np.nan)
    if replicas is not None:
        filled = np.isfinite(replicas).sum(axis=0) > 1
        error[filled] = np.nanstd(replicas[:, filled], axis=0, ddof=1)
        certain = (jets > 0) & ((nominal == 0) | (nominal == 1))
        error[certain] = 1 / (jets[certain] + 1)
    return nominal, error


def _last_within(mistag_G: Floats, mistag: float) -> int:
    """Return the last group whose mistag rate does not exceed the one asked for; -1 where there is none."""
    return int(np.searchsorted(mistag_G, mistag * (1 + 1e-12), side="right")) - 1


def _efficiency_at(ranking: Ranking, mistag: float, weight_J: NDArray[np.generic]) -> float:
    efficiency_G, mistag_G = ranking.curve(weight_J)
    if not len(mistag_G) or np.isnan(mistag_G[0]) or np.isnan(efficiency_G[0]):
        return float("nan")
    group = _last_within(mistag_G, mistag)
    return float(efficiency_G[group]) if group >= 0 else 0.0
