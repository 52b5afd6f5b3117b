"""One merged histogram as a plain ROOT TH1D, for others to use."""

from __future__ import annotations

from typing import Any

import numpy as np
from uproot.writing.identify import to_TAxis, to_TH1x

from pfnano_tag.analyze.result import Array, Variable


def th1d(variable: Variable, values: Array, variances: Array) -> Any:
    """Return a TH1D that uproot writes.

    Parameters
    ----------
    variable : Variable
        Its axis and label.
    values, variances : ndarray of float64 [bins + 2]
        Sums of weights and of squared weights; underflow first, overflow last.
    """
    middle = (variable.edges[:-1] + variable.edges[1:]) / 2
    inside, squares = values[1:-1], variances[1:-1]
    moments = (float((inside * middle).sum()), float((inside * middle**2).sum()))
    entries = float(values.sum() ** 2 / variances.sum()) if variances.sum() > 0 else 0.0
    title = f"{variable.label} [{variable.unit}]" if variable.unit else variable.label
    axis = to_TAxis(fName="xaxis", fTitle=title, fNbins=variable.bins, fXmin=variable.low, fXmax=variable.high)
    sums = (float(inside.sum()), float(squares.sum()))
    return to_TH1x(
        variable.name,
        variable.quantity,
        np.ascontiguousarray(values, dtype=">f8"),
        entries,
        *sums,
        *moments,
        np.ascontiguousarray(variances, dtype=">f8"),
        axis,
    )
