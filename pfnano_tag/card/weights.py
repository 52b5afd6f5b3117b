"""Section `weights`: event weights of simulation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pfnano_tag.card.base import Section


class BranchFactor(Section):
    """A factor that the file holds, with its variations."""

    kind: Literal["branches"]
    """A factor whose values are branches of events in the file."""

    nominal: str
    """Branch with the factor."""

    up: str | None = None
    """Branch with the factor varied up; null: no such variation."""

    down: str | None = None
    """Branch with the factor varied down; null: no such variation."""

    @property
    def directions(self) -> tuple[str, ...]:
        """Variations that there are, of `up` and `down`."""
        return tuple(name for name in ("up", "down") if getattr(self, name) is not None)


Factor = Annotated[BranchFactor, Field(discriminator="kind")]


class Weights(Section):
    """Weights multiplied to genWeight x cross section x luminosity / sum of weights."""

    branches: tuple[str, ...] = ()
    """Event-level branches multiplied to the weight of simulation."""

    factors: dict[str, Factor] = Field(default_factory=dict)
    """Factors multiplied to the weight of simulation, by name; NAME_up and NAME_down are systematic variations."""

    @property
    def variations(self) -> tuple[str, ...]:
        """Names of the systematic variations of the weight, in the card's order."""
        return tuple(f"{name}_{way}" for name, factor in self.factors.items() for way in factor.directions)

    @model_validator(mode="after")
    def _once(self) -> Weights:
        twice = [name for name, factor in self.factors.items() if factor.nominal in self.branches]
        if twice:
            raise ValueError(f"factors.{twice[0]}.nominal stands in branches too: it would be multiplied twice")
        return self
