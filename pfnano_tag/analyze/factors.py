"""Factors of the event weight: section `weights.factors` of the card, nominal and varied, per event of a chunk."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.result import NOMINAL
from pfnano_tag.card.weights import Factor
from pfnano_tag.nano.reader import Chunk

Values = NDArray[np.float64]


def factor_branches(factor: Factor) -> tuple[str, ...]:
    """Return the branches that a factor is made from."""
    return (factor.nominal, *(str(getattr(factor, way)) for way in factor.directions))


def factor_values(factor: Factor, chunk: Chunk) -> dict[str, Values]:
    """Return a factor of a chunk's events, float64 [events]: `nominal`, and `up` and `down` where it has them."""
    names = {NOMINAL: factor.nominal} | {way: str(getattr(factor, way)) for way in factor.directions}
    return {name: np.asarray(chunk[branch], dtype=np.float64) for name, branch in names.items()}


def varied_weights(weight: Values, factors: Mapping[str, Mapping[str, Values]]) -> dict[str, Values]:
    """Return the weight with all factors: nominal, and one factor at a time varied.

    Parameters
    ----------
    weight : ndarray of float64 [events]
        Without the factors.
    factors : mapping
        Values of each factor, from `factor_values`.

    Returns
    -------
    dict of ndarray of float64 [events]
        `nominal`, then FACTOR_up and FACTOR_down in the order of the card.
    """
    nominal = weight
    for values in factors.values():
        nominal = nominal * values[NOMINAL]
    found = {NOMINAL: nominal}
    for name, values in factors.items():
        others = weight
        for other, of_other in factors.items():
            if other != name:
                others = others * of_other[NOMINAL]
        found |= {f"{name}_{way}": others * values[way] for way in values if way != NOMINAL}
    return found
