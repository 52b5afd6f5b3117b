"""Section `comparison`: agreement of data and simulation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pfnano_tag.card.base import Section


class Comparison(Section):
    """Normalisation, binning and errors of the agreement; what is shown, and what is not looked at."""

    bins: Annotated[int, Field(ge=2)] = 30
    """Bins of equal simulated yield, per model and discriminant."""

    replicas: Annotated[int, Field(ge=2)] = 50
    """Bootstrap replicas, by event, the same for all models."""

    normalisation: Literal["luminosity", "data"] = "luminosity"
    """Simulation is scaled to the luminosity, or to the data's yield (named on the plot)."""

    toys: Annotated[int, Field(ge=0)] = 200
    """Toy experiments behind the p-values of the distances between data and simulation; 0: no such p-values."""

    stack_by: Literal["flavour", "dataset"] = "flavour"
    """What simulation is split into, in stacks, `histograms.root` and templates: flavours, or datasets."""

    blind: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Windows `VARIABLE: [low, high]` (variables as in `histograms.root`, in their units, in all regions) in which
    data are neither drawn, nor compared, nor written, nor fitted; bins that a window touches are blinded whole. That
    of a discriminant holds for its logit and its pairs, that of a quantity for its histogram without the cut on it.
    """

    @field_validator("blind")
    @classmethod
    def _rising(cls, blind: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for name, (low, high) in blind.items():
            if not low < high:
                raise ValueError(f"{name}: [{low:g}, {high:g}] is no window; the first number is the lower one")
        return blind
