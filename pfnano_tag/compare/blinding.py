"""Blinding: bins in which data are not looked at.

A window of the card hides every bin that it touches, flow bins included; what is left of a bin that is half blinded
would say too much. The window of a discriminant hides the same jets in the fine bins of its logit, that of a quantity
the same events where it is shown without the cut on it (N-1), and that of either axis a pair's. Underflow and edge
bin, or overflow and edge bin, are drawn as one, and hidden as one; the underflow of scores (jets without a score) is
neither drawn nor hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.histogramming import logit
from pfnano_tag.analyze.result import Variable
from pfnano_tag.compare.merging import Rows
from pfnano_tag.errors import CardError, nearest

SCORES = ("discriminant", "stored")
"""Kinds of variables whose underflow means that the score is not defined."""

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Windows = Mapping[str, tuple[float, float]]

_ROUNDING = 1e-9


def window_of(variable: Variable, windows: Windows) -> tuple[float, float] | None:
    """Return the card's window for a variable that has one axis, in its own units; None without one.

    Its own, or that of the quantity behind it: of the discriminant behind a logit, of what is cut on elsewhere.
    """
    found = windows.get(variable.name, windows.get(variable.quantity))
    if found is None or variable.kind != "agreement":
        return found
    low, high = logit(np.clip(found, 0.0, 1.0))
    return float(low), float(high)


def hidden_bins(variable: Variable, windows: Windows) -> Mask:
    """Return which bins of a variable are blinded, bool [bins + 2]: underflow first, overflow last.

    Parameters
    ----------
    variable : Variable
        Of any kind; `agreement` (the logit of a discriminant) has the window of its discriminant, a pair those of
        both its axes.
    windows : mapping
        (low, high) by variable.
    """
    if variable.kind == "pair":
        x, y = (_touched(axis.edges, windows.get(axis.quantity), axis.is_score) for axis in variable.axes)
        return np.pad((x[:, None] | y).ravel(), 1)
    return _touched(variable.edges, window_of(variable, windows), variable.kind in SCORES)


def _touched(edges: Sequence[float] | Floats, window: tuple[float, float] | None, is_score: bool) -> Mask:
    """Return which bins, with flow, a window touches; of a score the underflow is what is not defined."""
    hidden = np.zeros(len(edges) + 1, dtype=np.bool_)
    if window is None:
        return hidden
    low, high = window
    # A window that ends on an edge, but for rounding, does not touch the next bin.
    slack = _ROUNDING * (edges[-1] - edges[0])
    below, above = np.append(-np.inf, edges), np.append(edges, np.inf)
    hidden |= (below < high - slack) & (above > low + slack)
    hidden[-2:] = hidden[-2:].any()
    if is_score:
        hidden[0] = False
    else:
        hidden[:2] = hidden[:2].any()
    return hidden


def without(rows: Rows, hidden: Mask) -> Rows:
    """Return rows with nothing in the hidden bins."""
    if not hidden.any():
        return rows
    return {
        c: (np.where(hidden, 0.0, values), np.where(hidden, 0.0, squares)) for c, (values, squares) in rows.items()
    }


def refuse_idle_windows(windows: Windows, variables: Iterable[Variable]) -> None:
    """Refuse windows that hide nothing.

    Raises
    ------
    CardError
        When there is no such variable, or its axis ends before the window, or it is a pair.
    """
    by_name = {variable.name: variable for variable in variables if variable.kind != "agreement"}
    for name, (low, high) in windows.items():
        if name not in by_name:
            hint = nearest(name, by_name) or sorted(by_name)
            raise CardError(f"comparison.blind: the job outputs have no {name!r}; nearest: {', '.join(hint)}")
        variable = by_name[name]
        if variable.kind == "pair":
            axes = " or ".join(axis.quantity for axis in variable.axes)
            raise CardError(f"comparison.blind.{name}: a pair has the windows of its axes; blind {axes}")
        if low >= variable.high or high <= variable.low:
            raise CardError(
                f"comparison.blind.{name}: no bin lies in [{low:g}, {high:g}], the axis goes from {variable.low:g} "
                f"to {variable.high:g}"
            )


def hidden_ranges(variable: Variable, hidden: Mask) -> list[tuple[float, float]]:
    """Return the ranges of the axis that are hidden, whole bins."""
    inside = np.concatenate([[False], hidden[1:-1], [False]])
    steps = np.flatnonzero(inside[1:] != inside[:-1])
    edges = variable.edges
    return [(float(edges[first]), float(edges[last])) for first, last in zip(steps[::2], steps[1::2], strict=True)]
