"""A chain: stages of a study one after the other, each submitted when the one before it has ended.

Jobs of `analyze` need checkpoints, and jobs of `train` the numbers of `prepare`, that are not there when the chain is
submitted. So a chain is a folder, `jobs/chain-0001` of the study, with a script for the submit machine, `chain.sh`:

  chain.sh before STAGE   makes the stage's job folder, `jobs/chain-0001-STAGE`; `compare` is done here and now
  chain.sh after STAGE    collects its results, and merges them (`generate`: the manifest; `prepare`)

This machine calls them one after the other, HTCondor from a DAG (`dag`), SLURM from jobs between the arrays
(`dependencies`). Both may be called again: what is there is kept, and only what is missing is done.
"""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pfnano_tag.card.card import Card
from pfnano_tag.card.command import exit_code_of
from pfnano_tag.card.jobs import collect_results, read_report
from pfnano_tag.card.output import write_json
from pfnano_tag.card.reading import read_card
from pfnano_tag.card.showing import resolved_yaml
from pfnano_tag.errors import EXIT_COMPLETE, CardError, Incomplete, OutputError, StudyError, UserError
from pfnano_tag.submit.chain_plan import USUAL, models_of, planned
from pfnano_tag.submit.chain_script import write_script
from pfnano_tag.submit.credentials import check_credentials
from pfnano_tag.submit.grouping import grouping_of
from pfnano_tag.submit.jobfolder import JobFolder, next_folder, read_job_folder, remove_folder, write_job_folder
from pfnano_tag.submit.local import run_local
from pfnano_tag.submit.split import items_of
from pfnano_tag.submit.steps import note
from pfnano_tag.submit.submission import NoAnswer, Submission, next_submission, submissions_of

log = logging.getLogger(__name__)

FORMAT, FORMAT_VERSION = "pfnano_tag chain", 1
NAMED = 5
"""Items that a message names."""


@dataclass(frozen=True)
class Chain:
    """A chain of stages.

    Parameters
    ----------
    path : Path
        Its folder, absolute.
    backend : str
        Where the jobs run.
    stages : tuple of str
        Some of `chain_plan.STAGES`, in their order.
    models : tuple of str or None
        Networks that are trained and applied; None: all of the card.
    """

    path: Path
    backend: str
    stages: tuple[str, ...]
    models: tuple[str, ...] | None

    def job_path(self, stage: str) -> Path:
        """Return where the job folder of a stage is, or will be."""
        return self.path.with_name(f"{self.path.name}-{stage}")

    def before(self, stage: str) -> str | None:
        """Return the stage before a stage; None for the first."""
        position = self.stages.index(stage)
        return self.stages[position - 1] if position else None


class Driver(Protocol):
    """What calls the steps of a chain: a module with these functions."""

    def write(self, card: Card, chain: Chain) -> str:
        """Write what the batch system reads; return the command that submits, for people."""

    def submit(self, card: Card, chain: Chain) -> str:
        """Hand the chain over; return what to tell the user."""

    def stage(self, card: Card, chain: Chain, job: JobFolder, submission: Submission) -> None:
        """Write, or submit, what is still to be done of a stage whose job folder has just been made."""


