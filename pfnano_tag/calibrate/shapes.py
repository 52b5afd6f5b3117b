"""Weights for the shape of two discriminants, per cell and flavour, by iteration over the control regions.

The method of CMS's calibration of charm tagging (JINST 17 (2022) P03014, iterative, three regions): in the region
rich in flavour f, what data have beyond the other flavours, with their weights of the moment, over what simulation
has of f, is the new weight of f,

    w_f = (k D - sum_{g != f} w_g S_g) / S_f,

one region after the other, until no weight changes. The region's data are scaled (k) so that the flavour's yield in
it stays what it was: weights change shapes. Flavours without a region keep a weight of 1. Cells with too few
simulated jets of the flavour share their weight: with those of the same column, and if that is not enough, with all
that are left.

Shape suffixes: T replicas, R regions, F flavours (b, c, light), X cells, G groups of cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.result import Array
from pfnano_tag.calibrate.scale_factors import up_and_down
from pfnano_tag.calibrate.templates import FLAVOURS, Templates, effective
from pfnano_tag.errors import DataError

STABLE = 1e-6
"""Largest change of a weight in the last iteration."""

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """Weights of one pair of discriminants.

    Parameters
    ----------
    weights_FX, errors_FX : ndarray of float64
        Weights, and their statistical errors (data and simulation).
    shifts : dict of ndarray [F, X]
        By systematic variation: its weights less the nominal ones.
    iterations : int
        Until stable.
    groups_F : tuple of int
        Weights that are independent, by flavour; 0 for one without a region.
    limited_F : tuple of int
        How many of them are at a limit.
    before_R, after_R : ndarray of float64
        chi2 of data and simulation scaled to them, without and with the weights.
    cells_R : ndarray of int64
        Cells in that chi2.
    """

    weights_FX: Array
    errors_FX: Array
    shifts: Mapping[str, Array]
    iterations: int
    groups_F: tuple[int, ...]
    limited_F: tuple[int, ...]
    before_R: Array
    after_R: Array
    cells_R: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def total_FX(self) -> Array:
        """Errors of the weights, statistics and systematics."""
        squares = self.errors_FX**2
        for up, down in up_and_down(self.shifts).values():
            squares = squares + ((up - down) / 2) ** 2
        return np.asarray(np.sqrt(squares))


@dataclass(frozen=True)
class Grouping:
    """Cells that share a weight, for the flavour of one region.

    Parameters
    ----------
    label_X : ndarray of int64
        Group of each cell.
    count : int
        Groups. The last one keeps a weight of 1 where `fixed`.
    fixed : bool
        Whether what was left over is too little to be measured.
    """

    label_X: Labels
    count: int
    fixed: bool

    def sums(self, content: Array) -> Array:
        """Return sums over the groups [..., G] of content [..., X]."""
        order = np.argsort(self.label_X, kind="stable")
        starts = np.searchsorted(self.label_X[order], np.arange(self.count))
        return np.asarray(np.add.reduceat(content[..., order], starts, axis=-1))


def grouping(values_X: Array, variances_X: Array, columns: int, least: float) -> Grouping:
    """Return which cells share a weight.

    Parameters
    ----------
    values_X, variances_X : ndarray of float64
        Simulated jets of the flavour in its region.
    columns : int
        Cells of one column are neighbours: X is (X / columns, columns).
    least : float
        Least effective number of jets of a group.
    """
    enough_X = effective(values_X, variances_X) >= least
    column_X = np.arange(len(values_X)) // columns
    label_X = np.full(len(values_X), -1, dtype=np.int64)
    label_X[enough_X] = np.arange(enough_X.sum())
    count = int(enough_X.sum())
    for column in np.unique(column_X):
        rest_X = (column_X == column) & ~enough_X
        if effective(values_X[rest_X].sum(), variances_X[rest_X].sum()) >= least:
            label_X[rest_X] = count
            count += 1
    rest_X = label_X < 0
    if not rest_X.any():
        return Grouping(label_X, count, False)
    label_X[rest_X] = count
    fixed = bool(effective(values_X[rest_X].sum(), variances_X[rest_X].sum()) < least)
    return Grouping(label_X, count + 1, fixed)


@dataclass(frozen=True)
class Rules:
    """How weights are found.

    Parameters
    ----------
    groups : tuple of Grouping
        Of each region.
    home_R : tuple of int
        Flavour that each region is rich in.
    limits : (float, float)
        Range of the weights, before they are made to keep the yield.
    iterations : int
        At most.
    """

    groups: tuple[Grouping, ...]
    home_R: tuple[int, ...]
    limits: tuple[float, float]
    iterations: int


def iterate(data_TRX: Array, values_TRFX: Array, rules: Rules) -> tuple[Array, int, float]:
    """Return weights [T, F, X], the iterations done, and the largest change in the last one.

    Parameters
    ----------
    data_TRX : ndarray of float64
        Data.
    values_TRFX : ndarray of float64
        Simulation.
    rules : Rules
        Groups, limits, iterations.
    """
    replicas, _, flavours, cells = values_TRFX.shape
    weights_TFX = np.ones((replicas, flavours, cells))
    change, done = np.inf, 0
    while change > STABLE and done < rules.iterations:
        before = weights_TFX.copy()
        for region, flavour in enumerate(rules.home_R):
            weights_TFX[:, flavour] = _new_weights(
                data_TRX[:, region], values_TRFX[:, region], weights_TFX, flavour, rules, rules.groups[region]
            )
        change, done = float(np.abs(weights_TFX - before).max()), done + 1
    return weights_TFX, done, change


def _new_weights(
    data_TX: Array, values_TFX: Array, weights_TFX: Array, flavour: int, rules: Rules, group: Grouping
) -> Array:
    own_TX = values_TFX[:, flavour]
    others_TX = (weights_TFX * values_TFX).sum(axis=1) - weights_TFX[:, flavour] * own_TX
    wanted_T = own_TX.sum(axis=1) + others_TX.sum(axis=1)
    scaled_TX = data_TX * (wanted_T / data_TX.sum(axis=1))[:, None]
    left_TG, own_TG = group.sums(scaled_TX - others_TX), group.sums(own_TX)
    ratio_TG = np.divide(left_TG, own_TG, out=np.ones_like(own_TG), where=own_TG > 0)
    ratio_TG = np.clip(ratio_TG, *rules.limits)
    free_G = np.arange(group.count) < group.count - int(group.fixed)
    # What limits or fixed groups take away is given to the others, so that the yield stays.
    kept_T = own_TG[:, free_G].sum(axis=1)
    now_T = (ratio_TG * own_TG)[:, free_G].sum(axis=1)
    scale_T = np.divide(kept_T, now_T, out=np.ones_like(now_T), where=now_T > 0)
    return np.where(free_G, ratio_TG * scale_T[:, None], 1.0)[:, group.label_X]


def calibrate_shape(
    templates: Templates,
    columns: int,
    least: float,
    limits: tuple[float, float],
    iterations: int,
    replicas: int,
    seed: int,
) -> Shape:
    """Return the weights of a pair of discriminants.

    Parameters
    ----------
    templates : Templates
        Of the pair, cells without the flow of the flattened axis.
    columns : int
        Places of the second discriminant.
    least, limits, iterations, replicas
        Section `calibration` of the card.
    seed : int
        Of the replicas.

    Raises
    ------
    DataError
        When a flavour has too few jets, or the weights did not become stable.
    """
    nominal = templates.values_SRFX[0], templates.variances_SRFX[0]
    groups = []
    for place, ((name, region), flavour) in enumerate(zip(templates.regions.items(), templates.home_R, strict=True)):
        found = grouping(nominal[0][place, flavour], nominal[1][place, flavour], columns, least)
        if found.count - int(found.fixed) < 2:
            raise DataError(
                f"region {region}: too few simulated {name} jets for a shape; fewer than two cells have "
                f"{least:g} effective ones (calibration.least)"
            )
        groups.append(found)
    rules = Rules(tuple(groups), templates.home_R, limits, iterations)
    all_SRX = np.broadcast_to(templates.data_RX, (len(templates.systematics), *templates.data_RX.shape))
    weights_SFX, done, change = iterate(all_SRX, templates.values_SRFX, rules)
    if change > STABLE:
        raise DataError(
            f"the shape weights are not stable after {done} iterations (calibration.iterations): one still changes "
            f"by {change:.2g}; the regions {', '.join(templates.regions.values())} may be too alike in flavours"
        )
    weights_FX = weights_SFX[0]
    free_FX = _known(rules, weights_FX.shape)
    errors_FX = np.where(free_FX, _errors(templates, rules, replicas, seed), 0.0)
    shifts = _shifts(templates, rules, weights_SFX)
    before, after, cells = _closure(templates, weights_FX)
    counts = [0] * len(FLAVOURS)
    limited = [0] * len(FLAVOURS)
    for group, flavour in zip(groups, templates.home_R, strict=True):
        counts[flavour] = group.count - int(group.fixed)
        limited[flavour] = _at_limit(np.unique(weights_FX[flavour]), limits)
    return Shape(weights_FX, errors_FX, shifts, done, tuple(counts), tuple(limited), before, after, cells)


def _at_limit(weights: Array, limits: tuple[float, float]) -> int:
    """Count weights at a limit; the common factor that keeps the yield may have moved them by some per cent."""
    return int(((weights <= limits[0] * 1.1) | (weights >= limits[1] / 1.1)).sum())


def _known(rules: Rules, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which weights [F, X] were measured."""
    known_FX = np.zeros(shape, dtype=bool)
    for group, flavour in zip(rules.groups, rules.home_R, strict=True):
        known_FX[flavour] = ~((group.label_X == group.count - 1) & group.fixed)
    return known_FX


