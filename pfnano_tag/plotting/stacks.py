"""Data and simulation: a stack by flavour or dataset, data points, the simulation's bands, and their ratio.

The statistical band of simulation is hatched in grey; where there is a systematic uncertainty, a second band, filled
with light violet, is the statistical and systematic one in quadrature. Blinded bins have no points, and are shaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from hist.intervals import poisson_interval
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pfnano_tag.plotting.colours import flavour_colour, flavour_name
from pfnano_tag.plotting.style import centres, headroom, label, ratio_figure

Floats = NDArray[np.floating]
RATIO_RANGE = (0.5, 1.5)
STATISTICAL = {"facecolor": "none", "edgecolor": "#444444", "hatch": "//////"}
BOTH = {"facecolor": "#7a21dd40", "edgecolor": "none", "hatch": ""}
BLINDED = "#d9d9d9"


def stack(
    edges: Floats,
    simulation: Mapping[str, tuple[Floats, Floats]],
    data: tuple[Floats, Floats],
    xlabel: str,
    text: str,
    right: str = "",
    ylabel: str = "Jets / bin",
    log: bool = False,
    systematic: Floats | None = None,
    hidden: NDArray[np.bool_] | None = None,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Draw a stack of simulated components, sorted by yield, with data and the ratio data / simulation.

    Parameters
    ----------
    edges : array (bins + 1,)
        Bin edges.
    simulation : mapping
        Flavour or dataset -> (sums of weights, sums of squared weights), each (bins,), already normalised.
    data : pair of arrays (bins,)
        Sums of weights and of squared weights; counts, where the two are equal, are drawn with Garwood intervals
        (68 %), others (prescales, opposite minus same sign) with the root of the second.
    xlabel, ylabel : str
        With units.
    text, right : str
        Above the axes.
    log : bool
        Logarithmic y axis.
    systematic : array (bins,) or None
        Half-width of the systematic uncertainty of simulation.
    hidden : array of bool (bins,) or None
        Where data are blinded.
    colours : mapping or None
        Colours of components that are no flavours; those without one have their flavour's.
    """
    drawn, main, ratio = ratio_figure()
    draw_stack(main, ratio, edges, simulation, data, log, systematic, hidden, colours)
    main.set_ylabel(ylabel)
    ratio.set_xlabel(xlabel)
    main.legend(ncols=2 if len(simulation) < 4 else 3, loc="upper right", fontsize=11)
    headroom(main, 0.3)
    label(main, text, right)
    drawn.align_ylabels()
    return drawn


def draw_stack(
    main: Axes,
    ratio: Axes,
    edges: Floats,
    simulation: Mapping[str, tuple[Floats, Floats]],
    data: tuple[Floats, Floats],
    log: bool = False,
    systematic: Floats | None = None,
    hidden: NDArray[np.bool_] | None = None,
    colours: Mapping[str, str] | None = None,
) -> None:
    """Draw a stack with data into given panels, without texts and legend; parameters as in `stack`.

    Parameters
    ----------
    main : Axes
        Panel of the stack.
    ratio : Axes
        Panel of data / simulation.
    """
    total = sum((values for values, _ in simulation.values()), np.zeros(len(edges) - 1))
    variance = sum((variances for _, variances in simulation.values()), np.zeros(len(edges) - 1))
    shown = np.ones(len(total), dtype=np.bool_) if hidden is None else ~hidden
    errors = [(STATISTICAL, np.sqrt(variance), "stat. unc. (sim.)")]
    if systematic is not None:
        errors.insert(0, (BOTH, np.sqrt(variance + systematic**2), "stat. + syst. unc."))
    _components(main, edges, simulation, colours or {})
    for look, error, name in errors:
        _band(main, edges, total, error, name, look)
    _shade(main, ratio, edges, ~shown)
    _points(main, edges, data, shown)
    _ratio(ratio, edges, data, total, [(look, error) for look, error, _ in errors], shown)
    _limits(main, [values for values, _ in simulation.values()], total, data[0], log)
    main.set_xlim(edges[0], edges[-1])


