"""Section `weights`: event weights of simulation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pfnano_tag.card.base import Section
from pfnano_tag.card.expressions import Expression
from pfnano_tag.card.names import sound_names

WAYS = ("up", "down")

Literally = float | int | str


class AnyFactor(Section):
    """What all factors have."""

    datasets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Datasets of simulation that have the factor, by name; null: all."""

    @property
    def directions(self) -> tuple[str, ...]:
        """Variations that there are, of `up` and `down`."""
        return _given(self)

    @property
    def files(self) -> tuple[str, ...]:
        """Files that the factor is read from, beside the events'."""
        return ()


class BranchFactor(AnyFactor):
    """A factor that the file holds, with its variations."""

    kind: Literal["branches"]
    """A factor whose values are branches of events in the file."""

    nominal: str
    """Branch with the factor."""

    up: str | None = None
    """Branch with the factor varied up; null: no such variation."""

    down: str | None = None
    """Branch with the factor varied down; null: no such variation."""


class ExpressionFactor(AnyFactor):
    """A factor worked out from branches."""

    kind: Literal["expression"]
    """A factor that is an expression over branches, one value per event."""

    nominal: Expression
    """Expression for the factor."""

    up: Expression | None = None
    """Expression for the factor varied up; null: no such variation."""

    down: Expression | None = None
    """Expression for the factor varied down; null: no such variation."""


class Profile(Section):
    """A distribution of the mean number of interactions."""

    file: str
    """ROOT file."""

    histogram: str = "pileup"
    """Name of the histogram in the file (one dimension; folders with `/`)."""


class PileupFactor(AnyFactor):
    """Pile-up of simulation made that of data: the ratio of both distributions, each brought to the sum 1."""

    kind: Literal["pileup"]
    """Data over simulation in the true number of interactions, from two histograms."""

    data: Profile
    """Distribution in data."""

    simulation: Profile
    """Distribution in simulation, in the same bins."""

    up: Profile | None = None
    """Distribution in data for the variation up; null: no such variation."""

    down: Profile | None = None
    """Distribution in data for the variation down; null: no such variation."""

    branch: str = "Pileup_nTrueInt"
    """Branch with an event's true number of interactions."""

    @property
    def files(self) -> tuple[str, ...]:
        """Files that the factor is read from, beside the events'."""
        profiles = (self.data, self.simulation, self.up, self.down)
        return tuple(dict.fromkeys(profile.file for profile in profiles if profile is not None))


class Variation(Section):
    """The input of a correction that says which variation is asked for."""

    input: str
    """Name of the input."""

    nominal: int | str = "nominal"
    """Its value for the nominal factor."""

    up: int | str | None = None
    """Its value for the factor varied up; null: no such variation."""

    down: int | str | None = None
    """Its value for the factor varied down; null: no such variation."""


class CorrectionFactor(AnyFactor):
    """A correction of a correctionlib file; of inputs per object, the product over the objects of an event."""

    kind: Literal["correctionlib"]
    """A correction in a JSON file of correctionlib (extra [cms])."""

    file: str
    """JSON file, plain or compressed (`.json.gz`), schema version 2."""

    correction: str
    """Name of the correction, or of the compound correction, in the file."""

    inputs: dict[str, Literally]
    """By name of the correction's input, where its value comes from: an expression over branches or a number; of
    inputs of type string, the text itself."""

    variation: Variation | None = None
    """The input that says which variation is asked for, and its values; null: the correction has no variations."""

    where: Expression | None = None
    """The events, or the objects of events, that are corrected; the factor of others is 1; null: all."""

    outside: Literal["error", "clamp"] = "error"
    """What to do where the correction has no value: stop, or take the value at the edge of its range (counted)."""

    @property
    def directions(self) -> tuple[str, ...]:
        """Variations that there are, of `up` and `down`."""
        return () if self.variation is None else _given(self.variation)

    @property
    def files(self) -> tuple[str, ...]:
        """Files that the factor is read from, beside the events'."""
        return (self.file,)

    @model_validator(mode="after")
    def _said_once(self) -> CorrectionFactor:
        if self.variation is not None and self.variation.input in self.inputs:
            raise ValueError(f"the input {self.variation.input!r} stands in inputs and in variation; say it once")
        return self


Factor = Annotated[
    BranchFactor | CorrectionFactor | PileupFactor | ExpressionFactor,
    Field(discriminator="kind"),
]


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

    @property
    def files(self) -> tuple[str, ...]:
        """Files that factors are read from, each once."""
        return tuple(dict.fromkeys(file for factor in self.factors.values() for file in factor.files))

    _names = field_validator("factors")(sound_names)

    @model_validator(mode="after")
    def _once(self) -> Weights:
        twice = [
            name
            for name, factor in self.factors.items()
            if isinstance(factor, BranchFactor) and factor.nominal in self.branches
        ]
        if twice:
            raise ValueError(f"factors.{twice[0]}.nominal stands in branches too: it would be multiplied twice")
        names = self.variations
        double = [name for name in names if names.count(name) > 1]
        if double:
            raise ValueError(f"factors: two variations would have the name {double[0]!r}; rename a factor")
        return self


def _given(section: Section) -> tuple[str, ...]:
    return tuple(way for way in WAYS if getattr(section, way) is not None)
