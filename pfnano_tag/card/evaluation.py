"""Section `evaluation`: performance in simulation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pfnano_tag.card.base import Section

DiscriminantName = Literal["BvsL", "CvsB", "CvsL", "BvsC", "QvsG"]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Evaluation(Section):
    """Discriminants, working points and errors."""

    discriminants: Annotated[tuple[DiscriminantName, ...], Field(min_length=1)] = ("BvsL", "CvsB", "CvsL")
    """Discriminants that are evaluated."""

    mistags: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.1, 0.01, 0.001)
    """Mistag rates of the loose, medium and tight working points."""

    replicas: Annotated[int, Field(ge=0)] = 50
    """Bootstrap replicas, by event, for the errors of AUC and efficiencies."""

    bins: Annotated[int, Field(ge=2)] = 50
    """Bins of the shapes."""
