"""Where a correction has no value: the nodes of a correctionlib file (schema version 2), for many rows at once.

A correction is a tree: categories and bins choose a branch by an input's value, the leaves are numbers and formulas.
What lies outside of a category or of bins with `flow: error` has no value. Bins with another flow say themselves what
is outside of them: that is the correction's own word, and nothing is outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.columns import Index, grouped

Literally = float | int | str
Columns = Mapping[str, NDArray[Any] | Literally]
"""Input of a correction -> its values [rows], or the one value of all rows."""


@dataclass(frozen=True)
class Outside:
    """Rows for which a node has no value.

    Parameters
    ----------
    input : str
        The input whose value is outside.
    rows : ndarray of int64
        Rows, of the columns.
    low, high : float
        Range of the bins: low <= value < high; NaN for a category.
    keys : tuple of (int or str)
        What the category has; empty for bins.
    """

    input: str
    rows: Index
    low: float = float("nan")
    high: float = float("nan")
    keys: tuple[int | str, ...] = ()

    @property
    def allowed(self) -> str:
        """What the input may be, in words."""
        if not np.isnan(self.low):
            return f"{self.low:g} <= {self.input} < {self.high:g}"
        return f"{self.input} is one of {', '.join(map(str, self.keys)) or 'nothing'}"


def outside(node: Any, columns: Columns, rows: Index) -> Iterator[Outside]:
    """Yield the rows without a value, by node.

    What is below a `transform` is not looked at: its input is another one there.

    Parameters
    ----------
    node : dict or float
        From the JSON file.
    columns : mapping
        Inputs.
    rows : ndarray of int64
        Rows that come to the node.
    """
    if not isinstance(node, dict) or len(rows) == 0:
        return
    kind = node["nodetype"]
    if kind == "transform":
        yield from outside(node["rule"], columns, rows)
    elif kind == "category":
        yield from _outside_category(node, columns, rows)
    elif kind in ("binning", "multibinning"):
        yield from _outside_bins(node, columns, rows)


def _outside_category(node: Mapping[str, Any], columns: Columns, rows: Index) -> Iterator[Outside]:
    name = node["input"]
    left = rows
    for item in node["content"]:
        chosen = _of(columns, name, left) == item["key"]
        yield from outside(item["value"], columns, left[chosen])
        left = left[~chosen]
    if node.get("default") is not None:
        yield from outside(node["default"], columns, left)
    elif len(left):
        yield Outside(name, left, keys=tuple(item["key"] for item in node["content"]))


def _outside_bins(node: Mapping[str, Any], columns: Columns, rows: Index) -> Iterator[Outside]:
    several = node["nodetype"] == "multibinning"
    names = node["inputs"] if several else [node["input"]]
    axes = [_edges(one) for one in (node["edges"] if several else [node["edges"]])]
    flow = node["flow"]
    within, place = np.ones(len(rows), dtype=np.bool_), np.zeros(len(rows), dtype=np.int64)
    for name, axis in zip(names, axes, strict=True):
        values = _of(columns, name, rows)
        if flow == "wrap":
            values = axis[0] + np.mod(values - axis[0], axis[-1] - axis[0])
        inside = (axis[0] <= values) & (values < axis[-1])
        if flow == "error" and not inside.all():
            yield Outside(name, rows[~inside], float(axis[0]), float(axis[-1]))
        within &= inside
        bins = len(axis) - 1
        place = place * bins + np.clip(np.searchsorted(axis, values, side="right") - 1, 0, bins - 1)
    if flow not in ("clamp", "wrap"):
        if flow != "error":
            yield from outside(flow, columns, rows[~within])
        rows, place = rows[within], place[within]
    if any(isinstance(child, dict) for child in node["content"]):
        order, offsets = grouped(place, len(node["content"]))
        for bin_ in np.unique(place):
            yield from outside(node["content"][bin_], columns, rows[order[offsets[bin_] : offsets[bin_ + 1]]])


def _of(columns: Columns, name: str, rows: Index) -> NDArray[Any]:
    value = columns[name]
    return value[rows] if isinstance(value, np.ndarray) else np.full(len(rows), value)


def _edges(edges: Any) -> NDArray[np.float64]:
    """Return edges of bins, from a list (numbers, `inf`, `-inf`) or from their number and both ends."""
    if isinstance(edges, dict):
        return np.linspace(edges["low"], edges["high"], edges["n"] + 1)
    return np.array([float(edge) for edge in edges])


def keys_at(node: Any, name: str, fixed: Mapping[str, Literally]) -> set[int | str] | None:
    """Return the values that an input may have, as far as categories decide; None: any.

    Parameters
    ----------
    node : dict or float
        From the JSON file.
    name : str
        The input.
    fixed : mapping
        Other inputs that have one value for all rows: of their categories only that one is looked at.
    """
    found: set[int | str] = set()
    asked = False
    for category in _categories(node, name, fixed):
        if category.get("default") is not None:
            return None
        asked = True
        found |= {item["key"] for item in category["content"]}
    return found if asked else None


def _categories(node: Any, name: str, fixed: Mapping[str, Literally]) -> Iterator[Mapping[str, Any]]:
    """Yield the categories by an input that can be reached."""
    if not isinstance(node, dict):
        return
    kind, children = node["nodetype"], []
    if kind == "category":
        if node["input"] == name:
            yield node
        choice = fixed.get(node["input"])
        items = node["content"]
        chosen = [item["value"] for item in items if choice is None or item["key"] == choice]
        children = chosen if chosen and choice is not None else [*chosen, node.get("default")]
    elif kind in ("binning", "multibinning"):
        children = [*node["content"], node["flow"]]
    elif kind == "transform":
        children = [node["rule"], node["content"]]
    for child in children:
        yield from _categories(child, name, fixed)
