"""One merged histogram as a plain ROOT TH1D or TH2D, for others to use."""

from __future__ import annotations

from typing import Any

import numpy as np
from uproot.writing.identify import to_TAxis, to_TH1x, to_TH2x

from pfnano_tag.analyze.pairs import Axis, unflattened
from pfnano_tag.analyze.result import Array, Variable


def plain(variable: Variable, values: Array, variances: Array) -> Any:
    """Return what uproot writes: a TH2D for a pair, a TH1D for all others; parameters as in `th1d`."""
    return (th2d if variable.axes else th1d)(variable, values, variances)


def th2d(variable: Variable, values: Array, variances: Array) -> Any:
    """Return a TH2D with the two axes of a pair; scores that are not defined are in the underflow of their axis.

    Parameters
    ----------
    variable : Variable
        Of kind `pair`.
    values, variances : ndarray of float64 [cells + 2]
        Flattened.
    """
    first, second = variable.axes
    content, squares = (unflattened((first, second), array) for array in (values, variances))
    inside, middles = content[1:-1, 1:-1], [_middles(first)[:, None], _middles(second)[None, :]]
    moments = [float((inside * term).sum()) for middle in middles for term in (middle, middle**2)]
    product = float((inside * middles[0] * middles[1]).sum())
    entries = float(values.sum() ** 2 / variances.sum()) if variances.sum() > 0 else 0.0
    sums = (float(inside.sum()), float(squares[1:-1, 1:-1].sum()))
    return to_TH2x(
        variable.name,
        variable.quantity,
        np.ascontiguousarray(content.T, dtype=">f8").ravel(),
        entries,
        *sums,
        *moments,
        product,
        np.ascontiguousarray(squares.T, dtype=">f8").ravel(),
        _axis("xaxis", first),
        _axis("yaxis", second),
    )


def _middles(axis: Axis) -> Array:
    edges = np.asarray(axis.edges)
    return np.asarray((edges[:-1] + edges[1:]) / 2)


def _axis(name: str, axis: Axis) -> Any:
    title = f"{axis.label} [{axis.unit}]" if axis.unit else axis.label
    edges = np.asarray(axis.edges, dtype=">f8")
    return to_TAxis(fName=name, fTitle=title, fNbins=len(edges) - 1, fXmin=edges[0], fXmax=edges[-1], fXbins=edges)


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
