"""Compares data with simulation for all models: merges the jobs' histograms, normalises, draws, and concludes.

Reads: analysis/ (one output of `analyze` per file), and evaluation/results.json, attacks/results.json if
they are there.
Writes: comparison/ (histograms.root, results.json, table.md, lumis_<dataset>.json, pictures per region).
Exit code 75 when files or chunks are missing: everything is written and says what it is short of.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pfnano_tag.card.command import add_dry_run, main_of, parser_for, positive

if TYPE_CHECKING:
    from pfnano_tag.card.card import Card


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = parser_for("compare", __doc__)
    made.add_argument(
        "--workers", type=positive, metavar="N", help="processes that draw pictures [default: one per core]"
    )
    add_dry_run(made)
    return made


def run(card: Card, options: argparse.Namespace) -> None:
    """Compare, or print the plan."""
    from pfnano_tag.compare import stage

    if options.dry_run:
        print(stage.plan(card))
        return
    stage.run(card, options.workers, report=print)


if __name__ == "__main__":
    main_of(parser(), run)
