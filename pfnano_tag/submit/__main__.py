"""Batch jobs of a study: made and submitted, looked at, and run again where something is missing.

  jobs    one job per file, network or generated file, for a stage; a job folder that needs nothing of the study
  status  what became of them: one table, from their reports and the batch system; results come into the study
  retry   submit what is missing once more, with more memory where memory was the cause
  chain   several stages, each when the one before it has ended: HTCondor by DAGMan, SLURM by dependencies

Sites with a file of their own (card: `site: NAME`): {sites}.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pfnano_tag.card.command import add_card_options, add_dry_run, add_models, main_of, parser_for, positive
from pfnano_tag.errors import EXIT_COMPLETE, EXIT_INCOMPLETE, StudyError, UserError

if TYPE_CHECKING:
    from pfnano_tag.card.card import Card

STAGES = ("generate", "prepare", "train", "analyze")
BACKENDS = ("condor", "slurm", "local")
SITES = Path(__file__).resolve().parents[1] / "card" / "sites"


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    sites = ", ".join(sorted(path.stem for path in SITES.glob("*.yaml")))
    options = parser_for("submit", (__doc__ or "").format(sites=sites or "none"), card=False)
    options.add_argument("action", choices=["jobs", "status", "retry", "chain"], help="what to do, see above")
    options.add_argument("card", help="study card: a YAML file, or the name of a shipped card")
    add_card_options(options)
    options.add_argument(
        "--folder",
        type=Path,
        help="job folder [default: a new one for jobs and chain; else all of the study]",
    )
    looks = options.add_argument_group("status")
    looks.add_argument("--all", action="store_true", help="list also the jobs with which nothing is wrong")
    looks.add_argument("--json", action="store_true", help="print JSON")
    looks.add_argument(
        "--watch",
        type=positive,
        nargs="?",
        const=30,
        metavar="SECONDS",
        help="look again, until no job is idle or running [30]",
    )
    jobs = options.add_argument_group("jobs")
    jobs.add_argument("--stage", choices=STAGES, default="analyze", help="what the jobs do [default: analyze]")
    jobs.add_argument(
        "--stages",
        metavar="A,B,...",
        help="stages of a chain, generate among them [default: prepare,train,analyze,compare]",
    )
    jobs.add_argument("--backend", choices=BACKENDS, help="where they run [default: submit.backend of the card]")
    jobs.add_argument(
        "--dataset", action="append", default=[], metavar="NAME", help="only this dataset; repeat for more"
    )
    which = jobs.add_mutually_exclusive_group()
    add_models(which)
    which.add_argument("--no-models", action="store_true", help="analyze: no network")
    jobs.add_argument("--no-submit", action="store_true", help="make the job folder, and print how to submit it")
    jobs.add_argument(
        "--processes",
        type=positive,
        default=2,
        metavar="N",
        help="workers at a time, with --backend local [default: 2]",
    )
    add_dry_run(options)
    return options


def run(card: Card, options: argparse.Namespace) -> int | None:
    """Do what was asked for."""
    if options.action == "jobs":
        _jobs(card, options)
        return None
    if options.action == "status":
        return _status(card, options)
    if options.action == "retry":
        _retry(card, options)
    else:
        _chain(card, options)
    return None


def _jobs(card: Card, options: argparse.Namespace) -> None:
    from pfnano_tag.submit.stage import describe, hand_over, make, to_submit

    backend = options.backend or card.submit.backend
    if backend is None:
        raise UserError(f"--backend is needed, or submit.backend in the card: one of {', '.join(BACKENDS)}")
    models = [] if options.no_models else options.model
    if options.dry_run:
        print(describe(card, options.stage, backend, options.dataset, models))
        return
    job, submission = make(card, options.stage, backend, options.dataset, models, options.folder)
    made = f"{len(job.items)} jobs in {job.path}"
    if backend == "local":  # which runs them now
        print(made)
    if options.no_submit:
        said = to_submit(card, job, submission)
    else:
        said = hand_over(card, job, submission, options.processes, new=True)
    print(said if backend == "local" else f"{made}\n{said}")


def _status(card: Card, options: argparse.Namespace) -> int:
    """Print what became of the jobs and chains; 0 when all are done, else 75."""
    from pfnano_tag.card.jobs import job_folders
    from pfnano_tag.submit.chain_status import chain_statuses
    from pfnano_tag.submit.jobfolder import chosen_folders
    from pfnano_tag.submit.status import status_of, table

    while True:
        chains = chain_statuses(card) if options.folder is None else []
        none = chains and not job_folders(card)  # yet: their first step makes one
        found = [] if none else [status_of(card, job) for job in chosen_folders(card, options.folder)]
        if options.json:
            told = [*(one.to_json() for one in found), *(one.to_json() for one in chains)]
            print(json.dumps(told, indent=1))
        else:
            print("\n".join(part for part in (table(found, options.all), *map(str, chains)) if part))
        under_way = any(one.under_way for one in found) or any(one.condition == "under way" for one in chains)
        if not options.watch or not under_way:
            complete = all(one.complete for one in found) and all(one.condition == "complete" for one in chains)
            return EXIT_COMPLETE if complete else EXIT_INCOMPLETE
        time.sleep(options.watch)


def _retry(card: Card, options: argparse.Namespace) -> None:
    """Submit what is missing once more."""
    from pfnano_tag.submit.credentials import ship_credentials
    from pfnano_tag.submit.jobfolder import check_card, chosen_folders
    from pfnano_tag.submit.retry import missing, resubmission, take_out
    from pfnano_tag.submit.stage import hand_over
    from pfnano_tag.submit.status import status_of

    for job in chosen_folders(card, options.folder):
        check_card(card, job)
        status = status_of(card, job)
        if status.silent:
            raise StudyError(f"{status.silent}; what is running can't be told from what is missing")
        items = missing(status)
        submission = resubmission(card, job, items)
        print(f"{job.path.name}: {len(items)} of {len(job.items)} jobs are missing")
        for item, memory in zip(items, submission.memory, strict=True):
            print(f"  {item.index} {item.name}: {item.condition}, {memory} MB")
        if options.dry_run:
            continue
        if items or status.under_way:  # jobs that have not started yet get them, too
            ship_credentials(card, job.stage, job.path)
        if items:
            take_out(job, items)
            print(hand_over(card, job, submission, options.processes))


def _chain(card: Card, options: argparse.Namespace) -> None:
    from pfnano_tag.submit.chain import driver_of, hand_over_chain, make_chain, read_chain
    from pfnano_tag.submit.chain_plan import USUAL, describe_chain

    if options.dataset or options.no_models:
        raise UserError("--dataset and --no-models go with `submit jobs`: a chain takes all datasets, and networks")
    if options.folder is not None:
        if options.stages or options.model or options.backend or options.dry_run:
            raise UserError(f"{options.folder}: it goes on as it was made; leave --stages, --model, --backend")
        chain = read_chain(options.folder)
    else:
        backend = options.backend or card.submit.backend
        if backend is None:
            raise UserError(f"--backend is needed, or submit.backend in the card: one of {', '.join(BACKENDS)}")
        stages = options.stages.split(",") if options.stages else USUAL
        if options.dry_run:
            print(describe_chain(card, backend, stages, options.model))
            return
        chain = make_chain(card, backend, stages, options.model)
    print(f"{', '.join(chain.stages)}: {chain.path}")
    if options.no_submit and chain.backend != "local":
        print(driver_of(chain.backend).write(card, chain))
    elif not options.no_submit:
        print(hand_over_chain(card, chain, options.processes, new=options.folder is None))


if __name__ == "__main__":
    main_of(parser(), run)
