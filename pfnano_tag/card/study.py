"""Section `study`: the name, the output folder and the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from pfnano_tag.card.base import Section


class Study(Section):
    """One card, one output folder."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    """Name of the study: letters, digits, `_`, `.`, `-`; not beginning with `.` or `-`."""

    folder: Path = Path()
    """Folder of all outputs, relative to where the command runs [default: `study.name`]."""

    origin: Path | None = None
    """Folder that `{study.folder}` in the names of files stands for; null: the study's folder. A batch job, whose
    study's folder is its own, sets it."""

    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1
    """Seed of everything that is drawn at random."""

    @model_validator(mode="before")
    @classmethod
    def _folder_is_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("folder") is None and "name" in values:
            return {**values, "folder": str(values["name"])}
        return values
