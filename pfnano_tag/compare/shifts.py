"""Systematic uncertainty of simulation: how far each source of the systematic axis shifts each bin.

Variations NAME_up and NAME_down are one source: its shift is half their difference. A variation without its opposite
is a source of its own: its shift is the difference from nominal, taken as symmetric. A source shifts all bins
together: its covariance is the product of its shifts, sources are independent of each other, and the band of a
picture is the square root of the diagonal. Where simulation is scaled to data, so is every variation by itself: what
is left are changes of shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.result import NOMINAL

Floats = NDArray[np.float64]
UP, DOWN = "_up", "_down"


@dataclass(frozen=True)
class Source:
    """One source of systematic uncertainty.

    Parameters
    ----------
    name : str
        Name of the variation, without `_up` or `_down` where there are both.
    up, down : str or None
        Variations on the systematic axis; `down` is None for one that is symmetrised.
    """

    name: str
    up: str
    down: str | None = None


def sources_of(names: Iterable[str]) -> tuple[Source, ...]:
    """Return the sources behind the names of a systematic axis (`nominal` is none), in their order."""
    varied = [name for name in dict.fromkeys(names) if name != NOMINAL]
    found = []
    for name in varied:
        stem = name.removesuffix(UP)
        if name.endswith(UP) and stem + DOWN in varied:
            found.append(Source(stem, name, stem + DOWN))
        elif not (name.endswith(DOWN) and name.removesuffix(DOWN) + UP in varied):
            found.append(Source(name, name))
    return tuple(found)


def shifts_of(values: Mapping[str, Floats]) -> Floats:
    """Return the shift of each source in each bin, float64 [sources, bins].

    Parameters
    ----------
    values : mapping of ndarray of float64 [bins]
        Simulation by name on the systematic axis, `nominal` among them; each scaled to data where nominal is.
    """
    rows = [
        values[source.up] - values[NOMINAL] if source.down is None else (values[source.up] - values[source.down]) / 2
        for source in sources_of(values)
    ]
    return np.array(rows) if rows else np.zeros((0, len(values[NOMINAL])))


def band_of(shifts_SF: Floats) -> Floats:
    """Return the half-width of the systematic band, float64 [bins]: all sources in quadrature."""
    return np.asarray(np.sqrt(np.sum(shifts_SF**2, axis=0)))
