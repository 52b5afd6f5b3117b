"""Train the card's networks (all, or those named).

Reads the prepared study and the PFNano files, writes models/NAME/: a checkpoint per epoch, metrics, the best epoch by
the metric training.best. A trained model is refused unless --resume (go on exactly) or --overwrite is given.

--list prints the names of the models to train, one per line: one batch task each. A scan in section models stands for
several of them; --model takes its name for all.

--select METRIC trains nothing: it ranks the trained models by a metric of their best epochs (auc_BvsL,
efficiency_BvsL_0.01, validation_loss), or of what evaluate, attack and compare found (evaluation.auc.BvsL,
attacks.fgsm.0.01.BvsL, comparison.chi2ndf.BvsL), and writes models/selection.json. Given again, it shows further
metrics beside the first. What is scanned has its columns.

--find-rate trains nothing either: it raises the learning rate from batch to batch until the loss explodes, and writes
models/NAME/learning_rate.json and .png.

Several processes, started by `torchrun --nproc-per-node N -m pfnano_tag.train CARD` or `srun -n N python -m
pfnano_tag.train CARD`, train each network together.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pfnano_tag.card.command import add_dry_run, main_of, parser_for
from pfnano_tag.card.launch import launch_of

if TYPE_CHECKING:
    from pfnano_tag.card import Card


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    options = parser_for("train", __doc__)
    options.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="model or scan of the card; repeat for more [default: all]",
    )
    again = options.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on behind the last finished epoch")
    again.add_argument("--overwrite", action="store_true", help="throw a trained model away and start again")
    again.add_argument("--find-rate", action="store_true", help="test which learning rates the networks bear")
    again.add_argument(
        "--select", action="append", metavar="METRIC", help="rank the trained models, best first; repeat for columns"
    )
    again.add_argument("--list", action="store_true", help="print the names of the models, and stop")
    add_dry_run(options)
    return options


def run(card: Card, options: argparse.Namespace) -> int | None:
    """Run the stage; torch is imported only now. What several processes would all say, the first one says."""
    if launch_of().rank and (options.select is not None or options.dry_run):
        return None
    if options.select is not None:
        from pfnano_tag.train.selection import as_table, select

        print(as_table(select(card, options.select, options.model, write=not options.dry_run)))
        return None
    if options.list:
        print("\n".join(card.chosen_models(options.model)))
        return None
    from pfnano_tag.train.stage import find_rates, plan
    from pfnano_tag.train.stage import run as train

    if options.dry_run:
        print(plan(card, options.model, options.find_rate, options.resume, options.overwrite))
        return None
    if options.find_rate:
        find_rates(card, options.model)
        return None
    train(card, options.model, resume=options.resume, overwrite=options.overwrite)
    return None


if __name__ == "__main__":
    main_of(parser(), run, together=True)
