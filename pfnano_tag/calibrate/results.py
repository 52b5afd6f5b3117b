"""The content of `calibration/results.json`.

Keys: `scale_factors` (tagger -> discriminant -> mistag rate -> `threshold`, `scale_factors` by flavour, `covariance`,
`fit`, `pt`), `shapes` (network -> pair), `regions`, `models`, and what all this was measured on. What could not be
measured is null and has a `reason`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pfnano_tag.analyze.result import Array
from pfnano_tag.calibrate.measuring import Found, Point, PtBin, ShapeOf
from pfnano_tag.calibrate.scale_factors import Measurement
from pfnano_tag.calibrate.templates import FLAVOURS
from pfnano_tag.card.card import Card
from pfnano_tag.compare.merging import Merger
from pfnano_tag.compare.normalization import Normalisation, summary

Json = dict[str, Any]


def as_json(card: Card, merger: Merger, normalisation: Normalisation, found: Found) -> Json:
    """Return the results as JSON content.

    Parameters
    ----------
    card : Card
        The study.
    merger : Merger
        Open.
    normalisation : Normalisation
        Scales of the datasets.
    found : Found
        What was measured.
    """
    info = next(job.info for jobs in merger.jobs.values() for job in jobs)
    regions = card.calibration.regions
    factors: dict[str, dict[str, Json]] = {}
    for (tagger, discriminant), points in found.points.items():
        factors.setdefault(tagger, {})[discriminant] = {point.name: _point(point, regions) for point in points}
    shapes: dict[str, dict[str, Json]] = {}
    for one in found.shapes:
        shapes.setdefault(one.model, {})[one.variable] = _shape(one, regions)
    return {
        "study": card.study.name,
        "card": card.hash(),
        "settings": info["settings"],
        "models": info["models"],
        "regions": regions,
        "luminosity": normalisation.luminosity,
        "datasets": summary(merger, normalisation),
        "complete": not normalisation.short and not found.failed,
        "short": [*normalisation.short, *found.failed],
        "systematics": "shifts: simulation varied in a fit of its own, over the efficiency of nominal simulation",
        "scale_factors": factors,
        "shapes": shapes,
    }


def _point(point: Point, regions: Mapping[str, str]) -> Json:
    about = {"asked": point.asked, **_measurement(point.measured, point.reason, regions)}
    return {**about, "pt": [_bin(one, regions) for one in point.pt]}


def _bin(one: PtBin, regions: Mapping[str, str]) -> Json:
    return {"low": one.low, "high": one.high, **_measurement(one.measured, one.reason, regions)}


def _measurement(measured: Measurement | None, reason: str, regions: Mapping[str, str]) -> Json:
    if measured is None:
        return {"threshold": None, "scale_factors": None, "reason": reason}
    fitted, places = measured.fitted, [FLAVOURS.index(flavour) for flavour in regions]
    square = np.ix_(places, places)
    ratios = {
        region: dict(zip(FLAVOURS, fitted.ratio_RF[row].tolist(), strict=True))
        for row, region in enumerate(regions.values())
    }
    return {
        "threshold": measured.threshold,
        "scale_factors": {flavour: _factor(measured, FLAVOURS.index(flavour)) for flavour in regions},
        "efficiency": _by_flavour(measured.efficiency_F, regions),
        "covariance": {
            "flavours": list(regions),
            "statistical": fitted.covariance_FF[square].tolist(),
            "systematic": measured.systematic_FF[square].tolist(),
        },
        "shifts": {name: _by_flavour(shift, regions) for name, shift in measured.shifts.items()},
        "fit": {
            "chi2": fitted.chi2,
            "ndf": fitted.ndf,
            "p": fitted.p,
            "normalisation": dict(zip(regions.values(), fitted.norm_R.tolist(), strict=True)),
            "ratios": ratios,
            "unmeasured": {
                flavour: float(fitted.sf_F[place]) for place, flavour in enumerate(FLAVOURS) if flavour not in regions
            },
        },
    }


def _factor(measured: Measurement, place: int) -> Json:
    systematic = float(np.sqrt(measured.systematic_FF[place, place]))
    return {
        "value": float(measured.fitted.sf_F[place]),
        "statistical": float(measured.statistical_F[place]),
        "systematic": systematic,
        "total": float(measured.total_F[place]),
    }


def _by_flavour(values: Array, regions: Mapping[str, str]) -> dict[str, float]:
    return {flavour: float(values[FLAVOURS.index(flavour)]) for flavour in regions}


def _shape(one: ShapeOf, regions: Mapping[str, str]) -> Json:
    axes = {axis.quantity: list(axis.edges) for axis in one.axes}
    if one.shape is None:
        return {"edges": axes, "weights": None, "reason": one.reason}
    shape = one.shape
    size = [axis.places for axis in one.axes]

    def maps(values_FX: Array) -> dict[str, Any]:
        return {flavour: values_FX[FLAVOURS.index(flavour)].reshape(size).tolist() for flavour in regions}

    return {
        "edges": axes,
        "places": "row i, column j: bin i, j of the edges; 0: score not defined, last: overflow (empty)",
        "weights": maps(shape.weights_FX),
        "statistical": maps(shape.errors_FX),
        "total": maps(shape.total_FX),
        "iterations": shape.iterations,
        "independent": {flavour: shape.groups_F[FLAVOURS.index(flavour)] for flavour in regions},
        "at_a_limit": {flavour: shape.limited_F[FLAVOURS.index(flavour)] for flavour in regions},
        "closure": {
            region: {
                "chi2_before": float(shape.before_R[row]),
                "chi2_after": float(shape.after_R[row]),
                "cells": int(shape.cells_R[row]),
            }
            for row, region in enumerate(regions.values())
        },
    }
