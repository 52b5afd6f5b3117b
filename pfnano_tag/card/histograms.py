"""Section `histograms`: what the data/MC job fills."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pfnano_tag.card.base import Section
from pfnano_tag.card.evaluation import DiscriminantName
from pfnano_tag.card.expressions import Expression
from pfnano_tag.card.names import sound_names

PairQuantity = DiscriminantName | Literal["jet_pt", "jet_eta"]
Bins = Annotated[int, Field(ge=2)] | Annotated[tuple[float, ...], Field(min_length=3)]


class ExpressionAxis(Section):
    """A variable made of branches, and its bins."""

    expression: Expression
    """Arithmetic over branches: one value per event, per jet, or per object of another collection."""

    bins: Annotated[int, Field(ge=1)] = 50
    """Bins of equal width."""

    range: tuple[float, float]
    """Ends of the axis."""

    label: str = ""
    """Name on the axis (LaTeX) [default: the expression]."""

    unit: str = ""
    """Unit on the axis."""

    @field_validator("range")
    @classmethod
    def _rising(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not ends[0] < ends[1]:
            raise ValueError(f"must rise, not {list(ends)}")
        return ends


class Histograms(Section):
    """Variables, variants and the taggers stored in the files."""

    inputs: tuple[str, ...] | Literal["all", "none"] = "all"
    """Inputs (`group/name`) to histogram, nominal and attacked; `all`: those of the networks."""

    outputs: bool = True
    """Histogram the networks' output nodes."""

    discriminants: tuple[DiscriminantName, ...] = ("BvsL", "CvsB", "CvsL")
    """Discriminants of the networks."""

    stored: tuple[str, ...] | Literal["all", "none"] = "all"
    """Jet branches of taggers stored in the files (`Jet_btag...`); `all`: the known ones that a file has."""

    variants: tuple[str, ...] = ()
    """Names in section `attacks`: each network sees these variants of its inputs beside the nominal ones."""

    systematics_of_variants: bool = False
    """Fill the systematic variations for attacked inputs too, not only for nominal ones."""

    bins: Annotated[int, Field(ge=2)] = 50
    """Bins of scores and discriminants in 0 to 1."""

    expressions: dict[str, ExpressionAxis] = Field(default_factory=dict)
    """Variables of the user's own by name. A value per event is filled for selected events, one per jet for the jets
    that a region fills, one per object of another collection for all objects of selected events."""

    pairs: tuple[tuple[PairQuantity, PairQuantity], ...] = ()
    """Two-dimensional histograms: discriminants of the networks, `jet_pt`, `jet_eta`, in twos."""

    pair_bins: dict[PairQuantity, Bins] = Field(default_factory=dict)
    """Bins of a quantity in `pairs`: how many, or their edges (pT [GeV]), in all its pairs alike [default: 20 for a
    discriminant, 9 in pT, 10 in eta]. A score that is not defined has a bin of its own."""

    @field_validator("stored", "inputs")
    @classmethod
    def _no_empty_names(cls, names: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if isinstance(names, tuple) and any(not name for name in names):
            raise ValueError("an empty name is no branch")
        return names

    _names = field_validator("expressions")(sound_names)

    @field_validator("pairs")
    @classmethod
    def _two_each_once(cls, pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        for index, pair in enumerate(pairs):
            if pair[0] == pair[1]:
                raise ValueError(f"{list(pair)}: a pair is of two quantities")
            if set(pair) in [set(other) for other in pairs[:index]]:
                raise ValueError(f"{list(pair)}: the pair stands there twice")
        return pairs

    @field_validator("pair_bins")
    @classmethod
    def _rising(cls, bins: dict[str, int | tuple[float, ...]]) -> dict[str, int | tuple[float, ...]]:
        for quantity, edges in bins.items():
            if isinstance(edges, int):
                continue
            if any(low >= high for low, high in pairwise(edges)):
                raise ValueError(f"{quantity}: edges must rise, not {list(edges)}")
            if not quantity.startswith("jet_") and (edges[0], edges[-1]) != (0.0, 1.0):
                raise ValueError(
                    f"{quantity}: edges of a discriminant go from 0 to 1, not {edges[0]:g} to {edges[-1]:g}"
                )
        return bins

    @model_validator(mode="after")
    def _bins_are_used(self) -> Histograms:
        unused = [quantity for quantity in self.pair_bins if not any(quantity in pair for pair in self.pairs)]
        if unused:
            raise ValueError(f"pair_bins.{unused[0]} has no effect: no pair in `pairs` has {unused[0]}")
        return self
