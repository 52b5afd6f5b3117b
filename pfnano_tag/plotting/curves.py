"""Lines with bands: ROC curves, a quantity against attack strength or a kinematic variable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from pfnano_tag.plotting.style import figure, label

Floats = NDArray[np.floating]
ROC_FLOOR = 1e-4


@dataclass(frozen=True)
class Curve:
    """One line of a picture.

    Parameters
    ----------
    name : str
        Legend entry.
    x, y : array (points,)
        Coordinates.
    error : array (points,) or None
        Symmetric error of y.
    colour, style, marker : str
        Of matplotlib.
    """

    name: str
    x: Floats
    y: Floats
    error: Floats | None = None
    colour: str = "black"
    style: str = "-"
    marker: str = ""


def roc(curves: Sequence[Curve], xlabel: str, ylabel: str, text: str, right: str = "", title: str = "") -> Figure:
    """Draw mistag rate (y, logarithmic) against signal efficiency (x), bands included.

    Parameters
    ----------
    curves : sequence of Curve
        x: signal efficiency; y: mistag rate; points with a rate of zero are not drawn.
    xlabel, ylabel : str
        Which jets are signal and background.
    text, right : str
        Above the axes.
    title : str
        Of the legend.
    """
    drawn, axes = figure()
    for curve in curves:
        visible = curve.y > 0
        axes.plot(
            curve.x[visible], curve.y[visible], curve.style, color=curve.colour, label=curve.name, linewidth=1.6
        )
        if curve.error is not None:
            low, high = (curve.y - curve.error)[visible], (curve.y + curve.error)[visible]
            floor = np.maximum(low, ROC_FLOOR / 100)
            axes.fill_between(curve.x[visible], floor, high, color=curve.colour, alpha=0.25, linewidth=0)
    positive = [curve.y[curve.y > 0].min() for curve in curves if (curve.y > 0).any()]
    axes.set(xlim=(0, 1), ylim=(max(min(positive, default=1e-3) / 2, ROC_FLOOR), 1), xlabel=xlabel, ylabel=ylabel)
    axes.set_yscale("log")
    axes.grid(True, which="major", linewidth=0.5, alpha=0.5)
    axes.legend(loc="upper left", title=title or None)
    label(axes, text, right)
    return drawn


def against_strength(
    curves: Sequence[Curve], ylabel: str, text: str, right: str = "", title: str = "", chance: float | None = None
) -> Figure:
    """Draw a quantity against attack strength; every strength gets a tick, evenly spaced (zero among them).

    Parameters
    ----------
    curves : sequence of Curve
        x: strengths.
    ylabel, text, right, title : str
        As in `roc`.
    chance : float or None
        Where to draw a dotted line (an AUC of 0.5) if the curves come near it.
    """
    drawn, axes = figure()
    strengths = np.unique(np.concatenate([curve.x for curve in curves]))
    for curve in curves:
        places = np.searchsorted(strengths, curve.x)
        axes.errorbar(
            places,
            curve.y,
            yerr=curve.error,
            color=curve.colour,
            linestyle=curve.style,
            marker=curve.marker,
            markersize=5,
            label=curve.name,
        )
    axes.set_xticks(np.arange(len(strengths)), [f"{strength:g}" for strength in strengths])
    axes.tick_params(axis="x", which="minor", bottom=False, top=False)
    if chance is not None and min(float(np.min(curve.y)) for curve in curves) < chance + 0.2:
        axes.axhline(chance, color="#717581", linestyle=":", linewidth=1)
    axes.set(xlabel=r"attack strength $\epsilon$ [scaled units]", ylabel=ylabel)
    _legend_below(axes, curves, title)
    label(axes, text, right)
    return drawn


def against_rate(curves: Sequence[Curve], ylabel: str, marked: float | None, text: str, right: str = "") -> Figure:
    """Draw a quantity against the learning rate (logarithmic), with a vertical line at one of the rates.

    The y axis is made for the fall of the last curve: it ends above its first value by half of that.
    """
    drawn, axes = figure()
    for curve in curves:
        axes.plot(curve.x, curve.y, curve.style, color=curve.colour, label=curve.name, linewidth=1.6)
    if marked is not None:
        axes.axvline(marked, color="black", linestyle="--", linewidth=1.2, label=f"suggestion {marked:.2g}")
    axes.set_xscale("log")
    last = curves[-1].y
    low, top = float(np.min(last)), float(last[0])
    axes.set(
        xlabel="learning rate", ylabel=ylabel, ylim=(low - 0.3 * (top - low) - 0.05 * low, top + 0.5 * (top - low))
    )
    _legend_below(axes, curves, "")
    label(axes, text, right)
    return drawn


def against_bins(
    edges: Floats,
    curves: Sequence[Curve],
    xlabel: str,
    ylabel: str,
    text: str,
    right: str = "",
    logx: bool = False,
    title: str = "",
    within: tuple[float, float] | None = None,
) -> Figure:
    """Draw a quantity per bin as points with errors; bins without a value (NaN) stay empty.

    Parameters
    ----------
    edges : array (bins + 1,)
        Bin edges; the horizontal bars span the bins. `x` of the curves is not used.
    curves : sequence of Curve
        y and error (bins,).
    xlabel, ylabel, text, right, title : str
        As in `roc`.
    logx : bool
        Logarithmic x axis.
    within : tuple of float or None
        The y axis shows nothing outside (error bars of fractions may reach there).
    """
    drawn, axes = figure()
    middle = np.sqrt(edges[:-1] * edges[1:]) if logx else (edges[:-1] + edges[1:]) / 2
    spans = np.stack([middle - edges[:-1], edges[1:] - middle])
    for curve in curves:
        axes.errorbar(
            middle,
            curve.y,
            xerr=spans,
            yerr=curve.error,
            color=curve.colour,
            linestyle="none",
            marker=curve.marker or "o",
            markersize=4,
            label=curve.name,
        )
    if logx:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlim=(edges[0], edges[-1]), xlabel=xlabel, ylabel=ylabel)
    if within is not None:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, within[0]), min(high, within[1]))
    _legend_below(axes, curves, title)
    label(axes, text, right)
    return drawn


def _legend_below(axes: Axes, curves: Sequence[Curve], title: str) -> None:
    """Put the legend below the axes, where it covers nothing."""
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        ncols=min(2, len(curves)) or 1,
        title=title or None,
        borderaxespad=0,
    )
