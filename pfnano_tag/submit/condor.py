"""HTCondor: a submit file with its settings and its list of items; asked by the job folder's name."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pfnano_tag.card.card import Card
from pfnano_tag.card.output import write_whole
from pfnano_tag.errors import OutputError
from pfnano_tag.submit.engines import Known, State
from pfnano_tag.submit.environment import description_path
from pfnano_tag.submit.jobfolder import JobFolder, template
from pfnano_tag.submit.submission import Submission, ask

UNSAFE = ',"\n\r$'
"""Signs that HTCondor gives a meaning of their own in lists of files."""
STATES: dict[int, State] = {1: "idle", 2: "running", 5: "held", 6: "running", 7: "idle"}
"""JobStatus: idle, running, held, transferring output, suspended; removed (3) and completed (4) have left."""
ASKED = ("PfnanoItem", "JobStatus", "HoldReason", "HoldReasonCode", "HoldReasonSubCode", "RequestMemory")
MEMORY_HOLDS = ((34, None), (21, 102))
"""Hold codes, with subcode, of jobs that took more memory than they asked for: by cgroups, and by policy."""


class Condor:
    """HTCondor, through its command-line tools."""

    def write(self, card: Card, job: JobFolder, submission: Submission) -> str:
        """Write submit file, settings and list of items; return the command that submits.

        Raises
        ------
        OutputError
            When HTCondor can't name the folders.
        """
        if any(sign in str(job.path) for sign in UNSAFE):
            raise OutputError(f"{job.path}: HTCondor takes no comma, double quote or dollar sign in a folder's name")
        submit = submission.place(job, ".sub")
        submit.parent.mkdir(exist_ok=True)
        shutil.copy(template("condor/jobs.sub"), submit)
        settings, queue = submission.place(job, ".settings"), submission.place(job, ".queue")
        head = {"settings": str(settings), "queue": str(queue)}
        text = submit.read_text(encoding="utf-8")
        submit.write_text("".join(f"{key} = {value}\n" for key, value in head.items()) + text, encoding="utf-8")
        with write_whole(settings) as temporary:
            lines = (f"{key} = {value}\n" for key, value in _settings(card, job).items())
            temporary.write_text("".join(lines), encoding="utf-8")
        pairs = zip(submission.indices, submission.memory, strict=True)
        with write_whole(queue) as temporary:
            temporary.write_text("".join(f"{index}, {memory}\n" for index, memory in pairs), encoding="utf-8")
        return f"condor_submit {shlex.quote(str(submit))}"

    def submit(self, card: Card, job: JobFolder, submission: Submission) -> Submission:
        """Write and submit; HTCondor names each submission by the number of its cluster."""
        self.write(card, job, submission)
        said = ask(["condor_submit", "-terse", str(submission.place(job, ".sub"))])
        return replace(submission, ids=(said.split(".")[0].strip(),))

    def states(self, job: JobFolder) -> Mapping[int, Known]:
        """Return what the queue, and the history for what has left it, say of each item."""
        constraint = ["-constraint", f'PfnanoJob == "{job.name}"', "-json", "-attributes", ",".join(ASKED)]
        found = {index: Known("gone") for index in range(len(job.items))}
        for ad in _ads(ask(["condor_q", *constraint])):
            found[int(ad["PfnanoItem"])] = _known(ad)
        return found

    def remove(self, job: JobFolder, indices: Iterable[int]) -> None:
        """Remove items from the queue."""
        chosen = ", ".join(map(str, indices))
        if chosen:
            ask(["condor_rm", "-constraint", f'PfnanoJob == "{job.name}" && member(PfnanoItem, {{{chosen}}})'])


def _ads(text: str) -> list[dict[str, Any]]:
    return list(json.loads(text)) if text.strip() else []


def _known(ad: Mapping[str, Any]) -> Known:
    code, sub = ad.get("HoldReasonCode"), ad.get("HoldReasonSubCode")
    short = any(code == known and other in (None, sub) for known, other in MEMORY_HOLDS)
    memory = ad.get("RequestMemory")
    return Known(
        STATES.get(ad["JobStatus"], "gone"),
        str(ad.get("HoldReason", "")),
        ad["JobStatus"] == 5 and short,
        memory if isinstance(memory, int) else 0,
    )


def _settings(card: Card, job: JobFolder) -> dict[str, str]:
    slot = card.submit.slot(job.stage)
    inputs = [str(job.path / name) for name in job.inputs]
    environment = card.submit.environment
    if environment is not None and "://" not in environment and Path(environment).is_file():
        archive = Path(environment).absolute()
        inputs += [str(archive), str(description_path(archive))]
    gpus = {"request_gpus": str(slot.gpus * slot.processes)} if slot.gpus else {}
    return {
        "job": str(job.path),
        "name": job.name,
        "inputs": ", ".join(inputs),
        "cpus": str((slot.cpus or card.resources.threads) * slot.processes),
        "disk": str(slot.disk),
        "max_memory": str(card.submit.max_memory),
        "minutes": str(slot.time),
        "retries": str(card.submit.retries),
        **gpus,
        **card.submit.condor,
    }
