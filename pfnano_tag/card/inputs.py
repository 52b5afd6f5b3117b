"""Section `inputs`: what the networks see."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pfnano_tag.card.base import Section

Cap = Annotated[int, Field(ge=1, le=1000)]


class Caps(Section):
    """Constituents kept per jet and group, the most displaced first."""

    charged: Cap = 25
    """Charged candidates."""

    neutral: Cap = 25
    """Neutral candidates."""

    sv: Cap = 5
    """Secondary vertices."""


class Inputs(Section):
    """Input set and truncation."""

    set: Literal["constituents", "deepjet"] = "constituents"
    """`constituents`: all derivable from candidate collections; `deepjet`: adds the `Jet_DeepCSV_*` globals."""

    features: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Inputs (`group/name`) instead of those of a set, in this order within a group; null: all of the set."""

    caps: Caps = Caps()
    """Constituents kept per jet and group."""

    candidate_pt: Annotated[float, Field(ge=0)] = 0.95
    """Lowest transverse momentum of a candidate [GeV]."""

    droppable: tuple[str, ...] = ()
    """Features (`group/name`) that may be missing in a file and are then filled with their default."""
