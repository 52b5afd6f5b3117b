"""Section `comparison`: agreement of data and simulation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pfnano_tag.card.base import Section


class Comparison(Section):
    """Normalisation, binning and errors of the agreement."""

    bins: Annotated[int, Field(ge=2)] = 30
    """Bins of equal simulated yield, per model and discriminant."""

    replicas: Annotated[int, Field(ge=2)] = 50
    """Bootstrap replicas, by event, the same for all models."""

    normalisation: Literal["luminosity", "data"] = "luminosity"
    """Simulation is scaled to the luminosity, or to the data's yield (named on the plot)."""
