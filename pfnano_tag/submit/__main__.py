"""Batch jobs of a study: made and submitted, looked at, and run again where something is missing.

  jobs    one job per file, network or generated file, for a stage; a job folder that needs nothing of the study
  status  what became of them: one table, from their reports and the batch system; results come into the study
  retry   submit what is missing once more, with more memory where memory was the cause

Sites with a file of their own (card: `site: NAME`): {sites}.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pfnano_tag.card.command import add_card_options, add_dry_run, add_models, main_of, parser_for, positive
from pfnano_tag.errors import UserError

if TYPE_CHECKING:
    from pfnano_tag.card.card import Card

STAGES = ("generate", "prepare", "train", "analyze")
BACKENDS = ("condor", "slurm", "local")
SITES = Path(__file__).resolve().parents[1] / "card" / "sites"


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    sites = ", ".join(sorted(path.stem for path in SITES.glob("*.yaml")))
    options = parser_for("submit", (__doc__ or "").format(sites=sites or "none"), card=False)
    options.add_argument("action", choices=["jobs", "status", "retry"], help="what to do, see above")
    options.add_argument("card", help="study card: a YAML file, or the name of a shipped card")
    add_card_options(options)
    options.add_argument("--folder", type=Path, help="job folder [default: jobs: a new one; else all of the study]")
    jobs = options.add_argument_group("jobs")
    jobs.add_argument("--stage", choices=STAGES, default="analyze", help="what the jobs do [default: analyze]")
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
    raise UserError(f"{options.action}: not there yet")


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
    print(f"{len(job.items)} jobs in {job.path}")
    if options.no_submit:
        print(to_submit(card, job, submission))
    else:
        print(hand_over(card, job, submission, options.processes))


if __name__ == "__main__":
    main_of(parser(), run)
