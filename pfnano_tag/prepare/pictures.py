"""Pictures of the preparation: pT and eta of each class before and after reweighting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.plotting.colours import flavour_name
from pfnano_tag.plotting.distributions import shapes
from pfnano_tag.plotting.style import save
from pfnano_tag.prepare.prepared import Prepared

AXES = {"pt": (2, r"jet $p_T$ [GeV]"), "eta": (1, r"jet $\eta$")}
"""Variable -> axis of the tables [K, P, E] that is summed over, and its label."""

PT_TICKS = (20, 50, 100, 200, 500, 1000)
"""[GeV]; on the logarithmic axis."""


def draw(prepared: Prepared, folder: Path, text: str) -> list[Path]:
    """Draw the training jets of each class in the bins of the weight tables.

    Parameters
    ----------
    prepared : Prepared
        The study.
    folder : Path
        Where `pt_before.png`, `pt_after.png`, `eta_before.png` and `eta_after.png` go.
    text : str
        What the files are, above the axes.

    Returns
    -------
    list of Path
        What was written.
    """
    tables = prepared.weights
    counts = tables.counts.astype(np.float64)
    stages = {
        "before": (counts, counts, "before reweighting"),
        "after": (counts * tables.weights, counts * tables.weights**2, "after reweighting"),
    }
    return [
        _draw_one(prepared, variable, yields, variances, (text, words), folder / f"{variable}_{stage}.png")
        for variable in AXES
        for stage, (yields, variances, words) in stages.items()
    ]


def _draw_one(
    prepared: Prepared,
    variable: str,
    yields: NDArray[np.float64],
    variances: NDArray[np.float64],
    words: tuple[str, str],
    path: Path,
) -> Path:
    summed_axis, xlabel = AXES[variable]
    edges = np.array(getattr(prepared.weights, f"{variable}_edges"))
    histograms = {
        name: (yields[i].sum(axis=summed_axis - 1), variances[i].sum(axis=summed_axis - 1))
        for i, name in enumerate(prepared.classes)
    }
    names = {name: f"{flavour_name(name)}: {values.sum():.0f}" for name, (values, _) in histograms.items()}
    figure = shapes(edges, histograms, xlabel, *words, names=names)
    if variable == "pt":
        figure.axes[0].set_xscale("log")
        figure.axes[0].set_xticks(PT_TICKS, labels=[str(tick) for tick in PT_TICKS])
    return save(figure, path)
