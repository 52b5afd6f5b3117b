"""A page of stacks with data: rows and columns of cells, each a stack with its ratio panel, one legend for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pfnano_tag.plotting.stacks import draw_stack
from pfnano_tag.plotting.style import STYLE, centres, headroom

Floats = NDArray[np.floating]
CELL_WIDTH, CELL_HEIGHT = 4.6, 4.0  # inches


@dataclass(frozen=True)
class Cell:
    """One stack of the page.

    Parameters
    ----------
    edges : ndarray [bins + 1]
        Bin edges.
    simulation : mapping
        Component -> (sums of weights, sums of squared weights), each [bins].
    data : pair of ndarray [bins]
        Sums of weights, and of squared weights: counts where they are equal.
    xlabel : str
        With unit.
    note : str
        Written into the cell, say the agreement.
    systematic, hidden, colours
        As in `stacks.stack`.
    names : tuple of str
        Names of the bins, instead of numbers on the axis.
    """

    edges: Floats
    simulation: Mapping[str, tuple[Floats, Floats]]
    data: tuple[Floats, Floats]
    xlabel: str
    note: str = ""
    systematic: Floats | None = None
    hidden: NDArray[np.bool_] | None = None
    colours: Mapping[str, str] | None = None
    names: tuple[str, ...] = ()


def stack_page(
    cells: Sequence[Sequence[Cell | None]],
    columns: Sequence[str],
    text: str,
    right: str = "",
    log: bool | None = None,
) -> Figure:
    """Draw a page of stacks.

    Parameters
    ----------
    cells : sequence of rows
        Each a sequence of cells, one per column; None leaves a place empty.
    columns : sequence of str
        Titles above the columns.
    text, right : str
        Above the page and below it.
    log : bool or None
        Logarithmic y axes; None: in the cells whose data are nowhere below zero.
    """
    matplotlib.rcParams.update(STYLE)
    size = (CELL_WIDTH * len(columns) + 1.6, CELL_HEIGHT * len(cells) + 0.6)
    page = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(page)
    page.get_layout_engine().set(h_pad=0.02, hspace=0.0)  # type: ignore[union-attr,call-arg]
    page.suptitle(text, fontsize=14, fontstyle="italic", x=0.01, ha="left")
    grid = page.add_gridspec(len(cells), len(columns))
    entries: dict[str, Any] = {}  # of the legend: what any cell has
    for line, row in enumerate(cells):
        for column, (cell, title) in enumerate(zip(row, columns, strict=True)):
            if cell is None:
                continue
            place = grid[line, column].subgridspec(2, 1, height_ratios=(3, 1))
            main = page.add_subplot(place[0])
            ratio = page.add_subplot(place[1], sharex=main)
            _draw(main, ratio, cell, bool((cell.data[0] >= 0).all()) if log is None else log)
            if line == 0:
                main.set_title(title, fontsize=14)
            handles, names = main.get_legend_handles_labels()
            entries = dict(zip(names, handles, strict=True)) | entries
    if entries:
        page.legend(list(entries.values()), list(entries), loc="outside right upper", fontsize=12)
    if right:
        page.supxlabel(right, fontsize=10)
    return page


def _draw(main: Axes, ratio: Axes, cell: Cell, log: bool) -> None:
    draw_stack(main, ratio, cell.edges, cell.simulation, cell.data, log, cell.systematic, cell.hidden, cell.colours)
    main.tick_params(labelbottom=False, labelsize=11)
    ratio.tick_params(labelsize=11)
    main.set_ylabel("Jets / bin", fontsize=12)
    ratio.set_xlabel(cell.xlabel, fontsize=12)
    if cell.names:
        ratio.set_xticks(centres(cell.edges), cell.names)
        for axes in (main, ratio):
            axes.tick_params(axis="x", which="both", length=0)
    ratio.yaxis.label.set_fontsize(11)
    headroom(main, 0.25 if cell.note else 0.15)
    if cell.note:
        main.text(0.97, 0.96, cell.note, transform=main.transAxes, ha="right", va="top", fontsize=11)
