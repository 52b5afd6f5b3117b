"""Make PFNano files, in any layout, with Pythia 8, a parametric detector and FastJet.

With a CARD: all samples of its `generate` section, into `<study.folder>/generated/`.
Without: one file, say `--process dy --events 2000 --seed 3 -o dy.root`.
At the end the cross sections are printed: copy them to the card's `datasets`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pfnano_tag.card.command import add_card_options, add_dry_run, card_of, exit_code_of, parser_for
from pfnano_tag.errors import UserError

if TYPE_CHECKING:
    from pfnano_tag.card.card import Card

_PROCESSES = ("ttbar", "qcd", "dy", "wjets")
_LAYOUTS = ("candidates", "btvnano", "deepjet", "jets")
_CONTAINERS = ("ttree", "rntuple")
_SINGLE = ("process", "events", "seed", "data", "output", "pt_hat", "flat", "decays", "flavour")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = parser_for("generate", __doc__, card=False)
    out.add_argument("card", nargs="?", metavar="CARD", help="study card; without it one file is made")
    add_card_options(out)
    add_dry_run(out)
    out.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="SAMPLE:INDEX",
        help="with a CARD: make only this file of a sample, and no manifest; repeat for more",
    )
    one = out.add_argument_group("one file (without CARD)")
    one.add_argument("--process", choices=_PROCESSES, help="hard process [default: ttbar]")
    one.add_argument("--events", type=int, help="number of events [default: 1000]")
    one.add_argument("--seed", type=int, help="master seed [default: 1]")
    one.add_argument("--data", action="store_true", default=None, help="data mode: other tune and response, no truth")
    one.add_argument("-o", "--output", type=Path, help="file to write")
    one.add_argument("--pt-hat", type=float, nargs=2, metavar=("LOW", "HIGH"), help="pT-hat range [GeV], 0: open")
    one.add_argument("--flat", action="store_true", default=None, help="qcd: weighted events, flat in pT-hat")
    one.add_argument("--decays", help="forced decays: dilepton; mumu, ee, leptons; munu, enu")
    one.add_argument("--flavour", help="qcd: bb or cc; wjets: charm")
    out.add_argument("--underlying-event", choices=("overlay", "pythia"), help="overlay is several times faster")
    out.add_argument("--compression", choices=("zstd", "lzma"), help="lzma: as CMS files, slow")
    out.add_argument("--layout", choices=_LAYOUTS, help="how the events are stored [default: candidates]")
    out.add_argument("--container", choices=_CONTAINERS, help="what holds them [default: ttree]")
    out.add_argument("--fat-jets", action="store_true", default=None, help="with AK8 jets")
    out.add_argument("--all-candidates", action="store_true", default=None, help="PFCands holds all candidates")
    return out


def _report(sample: str, summary: dict[str, Any]) -> None:
    """Print what a user copies to the card."""
    print(
        f"{sample}: {summary['num_events']} events, {summary['num_jets']} jets, cross section "
        f"{summary['cross_section_pb']:.5g} +- {summary['cross_section_error_pb']:.2g} pb, "
        f"sum of weights {summary['sumw']:.8g}"
    )


def run_single(options: argparse.Namespace) -> None:
    """Make one file."""
    from pfnano_tag.generate.processes import ProcessOptions
    from pfnano_tag.generate.production import make_file, read_summary
    from pfnano_tag.generate.units import Unit
    from pfnano_tag.nano.writer import protect_events

    if options.output is None:
        raise UserError("without a card the output is needed: -o FILE.root")
    choice = ProcessOptions(
        pt_hat=tuple(options.pt_hat or (0.0, 0.0)),
        flat=bool(options.flat),
        decays=options.decays or "",
        flavour=options.flavour or "all",
    )
    unit = Unit(
        process=options.process or "ttbar",
        events=1000 if options.events is None else options.events,
        seed=1 if options.seed is None else options.seed,
        mode="data" if options.data else "mc",
        options=choice,
        underlying_event=options.underlying_event or "overlay",
        compression=options.compression or "zstd",
        layout=options.layout or "candidates",
        container=options.container or "ttree",
        candidates="all" if options.all_candidates else "jets",
        fat_jets=bool(options.fat_jets),
    )
    unit.check()
    if options.dry_run:
        print(f"{options.output}: {unit}")
        return
    if read_summary(options.output) is None:  # only what was generated may be made again
        protect_events(options.output)
    _report(str(options.output), make_file(unit, options.output, show=True))


def run(card: Card, options: argparse.Namespace) -> None:
    """Make all samples of the card."""
    from pfnano_tag.card.folder import generated_folder
    from pfnano_tag.generate import stage

    changes = {
        "underlying_event": options.underlying_event,
        "compression": options.compression,
        "layout": options.layout,
        "container": options.container,
        "fat_jets": options.fat_jets,
        "candidates": "all" if options.all_candidates else None,
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    if options.dry_run:
        folder = generated_folder(card)
        units = stage.units_of(card, changes)
        for unit in stage.chosen(units, options.only) if options.only else units:
            print(f"{folder / unit.name / f'{unit.name}_{unit.index}.root'}: {unit}")
        return
    for name, sample in stage.run(card, changes, options.only)["samples"].items():
        _report(name, sample)


def main(arguments: list[str] | None = None) -> int:
    """Parse and runs; returns the exit code."""
    options = parser().parse_args(arguments)

    def step() -> None:
        if options.card is None:
            if options.set or options.print_card or options.only:
                raise UserError("--set, --print-card and --only need a CARD")
            run_single(options)
            return
        given = [f"--{k.replace('_', '-')}" for k in _SINGLE if getattr(options, k) is not None]
        if given:
            raise UserError(f"{', '.join(given)}: only without a CARD; samples are in the card's generate section")
        card = card_of(options)
        if card is not None:
            run(card, options)

    return exit_code_of(step, verbose=options.verbose)


if __name__ == "__main__":
    sys.exit(main())
