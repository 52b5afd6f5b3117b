"""Simultaneous fit of scale factors in control regions.

Shape suffixes: R regions, F flavours (b, c, light), X bins.

A jet of flavour f in region r is expected in bin x

    norm_r ratio_rf S_rfx sf_f                                          (passing the working point),
    norm_r ratio_rf (S_rfx + (1 - sf_f) P_rf |S_rfx| / sum_x |S_rfx|)    (failing),

with the simulated yields S and P = the passing ones: what does not pass fails, and the shape on each side is that of
simulation. `norm_r` is free; `ratio_rf` is 1 for the flavour that the region is rich in, the others have a Gaussian
prior around 1 or are free. The scale factor of a flavour without a region has a Gaussian prior around 1.

The statistics is a likelihood ratio: per bin with n jets in data, s expected, and the simulation's relative error d,
one factor beta with a Gaussian prior of width d around 1 (Barlow and Beeston, "lite": J. S. Conway, arXiv:1103.0354),
profiled in closed form:

    2 (beta s - n + n ln(n / (beta s))) + ((beta - 1) / d)^2,   beta = (a + sqrt(a^2 + 4 n d^2)) / 2,   a = 1 - s d^2.

Where data have weights (opposite minus same sign, prescales) it is (n - s)^2 / (V + (s d)^2), V their sum of squared
weights. The errors d are those at the parameters of the fit before (the first one: of simulation as it is).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution

from pfnano_tag.analyze.result import Array
from pfnano_tag.calibrate.templates import FLAVOURS
from pfnano_tag.errors import MissingExtra

TINY = 1e-9
ABSENT = 1e-6
"""Parameters below this are at their limit, 0."""
MOST_CALLS = 20_000
PASSES = 2
"""Fits, each with the simulation's errors at the result of the one before."""


class FitFailed(Exception):
    """A fit did not converge, or can't be done; says why."""


@dataclass(frozen=True)
class Counts:
    """What is fitted.

    Parameters
    ----------
    data_RX, data_variances_RX : ndarray of float64
        Data.
    values_RFX, variances_RFX : ndarray of float64
        Simulation, of one systematic variation.
    passing_X : ndarray of bool
        Bins above the working point.
    home_R : tuple of int
        Flavour that each region is rich in.
    """

    data_RX: Array
    data_variances_RX: Array
    values_RFX: Array
    variances_RFX: Array
    passing_X: NDArray[np.bool_]
    home_R: tuple[int, ...]


@dataclass(frozen=True)
class Priors:
    """Widths of the priors; `composition` None: no prior on the flavours' ratios."""

    composition: float | None
    unmeasured: float


@dataclass(frozen=True)
class Fitted:
    """A fit that converged.

    Parameters
    ----------
    sf_F : ndarray of float64
        Scale factors; those without a region are as far from 1 as their prior allowed.
    covariance_FF : ndarray of float64
        Of the scale factors: statistics of data and simulation, and the priors.
    norm_R, ratio_RF : ndarray of float64
        Normalisations.
    chi2 : float
        Minimum of the statistics, priors included.
    ndf : int
        Bins and priors, less parameters.
    before_RFX, after_RFX : ndarray of float64
        Expected yields, before with the regions scaled to data.
    """

    sf_F: Array
    covariance_FF: Array
    norm_R: Array
    ratio_RF: Array
    chi2: float
    ndf: int
    before_RFX: Array
    after_RFX: Array

    @property
    def p(self) -> float | None:
        """Upper tail probability of the statistics as a chi2; None without degrees of freedom."""
        return float(chi2_distribution.sf(self.chi2, self.ndf)) if self.ndf > 0 else None


