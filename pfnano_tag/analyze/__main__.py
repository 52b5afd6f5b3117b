"""The data/MC job of one file: select, predict with all networks, distort, histogram, in one pass.

Reads the card, one PFNano file of one of its datasets, and checkpoints; writes one ROOT file of histograms and a
ledger beside it. Run it again after a kill: it continues. Exit code 75: incomplete, all that was done is saved.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pfnano_tag.card.command import add_dry_run, add_models, main_of, parser_for

if TYPE_CHECKING:
    from pfnano_tag.card import Card


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    options = parser_for("analyze", __doc__)
    options.add_argument("--dataset", required=True, metavar="D", help="dataset of the card that the file belongs to")
    options.add_argument("--file", required=True, metavar="F", help="PFNano file")
    which = options.add_mutually_exclusive_group()
    add_models(which)
    which.add_argument("--no-models", action="store_true", help="no network: kinematics and stored taggers only")
    options.add_argument(
        "-o", "--output", metavar="H.root", help="histograms [default: <study folder>/analysis/<dataset>/<file>.root]"
    )
    options.add_argument(
        "--part",
        metavar="K/N",
        help="only the K-th of N parts of the file's chunks; what they leave in the study, `compare` puts together",
    )
    add_dry_run(options)
    return options


def run(card: Card, options: argparse.Namespace) -> None:
    """Run the stage; torch and uproot are imported only now, which takes long enough to be told to stop."""
    from pfnano_tag.analyze.stopping import stopping

    with stopping():
        from pfnano_tag.analyze.parts import Part

        part = None if options.part is None else Part.parse(options.part)

        from pfnano_tag.analyze import joining, stage

        models = [] if options.no_models else options.model
        if options.dry_run:
            print(stage.describe(card, options.dataset, options.file, models, part))
        elif part is not None:
            joining.run_part(card, options.dataset, options.file, part, options.output, models)
        else:
            stage.run(card, options.dataset, options.file, options.output, models)


if __name__ == "__main__":
    main_of(parser(), run)
