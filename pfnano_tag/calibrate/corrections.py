"""Scale factors and shape weights as a correctionlib file (schema version 2).

`TAGGER_DISCRIMINANT_wp`: inputs systematic, working_point (mistag rate), flavor (hadron flavour 5, 4, 0), abseta, pt;
pT outside the bins counts as the nearest bin, eta outside the acceptance is an error. `TAGGER_X_Y_shape`: inputs
systematic, flavor, X, Y; -1 is a jet without a score. A flavour that was not calibrated is no key.

Systematics: `nominal`, `up` and `down` (all errors in quadrature), `up_statistics` and `down_statistics`, and
`up_SOURCE` and `down_SOURCE` for each source of systematic variations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pfnano_tag import __version__
from pfnano_tag.analyze.result import Array
from pfnano_tag.calibrate.measuring import Found, Point, ShapeOf
from pfnano_tag.calibrate.scale_factors import Measurement, up_and_down
from pfnano_tag.calibrate.shapes import Shape
from pfnano_tag.calibrate.templates import FLAVOURS, HADRON_FLAVOUR
from pfnano_tag.card.card import Card

BELOW_ZERO = -2.0
"""Lower edge of the bin of scores that are not defined (-1)."""

Json = dict[str, Any]


def corrections(card: Card, found: Found) -> Json:
    """Return the content of `corrections.json`.

    Parameters
    ----------
    card : Card
        The study.
    found : Found
        What was measured; what was not is left out.
    """
    made = []
    for (tagger, discriminant), points in found.points.items():
        measured = [point for point in points if point.measured is not None]
        if measured:
            made.append(_working_points(card, f"{tagger}_{discriminant}_wp", discriminant, measured))
    made += [_shape(card, one, one.shape) for one in found.shapes if one.shape is not None]
    return {
        "schema_version": 2,
        "description": f"study {card.study.name}, pfnano_tag {__version__}, card {card.hash()[:12]}",
        "corrections": made,
    }


def variations(nominal: Array, statistical: Array, total: Array, shifts: Mapping[str, Array]) -> dict[str, Array]:
    """Return values by the key of the input `systematic`; none is below zero.

    Parameters
    ----------
    nominal, statistical, total : ndarray
        Values and their errors.
    shifts : mapping of ndarray
        By systematic variation.
    """
    found = {
        "nominal": nominal,
        "up": nominal + total,
        "down": nominal - total,
        "up_statistics": nominal + statistical,
        "down_statistics": nominal - statistical,
    }
    for source, (up, down) in up_and_down(shifts).items():
        found[f"up_{source}"], found[f"down_{source}"] = nominal + up, nominal + down
    return {key: np.maximum(values, 0.0) for key, values in found.items()}


def _of_measurement(measured: Measurement) -> dict[str, Array]:
    fitted = measured.fitted
    return variations(fitted.sf_F, measured.statistical_F, measured.total_F, measured.shifts)


def _working_points(card: Card, name: str, discriminant: str, points: Sequence[Point]) -> Json:
    first = points[0].measured
    assert first is not None
    systematics = list(_of_measurement(first))
    thresholds = ", ".join(f"{p.name}: {p.measured.threshold:.6g}" for p in points if p.measured is not None)
    by_point = {
        systematic: _category("working_point", {point.name: _flavours(card, point, systematic) for point in points})
        for systematic in systematics
    }
    inputs = [
        _input("systematic", "string", ", ".join(systematics)),
        _input("working_point", "string", f"mistag rate; thresholds of {discriminant} (inclusive): {thresholds}"),
        _flavour_input(),
        _input("abseta", "real", "absolute pseudorapidity of the jet"),
        _input("pt", "real", "transverse momentum of the jet [GeV]"),
    ]
    return _correction(
        name, "efficiency in data over simulation", inputs, _category("systematic", by_point), "scale factor"
    )


def _flavours(card: Card, point: Point, systematic: str) -> Json:
    assert point.measured is not None
    whole = _of_measurement(point.measured)[systematic]
    # A bin that could not be measured has the inclusive scale factor.
    bins = [whole if one.measured is None else _of_measurement(one.measured)[systematic] for one in point.pt] or [
        whole
    ]
    edges = [*(one.low for one in point.pt), point.pt[-1].high] if point.pt else [*card.jets.pt]
    return _category(
        "flavor",
        {
            HADRON_FLAVOUR[flavour]: _binning(
                "abseta",
                [0.0, card.jets.abs_eta],
                [_binning("pt", edges, [float(values[FLAVOURS.index(flavour)]) for values in bins], "clamp")],
                "error",
            )
            for flavour in card.calibration.regions
        },
    )


def _shape(card: Card, one: ShapeOf, shape: Shape) -> Json:
    x, y = one.axes
    found = variations(shape.weights_FX, shape.errors_FX, shape.total_FX, shape.shifts)
    edges = [[BELOW_ZERO, *axis.edges] for axis in one.axes]

    def cells(values_X: Array) -> list[float]:
        square = values_X.reshape(x.places, y.places)[:-1, :-1]
        return [float(value) for value in square.ravel()]

    content = {
        systematic: _category(
            "flavor",
            {
                HADRON_FLAVOUR[flavour]: {
                    "nodetype": "multibinning",
                    "inputs": [x.quantity, y.quantity],
                    "edges": edges,
                    "content": cells(values_FX[FLAVOURS.index(flavour)]),
                    "flow": "clamp",
                }
                for flavour in card.calibration.regions
            },
        )
        for systematic, values_FX in found.items()
    }
    inputs = [
        _input("systematic", "string", ", ".join(found)),
        _flavour_input(),
        *(_input(axis.quantity, "real", "0 to 1; -1: not defined") for axis in one.axes),
    ]
    name = f"{one.model}_{x.quantity}_{y.quantity}_shape"
    text = "weights that give simulation the shape of data, the yield of each flavour kept in its region"
    return _correction(name, text, inputs, _category("systematic", content), "weight")


def _correction(name: str, description: str, inputs: list[Json], data: Json, output: str) -> Json:
    return {
        "name": name,
        "description": description,
        "version": 1,
        "inputs": inputs,
        "output": _input(output, "real", ""),
        "data": data,
    }


def _input(name: str, kind: str, description: str) -> Json:
    return {"name": name, "type": kind, "description": description}


def _flavour_input() -> Json:
    return _input("flavor", "int", "hadron flavour of the jet: 5 b, 4 c, 0 all others")


def _category(name: str, content: Mapping[Any, Any]) -> Json:
    return {
        "nodetype": "category",
        "input": name,
        "content": [{"key": key, "value": value} for key, value in content.items()],
    }


def _binning(name: str, edges: Sequence[float], content: Sequence[Any], flow: str) -> Json:
    return {"nodetype": "binning", "input": name, "edges": [*edges], "content": [*content], "flow": flow}
