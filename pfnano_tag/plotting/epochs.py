"""Quantities against the epoch: a page of panels, all trainings overlaid, chosen epochs marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter

from pfnano_tag.plotting.curves import Curve
from pfnano_tag.plotting.style import HEIGHT, STYLE, WIDTH

PANEL_WIDTH, PANEL_HEIGHT, LEGEND_ROW = 4.4, 3.5, 0.3  # inches
ENTRY, LETTER = 0.8, 0.1
"""Width of a legend entry without its text, and of a letter [inches]."""
MARK = "*"
DECADES = 30
"""A quantity whose largest value is this many times its smallest is drawn on a logarithmic axis."""


@dataclass(frozen=True)
class EpochPanel:
    """One panel of the page.

    Parameters
    ----------
    ylabel : str
        What is drawn.
    curves : sequence of Curve
        x: epochs 1, 2, ...; y: NaN where nothing is known, which leaves a gap.
    marked : sequence of int or None
        The epoch to mark on each curve.
    """

    ylabel: str
    curves: Sequence[Curve]
    marked: Sequence[int | None]


def epoch_page(panels: Sequence[EpochPanel], columns: int, text: str, right: str = "", mark: str = "") -> Figure:
    """Draw panels row after row, with one legend below all of them.

    Parameters
    ----------
    panels : sequence of EpochPanel
        At least one. Curves of the same name are the same colour and style in all panels.
    columns : int
        Panels in a row, at most.
    text, right : str
        Above the page, left and right.
    mark : str
        Legend entry of the marked epochs.
    """
    matplotlib.rcParams.update(STYLE)
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    handles = _handles(panels, mark)
    width, height = (WIDTH, HEIGHT) if len(panels) == 1 else (PANEL_WIDTH * columns, PANEL_HEIGHT * rows + 0.5)
    longest = max(len(str(handle.get_label())) for handle in handles)
    in_row = max(1, min(len(handles), int(width / (ENTRY + LETTER * longest))))
    page = Figure(figsize=(width, height + LEGEND_ROW * -(-len(handles) // in_row)), layout="constrained")
    FigureCanvasAgg(page)
    grid = list(page.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(grid, panels, strict=False):
        _draw(axes, panel, small=len(panels) > 1)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    size = 13 if len(panels) == 1 else 14
    grid[0].set_title(text, loc="left", fontsize=size, fontstyle="italic")
    grid[columns - 1].set_title(right, loc="right", fontsize=size)
    page.legend(handles=handles, loc="outside lower center", ncols=in_row)
    page.align_ylabels(grid)
    return page


def _draw(axes: Axes, panel: EpochPanel, small: bool) -> None:
    for curve, marked in zip(panel.curves, panel.marked, strict=True):
        axes.plot(curve.x, curve.y, **_look(curve))
        chosen = curve.x == marked
        axes.plot(curve.x[chosen], curve.y[chosen], MARK, color=curve.colour, markersize=13, markeredgecolor="black")
    known = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in panel.curves] or [np.empty(0)])
    if len(known) and known.min() > 0 and known.max() > DECADES * known.min():
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    last = max((float(curve.x.max()) for curve in panel.curves if len(curve.x)), default=1.0)
    axes.set(xlim=(0.5, last + 0.5), xlabel="epoch", ylabel=panel.ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(axis="x", which="minor", bottom=False, top=False)
    axes.margins(y=0.12)
    if axes.get_yscale() == "linear":
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.yaxis.get_offset_text().set(x=-0.01, horizontalalignment="right", fontsize=11)
    if small:
        axes.tick_params(labelsize=12)
        axes.xaxis.label.set_fontsize(13)
        axes.yaxis.label.set_fontsize(13)
    if not len(known):
        axes.text(0.5, 0.5, "no value", transform=axes.transAxes, ha="center", va="center", fontsize=12)


def _look(curve: Curve) -> dict[str, Any]:
    return {"color": curve.colour, "linestyle": curve.style, "linewidth": 1.6, "marker": "o", "markersize": 4}


def _handles(panels: Sequence[EpochPanel], mark: str) -> list[Line2D]:
    """Return a legend entry for each name, and one for the mark."""
    named = {curve.name: curve for panel in panels for curve in panel.curves}
    lines = [Line2D([], [], label=name, **_look(curve)) for name, curve in named.items()]
    if mark and any(epoch is not None for panel in panels for epoch in panel.marked):
        star = Line2D([], [], linestyle="none", marker=MARK, markersize=13, color="white", markeredgecolor="black")
        star.set_label(mark)
        lines.append(star)
    return lines
