"""Section `labels`: the flavour classes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pfnano_tag.card.base import Section

Flavour = Literal["b", "bb", "lepb", "c", "uds", "g"]
FLAVOURS: tuple[Flavour, ...] = ("b", "bb", "lepb", "c", "uds", "g")


class Labels(Section):
    """Flavour classes, in the order of the network's outputs."""

    classes: Annotated[tuple[Flavour, ...], Field(min_length=2)] = FLAVOURS
    """Classes; when left out, `bb` and `lepb` merge into `b`, `g` into `uds`. The others can't be left out."""

    @model_validator(mode="after")
    def _complete(self) -> Labels:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"a class is named twice in {list(self.classes)}")
        missing = {"b", "c", "uds"} - set(self.classes)
        if missing:
            raise ValueError(
                f"{sorted(missing)} missing: only bb, lepb (they merge into b) and g (into uds) may be left out"
            )
        return self
