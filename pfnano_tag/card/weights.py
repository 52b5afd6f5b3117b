"""Section `weights`: event weights of simulation."""

from __future__ import annotations

from pfnano_tag.card.base import Section


class Weights(Section):
    """Weights multiplied to genWeight x cross section x luminosity / sum of weights."""

    branches: tuple[str, ...] = ()
    """Event-level branches multiplied to the weight of simulation, say `L1PreFiringWeight_Nom`."""
