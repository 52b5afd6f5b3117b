"""Jet flavour by ghost association, as CMSSW's JetFlavourClustering does it.

Hadron flavour: 5 with any b hadron, else 4 with any c hadron, else 0.  Parton flavour: the hardest b parton,
else the hardest c parton, else the hardest parton (0 without any); where the two disagree, the hadron
flavour wins, and a light jet gets its hardest light parton.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.generate.ragged import Array, Table


def heavy_hadrons(ghosts: Table, jet: Array, num_jets: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of b and of c hadrons in each jet, two int64 `[num_jets]`."""
    inside = jet >= 0
    b = np.bincount(jet[inside & (ghosts["label"] == 5)], minlength=num_jets)
    c = np.bincount(jet[inside & (ghosts["label"] == 4)], minlength=num_jets)
    return b, c


def hadron_flavour(b_hadrons: Array, c_hadrons: Array) -> NDArray[np.int64]:
    """5, 4 or 0 by the hadrons in the jet."""
    return np.where(b_hadrons > 0, 5, np.where(c_hadrons > 0, 4, 0))


def _hardest(pt: Array, pdg: Array, jet: Array, num_jets: int) -> NDArray[np.int64]:
    """PDG number of the hardest parton of each jet, 0 where there is none."""
    order = np.lexsort((pt, jet))
    out = np.zeros(num_jets, np.int64)
    out[jet[order]] = pdg[order]  # the last assignment, of the largest pt, stays
    return out


def parton_flavour(ghosts: Table, jet: Array, hadron: Array) -> NDArray[np.int64]:
    """Signed PDG number of the jet's parton by the rules above, int64 `[num_jets]`."""
    n = len(hadron)
    parton = (ghosts["label"] == 0) & (jet >= 0)
    pt, pdg, of = ghosts["pt"][parton], ghosts["id"][parton], jet[parton]
    light = ~np.isin(np.abs(pdg), (4, 5))
    hardest_light = _hardest(pt[light], pdg[light], of[light], n)
    out = hardest_light
    for flavour in (4, 5):
        chosen = np.abs(pdg) == flavour
        heavy = _hardest(pt[chosen], pdg[chosen], of[chosen], n)
        out = np.where(heavy != 0, heavy, out)
    disagrees = (hadron != 0) & (np.abs(out) != hadron)
    out = np.where(disagrees, hadron, out)
    return np.where((hadron == 0) & np.isin(np.abs(out), (4, 5)), hardest_light, out)
