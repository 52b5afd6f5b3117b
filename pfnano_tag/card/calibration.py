"""Section `calibration`: scale factors and shapes from control regions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pfnano_tag.card.base import Section
from pfnano_tag.card.evaluation import DiscriminantName

Width = Annotated[float, Field(gt=0)]


class Calibration(Section):
    """Efficiencies of b, c and light jets in data over simulation, and weights for the shape of discriminants."""

    b: str | None = None
    """Region rich in b jets, in section `regions`; null: b jets are not calibrated."""

    c: str | None = None
    """Region rich in c jets; null: c jets are not calibrated."""

    light: str | None = None
    """Region rich in uds and g jets (and those without label); null: they are not calibrated."""

    taggers: tuple[str, ...] | Literal["all"] = "all"
    """Networks, and taggers stored in the files (`DeepJet`); `all`: those in the job outputs that were evaluated."""

    discriminants: tuple[DiscriminantName, ...] | Literal["all"] = "all"
    """Discriminants with scale factors at the working points of `evaluate`; `all`: those that it evaluated."""

    templates: Annotated[int, Field(ge=1)] = 1
    """Bins on each side of a working point, of equal simulated yield; 1: passing and failing jets are counted. Their
    shape on each side is that of simulation."""

    composition: Width | None = 0.2
    """Relative width of the prior on each other flavour's yield over that of the flavour that a region is rich in;
    null: no prior (needs `templates` of 2 or more)."""

    unmeasured: Width = 0.3
    """Width of the prior, around 1, on the scale factor of a flavour that has no region."""

    least: Annotated[float, Field(ge=1)] = 10.0
    """Least effective number of simulated jets of a flavour in its own region: passing, failing, and in a cell of a
    pair (emptier cells share their weight)."""

    limits: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=1)]] = (0.1, 10.0)
    """Range of the shape weights."""

    iterations: Annotated[int, Field(ge=1)] = 200
    """Iterations of the shape calibration in which its weights must become stable."""

    replicas: Annotated[int, Field(ge=10)] = 50
    """Random replicas of data and simulation, for the statistical errors of the shape weights."""

    @property
    def regions(self) -> dict[str, str]:
        """Region of each calibrated flavour."""
        named = {"b": self.b, "c": self.c, "light": self.light}
        return {flavour: region for flavour, region in named.items() if region is not None}

    @model_validator(mode="after")
    def _can_be_fitted(self) -> Calibration:
        regions = self.regions
        if len(regions) == 1:
            raise ValueError(f"{next(iter(regions))}: one region is too few; name two or three of b, c, light")
        if len(set(regions.values())) < len(regions):
            raise ValueError(
                f"{', '.join(regions)}: each flavour needs a region of its own, not {list(regions.values())}"
            )
        if self.composition is None and self.templates == 1:
            raise ValueError(
                "composition: null leaves more free yields than passing and failing jets can tell apart; "
                "set templates to 2 or more, or give composition a width"
            )
        if self.limits[0] >= 1:
            raise ValueError(f"limits: a range around 1, not {list(self.limits)}")
        if len(regions) == 3 and self.unmeasured != type(self).model_fields["unmeasured"].default:
            raise ValueError("unmeasured has no effect: b, c and light all have a region")
        return self
