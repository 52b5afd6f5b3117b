"""Scans: one entry of section `models` that stands for several trainings, which differ in some of its keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pfnano_tag.card.base import Section

LARGEST = 1000
"""Trainings of one scan; beyond that a mistyped range is likelier than a wish."""

Values = Annotated[tuple[Any, ...], Field(min_length=1)]


class Range(Section):
    """Where a number is drawn from."""

    low: float
    """Lowest value."""

    high: float
    """Highest value."""

    log: bool = False
    """Draw the logarithm evenly, not the value."""

    whole: bool = False
    """Draw whole numbers, both ends included; else numbers of three digits."""

    @model_validator(mode="after")
    def _not_empty(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must lie below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} has no logarithm: give a positive one, or log: false")
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"low {self.low:g} and high {self.high:g} must be whole numbers with whole: true")
        return self


class Scan(Section):
    """Several trainings of a network, each a model of the study with a name of its own; `grid` or `random`.

    Keys are those of the model, dotted as everywhere: `training.learning_rate`, `arguments.blocks`.
    """

    grid: Annotated[dict[str, Values], Field(min_length=1)] | None = None
    """Values of each key; one training for every combination, named after its values (`part_blocks4_lr1em3`)."""

    random: Annotated[dict[str, Range | Values], Field(min_length=1)] | None = None
    """Range or values of each key, from which each training draws with the study's seed; named by number."""

    trainings: Annotated[int, Field(ge=1, le=LARGEST)] | None = None
    """How many trainings are drawn (random); more leave those that are there as they are."""

    @field_validator("grid", "random", mode="before")
    @classmethod
    def _dotted(cls, keys: Any, info: ValidationInfo) -> Any:
        """Take `training: {learning_rate: ...}` for `training.learning_rate: ...`, as `-s` writes it."""
        if not isinstance(keys, dict):
            return keys
        ranges = info.field_name == "random"
        dotted: dict[str, Any] = {}
        for section, entry in keys.items():
            nested = section in ("training", "arguments") and isinstance(entry, dict)
            for key, choice in entry.items() if nested else [("", entry)]:
                name = f"{section}.{key}" if nested else str(section)
                if name in dotted:
                    raise ValueError(f"{name} stands twice")
                dotted[name] = _choice(name, choice, ranges)
        return dotted

    @model_validator(mode="after")
    def _one_kind(self) -> Scan:
        if (self.grid is None) == (self.random is None):
            raise ValueError("a scan has either grid (all combinations) or random (with trainings: how many)")
        if (self.random is None) != (self.trainings is None):
            need = "random needs trainings: how many" if self.grid is None else "trainings goes with random, not grid"
            raise ValueError(need)
        return self

    @property
    def kind(self) -> Literal["grid", "random"]:
        """Which of the two it is."""
        return "random" if self.grid is None else "grid"


class Scanned(Section):
    """The point of a scan that a model is; the card writes it down itself when it takes a scan apart."""

    scan: str
    """Name in section `models` that the scan had."""

    kind: Literal["grid", "random"]
    """How its values were chosen."""

    values: dict[str, Any]
    """Values of this model by dotted key, as they stand under `arguments` and `training` too."""


def _choice(name: str, choice: Any, ranges: bool) -> Any:
    """Check the form of what a key is scanned over."""
    if isinstance(choice, (list, tuple)) and choice:
        return tuple(choice)
    if ranges and isinstance(choice, dict):
        return choice
    found = "a mapping" if isinstance(choice, dict) else repr(choice)
    also = ", or a range (low, high, log, whole)" if ranges else ""
    raise ValueError(f"{name}: found {found}; expected a list of values, at least one{also}")
