"""Evaluate trained networks on the test split: AUCs with errors, ROC curves, working points, shapes, inputs.

Reads the prepared study, checkpoints and PFNano files, writes evaluation/results.json, properties.json,
properties.md and pictures into the study's folder. Taggers stored in the files are evaluated beside the networks.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pfnano_tag.card.command import add_dry_run, add_models, main_of, parser_for

if TYPE_CHECKING:
    from pfnano_tag.card import Card


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    options = parser_for("evaluate", __doc__)
    add_models(options)
    add_dry_run(options)
    return options


def run(card: Card, options: argparse.Namespace) -> None:
    """Run the stage; torch, uproot and matplotlib are imported only now."""
    from pfnano_tag.evaluate import stage

    if options.dry_run:
        print(stage.plan(card, options.model))
    else:
        stage.run(card, options.model)


if __name__ == "__main__":
    main_of(parser(), run)
