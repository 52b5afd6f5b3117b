"""Poisson bootstrap over events: a jet's replica weights are a function of its event alone.

Jets of one event share their weights, because they are not independent. The weights do not depend on the model,
the file or the order, so that any two results of the same events fluctuate together and their difference has an
error (B. Efron, R. Tibshirani; the Poisson form for streams: arXiv:1106.2125 and D. Chamandy et al., 2012).

Shape suffixes: J jets, R replicas.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import poisson

from pfnano_tag.prepare.splitting import mixed, uniform

MOST = 16  # a Poisson number of mean 1 exceeds it once in 10^15

# The split comes from the same hash: without a word of their own, replicas of the test split would be biased.
_WORD = np.uint64(0xB0075712A9)
_CUMULATIVE = poisson.cdf(np.arange(MOST), 1.0)


def replica_weights(event_id: NDArray[np.uint64], replicas: int) -> NDArray[np.uint8]:
    """Return Poisson(1) weights of each jet in each replica.

    Parameters
    ----------
    event_id : ndarray of uint64 [J]
        Hash of the event's identity (`prepare.splitting.event_hash`).
    replicas : int
        Number of replicas; the first ones are the same whatever their number.

    Returns
    -------
    ndarray of uint8 [R, J]
    """
    weights_RJ = np.empty((replicas, len(event_id)), dtype=np.uint8)
    for replica in range(replicas):
        word = mixed(np.array([replica], dtype=np.uint64) ^ _WORD)
        weights_RJ[replica] = np.searchsorted(_CUMULATIVE, uniform(mixed(event_id ^ word)), side="right")
    return weights_RJ


def error_of(values_R: NDArray[np.floating]) -> float | None:
    """Return the standard deviation of replicas; None with fewer than two finite ones."""
    finite = values_R[np.isfinite(values_R)]
    return float(np.std(finite, ddof=1)) if len(finite) > 1 else None
