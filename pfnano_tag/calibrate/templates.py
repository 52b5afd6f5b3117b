"""Histograms of the control regions as arrays: data, and simulation by flavour and systematic variation.

Shape suffixes: S systematic variations (nominal first), R regions, F flavours (b, c, light), X bins (flow included).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.pairs import Axes, unflattened
from pfnano_tag.analyze.result import NO_REPLICA, NOMINAL, Array, Category
from pfnano_tag.compare.merging import Rows
from pfnano_tag.errors import DataError
from pfnano_tag.infer.discriminants import B_FLAVOURS, C_FLAVOURS

FLAVOURS = ("b", "c", "light")
HADRON_FLAVOUR = {"b": 5, "c": 4, "light": 0}


@dataclass(frozen=True)
class Templates:
    """One histogram in all control regions.

    Parameters
    ----------
    regions : dict of str
        Region by the flavour that it is rich in, in the order of R.
    systematics : tuple of str
        In the order of S; the first is `nominal`.
    data_RX, data_variances_RX : ndarray of float64
        Sums of weights, and of their squares.
    values_SRFX, variances_SRFX : ndarray of float64
        Simulation, scaled to luminosity.
    """

    regions: Mapping[str, str]
    systematics: tuple[str, ...]
    data_RX: Array
    data_variances_RX: Array
    values_SRFX: Array
    variances_SRFX: Array

    @property
    def home_R(self) -> tuple[int, ...]:
        """Flavour that each region is rich in, as place on the axis F."""
        return tuple(FLAVOURS.index(flavour) for flavour in self.regions)

    def mapped(self, change: Callable[[Array], Array]) -> Templates:
        """Return templates with another last axis; `change` sums bins of an array [..., X]."""
        arrays = ("data_RX", "data_variances_RX", "values_SRFX", "variances_SRFX")
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in arrays}
        return replace(self, **changed)

    def of(self, systematic: int) -> Templates:
        """Return templates with one systematic variation alone."""
        place = slice(systematic, systematic + 1)
        return replace(
            self,
            systematics=self.systematics[place],
            values_SRFX=self.values_SRFX[place],
            variances_SRFX=self.variances_SRFX[place],
        )


def family_of(flavour: str) -> str:
    """Return `b`, `c` or `light` for a class of the study; `light` for jets without label."""
    if flavour in B_FLAVOURS:
        return "b"
    return "c" if flavour in C_FLAVOURS else "light"


def templates_of(simulation: Rows, data: Rows, regions: Mapping[str, str], model: str, name: str) -> Templates:
    """Return one variable of one model as templates.

    Parameters
    ----------
    simulation, data : Rows
        From `Merger.merged`, simulation scaled to luminosity.
    regions : mapping of str
        Region by flavour.
    model : str
        As in categories.
    name : str
        Of the variable, for messages.

    Raises
    ------
    DataError
        When a region has no data, or no simulation of the flavour that it is to measure.
    """
    chosen = [_of_model(rows, model, regions) for rows in (simulation, data)]
    systematics = tuple(dict.fromkeys([NOMINAL, *(category.systematic for category in chosen[0])]))
    bins = len(next(iter(chosen[0].values()))[0]) if chosen[0] else 1
    shape = (len(systematics), len(regions), len(FLAVOURS), bins)
    found = Templates(
        regions, systematics, np.zeros((shape[1], bins)), np.zeros((shape[1], bins)), np.zeros(shape), np.zeros(shape)
    )
    places = {region: place for place, region in enumerate(regions.values())}
    for category, (values, variances) in chosen[1].items():
        found.data_RX[places[category.region]] += values
        found.data_variances_RX[places[category.region]] += variances
    for category, (values, variances) in chosen[0].items():
        cell = (
            systematics.index(category.systematic),
            places[category.region],
            FLAVOURS.index(family_of(category.flavour)),
        )
        found.values_SRFX[cell] += values
        found.variances_SRFX[cell] += variances
    _check(found, model, name)
    return found


def _of_model(rows: Rows, model: str, regions: Mapping[str, str]) -> dict[Category, tuple[Array, Array]]:
    wanted = set(regions.values())
    return {
        category: content
        for category, content in rows.items()
        if category.model == model
        and category.variant == NOMINAL
        and category.replica == NO_REPLICA
        and category.region in wanted
    }


def _check(found: Templates, model: str, name: str) -> None:
    for place, (flavour, region) in enumerate(found.regions.items()):
        where = f"region {region} (calibration.{flavour}), {name}, {model}"
        if not found.data_RX[place].sum() > 0:
            raise DataError(
                f"{where}: {found.data_RX[place].sum():g} jets in data; it must have some: analyze data that the "
                f"region selects, or set calibration.{flavour} to another region"
            )
        for systematic, values_FX in zip(found.systematics, found.values_SRFX[:, place], strict=True):
            simulated = values_FX[FLAVOURS.index(flavour)].sum()
            if not simulated > 0:
                raise DataError(
                    f"{where}: {simulated:g} simulated {flavour} jets ({systematic}), their yield must be positive; "
                    f"analyze simulation that has them, or set calibration.{flavour} to another region"
                )


def with_undefined(fine: Templates, coarse: Templates) -> Templates:
    """Return the fine histogram of a discriminant's logit with the jets without a score as its first bin.

    Parameters
    ----------
    fine : Templates
        Of kind `agreement`, which leaves such jets out.
    coarse : Templates
        Of kind `discriminant`, which has them in its underflow.
    """

    def joined(name: str) -> Array:
        return np.concatenate([getattr(coarse, name)[..., :1], getattr(fine, name)], axis=-1)

    names = ("data_RX", "data_variances_RX", "values_SRFX", "variances_SRFX")
    whole: dict[str, Any] = {name: joined(name) for name in names}
    return replace(fine, **whole)


def in_pair(templates: Templates, axes: Axes, along: int, places: slice | None = None) -> Templates:
    """Return a pair's histogram along one of its axes, summed over some places of the other one.

    Parameters
    ----------
    templates : Templates
        Flattened, flow included.
    axes : (Axis, Axis)
        Of the pair.
    along : int
        Axis that stays: 0 or 1.
    places : slice or None
        Places of the other axis; None: all, flow included.
    """

    def summed(content: NDArray[Any]) -> Array:
        square = unflattened(axes, content)
        if along == 1:
            square = np.swapaxes(square, -1, -2)
        return np.asarray(square[..., places or slice(None)].sum(axis=-1), dtype=np.float64)

    return templates.mapped(summed)


def effective(values: Array, variances: Array) -> Array:
    """Return effective numbers of jets, (sum w)^2 / sum w^2; 0 where nothing is, or the sum is not positive."""
    known = (variances > 0) & (values > 0)
    return np.divide(values**2, variances, out=np.zeros_like(values), where=known)
