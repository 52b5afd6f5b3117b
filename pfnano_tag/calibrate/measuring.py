"""Reads the histograms of each discriminant and measures all its working points, inclusively and in bins of pT."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pfnano_tag.analyze.pairs import Axes
from pfnano_tag.analyze.result import NO_MODEL, Array, Variable
from pfnano_tag.calibrate.fit import FitFailed, Priors
from pfnano_tag.calibrate.scale_factors import Measurement, measure
from pfnano_tag.calibrate.shapes import Shape, calibrate_shape
from pfnano_tag.calibrate.templates import Templates, in_pair, templates_of, with_undefined
from pfnano_tag.calibrate.working_points import Score, cut_at
from pfnano_tag.card.calibration import Calibration
from pfnano_tag.card.card import Card
from pfnano_tag.compare.merging import Merger, Rows
from pfnano_tag.compare.normalization import Normalisation
from pfnano_tag.errors import DataError

log = logging.getLogger(__name__)

DOUBTFUL = 0.01
"""Fits with a smaller p-value are warned of."""

KEPT = 3
"""Variables in memory: a discriminant's logit, the discriminant itself, and its pair with pT."""

Read = Callable[[str], tuple[Rows, Rows]]
"""Simulation and data of a variable."""


@dataclass(frozen=True)
class PtBin:
    """Scale factors in one bin of pT [GeV]; where not measured, with the reason."""

    low: float
    high: float
    measured: Measurement | None
    reason: str = ""


@dataclass(frozen=True)
class Point:
    """One working point.

    Parameters
    ----------
    name : str
        Mistag rate, as text.
    asked : float or None
        Threshold of `evaluate`.
    measured : Measurement or None
        All pT.
    reason : str
        Why there is none; else empty.
    pt : tuple of PtBin
        Empty without a pair of the discriminant and `jet_pt`.
    """

    name: str
    asked: float | None
    measured: Measurement | None
    reason: str = ""
    pt: tuple[PtBin, ...] = ()


@dataclass(frozen=True)
class ShapeOf:
    """Shape weights of one pair of discriminants of one network; without a shape the reason."""

    model: str
    variable: str
    axes: Axes
    shape: Shape | None
    reason: str = ""


@dataclass
class Found:
    """All results: working points by (tagger, discriminant), and shapes."""

    points: dict[tuple[str, str], list[Point]] = field(default_factory=dict)
    shapes: list[ShapeOf] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """What has no result, with the reason."""
        points = [
            f"{tagger} {discriminant} at mistag {point.name}: {point.reason}"
            for (tagger, discriminant), several in self.points.items()
            for point in several
            if point.measured is None
        ]
        shapes = [f"{one.model} {one.variable}: {one.reason}" for one in self.shapes if one.shape is None]
        return points + shapes

    @property
    def anything(self) -> bool:
        """Whether there is any result."""
        measured = [point.measured for several in self.points.values() for point in several]
        return any(one is not None for one in [*measured, *(one.shape for one in self.shapes)])


def reader(merger: Merger, normalisation: Normalisation) -> Read:
    """Return what reads one variable of all jobs; the last few are kept: networks share them."""
    kept: dict[str, tuple[Rows, Rows]] = {}

    def read(name: str) -> tuple[Rows, Rows]:
        if name not in kept:
            while len(kept) >= KEPT:
                kept.pop(next(iter(kept)))
            kept[name] = merger.merged(name, normalisation.simulation), merger.merged(name, normalisation.data)
        return kept[name]

    return read


