"""Scale factors with their errors, and maps of shape weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from pfnano_tag.plotting.colours import MARKERS, flavour_colour, flavour_name
from pfnano_tag.plotting.style import STYLE, centres, figure, headroom, label

Floats = NDArray[np.floating]
WIDEST = 4.0
"""Weights beyond this factor have the last colour."""
LEAST_WIDE = 1.3
UNDEFINED_WIDTH = 0.08


@dataclass(frozen=True)
class Points:
    """Scale factors of one flavour.

    Parameters
    ----------
    flavour : str
        `b`, `c` or `light`.
    values, statistical, total : array (points,)
        Scale factors and their errors; NaN where there is none.
    """

    flavour: str
    values: Floats
    statistical: Floats
    total: Floats


def scale_factors(
    points: Sequence[Points],
    xlabel: str,
    text: str,
    right: str = "",
    ticks: Sequence[str] = (),
    edges: Sequence[float] = (),
) -> Figure:
    """Draw scale factors of several flavours, against working points (`ticks`) or in bins (`edges`).

    Parameters
    ----------
    points : sequence of Points
        One per flavour.
    xlabel : str
        With unit.
    text, right : str
        Above the axes.
    ticks : sequence of str
        One name per point.
    edges : sequence of float
        Bin edges, one more than points; a logarithmic axis.
    """
    drawn, axes = figure()
    axes.axhline(1, color="black", linewidth=0.8)
    if len(edges):
        axes.set_xscale("log")
    for place, one in enumerate(points):
        shift = (place - (len(points) - 1) / 2) * 0.18
        x = _shifted(np.asarray(edges), shift) if len(edges) else np.arange(len(one.values)) + shift
        colour, marker = flavour_colour(one.flavour), MARKERS[place % len(MARKERS)]
        name = flavour_name(one.flavour)
        axes.errorbar(x, one.values, yerr=one.total, fmt="none", ecolor=colour, elinewidth=1.2, capsize=3)
        axes.errorbar(
            x, one.values, yerr=one.statistical, fmt=marker, color=colour, elinewidth=3, markersize=6, label=name
        )
    if len(edges):
        axes.set_xlim(edges[0], edges[-1])
        axes.xaxis.set_major_locator(FixedLocator(list(edges)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.tick_params(axis="x", labelsize=10)
    else:
        axes.set_xticks(np.arange(len(ticks)), list(ticks))
        axes.tick_params(axis="x", which="minor", bottom=False, top=False)
        axes.set_xlim(-0.5, len(ticks) - 0.5)
    axes.set(xlabel=xlabel, ylabel="data / simulation")
    headroom(axes, 0.15)
    axes.legend(ncols=len(points), loc="upper right", title="thick: statistics, thin: all", title_fontsize=11)
    label(axes, text, right)
    return drawn


def _shifted(edges: Floats, shift: float) -> Floats:
    """Return the middles of bins on a logarithmic axis, moved by a part of the width."""
    logarithms = np.log(edges)
    return np.asarray(np.exp(centres(logarithms) + shift * np.diff(logarithms)))


def weight_maps(
    maps: Mapping[str, Floats],
    x_edges: Sequence[float],
    y_edges: Sequence[float],
    labels: tuple[str, str],
    text: str,
    right: str = "",
) -> Figure:
    """Draw shape weights side by side, one map per flavour, on one logarithmic scale of colours around 1.

    Parameters
    ----------
    maps : mapping of array (places of x, places of y)
        By flavour; the first row and column are the jets whose score is not defined, NaN (grey) is not measured.
    x_edges, y_edges : sequence of float
        From 0 to 1.
    labels : (str, str)
        Of the axes.
    text, right : str
        Above the maps.
    """
    import matplotlib

    matplotlib.rcParams.update(STYLE)
    drawn = Figure(figsize=(4.6 * len(maps) + 1.4, 5.2), layout="constrained")
    FigureCanvasAgg(drawn)
    panels: list[Axes] = list(drawn.subplots(1, len(maps), sharey=True, squeeze=False)[0])
    known = np.concatenate([np.abs(np.log(m[np.isfinite(m) & (m > 0)])) for m in maps.values()])
    widest = float(np.clip(np.exp(np.quantile(known, 0.98)) if len(known) else 1.0, LEAST_WIDE, WIDEST))
    grid = [[-UNDEFINED_WIDTH, *edges] for edges in (x_edges, y_edges)]
    for axes, (flavour, content) in zip(panels, maps.items(), strict=True):
        axes.set_facecolor("#d0d0d0")
        inside = np.ma.masked_invalid(content[: len(x_edges), : len(y_edges)])
        image = axes.pcolormesh(*grid, inside.T, cmap="RdBu_r", norm=LogNorm(1 / widest, widest))
        axes.axvline(0, color="black", linewidth=0.8)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_title(f"{flavour_name(flavour)} jets", fontsize=13)
        axes.set_xlabel(labels[0])
        for one in (axes.xaxis, axes.yaxis):
            one.set_major_locator(FixedLocator([-UNDEFINED_WIDTH / 2, 0.2, 0.4, 0.6, 0.8, 1.0]))
            one.set_minor_locator(NullLocator())
            one.set_major_formatter(FuncFormatter(lambda value, _: "–" if value < 0 else f"{value:g}"))
    panels[0].set_ylabel(labels[1])
    bar = drawn.colorbar(image, ax=panels, fraction=0.03, pad=0.01)
    ticks = [1 / widest, 1 / np.sqrt(widest), 1.0, np.sqrt(widest), widest]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.set_label("weight")
    drawn.suptitle(f"{text}   {right}", fontsize=13, fontstyle="italic", x=0.01, ha="left")
    drawn.supxlabel("–: score not defined; grey: too few jets", fontsize=10)
    return drawn
