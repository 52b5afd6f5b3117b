"""A chain on HTCondor: a DAG whose nodes are the stages, each a DAG of its own with a node per item.

A stage's DAG is written by its PRE script, when its turn comes; its POST script collects and merges. Items are nodes,
not one cluster: DAGMan would remove all of a cluster with the first item that fails. `compare` is the final node,
which runs whatever became of the others, on the submit machine, as no disk is shared. What an item did is known from
its report, so a chain that is submitted again does what is missing, and DAGMan's own rescue files are not needed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from pfnano_tag.card.card import Card
from pfnano_tag.card.output import write_whole
from pfnano_tag.errors import StudyError
from pfnano_tag.submit.chain import Chain
from pfnano_tag.submit.condor import check_lines, description
from pfnano_tag.submit.jobfolder import JobFolder
from pfnano_tag.submit.steps import submission as submitting
from pfnano_tag.submit.submission import Submission, ask

DAG, NOTHING, CONFIG = "chain.dag", "nothing.sub", "dagman.config"
"""File names without blanks, as DAGMan takes no others; DAGMan runs in the chain's folder."""
SCHEDULER = 7
"""Universe of jobs that run beside the queue itself, as DAGMan does."""


def write(card: Card, chain: Chain) -> str:
    """Write the DAG of the stages; return the command that submits it."""
    with write_whole(chain.path / DAG) as temporary:
        temporary.write_text("\n".join([*_stages(chain), ""]), encoding="utf-8")
    with write_whole(chain.path / NOTHING) as temporary:
        temporary.write_text("universe = vanilla\nexecutable = /bin/true\nqueue\n", encoding="utf-8")
    with write_whole(chain.path / CONFIG) as temporary:  # a folder below /tmp is no reason to abort
        temporary.write_text("DAGMAN_USE_STRICT = 0\n", encoding="utf-8")
    return f"(cd {shlex.quote(str(chain.path))} && {shlex.join(_command(chain))})"


def submit(card: Card, chain: Chain) -> str:
    """Submit the DAG; return what to tell the user.

    Raises
    ------
    StudyError
        When the chain is running, HTCondor is not there, or refuses.
    """
    if in_queue(chain):
        raise StudyError(f"{chain.path}: is running already: its DAGMan is in the queue")
    write(card, chain)
    with submitting(chain.path):
        said = ask(_command(chain), cwd=chain.path)
    found = re.search(r"cluster (\d+)", said)
    number = found[1] if found else "unknown number"
    return f"submitted as {number}; `submit status` tells how its jobs are, `condor_rm {number}` ends it"


def in_queue(chain: Chain) -> bool:
    """Return whether the DAGMan of a chain is in the queue.

    Raises
    ------
    StudyError
        When HTCondor is not there, or gives no answer.
    """
    constraint = f'JobUniverse == {SCHEDULER} && Iwd == "{chain.path}"'
    return bool(ask(["condor_q", "-constraint", constraint, "-af", "ClusterId"]).strip())


def stage(card: Card, chain: Chain, job: JobFolder, submission: Submission) -> None:
    """Write the DAG of a stage's items that are still to be done.

    Raises
    ------
    CardError
        When HTCondor does not know a line of `submit.condor`.
    """
    submit_file = submission.place(job, ".sub")
    with write_whole(submit_file) as temporary:
        temporary.write_text(f"{description(card, job)}queue\n", encoding="utf-8")
    name = f"../{submit_file.relative_to(chain.path.parent)}"
    lines = []
    for index, memory in zip(submission.indices, submission.memory, strict=True):
        lines += [f"JOB item{index} {name}", f'VARS item{index} index="{index}" memory="{memory}"']
    with write_whole(chain.path / f"{job.stage}.dag") as temporary:
        temporary.write_text("\n".join([*(lines or [f"JOB nothing {NOTHING} NOOP"]), ""]), encoding="utf-8")
    for left in chain.path.glob(f"{job.stage}.dag.*"):  # of an earlier run, which would be gone on with
        left.unlink()
    check_lines(str(submit_file), "index=0", f"memory={card.submit.memory}")


def _command(chain: Chain) -> list[str]:
    return ["condor_submit_dag", "-force", "-maxidle", "0", "-batch-name", chain.path.name, DAG]


def _stages(chain: Chain) -> Iterator[str]:
    yield f"# Stages of a chain, written by `submit chain`: {', '.join(chain.stages)}"
    yield f"CONFIG {CONFIG}"
    for stage in chain.stages:
        if stage != "compare":
            yield f"SUBDAG EXTERNAL {stage} {stage}.dag"
            yield f"SCRIPT PRE {stage} chain.sh before {stage}"
            yield f"SCRIPT POST {stage} chain.sh after {stage}"
            before = chain.before(stage)
            if before is not None:
                yield f"PARENT {before} CHILD {stage}"
        else:
            yield f"{'FINAL' if len(chain.stages) > 1 else 'JOB'} compare {NOTHING} NOOP"
            yield "SCRIPT PRE compare chain.sh before compare"
