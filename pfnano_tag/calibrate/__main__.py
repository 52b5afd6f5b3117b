"""Measures scale factors of b, c and light jets at working points, and shape weights, from control regions.

Reads: analysis/ (one output of `analyze` per file), evaluation/results.json (working points).
Writes: calibration/ (corrections.json for correctionlib, results.json, pictures), comparison/merged/ (as compare).
Exit code 75 when a working point or shape could not be measured, or files or chunks are missing: all else is written.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pfnano_tag.card.command import add_dry_run, main_of, parser_for, positive

if TYPE_CHECKING:
    from pfnano_tag.card.card import Card


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = parser_for("calibrate", __doc__)
    made.add_argument("--workers", type=positive, metavar="N", help="processes that merge [default: one per core]")
    add_dry_run(made)
    return made


def run(card: Card, options: argparse.Namespace) -> None:
    """Calibrate, or print the plan."""
    from pfnano_tag.calibrate import stage

    if options.dry_run:
        print(stage.plan(card))
        return
    stage.run(card, print, options.workers)


if __name__ == "__main__":
    main_of(parser(), run)
