"""A chain on SLURM: between the arrays of two stages there is a small job, a link.

A link collects the stage that has ended, makes the job folder of the next, submits its arrays, and submits the next
link to start after them. It starts after jobs that failed, too (`afterany`): the link brings home what there is, and
says in the chain's log what is missing, where SLURM would say `DependencyNeverSatisfied`.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace

from pfnano_tag.card.card import Card
from pfnano_tag.errors import StudyError
from pfnano_tag.submit.chain import Chain
from pfnano_tag.submit.engines import Known
from pfnano_tag.submit.jobfolder import JobFolder, read_job_folder, template
from pfnano_tag.submit.slurm import Slurm, known, sbatch, squeue, words
from pfnano_tag.submit.steps import submission as submitting
from pfnano_tag.submit.submission import Submission


def write(card: Card, chain: Chain) -> str:
    """Write the script of the links; return the command that submits the first."""
    shutil.copy(template("slurm/link.sh"), chain.path / "link.sh")
    return shlex.join(_link(card, chain, None, ()))


def submit(card: Card, chain: Chain) -> str:
    """Submit the first link; stages that are complete are passed over.

    Raises
    ------
    StudyError
        When some of the chain is in the queue, or SLURM is not there, or refuses.
    """
    write(card, chain)
    busy = in_queue(chain)
    if busy:
        told = ", ".join(f"{name} ({now.state})" for name, now in busy.items())
        raise StudyError(f"{chain.path}: is under way: {told}; wait, or take it out of the queue (scancel)")
    with submitting(chain.path):
        number = sbatch(_link(card, chain, None, ()))
    return f"submitted as {number}; `submit status` tells how far it is, and {chain.path / 'log.txt'} what happened"


def stage(card: Card, chain: Chain, job: JobFolder, submission: Submission) -> None:
    """Submit what is to be done of a stage, and the link that comes after it.

    Raises
    ------
    StudyError
        When SLURM refuses.
    """
    if submission.indices:
        submission = Slurm().submit(card, job, submission)
        submission.write(job)
    else:
        submission = replace(submission, ids=())
    sbatch(_link(card, chain, job.stage, submission.ids))


def in_queue(chain: Chain) -> dict[str, Known]:
    """Return which links and which stages' jobs of a chain are in the queue.

    Raises
    ------
    StudyError
        When SLURM is not there, or gives no answer.
    """
    busy = {name: now for name, now in links(chain).items() if now.state != "gone"}
    for stage in chain.stages:
        if chain.job_path(stage).exists():
            states = Slurm().states(read_job_folder(chain.job_path(stage))).values()
            busy |= {f"jobs of {stage}": now for now in states if now.state != "gone"}
    return busy


def links(chain: Chain) -> dict[str, Known]:
    """Return what SLURM still knows of the links of a chain, by name; nothing once it has forgotten them."""
    names = {
        _name(chain, next_of(chain, ended)): f"link to {next_of(chain, ended) or 'the end'}" for ended in _ends(chain)
    }
    rows = squeue(list(names), chain.path.stat().st_uid)
    found = {}
    for name, _, _, state, reason, code in rows:
        found[names[name]] = known(state, reason, int(code) if code.isdigit() else 0)
    return found


def next_of(chain: Chain, ended: str | None) -> str | None:
    """Return the stage behind one; the first behind None, None behind the last."""
    place = 0 if ended is None else chain.stages.index(ended) + 1
    return chain.stages[place] if place < len(chain.stages) else None


def _ends(chain: Chain) -> list[str | None]:
    return [None, *(stage for stage in chain.stages if stage != "compare")]


def _name(chain: Chain, following: str | None) -> str:
    key = hashlib.sha256(str(chain.path).encode()).hexdigest()[:8]
    return f"pfnano_chain.{key}.{following or 'end'}"


def _link(card: Card, chain: Chain, ended: str | None, after: Sequence[str]) -> list[str]:
    following = next_of(chain, ended)
    options = {
        "parsable": "",
        "job-name": _name(chain, following),
        "cpus-per-task": str(card.resources.threads),
        "mem": f"{card.submit.memory}M",
        "time": str(card.submit.time),
        "output": str(chain.path / "links.out").replace("%", "%%"),
        **({"dependency": f"afterany:{':'.join(after)}", "kill-on-invalid-dep": "yes"} if after else {}),
        **card.submit.slurm,
    }
    return ["sbatch", *words(options), str(chain.path / "link.sh"), str(chain.path), ended or "", following or ""]
