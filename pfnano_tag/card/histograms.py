"""Section `histograms`: what the data/MC job fills."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pfnano_tag.card.base import Section
from pfnano_tag.card.evaluation import DiscriminantName


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

    @field_validator("stored", "inputs")
    @classmethod
    def _no_empty_names(cls, names: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if isinstance(names, tuple) and any(not name for name in names):
            raise ValueError("an empty name is no branch")
        return names
