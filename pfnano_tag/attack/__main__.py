"""Attack trained networks on the test split: AUC against strength, white-box and on a common sample.

Reads the prepared study, checkpoints and PFNano files, writes attacks/results.json and pictures into the study's
folder. Attacks and strengths are those of the card's section `attacks` (key `scan`). Each strength is a pass over
the jets for each network: --jets shortens it.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pfnano_tag.card.command import add_dry_run, add_models, main_of, parser_for, positive

if TYPE_CHECKING:
    from pfnano_tag.card import Card


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    options = parser_for("attack", __doc__)
    add_models(options)
    options.add_argument(
        "--source",
        metavar="NAME[:EPOCH]",
        help="network whose gradient makes the common sample [default: the first that was trained without an attack]",
    )
    options.add_argument(
        "--jets",
        type=positive,
        metavar="N",
        help="take about N jets, whole events chosen by identity [default: all]",
    )
    add_dry_run(options)
    return options


def run(card: Card, options: argparse.Namespace) -> None:
    """Run the stage; torch, uproot and matplotlib are imported only now."""
    from pfnano_tag.attack import stage

    if options.dry_run:
        print(stage.plan(card, options.model, options.source, options.jets))
    else:
        stage.run(card, options.model, options.source, options.jets)


if __name__ == "__main__":
    main_of(parser(), run)
