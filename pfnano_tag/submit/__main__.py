"""Make the data/MC jobs of a study: one per file of the datasets with role `analyze`.

With `--backend local` they run now; for HTCondor and SLURM a job folder is written, and the command that submits it
is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pfnano_tag.card.command import add_card_options, add_dry_run, main_of, parser_for, positive

if TYPE_CHECKING:
    from pfnano_tag.card.card import Card


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    options = parser_for("submit", __doc__, card=False)
    options.add_argument("action", choices=["jobs"], help="jobs: write (and with `local`, run) the jobs")
    options.add_argument("card", help="study card: a YAML file, or the name of a shipped card")
    add_card_options(options)
    options.add_argument(
        "--stage", choices=["analyze"], default="analyze", help="what the jobs do [default: analyze]"
    )
    options.add_argument("--backend", choices=["condor", "slurm", "local"], required=True, help="where they run")
    options.add_argument(
        "--folder", type=Path, help="job folder to make [default: <study.folder>/jobs/analyze-0001 and on]"
    )
    options.add_argument(
        "--dataset", action="append", default=[], metavar="NAME", help="only this dataset; repeat for more"
    )
    options.add_argument(
        "--model", action="append", metavar="NAME", help="network or scan; repeat for more [default: all of the card]"
    )
    options.add_argument(
        "--processes",
        type=positive,
        default=2,
        metavar="N",
        help="workers at a time, with --backend local [default: 2]",
    )
    add_dry_run(options)
    return options


def run(card: Card, options: argparse.Namespace) -> None:
    """Write the jobs; run them when the backend is this machine."""
    from pfnano_tag.submit.condor import write_condor
    from pfnano_tag.submit.jobfolder import write_job_folder
    from pfnano_tag.submit.local import run_local
    from pfnano_tag.submit.slurm import write_slurm
    from pfnano_tag.submit.split import items_of

    models = card.chosen_models(options.model) if options.model else None
    items = items_of(card, options.dataset)
    if options.dry_run:
        print("\n".join(f"{item.dataset}/{item.name}: {item.file}" for item in items))
        return
    job = write_job_folder(card, items, options.folder, models)
    print(f"{len(items)} jobs in {job.path}")
    if options.backend == "local":
        run_local(job, options.processes)
    else:
        print({"condor": write_condor, "slurm": write_slurm}[options.backend](card, job))


if __name__ == "__main__":
    main_of(parser(), run)
