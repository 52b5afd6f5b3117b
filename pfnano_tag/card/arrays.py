"""Section `arrays`: columns of jets that the data/MC job writes beside its histograms."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pfnano_tag.card.base import Section
from pfnano_tag.card.expressions import Expression
from pfnano_tag.card.names import sound_names

ArrayFormat = Literal["parquet", "root"]
ColumnName = Annotated[str, Field(min_length=1)]


class Arrays(Section):
    """One row per jet that some region fills, for studies of correlations; off by default."""

    format: ArrayFormat | Literal["none"] = "none"
    """File beside the job's output: `parquet` (`H.root.jets.parquet`, extra `[tables]`), `root` (a tree `Jets` in
    `H.root.jets.root`), or none."""

    columns: tuple[ColumnName, ...] = ("*",)
    """Columns by name, or patterns such as `*_BvsL`: `jet_pt`, `jet_eta`, `jet_phi`, `input_jet_NAME`,
    `stored_BRANCH`, `MODEL_NODE`, `MODEL_DISCRIMINANT`, and expressions. Identity of event and jet, regions, weight
    and flavour are always there."""

    variants: tuple[str, ...] = ()
    """Of `histograms.variants`: the chosen scores under attack too, as `MODEL_NODE__VARIANT`."""

    weight_variations: tuple[str, ...] | Literal["all"] = ()
    """Variations of the factors in `weights.factors` (`NAME_up`): varied weights too, as `weight__NAME_up`
    (simulation)."""

    expressions: dict[str, Expression] = Field(default_factory=dict)
    """Further columns by name: one value per jet or per event, beside those of `histograms.expressions`."""

    _names = field_validator("expressions")(sound_names)

    @model_validator(mode="after")
    def _something_is_written(self) -> Arrays:
        if self.format == "none":
            for name, key in type(self).model_fields.items():
                if getattr(self, name) != key.get_default(call_default_factory=True):
                    raise ValueError(f"{name} has no effect: nothing is written with format none")
        return self
