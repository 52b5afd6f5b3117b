"""Distances of two shapes: Kolmogorov-Smirnov, Jensen-Shannon, earth mover's; p-values by toys, bootstrap errors.

Shape suffixes: F fine bins, T toys, R replicas. With p and q the shares of data and simulation in each bin, flow bins
included, and P and Q their sums from the left,

    Kolmogorov-Smirnov   max |P - Q|
    earth mover's        sum |P - Q| x bin width, in units of the variable (flow bins are one bin wide)
    Jensen-Shannon       1/2 sum p log2(p/m) + 1/2 sum q log2(q/m),  m = (p + q) / 2, in bits: 0 same, 1 no overlap

The first two are taken in the variable's own bins, the divergence in those of the chi2: in bins with few entries it
would measure their fluctuations. Bins below zero (subtracted same-sign events, negative weights) count as empty
there.

**p-values.** The null hypothesis is that data and simulation come from one distribution, which simulation stands
for. A toy draws data from it (Poisson, scaled to the data's yield) and simulation anew (Poisson with as many
effective entries, (sum w)^2 / sum w^2, in each bin). p = (1 + toys at least as far apart) / (1 + toys). Systematic
uncertainties are not in it.

**Errors** are the spread of the bootstrap replicas. A replica fluctuates twice, as `agreement` says; the divergence,
quadratic as the chi2 is, is corrected in the same way, with q = sum e^2 / (8 m ln 2) for a replica's own fluctuation
e. The other two have no such correction: far from zero they need none, near zero their errors are a quarter too large
(a third for the divergence), in toys of 1000 jets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.compare.agreement import LEAST_EXPECTED, Reduced, Sample

Floats = NDArray[np.float64]
NAMES = ("ks", "earth_mover", "jensen_shannon")


@dataclass(frozen=True)
class Distance:
    """One distance between data and simulation.

    Parameters
    ----------
    reduced : Reduced
        Its value, with replicas.
    p : float or None
        Share of toys that are at least as far apart; None without toys.
    """

    reduced: Reduced
    p: float | None = None


def kolmogorov_smirnov(p: Floats, q: Floats) -> Floats:
    """Return the largest difference of the cumulative shares, over the last axis."""
    return np.asarray(np.abs(np.cumsum(p - q, axis=-1)).max(axis=-1))


def earth_mover(p: Floats, q: Floats, width: float) -> Floats:
    """Return the area between the cumulative shares, over the last axis: the work to turn one into the other.

    Parameters
    ----------
    p, q : ndarray of float64 [..., F]
        Shares.
    width : float
        Of a bin.
    """
    return np.asarray(np.abs(np.cumsum(p - q, axis=-1)).sum(axis=-1) * width)


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """Return the Jensen-Shannon divergence [bits] over the last axis; shares below zero count as empty bins."""
    positive_p, positive_q = np.maximum(p, 0.0), np.maximum(q, 0.0)
    middle = (positive_p + positive_q) / 2
    return (_relative_entropy(positive_p, middle) + _relative_entropy(positive_q, middle)) / 2


def _relative_entropy(p: Floats, middle: Floats) -> Floats:
    filled = p > 0
    logarithm = np.log2(np.divide(p, middle, out=np.ones_like(middle), where=filled))
    return np.asarray(np.sum(p * logarithm, axis=-1))


def distances(
    data: Sample,
    simulation: Sample,
    starts: NDArray[np.int64],
    width: float,
    toys: int = 0,
    seed: NDArray[np.uint32] | int = 0,
) -> dict[str, Distance]:
    """Return the distances between the shapes of data and simulation, by the names in `NAMES`.

    Parameters
    ----------
    data, simulation : Sample
        In fine bins.
    starts : ndarray of int64 [N]
        First fine bin of each bin of the chi2; without at least two there is no divergence.
    width : float
        Of a fine bin, in units of the variable.
    toys : int
        Toy experiments for the p-values; 0: none.
    seed : int or ndarray of uint32
        Of the toys.

    Returns
    -------
    dict of Distance
        Empty when data or simulation have no positive yield, or bins below zero and a yield of less than
        `LEAST_EXPECTED` effective entries: opposite minus same sign that may be nothing has no shape.
    """
    if not (_has_shape(data) and _has_shape(simulation)):
        return {}
    values = _all(data.values, simulation.values, starts, width)
    replicas = _replicas(data, simulation, starts, width)
    far = _all(*_toys(data, simulation, toys, seed), starts, width) if toys else None
    found = {}
    for name, value in values.items():
        values_R, noise_R = replicas.get(name, (None, None))
        p = None if far is None else float(1 + np.sum(far[name] >= value)) / (1 + toys)
        found[name] = Distance(Reduced(float(value), values_R, noise_R), p)
    return found


def _has_shape(one: Sample) -> bool:
    yield_, spread = float(one.values.sum()), float(one.variances.sum())
    return yield_ > 0 and (bool((one.values >= 0).all()) or yield_**2 >= LEAST_EXPECTED * spread)


def seed_of(seed: int, subject: str) -> NDArray[np.uint32]:
    """Return the seed of a subject's toys: the study's, and the subject's name."""
    digest = hashlib.sha256(f"{seed}/{subject}".encode()).digest()
    return np.frombuffer(digest, dtype="<u4").astype(np.uint32)


