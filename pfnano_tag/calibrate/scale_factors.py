"""Scale factors at a working point: efficiency in data over efficiency in simulation, by flavour.

A systematic variation takes the place of simulation in a fit of its own (a shift, no nuisance parameter). What it
finds is an efficiency in data, and this is divided by the efficiency of nominal simulation, to which scale factors
are applied: a variation counts as far as it changes how data are shared among flavours.

Shape suffixes: R regions, F flavours (b, c, light), X bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.result import Array
from pfnano_tag.calibrate.fit import Counts, FitFailed, Fitted, Priors, fit
from pfnano_tag.calibrate.templates import FLAVOURS, Templates, effective
from pfnano_tag.compare.shifts import sources_of

LEAST_DATA = 1.0
"""Least sum of weights of data on each side of a working point, in the region of each flavour."""


@dataclass(frozen=True)
class Measurement:
    """Scale factors of one working point, in one range of pT.

    Parameters
    ----------
    threshold : float
        Lowest score that passes.
    fitted : Fitted
        With nominal simulation.
    counts : Counts
        What was fitted.
    efficiency_F : ndarray of float64
        Of nominal simulation, in the region of the flavour; NaN for one without a region.
    shifts : dict of ndarray [F]
        By systematic variation: its scale factors less the nominal ones.
    """

    threshold: float
    fitted: Fitted
    counts: Counts
    efficiency_F: Array
    shifts: Mapping[str, Array] = field(default_factory=dict)

    @property
    def systematic_FF(self) -> Array:
        """Covariance of the scale factors from systematic variations, each fully correlated between flavours."""
        return systematic_covariance(self.shifts, len(self.fitted.sf_F))

    @property
    def total_F(self) -> Array:
        """Errors of the scale factors, statistics and systematics."""
        return np.asarray(np.sqrt(np.diag(self.fitted.covariance_FF + self.systematic_FF)))

    @property
    def statistical_F(self) -> Array:
        """Errors of the scale factors from the statistics of data and simulation, and the priors."""
        return np.asarray(np.sqrt(np.diag(self.fitted.covariance_FF)))


def up_and_down(shifts: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
    """Return the shifts of each source, up and down; one with a single variation is as large the other way."""
    return {
        source.name: (shifts[source.up], -shifts[source.up] if source.down is None else shifts[source.down])
        for source in sources_of(shifts)
    }


def systematic_covariance(shifts: Mapping[str, Array], size: int) -> Array:
    """Return the sum over sources of d d^T, d half the difference of up and down [size]."""
    total = np.zeros((size, size))
    for up, down in up_and_down(shifts).values():
        half = (up - down) / 2
        total += np.outer(half, half)
    return total


def measure(templates: Templates, cut: tuple[int, float], bins: int, priors: Priors, least: float) -> Measurement:
    """Fit the scale factors of a working point, for nominal simulation and each systematic variation.

    Parameters
    ----------
    templates : Templates
        Of the discriminant.
    cut : (int, float)
        First bin that passes, and its lower edge.
    bins : int
        Bins on each side that are fitted.
    priors : Priors
        Of the fit.
    least : float
        Least effective number of simulated jets, passing and failing.

    Raises
    ------
    FitFailed
        When jets are too few, or a fit did not converge.
    """
    merged, passing_X = _merged(templates, cut[0], bins)
    counts = [_counts(merged.of(place), passing_X) for place in range(len(merged.systematics))]
    _check(templates.regions, counts[0], least)
    nominal = fit(counts[0], priors)
    efficiency_F = _efficiencies(counts[0])
    shifts = {}
    for name, varied in zip(merged.systematics[1:], counts[1:], strict=True):
        try:
            _check(templates.regions, varied, 1.0)
            found = fit(varied, priors)
        except FitFailed as error:
            raise FitFailed(f"systematic variation {name}: {error}") from error
        shift = found.sf_F * _efficiencies(varied) / efficiency_F - nominal.sf_F
        shifts[name] = np.where(np.isnan(shift), 0.0, shift)
    return Measurement(cut[1], nominal, counts[0], efficiency_F, shifts)


def _merged(templates: Templates, cut: int, bins: int) -> tuple[Templates, NDArray[np.bool_]]:
    """Merge bins to those that are fitted: of equal simulated yield on each side."""
    yields = templates.values_SRFX[0].sum(axis=(0, 1))
    starts = np.concatenate([_starts(yields[:cut], bins), cut + _starts(yields[cut:], bins)])
    merged = templates.mapped(lambda content: np.add.reduceat(content, starts, axis=-1))
    return merged, starts >= cut


def _starts(yields: Array, bins: int) -> NDArray[np.int64]:
    """Cut after equal shares of the yield; cuts that coincide are one."""
    below = np.maximum.accumulate(np.cumsum(yields))
    inner = np.searchsorted(below, below[-1] * np.arange(1, bins) / bins) + 1
    return np.unique(np.concatenate([[0], inner[inner < len(yields)]])).astype(np.int64)


def _counts(templates: Templates, passing_X: NDArray[np.bool_]) -> Counts:
    return Counts(
        templates.data_RX,
        templates.data_variances_RX,
        templates.values_SRFX[0],
        templates.variances_SRFX[0],
        passing_X,
        templates.home_R,
    )


def _efficiencies(counts: Counts) -> Array:
    efficiency_F = np.full(len(FLAVOURS), np.nan)
    for place, flavour in enumerate(counts.home_R):
        yields = counts.values_RFX[place, flavour]
        efficiency_F[flavour] = yields[counts.passing_X].sum() / yields.sum()
    return efficiency_F


def _check(regions: Mapping[str, str], counts: Counts, least: float) -> None:
    """Refuse what has too few jets on one side."""
    for place, ((name, region), flavour) in enumerate(zip(regions.items(), counts.home_R, strict=True)):
        for side, chosen_X in (("passing", counts.passing_X), ("failing", ~counts.passing_X)):
            values, variances = (
                array[place, flavour, chosen_X].sum() for array in (counts.values_RFX, counts.variances_RFX)
            )
            jets = float(effective(np.array(values), np.array(variances)))
            if jets < least:
                raise FitFailed(
                    f"region {region} has {jets:.3g} effective simulated {name} jets {side}, fewer than {least:g} "
                    "(calibration.least)"
                )
            if not counts.values_RFX[place].sum() > 0:
                raise FitFailed(f"region {region} has no positive yield in simulation")
            observed = float(counts.data_RX[place, chosen_X].sum())
            if observed < LEAST_DATA:
                raise FitFailed(f"region {region} has {observed:g} jets {side} in data")
