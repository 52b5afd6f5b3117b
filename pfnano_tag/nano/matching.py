"""Matching of reconstructed charged candidates to generated particles, one to one.

A pair must have the same charge, lie within `CONE` in (eta, phi) and agree within `PT_TOLERANCE` in transverse
momentum, as in cms-sw/cmssw, PhysicsTools/NanoAOD/plugins/PackedCandMCMatchTableProducer.cc. That one takes the
first such particle of the list; here the pairs compete: the nearest in units of the resolutions is taken, then the
nearest of what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.columns import Index, delta_phi, offsets_of

CONE = 0.02
"""Largest distance in (eta, phi)."""
PT_TOLERANCE = 0.2
"""Largest difference of the transverse momenta, relative to the candidate's."""
ANGLE, MOMENTUM = 0.002, 0.02
"""Distance in (eta, phi), and relative difference of transverse momenta, that count the same."""

_SPAN, _ETA = 16.0, 7.0
"""Room of one event and charge on the line that particles are sorted on, and what of it is used."""


@dataclass(frozen=True)
class Particles:
    """Particles of many events, event after event.

    Parameters
    ----------
    event : ndarray of int64 [n]
        Event of each, rising.
    charge, pt, eta, phi : ndarray [n]
        Those that are neutral or have no finite direction are never matched.
    """

    event: Index
    charge: NDArray[np.integer[Any]]
    pt: NDArray[np.floating[Any]]
    eta: NDArray[np.floating[Any]]
    phi: NDArray[np.floating[Any]]

    def usable(self) -> Index:
        """Return the rows that can be matched."""
        sound = np.isfinite(self.pt) & np.isfinite(self.phi) & (np.abs(self.eta) < _ETA) & (self.pt > 0)
        return np.flatnonzero(sound & (self.charge != 0))

    def places(self, rows: Index) -> NDArray[np.float64]:
        """Return a number for each of these rows: close ones for close eta, event and charge being the same."""
        line = 2 * self.event[rows] + (self.charge[rows] > 0)
        return np.asarray(line * _SPAN + self.eta[rows].astype(np.float64))


def matched(candidates: Particles, generated: Particles) -> Index:
    """Return the generated particle of each candidate, none of them twice.

    Parameters
    ----------
    candidates, generated : Particles
        Of the same events.

    Returns
    -------
    ndarray of int64 [candidates]
        Row in `generated`; -1: none.
    """
    left, right, quality = _pairs(candidates, generated)
    found = np.full(len(candidates.event), -1, dtype=np.int64)
    taken = np.zeros(len(generated.event), dtype=np.bool_)
    alone = (np.bincount(left)[left] == 1) & (np.bincount(right)[right] == 1) if len(left) else taken[:0]
    found[left[alone]] = right[alone]  # without a rival on either side, as most pairs are
    left, right, quality = left[~alone], right[~alone], quality[~alone]
    order = np.lexsort((right, left, quality))
    left, right = left[order], right[order]
    while len(left):  # each round takes at least the best pair of all
        rank = np.arange(len(left))
        first = (_first(left, rank, len(found)) == rank) & (_first(right, rank, len(taken)) == rank)
        found[left[first]] = right[first]
        taken[right[first]] = True
        rest = (found[left] < 0) & ~taken[right]
        left, right = left[rest], right[rest]
    return found


def _first(rows: Index, rank: Index, size: int) -> Index:
    """Return, for each pair, the first pair of the same row."""
    first = np.empty(size, dtype=np.int64)
    first[rows[::-1]] = rank[::-1]  # the last assignment stays
    return first[rows]


def _pairs(candidates: Particles, generated: Particles) -> tuple[Index, Index, NDArray[np.float64]]:
    """Return all pairs that may be matched, and how well they agree (0: perfectly)."""
    lefts, rights = candidates.usable(), generated.usable()
    places = generated.places(rights)
    order = np.argsort(places, kind="stable")
    wanted, places = candidates.places(lefts), places[order]
    rising = np.argsort(wanted)  # neighbours are looked up one after the other: fewer jumps in memory
    lefts, wanted = lefts[rising], wanted[rising]
    low, high = np.searchsorted(places, wanted - CONE), np.searchsorted(places, wanted + CONE, side="right")
    counts = high - low
    offsets = offsets_of(counts)
    left = np.repeat(lefts, counts)
    right = rights[order[np.arange(offsets[-1]) + np.repeat(low - offsets[:-1], counts)]]
    eta = candidates.eta[left].astype(np.float64) - generated.eta[right]
    phi = delta_phi(candidates.phi[left].astype(np.float64), generated.phi[right].astype(np.float64))
    pt = generated.pt[right] / candidates.pt[left].astype(np.float64) - 1
    distance = eta * eta + phi * phi
    near = (distance < CONE**2) & (np.abs(pt) < PT_TOLERANCE)
    quality = distance[near] / ANGLE**2 + (pt[near] / MOMENTUM) ** 2
    return left[near], right[near], quality
