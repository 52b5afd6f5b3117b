"""Section `jets`: which jets are looked at, in training and in data/MC alike."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pfnano_tag.card.base import Section


class Jets(Section):
    """Acceptance of the jets."""

    collection: Literal["Jet"] = "Jet"
    """Jet collection of the files."""

    pt: tuple[float, float] = (20.0, 1000.0)
    """Range of the transverse momentum, both ends included [GeV]."""

    abs_eta: Annotated[float, Field(gt=0)] = 2.5
    """Upper end of abs(eta), included."""

    lepton_overlap: Annotated[float, Field(ge=0)] = 0.4
    """Jets closer than this to an isolated lepton are dropped (Delta R; 0: none are)."""

    @model_validator(mode="after")
    def _range(self) -> Jets:
        if not 0 <= self.pt[0] < self.pt[1]:
            raise ValueError(f"pt must be a range of two rising numbers, not {list(self.pt)}")
        return self