class Model:
    """Expected yields and the statistics as functions of the parameters.

    Parameters
    ----------
    counts : Counts
        Data and simulation.
    priors : Priors
        Widths.

    Attributes
    ----------
    names : list of str
        Parameters: `sf_<flavour>`, `norm_<region>`, `ratio_<region>_<flavour>`.
    """

    def __init__(self, counts: Counts, priors: Priors) -> None:
        self.counts, self.priors = counts, priors
        regions, flavours, _ = counts.values_RFX.shape
        total_RF = counts.values_RFX.sum(axis=2)
        home_RF = np.arange(flavours)[None, :] == np.array(counts.home_R)[:, None]
        # A ratio of a flavour that is not there would have nothing to be fitted to.
        self._free_RF = ~home_RF & np.any(counts.values_RFX != 0, axis=2)
        self.names = [f"sf_{flavour}" for flavour in FLAVOURS[:flavours]]
        self.names += [f"norm_{region}" for region in range(regions)]
        self.names += [f"ratio_{region}_{FLAVOURS[flavour]}" for region, flavour in np.argwhere(self._free_RF)]
        self._measured_F = np.isin(np.arange(flavours), counts.home_R)
        fails = np.where(counts.passing_X, 0.0, np.abs(counts.values_RFX))
        whole_RF1 = fails.sum(axis=2, keepdims=True)
        evenly = ~counts.passing_X / max(1, int((~counts.passing_X).sum()))
        share = np.divide(fails, whole_RF1, out=np.broadcast_to(evenly, fails.shape).copy(), where=whole_RF1 > 0)
        passes_RF = np.where(counts.passing_X, counts.values_RFX, 0.0).sum(axis=2)
        self._moved_RFX = passes_RF[:, :, None] * share
        self.start_norm_R = counts.data_RX.sum(axis=1) / total_RF.sum(axis=1)
        self._counted_R1 = np.all(counts.data_RX == counts.data_variances_RX, axis=1, keepdims=True)
        per_jet_R1 = counts.data_variances_RX.sum(axis=1, keepdims=True) / counts.data_RX.sum(axis=1, keepdims=True)
        self._variance_RX = np.maximum(counts.data_variances_RX, per_jet_R1)
        self._squares_RX = self.relative_squares(self.start)

    @property
    def start(self) -> Array:
        """Where the fit starts: scale factors of 1, regions scaled to data."""
        return np.concatenate([np.ones(len(self._measured_F)), self.start_norm_R, np.ones(self._free_RF.sum())])

    def split(self, parameters: Array) -> tuple[Array, Array, Array]:
        """Return sf_F, norm_R, ratio_RF."""
        flavours, regions = len(self._measured_F), len(self.start_norm_R)
        ratio_RF = np.ones(self._free_RF.shape)
        ratio_RF[self._free_RF] = parameters[flavours + regions :]
        return parameters[:flavours], parameters[flavours : flavours + regions], ratio_RF

    def expected(self, parameters: Array) -> Array:
        """Return expected yields [R, F, X]."""
        sf_F, norm_R, ratio_RF = self.split(parameters)
        sf_F1 = sf_F[:, None]
        passing = self.counts.values_RFX * sf_F1
        failing = self.counts.values_RFX + (1 - sf_F1) * self._moved_RFX
        return np.asarray(
            (norm_R[:, None] * ratio_RF)[:, :, None] * np.where(self.counts.passing_X, passing, failing)
        )

    def relative_squares(self, parameters: Array) -> Array:
        """Return squared relative errors of the expected yields [R, X], by the simulation's statistics."""
        expected, nominal = self.expected(parameters), self.counts.values_RFX
        factor = np.divide(expected, nominal, out=np.ones_like(expected), where=nominal != 0)
        total_RX = np.maximum(expected.sum(axis=1), TINY)
        variances = (factor**2 * self.counts.variances_RFX).sum(axis=1)
        return np.asarray(np.minimum(variances / total_RX**2, 1.0))

    def statistics(self, parameters: Array) -> float:
        """Return the statistics of the module's text, to be minimised."""
        sf_F, _, ratio_RF = self.split(parameters)
        s, n, square = np.maximum(self.expected(parameters).sum(axis=1), TINY), self.counts.data_RX, self._squares_RX
        gaussian = (n - s) ** 2 / (self._variance_RX + s**2 * square)
        poisson = _deviance(np.maximum(n, 0.0), s, np.maximum(square, 1e-12))
        total = float(np.where(self._counted_R1, poisson, gaussian).sum())
        if self.priors.composition is not None:
            total += float((((ratio_RF[self._free_RF] - 1) / self.priors.composition) ** 2).sum())
        return total + float((((sf_F[~self._measured_F] - 1) / self.priors.unmeasured) ** 2).sum())

    def take_errors_at(self, parameters: Array) -> None:
        """Take the simulation's errors at these parameters from now on."""
        self._squares_RX = self.relative_squares(parameters)

    @property
    def ndf(self) -> int:
        """Bins and priors, less parameters."""
        priors = int((~self._measured_F).sum()) + (0 if self.priors.composition is None else int(self._free_RF.sum()))
        return self.counts.data_RX.size + priors - len(self.names)


