"""Agreement of data and simulation: chi2 in bins of equal simulated yield, with a bootstrap error.

Shape suffixes: F fine bins, N merged bins, R replicas.

The chi2 has the statistics of both sides, Pearson's form: with data d, simulation s of variance v, and scale k
(1 for simulation normalised to luminosity, sum(d)/sum(s) for simulation normalised to data),

    V = u k s + k^2 v,        r = d - k s,        chi2 = r^T M r,

where u is 1 for counts; for data with weights (prescales, opposite minus same sign) it is their sum of squared
weights over their sum of weights, the variance per expected event in the mean over the bins; where data have
less than `LEAST_KNOWN` effective entries, (sum w)^2 / sum w^2 (opposite minus same sign that may be nothing), u k s
is instead what data say of each bin, their sum of squared weights,

and M = V^-1 when the normalisation is known (ndf = N). When it comes from data, M also projects out the free scale,
M = V^-1 - V^-1 s s^T V^-1 / (s^T V^-1 s), which is the minimum over the scale (ndf = N - 1). With systematic
uncertainties V is V + sum_k d_k d_k^T, where source k shifts all bins together by d_k (`shifts`).

**Bootstrap.** A replica's residual is r + e with the same fluctuation e as the sample has itself, so that replicas
fluctuate twice: chi2_r = r^T M r + 2 r^T M e + e^T M e. Their variance exceeds that of chi2 by twice the variance of
the last term, q = e^T M e, because the middle term contains the sample's own fluctuation: in the mean
var(chi2_r) = var(chi2) + 2 var(q), and var(chi2) >= var(q). The errors here are corrected accordingly (the lower
bound makes them up to a fifth too large where data and simulation agree). The same holds for the difference of two
models, whose replicas share the events, hence the correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution

Floats = NDArray[np.float64]

LEAST_EXPECTED = 5.0
"""Least expected data count, and least effective number of simulated entries, of a bin."""

LEAST_KNOWN = 30.0
"""Effective entries of data with weights from which on their variance per event is known well enough, to a fifth."""

SIGNIFICANT = 2.0
"""Differences above this many errors are called differences."""


@dataclass(frozen=True)
class Sample:
    """One distribution in fine bins, flow bins included.

    Parameters
    ----------
    values, variances : ndarray of float64 [F]
        Sums of weights and of squared weights.
    replicas_RF : ndarray of float64 [R, F] or None
        The same sums of weights with bootstrap weights.
    """

    values: Floats
    variances: Floats
    replicas_RF: Floats | None = None

    def merged(self, starts: NDArray[np.int64]) -> Sample:
        """Return the distribution in merged bins.

        Parameters
        ----------
        starts : ndarray of int64 [N]
            First fine bin of each merged bin, rising from 0.
        """
        replicas = None if self.replicas_RF is None else np.add.reduceat(self.replicas_RF, starts, axis=1)
        return Sample(np.add.reduceat(self.values, starts), np.add.reduceat(self.variances, starts), replicas)

    def scaled(self, factor: float) -> Sample:
        """Return the distribution times a factor."""
        replicas = None if self.replicas_RF is None else self.replicas_RF * factor
        return Sample(self.values * factor, self.variances * factor**2, replicas)


@dataclass(frozen=True)
class Reduced:
    """A chi2 / ndf, a mean of several, or another measure of disagreement, with its bootstrap replicas.

    Parameters
    ----------
    value : float
        Of the sample itself.
    values_R, noise_R : ndarray of float64 [R] or None
        Of the replicas, and the part of each that is quadratic in its fluctuation (`q` above).
    """

    value: float
    values_R: Floats | None = None
    noise_R: Floats | None = None

    @property
    def error(self) -> float | None:
        """Bootstrap error; None without replicas."""
        return None if self.values_R is None or self.noise_R is None else corrected_error(self.values_R, self.noise_R)

    @property
    def mean(self) -> float | None:
        """Bootstrap mean, the replicas' own noise taken out; None without replicas."""
        return None if self.values_R is None or self.noise_R is None else float(np.mean(self.values_R - self.noise_R))