def make_chain(card: Card, backend: str, stages: Sequence[str] = USUAL, models: Sequence[str] | None = None) -> Chain:
    """Make the folder of a chain: card, script, and what it consists of.

    Parameters
    ----------
    card : Card
        The study's card; the chain keeps a copy.
    backend : str
        condor, slurm or local.
    stages : sequence of str
        Some of `chain_plan.STAGES`, in any order.
    models : sequence of str or None
        Networks or scans that are trained and applied.

    Raises
    ------
    CardError
        When a stage is unknown.
    UserError
        When it is known by now that a stage will have nothing to do, or a model is there already.
    """
    check_credentials(card)
    counts = planned(card, stages, models)
    ordered = tuple(counts)
    collect_results(card)
    place = card.folder.absolute() / "jobs"
    path = next_folder(place, "chain")
    chain = Chain(path, backend, ordered, None if models is None else tuple(models))
    taken = [folder for stage in ordered if (folder := chain.job_path(stage)).exists()]
    if taken:
        raise OutputError(f"{taken[0]}: is there already, without its chain; move it away")
    try:
        place.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=place))
    except OSError as error:
        raise OutputError(f"{path}: can't be made: {error.strerror}") from error
    try:
        elsewhere = card.model_copy(update={"site": None})  # its keys are filled in
        (made / "card.yaml").write_text(resolved_yaml(elsewhere), encoding="utf-8")
        write_script(made / "chain.sh")
        about = {"stages": list(ordered), "models": None if models is None else list(models), "backend": backend}
        write_json(made / "chain.json", {"format": FORMAT, "version": FORMAT_VERSION, **about})
        made.chmod(0o755)
        made.rename(path)
    except OSError as error:
        raise OutputError(f"{path}: can't be written: {error.strerror}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return chain


def read_chain(path: Path) -> Chain:
    """Return a chain that is there.

    Raises
    ------
    StudyError
        When it is none, or of another version.
    """
    try:
        about = json.loads((path / "chain.json").read_text(encoding="utf-8"))
        if (about["format"], about["version"]) != (FORMAT, FORMAT_VERSION):
            raise StudyError(f"{path}: chain of version {about['version']}, expected {FORMAT_VERSION}; make it again")
        models = about["models"]
        return Chain(
            path.resolve(), about["backend"], tuple(about["stages"]), None if models is None else tuple(models)
        )
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no chain: it has no {Path(error.filename).name}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path}: can't be read as a chain: {error}") from error


def open_stage(card: Card, chain: Chain, stage: str) -> tuple[JobFolder, Submission]:
    """Return the job folder of a stage, made if need be, and a submission of its items that are not complete.

    Raises
    ------
    Incomplete
        When the stage before it is not complete (`compare` takes what is there).
    UserError
        When something that the jobs need is missing.
    """
    _require(chain, chain.before(stage))
    path = chain.job_path(stage)
    if path.exists():
        job = read_job_folder(path)
    else:
        items = items_of(card, stage, (), models_of(stage, chain.models), grouping_of(card, stage))
        job = write_job_folder(card, stage, chain.backend, items, path, chain.models)
    open_items = incomplete(job)
    memory = card.submit.slot(stage).memory or card.submit.memory
    before = submissions_of(job)
    if before and set(before[-1].indices) == set(open_items) and not before[-1].ids:
        return job, before[-1]  # a step that is called again
    submission = next_submission(job, open_items, [memory] * len(open_items))
    submission.write(job)
    return job, submission


def close_stage(card: Card, chain: Chain, stage: str) -> None:
    """Collect the results of a stage, and merge them where the next stage needs that.

    Raises
    ------
    Incomplete
        When items are not complete; what there is has been collected.
    """
    collect_results(card)
    job = read_job_folder(chain.job_path(stage))
    missing = incomplete(job)
    if missing:
        names = "; ".join(_told(job, index) for index in missing[:NAMED])
        more = f"; and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise Incomplete(
            f"{stage}: {len(missing)} of {len(job.items)} items of {job.path} are not complete: {names}{more}; "
            "`submit status` tells why; `submit chain --folder "
            f"{shlex.quote(str(chain.path))}` goes on with them"
        )
    if stage == "generate":
        # all files are there, so this writes the manifest; a command of its own, as no stage imports the generator
        command = [sys.executable, "-m", "pfnano_tag.generate", str(chain.path / "card.yaml")]
        if subprocess.run(command, check=False).returncode != EXIT_COMPLETE:
            raise StudyError(f"{chain.path}: generate could not write its manifest, see above")
    if stage == "prepare":
        from pfnano_tag.prepare.stage import run_merge

        run_merge(card)


def compare(card: Card, chain: Chain) -> None:
    """Compare data with simulation, with all results that there are.

    Raises
    ------
    Incomplete
        When files or chunks are missing, or the chain has not come to `analyze`.
    """
    from pfnano_tag.compare import stage

    if "analyze" in chain.stages and not chain.job_path("analyze").exists():
        raise Incomplete(f"{chain.path}: has not come to analyze, so there is nothing new to compare")
    stage.run(card)


