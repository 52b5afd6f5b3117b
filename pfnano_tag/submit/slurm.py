"""SLURM: one array task per item."""

from __future__ import annotations

import shlex
import shutil

from pfnano_tag.card.card import Card
from pfnano_tag.card.output import write_whole
from pfnano_tag.submit.jobfolder import JobFolder, template

LONGEST_ARRAY = 1000
"""Tasks of one array; SLURM's own default limit (MaxArraySize) is 1001."""


def write_slurm(card: Card, job: JobFolder) -> str:
    """Write `submit.sh`, which calls sbatch once per thousand items; return the command that submits."""
    shutil.copy(template("slurm/analyze.sh"), job.path / "analyze.sh")
    firsts = range(0, len(job.items), LONGEST_ARRAY)
    commands = [shlex.join(_sbatch(card, job, first)) for first in firsts]
    with write_whole(job.path / "submit.sh") as temporary:
        temporary.write_text("\n".join(["#!/usr/bin/env bash", "set -euo pipefail", *commands, ""]))
    return f"bash {shlex.quote(str(job.path / 'submit.sh'))}"


def _sbatch(card: Card, job: JobFolder, first: int) -> list[str]:
    tasks = min(LONGEST_ARRAY, len(job.items) - first)
    options = {
        "array": f"0-{tasks - 1}",
        "cpus-per-task": str(card.resources.threads),
        "mem": f"{card.submit.memory}M",
        "time": str(card.submit.time),
        "output": str(job.path / "logs" / f"{first}+%a.out"),
        **card.submit.slurm,
    }
    script = [str(job.path / "analyze.sh"), str(job.path), str(job.output), str(first)]
    return ["sbatch", *(f"--{key}={value}" for key, value in options.items()), *script]
