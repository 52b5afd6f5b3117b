"""HTCondor: a submit file beside its settings."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from pfnano_tag.card.card import Card
from pfnano_tag.card.output import write_whole
from pfnano_tag.errors import OutputError
from pfnano_tag.submit.jobfolder import JobFolder, template

UNSAFE = ',"\n\r$'
"""Signs that HTCondor gives a meaning of their own in lists of files."""


def write_condor(card: Card, job: JobFolder) -> str:
    """Write `analyze.sub`, `settings.sub` and `queue.txt`; return the command that submits.

    Raises
    ------
    OutputError
        When HTCondor can't name the folders.
    """
    for path in (job.path, job.output):
        if any(sign in str(path) for sign in UNSAFE):
            raise OutputError(f"{path}: HTCondor takes no comma, double quote or dollar sign in a folder's name")
    job.output.mkdir(parents=True, exist_ok=True)
    shutil.copy(template("condor/analyze.sub"), job.path / "analyze.sub")
    with write_whole(job.path / "settings.sub") as temporary:
        temporary.write_text("".join(f"{key} = {value}\n" for key, value in _settings(card, job).items()))
    with write_whole(job.path / "queue.txt") as temporary:
        temporary.write_text("".join(f"{item.index}, {item.dataset}\n" for item in job.items))
    return f"cd {shlex.quote(str(job.path))} && condor_submit analyze.sub"


def _settings(card: Card, job: JobFolder) -> dict[str, str]:
    inputs = [str(job.path / name) for name in job.inputs]
    if card.submit.environment is not None:
        inputs.append(str(Path(card.submit.environment).absolute()))
    return {
        "job": str(job.path),
        "study": str(job.output.parent),
        "inputs": ", ".join(inputs),
        "threads": str(card.resources.threads),
        "memory": str(card.submit.memory),
        "disk": str(card.submit.disk),
        "minutes": str(card.submit.time),
        **card.submit.condor,
    }