def run_here(card: Card, chain: Chain, processes: int = 2) -> None:
    """Run a chain on this machine, stage by stage; what is complete is not done again.

    Raises
    ------
    Incomplete
        When a stage is not complete; only `compare` comes after it in any case.
    """
    for stage in chain.stages:
        if stage == "compare":
            compare(card, chain)
            continue
        job, submission = open_stage(card, chain, stage)
        log.info("%s: %d of %d items to do", stage, len(submission.indices), len(job.items))
        run_local(job, submission.indices, processes)
        try:
            close_stage(card, chain, stage)
        except Incomplete as error:
            if stage != "analyze" or "compare" not in chain.stages:
                raise
            log.warning("%s", error)  # and `compare` says what it lacks


def step(path: Path, when: str, stage: str) -> None:
    """Do a step of a chain on the submit machine: what `chain.sh` calls.

    Raises
    ------
    UserError, Incomplete
        As `open_stage`, `close_stage` and `compare`.
    """
    chain = read_chain(path)
    if stage not in chain.stages or when not in ("before", "after"):
        raise CardError(f"{when} {stage}: expected before or after, and one of {', '.join(chain.stages)}")
    card = read_card(chain.path / "card.yaml")
    log.info("%s %s", when, stage)
    if stage == "compare":
        if when == "before":
            compare(card, chain)
    elif when == "before":
        driver_of(chain.backend).stage(card, chain, *open_stage(card, chain, stage))
    else:
        close_stage(card, chain, stage)


def hand_over_chain(card: Card, chain: Chain, processes: int = 2, new: bool = False) -> str:
    """Run a chain here, or hand it to its batch system; return what to tell the user.

    Raises
    ------
    NoAnswer
        When the batch system may have taken the chain, or not; its folder stays.
    UserError
        When the batch system is not there, or refuses; the folder of a new chain goes.
    """
    if chain.backend == "local":
        run_here(card, chain, processes)
        return f"{', '.join(chain.stages)}: complete"
    try:
        return driver_of(chain.backend).submit(card, chain)
    except NoAnswer as error:
        raise NoAnswer(
            f"{error}; {chain.path} stays, as it may be in the queue: `submit status` tells when the batch system "
            f"answers again, `submit chain --folder {shlex.quote(str(chain.path))}` submits it if it is not"
        ) from error
    except UserError:
        if new:
            remove_folder(card, chain.path)
        raise


def driver_of(backend: str) -> Driver:
    """Return what calls the steps of chains on a batch system: condor or slurm."""
    from importlib import import_module

    driver: Driver = import_module(
        {"condor": "pfnano_tag.submit.dag", "slurm": "pfnano_tag.submit.dependencies"}[backend]
    )
    return driver


def incomplete(job: JobFolder) -> list[int]:
    """Return the items of a job folder that have not said to be complete."""
    reports = ((item.index, read_report(job.folder_of(item.index))) for item in job.items)
    return [index for index, report in reports if report is None or report.code != EXIT_COMPLETE]


def _told(job: JobFolder, index: int) -> str:
    report = read_report(job.folder_of(index))
    said = "no report" if report is None else f"exit code {report.code}: {report.error}"
    return f"{job.items[index].name} ({said}; log: {job.folder_of(index) / 'log.txt'})"


def _require(chain: Chain, stage: str | None) -> None:
    """Refuse to begin a stage when the one before it is not complete."""
    if stage is None:
        return
    path = chain.job_path(stage)
    missing = incomplete(read_job_folder(path)) if path.exists() else None
    if missing != []:
        lacks = "has not begun" if missing is None else f"lacks {len(missing)} items"
        raise Incomplete(f"{path}: {stage} {lacks}, so what comes after it can't begin")


def main(arguments: Sequence[str]) -> int:
    """Do a step, and write down how it ended; return its exit code."""
    path, when, stage = arguments
    code = exit_code_of(lambda: step(Path(path), when, stage))
    note(Path(path), f"{when} {stage}", code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