@dataclass(frozen=True)
class Agreement:
    """Agreement of one distribution with data.

    Parameters
    ----------
    chi2, p : float
        And its upper tail probability.
    ndf : int
        Degrees of freedom.
    starts : ndarray of int64 [N]
        First fine bin of each bin.
    reduced : Reduced
        chi2 / ndf with replicas.
    """

    chi2: float
    ndf: int
    p: float
    starts: NDArray[np.int64]
    reduced: Reduced


@dataclass(frozen=True)
class Difference:
    """Difference of chi2 / ndf, or another measure, of two models (first minus second), with its bootstrap error."""

    value: float
    error: float

    @property
    def significance(self) -> float:
        """Difference over error; 0 when both are 0 (a model compared with itself)."""
        return self.value / self.error if self.error > 0 else 0.0

    @property
    def better(self) -> str | None:
        """`first`, `second`, or None where the difference is not significant."""
        if abs(self.significance) <= SIGNIFICANT:
            return None
        return "second" if self.value > 0 else "first"


def equal_yield_starts(
    simulation: Sample, bins: int, scale: float = 1.0, least: float = LEAST_EXPECTED
) -> NDArray[np.int64]:
    """Merge fine bins into bins of equal simulated yield, as many as the statistics allow.

    Parameters
    ----------
    simulation : Sample
        In fine bins.
    bins : int
        How many bins are asked for.
    scale : float
        Factor from simulated yield to expected data counts.
    least : float
        Every bin has at least this many expected data counts and effective simulated entries, (sum w)^2 / sum w^2.

    Returns
    -------
    ndarray of int64 [N]
        First fine bin of each merged bin, N <= bins; empty when the statistics do not allow even two bins, or the
        simulated yield is not positive.
    """
    expected = float(simulation.values.sum()) * scale
    if not expected > 0:
        return np.zeros(0, dtype=np.int64)
    for count in range(min(bins, int(expected / least)), 1, -1):
        starts = _starts_of_equal_share(simulation.values, count)
        merged = simulation.merged(starts)
        effective = merged.values**2 / np.maximum(merged.variances, np.finfo(float).tiny)
        if len(starts) > 1 and np.all(merged.values * scale >= least) and np.all(effective >= least):
            return starts
    return np.zeros(0, dtype=np.int64)


def _starts_of_equal_share(values: Floats, count: int) -> NDArray[np.int64]:
    """Cut where the cumulative yield is nearest to k/count; cuts that coincide are one."""
    # Negative weights can make the sum fall locally: the running maximum keeps the cuts in order.
    below = np.maximum.accumulate(np.concatenate([[0.0], np.cumsum(values)]))
    wanted = below[-1] * np.arange(1, count) / count
    right = np.clip(np.searchsorted(below, wanted), 1, len(values))
    nearer_left = wanted - below[right - 1] <= below[right] - wanted
    cuts = np.where(nearer_left, right - 1, right)
    inner = np.unique(cuts[(cuts > 0) & (cuts < len(values))])
    return np.concatenate([[0], inner]).astype(np.int64)


def populated_starts(simulation: Sample, scale: float = 1.0, least: float = LEAST_EXPECTED) -> NDArray[np.int64]:
    """Merge neighbouring bins, left to right, until each has the least expected count and effective entries.

    For plots whose binning is not the discriminants' fine one. What is left at the end joins the last bin.

    Returns
    -------
    ndarray of int64 [N]
        First bin of each merged bin; empty when the statistics do not allow two.
    """
    starts, values, variances = [0], 0.0, 0.0
    for index, (value, variance) in enumerate(zip(simulation.values, simulation.variances, strict=True)):
        values, variances = values + value, variances + variance
        if values * scale >= least and values**2 >= least * variances:
            starts.append(index + 1)
            values, variances = 0.0, 0.0
    # The last start opens what did not reach the least (or nothing at all): it belongs to the bin before it.
    starts.pop()
    return np.array(starts if len(starts) > 1 else [], dtype=np.int64)


