"""Whether two sides deliver the same jets, in whatever order: sorted projections of per-jet quantities.

Rounding moves a sorted list of numbers by no more than it moves a single one. So where two sides deliver the same
jets, their sorted projections on the same random directions agree as well as single values do; where a jet is
missing, doubled or has another value, they don't.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIRECTIONS = 4


def project(columns: Mapping[str, Any], scales: Mapping[str, float]) -> NDArray[np.float64]:
    """Return projections of some jets.

    Parameters
    ----------
    columns : mapping of array [jets]
        Per-jet quantities by name; may have more than is compared.
    scales : mapping of float
        Name -> what to divide it by, for all that is compared, in the same order on both sides.

    Returns
    -------
    ndarray [jets, DIRECTIONS]
    """
    values = np.stack([np.asarray(columns[name], dtype=np.float64) / scale for name, scale in scales.items()], axis=1)
    directions = np.random.default_rng(1).normal(size=(len(scales), DIRECTIONS)) / np.sqrt(len(scales))
    return np.asarray(values @ directions)


def save(projections: Sequence[NDArray[np.float64]], path: str | Path) -> None:
    """Write the projections of all batches, sorted in each direction."""
    np.save(path, np.sort(np.concatenate(projections), axis=0))


def largest_difference(ours: str | Path, theirs: str | Path) -> float:
    """Return the largest difference of two sides' sorted projections; infinite where the numbers of jets differ."""
    first, second = np.load(ours), np.load(theirs)
    return float(np.abs(first - second).max()) if first.shape == second.shape else float("inf")