def _shares(values: Floats) -> Floats:
    """Return shares over the last axis; a toy without any entry has none."""
    total = values.sum(axis=-1, keepdims=True)
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0)


def _all(data: Floats, simulation: Floats, starts: NDArray[np.int64], width: float) -> dict[str, Floats]:
    p, q = _shares(data), _shares(simulation)
    found = {"ks": kolmogorov_smirnov(p, q), "earth_mover": earth_mover(p, q, width)}
    if len(starts) > 1:
        merged_p, merged_q = (np.add.reduceat(shares, starts, axis=-1) for shares in (p, q))
        found["jensen_shannon"] = jensen_shannon(merged_p, merged_q)
    return found


def _replicas(
    data: Sample, simulation: Sample, starts: NDArray[np.int64], width: float
) -> Mapping[str, tuple[Floats, Floats]]:
    """Return the distances of the replicas, and their noise that is taken out of the error."""
    if data.replicas_RF is None or simulation.replicas_RF is None:
        return {}
    found = _all(data.replicas_RF, simulation.replicas_RF, starts, width)
    noise = {name: np.zeros(len(values_R)) for name, values_R in found.items()}
    if "jensen_shannon" in found:
        p, q, p_R, q_R = (
            np.add.reduceat(_shares(values), starts, axis=-1)
            for values in (data.values, simulation.values, data.replicas_RF, simulation.replicas_RF)
        )
        own_R, middle = (p_R - q_R) - (p - q), np.maximum(p + q, 0.0) / 2
        terms_R = np.divide(own_R**2, 8 * np.log(2) * middle, out=np.zeros_like(own_R), where=middle > 0)
        noise["jensen_shannon"] = terms_R.sum(axis=-1)
    return {name: (values_R, noise[name]) for name, values_R in found.items()}


def _toys(data: Sample, simulation: Sample, toys: int, seed: NDArray[np.uint32] | int) -> tuple[Floats, Floats]:
    """Return toy data and toy simulation, each float64 [T, F]."""
    random = np.random.default_rng(seed)
    truth = np.maximum(simulation.values, 0.0)
    # Weighted data (prescales, opposite minus same sign) fluctuate as counts of this weight would.
    weight = float(data.variances.sum() / data.values.sum())
    expected = truth * (float(data.values.sum()) / float(truth.sum())) / weight
    per_entry = np.divide(simulation.variances, truth, out=np.zeros_like(truth), where=truth > 0)
    entries = np.divide(truth, per_entry, out=np.zeros_like(truth), where=per_entry > 0)
    shape = (toys, len(truth))
    fluctuated = random.poisson(entries, shape) * per_entry
    # Simulation without a statistical error stays as it is.
    return np.asarray(random.poisson(expected, shape) * weight), np.where(per_entry > 0, fluctuated, truth)
