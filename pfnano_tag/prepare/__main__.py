"""Prepare a study: clean, label, split, scale and reweight, in one scan of the training files.

Reads the card and the files of its datasets with role `train`, writes prepared.json and pictures into the study's
folder. Partial results are kept per file: a second run reads only what is missing or was lost.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pfnano_tag.card.command import add_dry_run, main_of, parser_for

if TYPE_CHECKING:
    from pfnano_tag.card import Card


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    options = parser_for("prepare", __doc__)
    part = options.add_mutually_exclusive_group()
    part.add_argument(
        "--partial", nargs="+", metavar="FILE", help="scan only these files of the card and keep their results"
    )
    part.add_argument("--merge", action="store_true", help="merge the results that --partial has left; read no file")
    add_dry_run(options)
    return options


def run(card: Card, options: argparse.Namespace) -> None:
    """Run the stage; uproot and matplotlib are imported only now."""
    from pfnano_tag.prepare import stage

    if options.dry_run:
        print(stage.plan(card))
    elif options.partial:
        stage.run_partial(card, options.partial)
    elif options.merge:
        stage.run_merge(card)
    else:
        stage.run(card)


if __name__ == "__main__":
    main_of(parser(), run)
