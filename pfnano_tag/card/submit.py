"""Section `submit`: resources of batch jobs, and what a site wants to hear."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from pfnano_tag.card.base import Section


class Submit(Section):
    """What a batch job asks for; defaults fit opportunistic slots."""

    memory: Annotated[int, Field(ge=100)] = 2000
    """Memory of a data/MC job [MB]."""

    disk: Annotated[int, Field(ge=100)] = 4000
    """Scratch space of a job, an unpacked environment included [MB]."""

    time: Annotated[int, Field(ge=1)] = 120
    """Longest run time of a job [minutes]."""

    environment: str | None = None
    """Packed environment (`scripts/pack_env.sh`) that a job unpacks; null: the submitting Python, by path."""

    condor: dict[str, str] = Field(default_factory=dict)
    """Further lines of the HTCondor submit file, say `+JobFlavour: '"workday"'`."""

    slurm: dict[str, str] = Field(default_factory=dict)
    """Further options of sbatch, without dashes, say `partition: short`."""

    @field_validator("condor", "slurm")
    @classmethod
    def _one_line_each(cls, lines: dict[str, str]) -> dict[str, str]:
        for key, value in lines.items():
            if not key or any(sign in key + value for sign in "\n\r"):
                raise ValueError(f"{key!r}: a key and a value of one line each are needed")
        return lines
