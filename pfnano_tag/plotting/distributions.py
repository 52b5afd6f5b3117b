"""Shapes: several histograms on the same bins, each normalised to one, as lines with statistical bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pfnano_tag.plotting.colours import flavour_colour, flavour_name
from pfnano_tag.plotting.style import figure, grid_figure, headroom, label, legend

Floats = NDArray[np.floating]
PANEL_BINS = 60


def shapes(
    edges: Floats,
    histograms: Mapping[str, tuple[Floats, Floats]],
    xlabel: str,
    text: str,
    right: str = "",
    log: bool = False,
    names: Mapping[str, str] | None = None,
) -> Figure:
    """Draw histograms normalised to unit sum.

    Parameters
    ----------
    edges : array (bins + 1,)
        Bin edges.
    histograms : mapping
        Flavour -> (sums of weights, sums of squared weights), each (bins,); one without entries is said to be empty
        in the legend.
    xlabel : str
        With its unit.
    text, right : str
        Above the axes.
    log : bool
        Logarithmic y axis.
    names : mapping or None
        Legend entry per key, where it is not the name of the flavour.
    """
    drawn, axes = figure()
    names = names or {}
    for key, (values, variances) in histograms.items():
        total = values.sum()
        name = names.get(key, flavour_name(key))
        colour = flavour_colour(key)
        if total <= 0:
            axes.plot([], [], color=colour, label=f"{name} (no jets)")
            continue
        share, error = values / total, np.sqrt(variances) / total
        axes.stairs(share, edges, color=colour, linewidth=1.6, label=name)
        axes.stairs(share + error, edges, baseline=share - error, fill=True, color=colour, alpha=0.2, linewidth=0)
    if log:
        axes.set_ylim(*_log_range([values for values, _ in histograms.values()]))
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(xlim=(edges[0], edges[-1]), xlabel=xlabel, ylabel="Fraction of jets / bin")
    legend(axes, columns=2 if len(histograms) > 3 else 1)
    headroom(axes, 0.25)
    label(axes, text, right)
    return drawn


def _log_range(contents: Sequence[Floats]) -> tuple[float, float]:
    """Return a range that holds every filled bin of normalised histograms, over six decades at most."""
    shares = [values / values.sum() for values in contents if values.sum() > 0]
    filled = np.concatenate([share[share > 0] for share in shares]) if shares else np.array([0.1, 1.0])
    high = float(filled.max()) * 1.5
    return max(float(filled.min()) / 2, high * 1e-6), high


@dataclass(frozen=True)
class Panel:
    """One small picture of a page: histograms on the same bins.

    Parameters
    ----------
    edges : array (bins + 1,)
        Bin edges.
    histograms : mapping
        Key -> contents (bins,); drawn normalised to unit sum.
    xlabel : str
        With its unit.
    """

    edges: Floats
    histograms: Mapping[str, Floats]
    xlabel: str


def panel(edges: Floats, counts: Mapping[str, NDArray[np.integer]], xlabel: str) -> Panel:
    """Return a panel of counts, neighbouring bins joined where there are more than a small picture can show.

    Parameters
    ----------
    edges : array (bins + 1,)
        Bin edges.
    counts : mapping
        Key -> counts (bins,).
    xlabel : str
        With its unit.
    """
    bins = len(edges) - 1
    join = 2 if bins > PANEL_BINS and bins % 2 == 0 else 1
    joined = {key: values.reshape(-1, join).sum(axis=1).astype(np.float64) for key, values in counts.items()}
    return Panel(edges[::join], joined, xlabel)


def page(
    panels: Sequence[Panel],
    text: str,
    right: str = "",
    colours: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    styles: Mapping[str, str] | None = None,
) -> Figure:
    """Draw many small pictures on one page, four in a row, on logarithmic y axes with one legend on top.

    Parameters
    ----------
    panels : sequence of Panel
        All with the same keys.
    text, right : str
        Above the first and the last panel of the first row.
    colours, names, styles : mapping or None
        Colour, legend entry and line style per key; keys are taken for flavours where nothing is given.
    """
    colours, names, styles = colours or {}, names or {}, styles or {}
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    drawn, grid = grid_figure(rows, columns)
    for axes, panel in zip(grid, panels, strict=False):
        for key, values in panel.histograms.items():
            if values.sum() > 0:
                axes.stairs(
                    values / values.sum(),
                    panel.edges,
                    color=colours.get(key, flavour_colour(key)),
                    label=names.get(key, flavour_name(key)),
                    linestyle=styles.get(key, "-"),
                    linewidth=1.2,
                )
        axes.set_ylim(*_log_range(list(panel.histograms.values())))
        axes.set_yscale("log")
        axes.set_xlim(panel.edges[0], panel.edges[-1])
        axes.set_xlabel(panel.xlabel, fontsize=12)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    handles = {name: handle for axes in grid for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    drawn.legend(handles.values(), handles.keys(), loc="upper center", ncols=max(len(handles), 1))
    grid[0].set_title(text, loc="left", fontsize=12, fontstyle="italic")
    grid[columns - 1].set_title(right, loc="right", fontsize=11)
    return drawn
