"""Weight look-up, once and ahead of training: the weight of each jet becomes a column beside its label.

The column is shuffled together with the inputs (framework paper, arXiv:2306.17846, section 3).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfnano_tag.nano.jets import JetTable
from pfnano_tag.prepare.reweighting import WeightTables, lookup


def weight_column(tables: WeightTables, table: JetTable, label: NDArray[np.integer]) -> Tensor:
    """Weight of each jet from its class, pT and eta.

    Parameters
    ----------
    tables : WeightTables
        Of the study, made by `prepare`.
    table : JetTable
        Jets, with columns `pt` [GeV] and `eta`.
    label : ndarray of int
        Class index per jet.

    Returns
    -------
    Tensor
        float32 (J,); zero outside the tables' bins.
    """
    weights = lookup(tables, label, table.jet["pt"], table.jet["eta"])
    return torch.from_numpy(weights.astype(np.float32))
