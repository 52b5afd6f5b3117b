"""What a particle is, by the digits of its PDG code (Monte Carlo numbering scheme)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.integer[Any]]

LONG_LIVED = (310, 3122, 3112, 3222, 3312, 3322, 3334)
"""Strange hadrons that decay in a detector (c tau above 1 cm): K0S, Lambda, Sigma-+, Xi, Omega. Generators of CMS
leave them stable; the detector simulation decays them."""


def _digits(pdg: Codes) -> tuple[Codes, Codes, Codes, Codes]:
    a = np.abs(pdg)
    return a, (a // 10) % 10, (a // 100) % 10, (a // 1000) % 10


def is_hadron(pdg: Codes) -> NDArray[np.bool_]:
    """Mesons and baryons; diquarks (tens digit 0), partons, leptons and generator codes are not."""
    a, tens, hundreds, _ = _digits(pdg)
    return np.asarray((a > 100) & (a < 1_000_000) & (tens != 0) & (hundreds != 0))


def has_quark(pdg: Codes, quark: int) -> NDArray[np.bool_]:
    """Hadrons whose heaviest quark digit is `quark` (4 or 5), as CMSSW's `hasBottom` and `hasCharm`."""
    _, _, hundreds, thousands = _digits(pdg)
    heavy = is_hadron(pdg) & ((hundreds == quark) | (thousands == quark))
    return np.asarray(heavy & ~has_quark(pdg, 5)) if quark == 4 else np.asarray(heavy)


def is_open(pdg: Codes, quark: int) -> NDArray[np.bool_]:
    """Hadrons with `quark` (4 or 5) as the heaviest that are no quarkonium (J/psi, Upsilon), which decays at once."""
    _, tens, hundreds, thousands = _digits(pdg)
    return np.asarray(has_quark(pdg, quark) & ~((hundreds == quark) & (tens == quark) & (thousands == 0)))