def _errors(templates: Templates, rules: Rules, replicas: int, seed: int) -> Array:
    """Return the spread of the weights [F, X] over replicas of data and simulation.

    Replicas know no limits: a weight at a limit is as uncertain as the others.
    """
    random = np.random.default_rng(seed)
    data = _fluctuated(templates.data_RX, templates.data_variances_RX, replicas, random)
    simulation = _fluctuated(templates.values_SRFX[0], templates.variances_SRFX[0], replicas, random)
    weights_TFX, _, _ = iterate(data, simulation, replace(rules, limits=(-np.inf, np.inf)))
    return np.asarray(weights_TFX.std(axis=0, ddof=1))


def _fluctuated(values: Array, variances: Array, replicas: int, random: np.random.Generator) -> Array:
    """Return Poisson replicas [T, ...] of the effective numbers; Gaussian ones where a sum is not positive."""
    jets = effective(values, variances)
    weight = np.divide(values, jets, out=np.zeros_like(values), where=jets > 0)
    shape = (replicas, *values.shape)
    counted = random.poisson(np.broadcast_to(jets, shape)) * weight
    spread = values + np.sqrt(variances) * random.standard_normal(shape)
    return np.asarray(np.where(jets > 0, counted, spread))


def _shifts(templates: Templates, rules: Rules, weights_SFX: Array) -> dict[str, Array]:
    """Return what variations change in the weights: their shapes in data over those of nominal simulation."""
    shifts = {}
    for place, name in enumerate(templates.systematics[1:], 1):
        shift_FX = np.zeros_like(weights_SFX[0])
        for region, (group, flavour) in enumerate(zip(rules.groups, rules.home_R, strict=True)):
            varied, nominal = (templates.values_SRFX[s, region, flavour] for s in (place, 0))
            varied_G, nominal_G = group.sums(varied) / varied.sum(), group.sums(nominal) / nominal.sum()
            share_G = np.divide(varied_G, nominal_G, out=np.ones_like(nominal_G), where=nominal_G > 0)
            weights_X = weights_SFX[place, flavour] * share_G[group.label_X]
            shift_FX[flavour] = np.where(
                (group.label_X == group.count - 1) & group.fixed, 0.0, weights_X - weights_SFX[0, flavour]
            )
        shifts[name] = shift_FX
    return shifts


