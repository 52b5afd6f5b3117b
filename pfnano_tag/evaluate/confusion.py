"""Confusion: how often each true class is taken for each class (the most probable node).

Shape suffixes: J jets, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def confusion(probabilities_JK: NDArray[np.floating], label_J: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return fractions of the most probable class (columns) for each true class (rows).

    Parameters
    ----------
    probabilities_JK : ndarray [J, K]
        Output nodes.
    label_J : ndarray of int [J]
        Index of the true class.

    Returns
    -------
    ndarray of float64 [K, K]
        Rows sum to 1, or are NaN where a class has no jets.
    """
    classes = probabilities_JK.shape[1]
    cells = label_J.astype(np.int64) * classes + probabilities_JK.argmax(axis=1)
    counts_KK = np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.float64)
    total_K = counts_KK.sum(axis=1, keepdims=True)
    return np.divide(counts_KK, total_K, out=np.full_like(counts_KK, np.nan), where=total_K > 0)


def accuracy(probabilities_JK: NDArray[np.floating], label_J: NDArray[np.integer]) -> float:
    """Return the share of jets whose most probable class is the true one (NaN without jets)."""
    right_J = probabilities_JK.argmax(axis=1) == label_J
    return float(right_J.mean()) if len(right_J) else float("nan")
