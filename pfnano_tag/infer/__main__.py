"""Apply networks to a PFNano file: a friend tree of scores, aligned with `Events`.

Reads the card, one PFNano file and checkpoints of the study; writes a ROOT file with the tree `Friends`: all events,
counter nJet, branches Jet_<model>_<node> and Jet_<model>_<discriminant>; -1 for jets without a score.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pfnano_tag.card.command import add_dry_run, add_models, main_of, parser_for

if TYPE_CHECKING:
    from pfnano_tag.card import Card


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    options = parser_for("infer", __doc__)
    options.add_argument("file", metavar="FILE", help="PFNano file; it need not be in the card's datasets")
    add_models(options)
    options.add_argument("-o", "--output", required=True, metavar="F.root", help="file with the friend tree")
    options.add_argument(
        "--acceptance", action="store_true", help="score only jets in the pT and eta range of the card's section jets"
    )
    add_dry_run(options)
    return options


def run(card: Card, options: argparse.Namespace) -> None:
    """Run the stage; torch and uproot are imported only now."""
    from pfnano_tag.infer import stage

    if options.dry_run:
        print(stage.describe(card, options.file, options.model))
    else:
        stage.run(card, options.file, options.model, options.output, options.acceptance)


if __name__ == "__main__":
    main_of(parser(), run)