def _shade(main: Axes, ratio: Axes, edges: Floats, hidden: NDArray[np.bool_]) -> None:
    """Shade the blinded bins."""
    name = "data blinded"
    for low, high in zip(edges[:-1][hidden], edges[1:][hidden], strict=True):
        main.axvspan(low, high, color=BLINDED, alpha=0.6, linewidth=0, zorder=0, label=name)
        ratio.axvspan(low, high, color=BLINDED, alpha=0.6, linewidth=0, zorder=0)
        name = "_"  # once in the legend


def _components(
    axes: Axes, edges: Floats, simulation: Mapping[str, tuple[Floats, Floats]], colours: Mapping[str, str]
) -> None:
    """Fill the components one on the other, the smallest yield at the bottom."""
    base = np.zeros(len(edges) - 1)
    for key in sorted(simulation, key=lambda name: float(simulation[name][0].sum())):
        top = base + simulation[key][0]
        axes.stairs(
            top,
            edges,
            baseline=base,
            fill=True,
            color=colours.get(key) or flavour_colour(key),
            label=flavour_name(key),
        )
        base = top


def _band(
    axes: Axes, edges: Floats, middle: Floats, error: Floats, name: str | None, look: Mapping[str, str]
) -> None:
    """Draw a band of middle +- error."""
    axes.stairs(
        middle + error,
        edges,
        baseline=middle - error,
        fill=True,
        facecolor=look["facecolor"],
        edgecolor=look["edgecolor"],
        hatch=look["hatch"] or None,
        linewidth=0,
        label=name,
    )


def _errors(data: tuple[Floats, Floats]) -> Floats:
    """Lower and upper errors of data (2, bins): of counts, or of sums of weights."""
    values, variances = data
    if not np.array_equal(values, variances):
        return np.stack([np.sqrt(variances)] * 2)
    low, high = poisson_interval(values)
    return np.stack([values - low, high - values])


def _points(axes: Axes, edges: Floats, data: tuple[Floats, Floats], shown: NDArray[np.bool_]) -> None:
    values, variances = data
    errors = _errors(data)
    filled = shown & (variances > 0)  # empty bins would only draw clutter; the ratio shows what is missing there
    axes.errorbar(
        centres(edges)[filled],
        values[filled],
        yerr=errors[:, filled],
        fmt="o",
        color="black",
        markersize=4,
        label="data",
    )


def _ratio(
    axes: Axes,
    edges: Floats,
    data: tuple[Floats, Floats],
    total: Floats,
    errors_of_simulation: Sequence[tuple[Mapping[str, str], Floats]],
    shown: NDArray[np.bool_],
) -> None:
    """Draw data / simulation; a point outside the panel becomes an arrow at its edge."""
    known = total > 0
    for look, error in errors_of_simulation:
        relative = np.divide(error, total, out=np.zeros_like(total), where=known)
        _band(axes, edges, np.where(known, 1.0, np.nan), relative, None, look)
    known &= shown
    middle, scale = centres(edges)[known], total[known]
    ratio = data[0][known] / scale
    errors = _errors(data)[:, known] / scale
    axes.axhline(1, color="black", linewidth=0.8)
    axes.errorbar(middle, ratio, yerr=errors, fmt="o", color="black", markersize=4)
    for marker, edge, outside in (
        ("^", RATIO_RANGE[1] - 0.06, ratio > RATIO_RANGE[1]),
        ("v", RATIO_RANGE[0] + 0.06, ratio < RATIO_RANGE[0]),
    ):
        axes.plot(middle[outside], np.full(outside.sum(), edge), marker, color="black", markersize=6)
    axes.set(ylim=RATIO_RANGE, ylabel="data / sim.")
    axes.yaxis.label.set(horizontalalignment="center", y=0.5)


def _limits(axes: Axes, components: Sequence[Floats], total: Floats, data: Floats, log: bool) -> None:
    """Set the y range; a log axis reaches down to the smallest filled bin of any component, over five decades."""
    highest = max(float(total.max(initial=0)), float(data.max(initial=0)))
    if highest <= 0:
        highest = 1.0
    if not log:
        lowest = min(float(values.min(initial=0)) for values in (total, data, *components))
        axes.set_ylim(1.1 * lowest, 1.1 * highest)
        return
    lowest = min((float(values[values > 0].min()) for values in components if (values > 0).any()), default=0.1)
    axes.set_ylim(max(lowest / 2, highest * 1e-5), 2 * highest)  # first: a log axis can't find limits without data
    axes.set_yscale("log")
