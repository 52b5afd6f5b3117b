"""Heat maps: correlations of inputs, confusion of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pfnano_tag.plotting.style import figure, label

Floats = NDArray[np.floating]
MOST_NUMBERS = 12


def correlations(matrix: Floats, names: Sequence[str], text: str, right: str = "") -> Figure:
    """Draw a correlation matrix from -1 (blue) over 0 (white) to 1 (red); NaN (a constant input) is grey.

    Parameters
    ----------
    matrix : array (n, n)
        Correlation coefficients.
    names : sequence of str
        n names.
    text, right : str
        Above the axes.
    """
    size = max(6.0, 2.5 + 0.27 * len(names))
    drawn, axes = figure(size + 2.4, size + 0.8)  # room for the names on both sides
    _heat(axes, matrix, "RdBu_r", -1, 1, "correlation")
    _ticks(axes, names, names, size=8 if len(names) > MOST_NUMBERS else 11, rotation=90)
    if len(names) <= MOST_NUMBERS:
        _numbers(axes, matrix, 0.6)
    label(axes, text, right)
    return drawn


def confusion(matrix: Floats, names: Sequence[str], text: str, right: str = "") -> Figure:
    """Draw fractions of predicted classes (columns) for each true class (rows, each summing to 1).

    Parameters
    ----------
    matrix : array (n, n)
        Rows: true class; NaN where a class has no jets.
    names : sequence of str
        n class names.
    """
    drawn, axes = figure(7.4, 6.2)
    _heat(axes, matrix, "Blues", 0, 1, "fraction of the true class")
    _ticks(axes, names, names, size=13, rotation=0)
    _numbers(axes, matrix, 0.55)
    axes.set(xlabel="most probable class", ylabel="true class")
    label(axes, text, right)
    return drawn


def _heat(axes: Axes, matrix: Floats, colours: str, low: float, high: float, name: str) -> None:
    axes.set_facecolor("#d0d0d0")
    image = axes.imshow(np.ma.masked_invalid(matrix), cmap=colours, vmin=low, vmax=high)
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.045, pad=0.02)
    bar.set_label(name)


def _ticks(axes: Axes, columns: Sequence[str], rows: Sequence[str], size: float, rotation: float) -> None:
    axes.set_xticks(np.arange(len(columns)), columns, rotation=rotation, fontsize=size)
    axes.set_yticks(np.arange(len(rows)), rows, fontsize=size)
    axes.tick_params(which="both", length=0)


def _numbers(axes: Axes, matrix: Floats, dark: float) -> None:
    """Write each value into its cell, white on dark cells."""
    for (row, column), value in np.ndenumerate(matrix):
        text = "-" if np.isnan(value) else f"{value:.2f}"
        colour = "white" if abs(value) > dark else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=11)