def measure_points(card: Card, score: Score, variables: Mapping[str, Variable], read: Read) -> list[Point]:
    """Return all working points of a discriminant.

    Parameters
    ----------
    card : Card
        Section `calibration`.
    score : Score
        The discriminant.
    variables : mapping of Variable
        Of the job outputs.
    read : callable
        From `reader`.

    Raises
    ------
    DataError
        When a region has no data, or no simulation of its flavour.
    """
    whole, lower_X = inclusive(card, score, variables, read)
    binned = _in_pt(card, score, variables, read)
    points = []
    for name, threshold in score.thresholds.items():
        if threshold is None:
            points.append(
                Point(name, None, None, "evaluate found no threshold (too many jets have the highest score)")
            )
            continue
        measured, reason = _measured(card.calibration, whole, lower_X, threshold)
        if measured is not None and measured.fitted.p is not None and measured.fitted.p < DOUBTFUL:
            log.warning(
                "%s %s at mistag %s: the fit is poor (chi2 / ndf = %.3g / %d, p = %.2g): simulation's shapes on each "
                "side of the working point don't fit data, and errors are too small; lower calibration.templates, or "
                "give calibration.composition a width",
                score.tagger,
                score.discriminant,
                name,
                measured.fitted.chi2,
                measured.fitted.ndf,
                measured.fitted.p,
            )
        bins = []
        for (low, high), templates, lower in binned:
            one, why = _measured(card.calibration, templates, lower, threshold)
            if why:
                log.info("%s %s at %s, pT %g to %g GeV: %s", score.tagger, score.discriminant, name, low, high, why)
            bins.append(PtBin(low, high, one, why))
        points.append(Point(name, threshold, measured, reason, tuple(bins)))
    return points


def inclusive(card: Card, score: Score, variables: Mapping[str, Variable], read: Read) -> tuple[Templates, Array]:
    """Return the histogram of a discriminant in the regions, jets without a score first, and its lower edges."""
    variable, regions = variables[score.variable], card.calibration.regions
    found = templates_of(*read(score.variable), regions, score.model, score.variable)
    if not score.undefined_in:
        return found, np.concatenate([[-np.inf], variable.edges])
    coarse = templates_of(*read(score.undefined_in), regions, score.model, score.undefined_in)
    edges = 1 / (1 + np.exp(-variable.edges))
    return with_undefined(found, coarse), np.concatenate([[-np.inf, -np.inf], edges])


def _in_pt(
    card: Card, score: Score, variables: Mapping[str, Variable], read: Read
) -> list[tuple[tuple[float, float], Templates, Array]]:
    """Return the histograms of a discriminant in bins of pT, where there is a pair of the two."""
    wanted = {score.discriminant, "jet_pt"}
    for name, variable in variables.items():
        if score.model == NO_MODEL or {axis.quantity for axis in variable.axes} != wanted:
            continue
        axes = (variable.axes[0], variable.axes[1])
        along = 0 if axes[0].quantity == score.discriminant else 1
        edges = axes[1 - along].edges
        whole = templates_of(*read(name), card.calibration.regions, score.model, name)
        lower_X = np.array([-np.inf, *axes[along].edges])
        return [
            ((low, high), in_pair(whole, axes, along, slice(place, place + 1)), lower_X)
            for place, (low, high) in enumerate(pairwise(edges), 1)
        ]
    return []


def _measured(
    section: Calibration, templates: Templates, lower_X: Array, threshold: float
) -> tuple[Measurement | None, str]:
    """Return a measurement, or why there is none."""
    cut = cut_at(lower_X, threshold)
    if cut is None:
        return None, "the histogram has no edge between 0 and 1"
    try:
        priors = Priors(section.composition, section.unmeasured)
        return measure(templates, cut, section.templates, priors, section.least), ""
    except FitFailed as error:
        return None, str(error)


def measure_shape(card: Card, model: str, variable: Variable, read: Read) -> ShapeOf:
    """Return the shape weights of a pair of discriminants of a network.

    Parameters
    ----------
    card : Card
        Section `calibration`.
    model : str
        Network.
    variable : Variable
        The pair.
    read : callable
        From `reader`.
    """
    section, axes = card.calibration, (variable.axes[0], variable.axes[1])
    try:
        templates = templates_of(*read(variable.name), section.regions, model, variable.name)
        shape = calibrate_shape(
            templates.mapped(lambda content: content[..., 1:-1]),
            axes[1].places,
            section.least,
            section.limits,
            section.iterations,
            section.replicas,
            card.study.seed,
        )
    except DataError as error:
        return ShapeOf(model, variable.name, axes, None, str(error))
    return ShapeOf(model, variable.name, axes, shape)
