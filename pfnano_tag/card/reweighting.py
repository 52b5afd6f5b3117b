"""Section `reweighting`: the jets' training weights in bins of pT and eta."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Field, field_validator

from pfnano_tag.card.base import Section
from pfnano_tag.card.labels import Flavour

Edges = Annotated[tuple[float, ...], Field(min_length=2)]


class Reweighting(Section):
    """Weights that make the classes alike in pT and eta, and in number."""

    pt_edges: Edges = (15, 20, 26, 35, 46, 61, 80, 106, 141, 186, 247, 326, 432, 571, 756, 1001)
    """Bin edges in pT [GeV]."""

    eta_edges: Edges = (-2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
    """Bin edges in eta; the last bin includes its upper edge."""

    target: Literal["average", "flat", "reference"] = "average"
    """Shape that every class is brought to: average of the classes, flat, or the `reference` class."""

    reference: Flavour = "b"
    """Class whose shape is the target (`target: reference`)."""

    correct: Literal["kinematics", "balance", "both", "none"] = "both"
    """Correct the shape in (pT, eta), the class imbalance, both, or nothing."""

    cap_quantile: Annotated[float, Field(gt=0, le=1)] = 0.995
    """Weights of a class above this quantile of its training jets' weights are capped."""

    @field_validator("pt_edges", "eta_edges")
    @classmethod
    def _rising(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in itertools.pairwise(edges)):
            raise ValueError(f"bin edges must rise, not {list(edges)}")
        return edges
