"""HTCondor: a submit file with its settings and its list of items; asked by the job folder's name."""

from __future__ import annotations

import json
import logging
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pfnano_tag.card.card import Card
from pfnano_tag.card.jobs import read_report
from pfnano_tag.card.output import write_whole
from pfnano_tag.errors import CardError, OutputError, StudyError
from pfnano_tag.submit.credentials import shipped
from pfnano_tag.submit.engines import Known, State
from pfnano_tag.submit.environment import description_path
from pfnano_tag.submit.jobfolder import JobFolder, template
from pfnano_tag.submit.submission import NoAnswer, Submission, answer, ask

log = logging.getLogger(__name__)

UNSAFE = ',"\n\r$'
"""Signs that HTCondor gives a meaning of their own in lists of files."""
STATES: dict[int, State] = {1: "idle", 2: "running", 5: "held", 6: "running", 7: "idle"}
"""JobStatus: idle, running, held, transferring output, suspended; removed (3) and completed (4) have left."""
REMOVED, HELD = 3, 5
ASKED = (
    "PfnanoItem", "JobStatus", "HoldReason", "HoldReasonCode", "HoldReasonSubCode", "RequestMemory",
    "MemoryProvisioned", "RemoveReason", "LastHoldReasonCode", "LastHoldReasonSubCode", "ExitBySignal", "ExitCode",
    "ExitSignal", "ClusterId",
)  # fmt: skip
MEMORY_HOLDS = ((34, None), (21, 102))
"""Hold codes, with subcode, of jobs that took more memory than they asked for: by cgroups, and by policy."""
TYPO = re.compile(r"the line '(.*)' was unused by condor_submit")


class Condor:
    """HTCondor, through its command-line tools."""

    def write(self, card: Card, job: JobFolder, submission: Submission) -> str:
        """Write the submit file, which holds settings and items; return the command that submits.

        Raises
        ------
        OutputError
            When HTCondor can't name the folders.
        """
        submit = submission.place(job, ".sub")
        items = zip(submission.indices, submission.memory, strict=True)
        lines = "".join(f"  {index}, {memory}\n" for index, memory in items)
        with write_whole(submit) as temporary:
            temporary.write_text(f"{description(card, job)}queue index, memory from (\n{lines})\n", encoding="utf-8")
        return f"condor_submit {shlex.quote(str(submit))}"

    def submit(self, card: Card, job: JobFolder, submission: Submission) -> Submission:
        """Write, check and submit; HTCondor names each submission by the number of its cluster.

        Raises
        ------
        CardError
            When HTCondor does not know a line of `submit.condor`.
        """
        self.write(card, job, submission)
        submit = str(submission.place(job, ".sub"))
        check_lines(submit)
        said = ask(["condor_submit", "-terse", submit])
        return replace(submission, ids=(said.split(".")[0].strip(),))

    def states(self, job: JobFolder) -> Mapping[int, Known]:
        """Return what the queue says of each item, and the history of those that have left it without a report."""
        unseen = Known("idle", "DAGMan has not submitted it yet") if _in_dag(job) else Known("gone")
        found = dict.fromkeys(range(len(job.items)), unseen)
        constraint = f'PfnanoJob == "{job.name}"'
        queue = _ads(ask(["condor_q", "-constraint", constraint, "-json", "-attributes", ",".join(ASKED)]))
        waiting = {int(ad["PfnanoItem"]) for ad in queue}
        lost = [index for index in found if index not in waiting and read_report(job.folder_of(index)) is None]
        for ad in _history(job, constraint) if lost else []:  # oldest first
            found[int(ad["PfnanoItem"])] = _known(ad)
        for index in found.keys() - set(lost):
            found[index] = Known("gone")
        for ad in queue:
            found[int(ad["PfnanoItem"])] = _known(ad)
        return found

    def remove(self, job: JobFolder, indices: Iterable[int]) -> None:
        """Remove items from the queue."""
        chosen = ", ".join(map(str, indices))
        if chosen:
            ask(["condor_rm", "-constraint", f'PfnanoJob == "{job.name}" && member(PfnanoItem, {{{chosen}}})'])


