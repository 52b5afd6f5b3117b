"""One look for all pictures: figures, ratio panels, the text above the axes, legends, and saving.

The look follows the CMS style of mplhep (fonts, ticks inside, labels at the ends of the axes) at a smaller size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pfnano_tag.card.output import write_whole

DPI = 150
WIDTH, HEIGHT, RATIO_HEIGHT = 7.4, 6.2, 7.0  # inches

STYLE: Any = dict(mplhep.style.CMS) | {
    "font.size": 15,
    "axes.linewidth": 1.2,
    "xtick.major.size": 7,
    "xtick.minor.size": 3.5,
    "ytick.major.size": 7,
    "ytick.minor.size": 3.5,
    "legend.fontsize": 12,
    "axes.formatter.limits": (-3, 4),
    "axes.formatter.use_mathtext": True,
    "mathtext.fallback": "stixsans",
    "errorbar.capsize": 0,
    "hatch.linewidth": 0.6,
}


def figure(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Return an empty figure with one pair of axes.

    Parameters
    ----------
    width, height : float
        Size [inches].
    """
    matplotlib.rcParams.update(STYLE)
    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn, drawn.add_subplot()


def ratio_figure() -> tuple[Figure, Axes, Axes]:
    """Return a figure with a main panel and a ratio panel below it (3:1) on the same x axis."""
    matplotlib.rcParams.update(STYLE)
    drawn = Figure(figsize=(WIDTH, RATIO_HEIGHT), layout="constrained")
    FigureCanvasAgg(drawn)
    drawn.get_layout_engine().set(h_pad=0.0, hspace=0.0)  # type: ignore[union-attr,call-arg]
    main, ratio = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    main.tick_params(labelbottom=False)
    return drawn, main, ratio


def grid_figure(rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """Return a page of small panels (3.3 x 2.6 inches each), row after row, with small numbers on the axes."""
    matplotlib.rcParams.update(STYLE)
    width, height = max(3.3 * columns, WIDTH), 2.6 * rows + 0.8
    drawn = Figure(figsize=(width, height))
    FigureCanvasAgg(drawn)
    # Fixed margins [inches]: solving for them would draw dozens of axes three times.
    drawn.subplots_adjust(
        left=0.5 / width, right=1 - 0.2 / width, bottom=0.5 / height, top=1 - 0.7 / height, hspace=0.36, wspace=0.22
    )
    panels = list(drawn.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.tick_params(labelsize=9, which="both")
        axes.tick_params(length=3, which="major")
        axes.tick_params(length=1.5, which="minor")
        axes.xaxis.get_offset_text().set_fontsize(9)
    return drawn, panels


def label(axes: Axes, text: str, right: str = "") -> None:
    """Write above the axes: left what the picture shows (say a generated sample), right the conditions.

    Parameters
    ----------
    axes : Axes
        Main panel.
    text, right : str
        Nothing is added to them; a CMS label is the caller's to give.
    """
    axes.set_title(text, loc="left", fontsize=13, fontstyle="italic")
    axes.set_title(right, loc="right", fontsize=13)
    # A factor such as 10^5 would stand where the text stands: put it left of the axis.
    axes.yaxis.get_offset_text().set(x=-0.01, horizontalalignment="right", fontsize=11)


def legend(axes: Axes, outside: bool = False, columns: int = 1, title: str | None = None) -> None:
    """Add a legend; `outside` puts it to the right of the axes, where nothing is covered."""
    if outside:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), ncols=columns, title=title, borderaxespad=0)
    else:
        axes.legend(ncols=columns, title=title)


def headroom(axes: Axes, fraction: float = 0.3) -> None:
    """Leave a part of the panel's height free above the curves, for legends; right on log axes as well."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        high = low * (high / low) ** (1 / (1 - fraction))
    else:
        high = low + (high - low) / (1 - fraction)
    axes.set_ylim(low, high)


def with_unit(text: str, unit: str) -> str:
    """Return an axis label with its unit in brackets (nothing is added without a unit)."""
    return f"{text} [{unit}]" if unit else text


def centres(edges: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the middles of bins, shape (bins,)."""
    array = np.asarray(edges, dtype=np.float64)
    return (array[:-1] + array[1:]) / 2


def save(drawn: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, whole or not at all, and empty it; the same content gives the same bytes.

    Parameters
    ----------
    drawn : Figure
        Cleared afterwards, so that its memory is free.
    path : str or Path
        Ends with `.png`; the folder is made.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        When the name does not end with `.png`.
    OutputError
        When it can't be written.
    """
    target = Path(path)
    if target.suffix != ".png":
        raise ValueError(f"{target}: pictures are written as .png")
    with write_whole(target) as temporary:
        drawn.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None})
    drawn.clear()
    return target
