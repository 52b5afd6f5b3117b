"""Section `datasets`: files, what they are, and how they are normalised."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pfnano_tag.card.base import Section

Role = Literal["train", "analyze"]


class Dataset(Section):
    """Files of one process (simulation) or of one primary dataset (data)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    """Name of the dataset; part of the hash that splits its events."""

    files: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files, globs, `.txt` lists or `root://` addresses; replicas of a file with ` | ` between them;
    `{study.folder}` stands for the study's folder."""

    kind: Literal["mc", "data"]
    """Simulation (`mc`) or collision data (`data`)."""

    cross_section: Annotated[float, Field(gt=0)] | None = None
    """Cross section [pb], branching fraction and filter efficiency included (simulation in data/MC)."""

    roles: Annotated[tuple[Role, ...], Field(min_length=1)] = ("train", "analyze")
    """`train`: prepared, trained and evaluated on; `analyze`: enters data/MC comparisons."""

    luminosity: Annotated[float, Field(gt=0)] | None = None
    """Integrated luminosity [1/fb] (data in data/MC)."""

    lumi_mask: str | None = None
    """JSON file of certified luminosity sections (data)."""

    period: Annotated[str, Field(min_length=1)] | None = None
    """Period that the data are of: datasets of one period have one and the same luminosity, which counts once (data);
    null: a period of its own."""

    triggers: tuple[str, ...] = ()
    """Trigger paths of the primary dataset: an event enters if it fired one of them; a trailing `?` marks those that
    may be missing in some files; empty: all events enter (data)."""

    vetoes: tuple[str, ...] = ()
    """Trigger paths of other primary datasets of the period: an event that fired one of them is taken from there, not
    from here; `?` as for `triggers` (data)."""

    @field_validator("files", "roles", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _kind_fits(self) -> Dataset:
        if self.kind == "data":
            if self.cross_section is not None:
                raise ValueError("data has no cross_section; give its luminosity [1/fb]")
            if self.roles != ("analyze",):
                raise ValueError("data has no truth to train on: set roles: [analyze]")
            if self.luminosity is None:
                raise ValueError("data needs its luminosity [1/fb]")
            if self.vetoes and self.period is None:
                raise ValueError("vetoes leave events to other datasets of a period: name the period of all of them")
            both = plain(self.triggers) & plain(self.vetoes)
            if both:
                raise ValueError(
                    f"triggers and vetoes both have {', '.join(sorted(both))}: no event would enter by it"
                )
        else:
            if self.luminosity is not None or self.lumi_mask is not None:
                raise ValueError("luminosity and lumi_mask belong to datasets of kind data")
            if self.period is not None or self.triggers or self.vetoes:
                raise ValueError(
                    "period, triggers and vetoes belong to datasets of kind data; simulation passes the triggers of "
                    "its regions"
                )
            if "analyze" in self.roles and self.cross_section is None:
                raise ValueError("simulation in data/MC needs its cross_section [pb] (or set roles: [train])")
        return self


def plain(paths: tuple[str, ...]) -> set[str]:
    """Return trigger paths without the mark of optional ones."""
    return {path.removesuffix("?") for path in paths}
