"""Weight look-up, once and ahead of training: the weight of each jet becomes a column beside its label.

The column is shuffled together with the inputs (framework paper, arXiv:2306.17846, section 3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.prepare.reweighting import WeightTables, lookup


def weight_column(
    tables: WeightTables,
    label: NDArray[np.integer],
    pt: NDArray[np.floating],
    eta: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Weight of each jet from its class, pT and eta.

    Parameters
    ----------
    tables : WeightTables
        Of the study, made by `prepare`.
    label : ndarray of int [jets]
        Class index.
    pt, eta : ndarray of float [jets]
        [GeV] and pseudorapidity.

    Returns
    -------
    ndarray of float32 [jets]
        Zero outside the tables' bins.
    """
    return lookup(tables, label, pt, eta).astype(np.float32)