def _deviance(n: Array, s: Array, square: Array) -> Array:
    a = 1 - s * square
    beta = (a + np.sqrt(a**2 + 4 * n * square)) / 2
    mean = np.maximum(beta * s, TINY)
    logarithm = n * np.log(np.where(n > 0, n, 1.0) / mean)
    return np.asarray(2 * (mean - n + np.where(n > 0, logarithm, 0.0)) + (beta - 1) ** 2 / square)


def minimiser() -> Any:
    """Return `iminuit.Minuit`.

    Raises
    ------
    MissingExtra
        When iminuit is not installed.
    """
    try:
        from iminuit import Minuit
    except ImportError as error:
        raise MissingExtra(
            "the fits of scale factors need the package iminuit; install it with: pip install 'pfnano_tag[fit]'"
        ) from error
    return Minuit


def fit(counts: Counts, priors: Priors) -> Fitted:
    """Fit the scale factors.

    Parameters
    ----------
    counts : Counts
        Data and simulation.
    priors : Priors
        Widths.

    Raises
    ------
    FitFailed
        When there are more parameters than bins and priors, the minimum was not found, or its errors make no sense.
    MissingExtra
        When iminuit is not installed.
    """
    model = Model(counts, priors)
    if model.ndf < 0:
        raise FitFailed(f"{len(model.names)} parameters for {len(model.names) + model.ndf} bins and priors")
    parameters, minuit = model.start, minimiser()(model.statistics, model.start, name=model.names)
    for _ in range(PASSES):
        model.take_errors_at(parameters)
        minuit = minimiser()(model.statistics, parameters, name=model.names)
        minuit.errordef = minuit.LEAST_SQUARES
        minuit.limits = [(0, None)] * len(parameters)
        minuit.migrad(ncall=MOST_CALLS)
        _leave_out_absent(minuit)
        parameters = np.array(minuit.values)
    minuit.hesse()
    _check(minuit, model.names, parameters)
    flavours = counts.values_RFX.shape[1]
    sf_F, norm_R, ratio_RF = model.split(parameters)
    covariance = np.array(minuit.covariance)[:flavours, :flavours]
    return Fitted(
        sf_F,
        covariance,
        norm_R,
        ratio_RF,
        float(minuit.fval),
        model.ndf,
        model.expected(model.start),
        model.expected(parameters),
    )


def _leave_out_absent(minuit: Any) -> None:
    """Fix ratios that ended at 0 there (data have no such jets), and fit the rest: errors know no limits."""
    absent = [name for name in minuit.parameters if name.startswith("ratio") and minuit.values[name] < ABSENT]
    for name in absent:
        minuit.values[name], minuit.fixed[name] = 0.0, True
    if absent:
        minuit.migrad(ncall=MOST_CALLS)


def _check(minuit: Any, names: list[str], parameters: Array) -> None:
    if not minuit.valid:
        state = minuit.fmin
        why = "too many calls" if state.has_reached_call_limit else f"distance to the minimum {state.edm:.2g}"
        raise FitFailed(f"the fit did not converge ({why})")
    fitted = [(name, value) for name, value in zip(names, parameters, strict=True) if not minuit.fixed[name]]
    zero = [name for name, value in fitted if value < ABSENT]
    if zero:
        raise FitFailed(
            f"the fit ended at the limit {', '.join(zero)} = 0: data have fewer jets than the rest explains"
        )
    covariance = None if minuit.covariance is None else np.array(minuit.covariance)
    if covariance is None or not minuit.accurate or not np.all(np.isfinite(covariance)):
        raise FitFailed(
            "the fit has no covariance: its parameters can't be told apart; narrow calibration.composition"
        )
