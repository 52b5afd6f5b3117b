"""Filling histograms: all variables of a job in one flat array, bootstrap replicas among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.result import NO_MODEL, NOMINAL, Array, Content, Variable
from pfnano_tag.analyze.variables import blocks_of

Place = tuple[str, str, str]
"""Region, model, variant."""

Weights = Mapping[str, Array]
"""Weights by the systematic variation that they belong to."""

CLOSED_AT_THE_TOP = ("output", "discriminant", "stored")
"""Kinds of variables whose last bin includes its upper edge: a score may be exactly 1."""

_FEW_ROWS = 20_000


class Histograms:
    """Sums of weights and of their squares for all variables.

    Parameters
    ----------
    variables : mapping of Variable
        By name.
    """

    def __init__(self, variables: Mapping[str, Variable]) -> None:
        self.variables = dict(variables)
        sizes = [v.shape[0] * v.shape[1] for v in self.variables.values()]
        starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        self._values, self._variances = np.zeros(starts[-1]), np.zeros(starts[-1])
        self._start = dict(zip(self.variables, starts[:-1].tolist(), strict=True))
        self._blocks = {name: blocks_of(variable) for name, variable in self.variables.items()}

    def fill(
        self,
        name: str,
        place: Place,
        x: NDArray[np.floating[Any]],
        weights: Weights,
        row: NDArray[np.integer[Any]],
    ) -> None:
        """Fill one variable for several systematic variations of the weight; the bins are found once.

        Parameters
        ----------
        name : str
            Variable.
        place : (region, model, variant)
            Which rows, together with the systematics; those that the variable doesn't have are left out.
        x : ndarray [n]
            Values; NaN counts as underflow.
        weights : mapping of ndarray of float64 [n]
            Weights by systematic.
        row : ndarray of int [n]
            Flavour: row inside the block.
        """
        if len(x) == 0:
            return
        variable = self.variables[name]
        columns = variable.bins + 2
        cell = row.astype(np.int64) * columns + bin_of(variable, x)
        size = int(cell.max()) + 1
        for systematic, weight in weights.items():
            first = self._blocks[name].get((*place, systematic))
            if first is None:
                continue
            start = self._start[name] + first * columns
            self._values[start : start + size] += np.bincount(cell, weight, size)
            self._variances[start : start + size] += np.bincount(cell, weight * weight, size)

    def fill_replicas(
        self,
        name: str,
        place: Place,
        x: NDArray[np.floating[Any]],
        weight: Array,
        counts: NDArray[np.uint8],
        first_row: int,
    ) -> None:
        """Fill all bootstrap replicas of one nominal variable, summed over flavours.

        Parameters
        ----------
        name, place, x
            As in `fill`.
        weight : ndarray of float64 [n]
            Nominal weights.
        counts : ndarray of uint8 [n, replicas]
            How often each event stands in each replica (`evaluate.bootstrap.replica_weights`, transposed).
        first_row : int
            Row of the first replica inside the block (the number of flavours).
        """
        if len(x) == 0:
            return
        variable = self.variables[name]
        columns, replicas = variable.bins + 2, counts.shape[1]
        region, model, variant = place
        first_block = self._blocks[name][region, model, variant, NOMINAL]
        start = self._start[name] + (first_block + first_row) * columns
        bins = bin_of(variable, x)
        for part in range(0, len(x), _FEW_ROWS):
            rows = slice(part, part + _FEW_ROWS)
            weights = (counts[rows] * weight[rows, None]).ravel()
            cell = (bins[rows, None] + np.arange(replicas) * columns).ravel()
            size = replicas * columns
            self._values[start : start + size] += np.bincount(cell, weights, size)
            self._variances[start : start + size] += np.bincount(cell, weights * weights, size)

    def sparse(self) -> dict[str, NDArray[Any]]:
        """Return the cells that hold something, for a partial result."""
        index = np.flatnonzero((self._values != 0) | (self._variances != 0))
        return {"index": index, "values": self._values[index], "variances": self._variances[index]}

    def add(self, partial: Mapping[str, NDArray[Any]]) -> None:
        """Add a partial result from `sparse`."""
        self._values[partial["index"]] += partial["values"]
        self._variances[partial["index"]] += partial["variances"]

    def contents(self) -> dict[str, tuple[Variable, Content]]:
        """Return all variables with their content (views)."""
        found = {}
        for name, variable in self.variables.items():
            start, shape = self._start[name], variable.shape
            cells = slice(start, start + shape[0] * shape[1])
            found[name] = (
                variable,
                Content(self._values[cells].reshape(shape), self._variances[cells].reshape(shape)),
            )
        return found


def bin_of(variable: Variable, x: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Return the bin of each value: 0 underflow (and NaN), 1 to bins, bins + 1 overflow.

    Bins contain their lower edge; the last bin of a score contains its upper edge too.
    """
    wide = np.asarray(x, dtype=np.float64)
    width = (variable.high - variable.low) / variable.bins
    with np.errstate(invalid="ignore", over="ignore"):
        place = np.floor((wide - variable.low) / width) + 1
    place = np.where(wide >= variable.high, variable.bins + 1, np.clip(place, 0, variable.bins))
    if variable.kind in CLOSED_AT_THE_TOP:
        place = np.where(wide == variable.high, variable.bins, place)
    return np.where(np.isnan(wide), 0, place).astype(np.int64)


def logit(score: NDArray[np.floating[Any]]) -> Array:
    """Return ln(D / (1 - D)) of scores in [0, 1]; infinite at the ends."""
    wide = np.asarray(score, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.log(wide) - np.log1p(-wide)


def nominal(region: str) -> Place:
    """Return the place of a region that needs no network."""
    return region, NO_MODEL, NOMINAL