def description(card: Card, job: JobFolder) -> str:
    """Return the submit file without its list of items: settings, template, lines of the site.

    Raises
    ------
    OutputError
        When HTCondor can't name the folders.
    """
    if any(sign in str(job.path) for sign in UNSAFE):
        raise OutputError(f"{job.path}: HTCondor takes no comma, double quote or dollar sign in a folder's name")
    settings = "".join(f"{key} = {value}\n" for key, value in _settings(card, job).items())
    site = "".join(f"{key} = {value}\n" for key, value in card.submit.condor.items())
    text = template("condor/jobs.sub").read_text(encoding="utf-8")
    return f"{settings}\n{text}\n{site}"


def check_lines(submit: str, *values: str) -> None:
    """Let HTCondor read a submit file without submitting it, with values `key=value` for what a DAG gives each node.

    Raises
    ------
    CardError
        When it does not know a line, which it would silently ignore.
    StudyError
        When it is not there, or refuses the file.
    """
    try:
        _, warnings = answer(["condor_submit", "-dry-run", "/dev/null", *values, submit])
    except NoAnswer as error:
        raise StudyError(str(error)) from error  # it has not been given any job yet
    unknown = TYPO.findall(warnings)
    if unknown:
        raise CardError(
            f"submit.condor: HTCondor knows no such line as {'; '.join(unknown)}; expected what condor_submit "
            "takes, or an attribute of your site as `+Name` or `My.Name`"
        )


def _in_dag(job: JobFolder) -> bool:
    """Whether DAGMan is at work on the stage of a chain: it submits the items bit by bit."""
    chain = job.path.name.removesuffix(f"-{job.stage}")
    return (job.path.with_name(chain) / f"{job.stage}.dag.lock").exists()


def _ads(text: str) -> list[dict[str, Any]]:
    return list(json.loads(text)) if text.strip() else []


def _history(job: JobFolder, constraint: str) -> list[dict[str, Any]]:
    """Return jobs that have left the queue, oldest first; none where there is no history to be had."""
    made = json.loads((job.path / "job.json").read_text(encoding="utf-8"))["made"]
    since = f"EnteredCurrentStatus < {int(datetime.fromisoformat(made).timestamp())}"  # the history is read backwards
    options = ["-constraint", constraint, "-since", since, "-json", "-attributes", ",".join(ASKED)]
    try:
        return _ads(ask(["condor_history", *options]))[::-1]
    except StudyError as error:
        log.warning("%s: how jobs ended without a report is not known", error)
        return []


def _known(ad: Mapping[str, Any]) -> Known:
    held, state = ad["JobStatus"] == HELD, STATES.get(ad["JobStatus"], "gone")
    which = "HoldReason" if held else "LastHoldReason"
    code, sub = ad.get(f"{which}Code"), ad.get(f"{which}SubCode")
    short = any(code == known and other in (None, sub) for known, other in MEMORY_HOLDS)
    asked = [memory for key in ("MemoryProvisioned", "RequestMemory") if isinstance(memory := ad.get(key), int)]
    return Known(state, _why(ad), short and (held or ad["JobStatus"] == REMOVED), max(asked, default=0))


def _why(ad: Mapping[str, Any]) -> str:
    """Return why a job is held, or how it ended."""
    if ad["JobStatus"] == HELD:
        return str(ad.get("HoldReason", ""))
    if ad["JobStatus"] == REMOVED:
        return f"removed: {ad.get('RemoveReason', 'no reason given')}"
    if STATES.get(ad["JobStatus"]) is not None:
        return ""
    if ad.get("ExitBySignal"):
        return f"killed by signal {ad.get('ExitSignal', '?')}"
    return f"ended with exit code {ad.get('ExitCode', '?')}"


def _settings(card: Card, job: JobFolder) -> dict[str, str]:
    slot = card.submit.slot(job.stage)
    inputs = [*(str(job.path / name) for name in job.inputs), *map(str, shipped(job.path))]
    environment = card.submit.environment
    if environment is not None and "://" not in environment and Path(environment).expanduser().is_file():
        archive = Path(environment).expanduser().absolute()
        inputs += [str(archive), str(description_path(archive))]
    gpus = {"request_gpus": str(slot.gpus * slot.processes)} if slot.gpus else {}
    return {
        "job": str(job.path),
        "name": job.name,
        "inputs": ", ".join(inputs),
        "cpus": str((slot.cpus or card.resources.threads) * slot.processes),
        "disk": str(slot.disk),
        "max_memory": str(card.submit.max_memory),
        "seconds": str(60 * (slot.time or card.submit.time)),
        "retries": str(card.submit.retries),
        **gpus,
    }
