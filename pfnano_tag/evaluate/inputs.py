"""What goes into the networks: distributions by flavour, ranges, share of placeholders, and correlations.

Everything is added up chunk by chunk; nothing the size of the data is kept.

Shape suffixes: J jets, N constituents, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.jets import JetTable
from pfnano_tag.nano.schema import FEATURES, transformed
from pfnano_tag.prepare.inputs import InputFeature

Floats = NDArray[np.float64]


@dataclass
class Seen:
    """What was seen of one feature.

    Parameters
    ----------
    counts_K : ndarray of int64 [classes, bins]
        Histogram by flavour, without placeholders; the edge bins hold what lies beyond them.
    values, placeholders : int
        How many of each.
    low, high : float
        Smallest and largest value.
    total : float
        Sum of values.
    """

    counts_K: NDArray[np.int64]
    values: int = 0
    placeholders: int = 0
    low: float = np.inf
    high: float = -np.inf
    total: float = 0.0


@dataclass
class Products:
    """Sums over jets for correlations, each pair over the jets in which both have a value."""

    count_FF: Floats
    sum_FF: Floats
    square_FF: Floats
    product_FF: Floats = field(repr=False)


class InputSurvey:
    """Adds up what goes into the networks.

    Parameters
    ----------
    features : sequence of InputFeature
        Inputs of all networks, each once.
    classes : sequence of str
        Flavour classes.
    """

    def __init__(self, features: Sequence[InputFeature], classes: Sequence[str]) -> None:
        self.features = tuple(features)
        self.classes = tuple(classes)
        self.seen = {
            f.id: Seen(np.zeros((len(classes), FEATURES[f.id].axis[0]), dtype=np.int64)) for f in self.features
        }
        size = len(self.features)
        self._products = Products(*(np.zeros((size, size)) for _ in range(4)))

    def add(self, table: JetTable, label_J: NDArray[np.integer]) -> None:
        """Add jets.

        Parameters
        ----------
        table : JetTable
            Features in their own units.
        label_J : ndarray of int [J]
            Index of the true class.
        """
        for feature in self.features:
            flavour = label_J
            if feature.group != "jet":
                flavour = np.repeat(label_J, table.groups[feature.group].counts)
            _add_values(self.seen[feature.id], feature.id, table, flavour)
        self._add_products(table)

    def edges(self, feature: str) -> Floats:
        """Return the bin edges of a feature's histograms, in its own unit."""
        bins, low, high = FEATURES[feature].axis
        return np.linspace(low, high, bins + 1)

    def correlations(self) -> Floats:
        """Return the correlation coefficients of all inputs, transformed as the networks see them.

        Of a constituent group the first constituent of the jet is taken (the most displaced one). NaN where an
        input is constant or two are never there together.
        """
        sums = self._products
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = sums.sum_FF / sums.count_FF  # [i, j]: mean of i in jets where j is there as well
            variance = sums.square_FF / sums.count_FF - mean**2
            covariance = sums.product_FF / sums.count_FF - mean * mean.T
            variance = np.where(variance > 1e-12, variance, np.nan)
            return np.clip(covariance / np.sqrt(variance * variance.T), -1, 1)

    def _add_products(self, table: JetTable) -> None:
        columns = [_leading(feature, table) for feature in self.features]
        value_JF = np.stack([value for value, _ in columns], axis=1)
        there_JF = np.stack([there for _, there in columns], axis=1).astype(np.float64)
        sums = self._products
        sums.count_FF += there_JF.T @ there_JF
        sums.sum_FF += value_JF.T @ there_JF
        sums.square_FF += (value_JF**2).T @ there_JF
        sums.product_FF += value_JF.T @ value_JF


def _add_values(seen: Seen, feature: str, table: JetTable, flavour: NDArray[np.integer]) -> None:
    """Add one feature's values to its histogram and its range."""
    real = ~table.default_mask(feature)
    values = table.column(feature)[real].astype(np.float64)
    seen.placeholders += int(np.count_nonzero(~real))
    if not len(values):
        return
    bins, low, high = FEATURES[feature].axis
    place = np.clip(((values - low) * (bins / (high - low))).astype(np.int64), 0, bins - 1)
    cells = flavour[real] * bins + place
    seen.counts_K += np.bincount(cells, minlength=seen.counts_K.size).reshape(seen.counts_K.shape)
    seen.values += len(values)
    seen.low, seen.high = min(seen.low, float(values.min())), max(seen.high, float(values.max()))
    seen.total += float(values.sum())


def _leading(feature: InputFeature, table: JetTable) -> tuple[Floats, NDArray[np.bool_]]:
    """Return a feature of each jet's first constituent (or of the jet), scaled; 0 where there is none."""
    column, default = table.column(feature.id), table.default_mask(feature.id)
    there = np.ones(len(table), dtype=np.bool_)
    rows = np.arange(len(table))
    if feature.group != "jet":
        group = table.groups[feature.group]
        there = group.counts > 0
        rows = np.where(there, group.offsets[:-1], 0)
    if not len(column):
        return np.zeros(len(table)), np.zeros(len(table), dtype=np.bool_)
    there = there & ~default[rows] & feature.live
    scaled = (transformed(column[rows].astype(np.float64), feature.transform) - feature.mean) / feature.std
    return np.where(there, scaled, 0.0), there