def agreement(
    data: Sample, simulation: Sample, starts: NDArray[np.int64], to_data: bool, shifts_SF: Floats | None = None
) -> Agreement | None:
    """Compare data with simulation in merged bins.

    Parameters
    ----------
    data, simulation : Sample
        In fine bins; simulation normalised to luminosity.
    starts : ndarray of int64 [N]
        First fine bin of each bin, from `equal_yield_starts` or `populated_starts`.
    to_data : bool
        Simulation is scaled to the data's yield (shapes are compared, ndf = N - 1); otherwise the luminosity's
        normalisation counts (ndf = N).
    shifts_SF : ndarray of float64 [sources, F] or None
        Shift of simulation in each fine bin by each source of systematic uncertainty, after any scaling to data;
        None: statistics alone.

    Returns
    -------
    Agreement or None
        None without bins, or without data to be normalised to.
    """
    if len(starts) < 2 or (to_data and not data.values.sum() > 0):
        return None
    d, s = data.merged(starts), simulation.merged(starts)
    if to_data:
        s = s.scaled(float(d.values.sum() / s.values.sum()))
    covariance_NN = np.diag(_data_variances(d, s) + s.variances)
    if shifts_SF is not None:
        shifts_SN = np.add.reduceat(shifts_SF, starts, axis=1)
        covariance_NN += shifts_SN.T @ shifts_SN
    metric_NN = _metric(s.values, covariance_NN, to_data)
    residual = d.values - s.values
    chi2 = _norm(residual, metric_NN)
    ndf = len(starts) - int(to_data)
    values_R = noise_R = None
    if d.replicas_RF is not None and s.replicas_RF is not None:
        residual_RN = d.replicas_RF - s.replicas_RF
        values_R, noise_R = _norm(residual_RN, metric_NN) / ndf, _norm(residual_RN - residual, metric_NN) / ndf
    reduced = Reduced(float(chi2) / ndf, values_R, noise_R)
    return Agreement(float(chi2), ndf, float(chi2_distribution.sf(chi2, ndf)), starts, reduced)


def _data_variances(data: Sample, simulation: Sample) -> Floats:
    """Return u k s of the module's text; simulation is scaled already."""
    yield_, spread = float(data.values.sum()), float(data.variances.sum())
    if yield_ == spread:  # counts, or nothing
        return simulation.values
    if yield_ > 0 and yield_**2 >= LEAST_KNOWN * spread:
        return simulation.values * (spread / yield_)
    mean = spread / float(simulation.values.sum())
    return np.where(data.variances > 0, data.variances, simulation.values * mean)


def _metric(values: Floats, covariance_NN: Floats, free_scale: bool) -> Floats:
    """Return M of the module's text."""
    metric = np.linalg.inv(covariance_NN)
    if free_scale:
        direction = metric @ values
        metric -= np.outer(direction, direction) / float(direction @ values)
    return np.asarray(metric)


def _norm(residual: Floats, metric_NN: Floats) -> Floats:
    """Return r^T M r over the last axis."""
    return np.asarray(np.einsum("...i,ij,...j->...", residual, metric_NN, residual))


def corrected_error(values_R: Floats, noise_R: Floats) -> float:
    """Bootstrap error of a chi2 (or a difference of two), the replicas' own second fluctuation taken out.

    Parameters
    ----------
    values_R, noise_R : ndarray of float64 [R]
        The replicas' values, and the part of each that is quadratic in the replica's fluctuation.
    """
    quadratic = float(np.var(noise_R, ddof=1))
    return float(np.sqrt(max(float(np.var(values_R, ddof=1)) - 2 * quadratic, quadratic)))


def mean_of(parts: Sequence[Reduced]) -> Reduced:
    """Return the mean of several chi2 / ndf of one model; replicas are averaged one by one, as they share events.

    Parameters
    ----------
    parts : sequence of Reduced
        At least one.
    """
    value = float(np.mean([part.value for part in parts]))
    values = [part.values_R for part in parts if part.values_R is not None]
    noises = [part.noise_R for part in parts if part.noise_R is not None]
    if len(values) < len(parts) or len(noises) < len(parts):
        return Reduced(value)
    return Reduced(value, np.mean(values, axis=0), np.mean(noises, axis=0))


def difference(first: Reduced, second: Reduced) -> Difference | None:
    """Return the difference of two models (or variants) in one measure and its error; None without replicas of both.

    Replica i of both models has the same events' weights, so that the correlation is in the error.
    """
    if first.values_R is None or second.values_R is None or first.noise_R is None or second.noise_R is None:
        return None
    error = corrected_error(first.values_R - second.values_R, first.noise_R - second.noise_R)
    return Difference(first.value - second.value, error)