def _closure(templates: Templates, weights_FX: Array) -> tuple[Array, Array, NDArray[np.int64]]:
    """Return chi2 in all regions before and after, and the cells that are populated enough for one."""
    data, variances = templates.data_RX, templates.data_variances_RX
    found = [shape_chi2(data, variances, templates, np.ones_like(weights_FX))]
    found.append(shape_chi2(data, variances, templates, weights_FX))
    return found[0][0], found[1][0], found[1][1]


def shape_chi2(
    data_RX: Array, data_variances_RX: Array, templates: Templates, weights_FX: Array, least: float = 5.0
) -> tuple[Array, NDArray[np.int64]]:
    """Return chi2 of data and weighted simulation scaled to them, by region, and the cells that enter.

    Parameters
    ----------
    data_RX, data_variances_RX : ndarray of float64
        Data, maybe others than those of the templates.
    templates : Templates
        Simulation.
    weights_FX : ndarray of float64
        Weights.
    least : float
        Least effective number of expected jets of a cell (without weights), in data and simulation.
    """
    values_RX = (templates.values_SRFX[0] * weights_FX).sum(axis=1)
    squares_RX = (templates.variances_SRFX[0] * weights_FX**2).sum(axis=1)
    scale_R1 = data_RX.sum(axis=1, keepdims=True) / values_RX.sum(axis=1, keepdims=True)
    per_jet_R1 = data_variances_RX.sum(axis=1, keepdims=True) / data_RX.sum(axis=1, keepdims=True)
    plain_RX = templates.values_SRFX[0].sum(axis=1)
    expected_RX = plain_RX * data_RX.sum(axis=1, keepdims=True) / plain_RX.sum(axis=1, keepdims=True)
    enough_RX = (expected_RX / per_jet_R1 >= least) & (
        effective(plain_RX, templates.variances_SRFX[0].sum(axis=1)) >= least
    )
    variance_RX = per_jet_R1 * np.maximum(scale_R1 * values_RX, 0) + scale_R1**2 * squares_RX
    terms = np.divide(
        (data_RX - scale_R1 * values_RX) ** 2, variance_RX, out=np.zeros_like(data_RX), where=variance_RX > 0
    )
    return np.where(enough_RX, terms, 0.0).sum(axis=1), enough_RX.sum(axis=1)
