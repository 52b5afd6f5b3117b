"""Compares data with simulation for all models: merges the jobs' histograms, normalises, draws, and concludes.

Reads: analysis/ (one output of `analyze` per file), and evaluation/results.json, attacks/results.json if
they are there.
Writes: comparison/ (histograms.root, results.json, table.md, lumis_<dataset>.json, pictures per region; templates/
with --templates; merged/: sums of job outputs, used again as long as these are the same).
Exit code 75 when files or chunks are missing: everything is written and says what it is short of.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pfnano_tag.card.command import add_dry_run, main_of, parser_for, positive
from pfnano_tag.errors import CardError

if TYPE_CHECKING:
    from pfnano_tag.card.card import Card


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = parser_for("compare", __doc__)
    made.add_argument(
        "--workers", type=positive, metavar="N", help="processes that merge and draw [default: one per core]"
    )
    made.add_argument(
        "--templates",
        action="append",
        default=[],
        metavar="VARIABLE",
        help="write templates for fits (ROOT, Combine, pyhf) of a variable; repeat for more",
    )
    made.add_argument(
        "--signal", metavar="PROCESS", help="process whose rate these fits measure [default: the card's first]"
    )
    add_dry_run(made)
    return made


def run(card: Card, options: argparse.Namespace) -> None:
    """Compare, or print the plan."""
    from pfnano_tag.compare import stage

    if options.signal is not None and not options.templates:
        raise CardError("--signal goes with --templates VARIABLE: without templates there is no fit")
    if options.dry_run:
        print(stage.plan(card, options.templates, options.signal))
        return
    stage.run(card, options.workers, print, options.templates, options.signal)


if __name__ == "__main__":
    main_of(parser(), run)
