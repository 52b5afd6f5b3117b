"""Two-dimensional histograms: two axes, flattened to one, so that they are stored and added up like all others.

Each axis with n bins has n + 2 places: 0 below (a score that is not defined, -1, has it to itself), 1 to n, n + 1
above. Cell (i, j) is bin i (n_y + 2) + j of the flattened axis, whose own flow stays empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.histograms import Histograms
from pfnano_tag.infer.discriminants import DISCRIMINANTS

KINEMATIC_EDGES = {
    "jet_pt": (20.0, 30.0, 50.0, 70.0, 100.0, 140.0, 200.0, 300.0, 600.0, 1000.0),
    "jet_eta": tuple(float(edge) for edge in np.linspace(-2.5, 2.5, 11)),
}
"""Bins where the card says nothing; jet_pt as in BTV's measurements at working points."""
LABELS = {"jet_pt": (r"jet $p_T$", "GeV"), "jet_eta": (r"jet $\eta$", "")}
BINS_OF_SCORES = 20


@dataclass(frozen=True)
class Axis:
    """One of the two axes of a pair.

    Parameters
    ----------
    quantity : str
        A discriminant, `jet_pt` or `jet_eta`.
    label, unit : str
        For pictures (LaTeX).
    edges : tuple of float
        Rising; bins contain their lower edge, the last bin of a discriminant its upper edge too.
    """

    quantity: str
    label: str
    unit: str
    edges: tuple[float, ...]

    @property
    def places(self) -> int:
        """Bins, and one below and one above."""
        return len(self.edges) + 1

    @property
    def is_score(self) -> bool:
        """Whether it is a discriminant."""
        return self.quantity in DISCRIMINANTS

    def place(self, x: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Return the place of each value; NaN is below."""
        wide = np.asarray(x, dtype=np.float64)
        found = np.searchsorted(self.edges, wide, side="right")
        if self.is_score:
            found = np.where(wide == self.edges[-1], len(self.edges) - 1, found)
        return np.where(np.isnan(wide), 0, found).astype(np.int64)


Axes = tuple[Axis, Axis]


def pair_name(pair: Sequence[str]) -> str:
    """Return the name of a pair's variable."""
    return f"pair_{pair[0]}_{pair[1]}"


def axis_of(quantity: str, section: Histograms) -> Axis:
    """Return the axis of a quantity, binned as section `histograms` says (`pair_bins`)."""
    bins = {str(name): asked for name, asked in section.pair_bins.items()}.get(quantity)
    usual = KINEMATIC_EDGES.get(quantity, (0.0, 1.0))
    if bins is None:
        bins = usual if quantity in KINEMATIC_EDGES else BINS_OF_SCORES
    edges = np.linspace(usual[0], usual[-1], bins + 1) if isinstance(bins, int) else bins
    label, unit = LABELS.get(quantity, (quantity, ""))
    return Axis(quantity, label, unit, tuple(float(edge) for edge in edges))


def cells_of(axes: Axes) -> int:
    """Return the length of the flattened axis."""
    return axes[0].places * axes[1].places


def flattened(axes: Axes, values: Mapping[str, NDArray[np.floating[Any]]]) -> NDArray[np.float64]:
    """Return the middle of each entry's bin on the flattened axis.

    Parameters
    ----------
    axes : (Axis, Axis)
        Of the pair.
    values : mapping of ndarray [n]
        By quantity.
    """
    x, y = (axis.place(values[axis.quantity]) for axis in axes)
    return np.asarray(x * axes[1].places + y + 0.5, dtype=np.float64)


def unflattened(axes: Axes, content: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return content with flow [..., cells + 2] as [..., places of x, places of y]."""
    return content[..., 1:-1].reshape(*content.shape[:-1], axes[0].places, axes[1].places)
