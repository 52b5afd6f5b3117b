"""Lists the commands: what each does, reads and writes."""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import dataclass

from pfnano_tag import __version__


@dataclass(frozen=True)
class Command:
    """One line of the list.

    Parameters
    ----------
    name : str
        As in `python -m pfnano_tag.NAME`.
    usage : str
        Arguments.
    does, reads, writes : str
        For people; files are relative to the study's folder.
    """

    name: str
    usage: str
    does: str
    reads: str
    writes: str


COMMANDS = (
    Command(
        "generate",
        "CARD | --process P --events N -o FILE",
        "makes PFNano files (Pythia 8, parametric detector)",
        "the card's section `generate`, or options",
        "generated/<sample>/*.root, generated/manifest.json",
    ),
    Command("inspect", "FILE... [--json]", "says what files are", "PFNano or NanoAOD files", "nothing (prints)"),
    Command(
        "prepare",
        "CARD",
        "cleaning, labels, defaults, reweighting, splitting, scaling, in one scan",
        "datasets with role train",
        "prepared.json, prepared/",
    ),
    Command(
        "train",
        "CARD --model NAME [--resume]",
        "trains one network of the card",
        "prepared.json, datasets with role train",
        "models/NAME/",
    ),
    Command(
        "evaluate",
        "CARD [--model NAME]...",
        "performance in simulation, on the test split",
        "models/, datasets with role train",
        "evaluation/results.json and pictures",
    ),
    Command(
        "attack",
        "CARD [--model NAME]...",
        "robustness: performance against the strength of attacks",
        "models/, datasets with role train",
        "attacks/results.json and pictures",
    ),
    Command(
        "infer",
        "CARD FILE --model NAME... -o FILE",
        "scores of all jets of a file, aligned with its events",
        "one file, models/",
        "a friend tree `Friends`",
    ),
    Command(
        "analyze",
        "CARD --dataset D --file F [-o FILE]",
        "the data/MC job of one file: all regions, models and variants in one pass",
        "one file, models/, prepared.json",
        "analysis/D/<file>.root (histograms and ledger)",
    ),
    Command(
        "compare",
        "CARD",
        "merges the jobs, normalises, draws data against simulation, and says what agrees better",
        "analysis/, evaluation/results.json, attacks/results.json",
        "comparison/ (histograms.root, results.json, table.md, pictures)",
    ),
    Command(
        "calibrate",
        "CARD",
        "scale factors at working points and shape weights, from control regions",
        "analysis/, evaluation/results.json",
        "calibration/ (corrections.json for correctionlib, results.json, pictures)",
    ),
    Command(
        "submit",
        "jobs CARD --backend condor|slurm|local",
        "makes the batch jobs of the data/MC comparison (HTCondor, SLURM), or runs them here",
        "the card, datasets",
        "job folders",
    ),
)


def listing() -> str:
    """Return the list of commands as text."""
    blocks = []
    for command in COMMANDS:
        rows = (("does", command.does), ("reads", command.reads), ("writes", command.writes))
        lines = [
            textwrap.fill(text, 112, initial_indent=f"    {key:<7}", subsequent_indent=" " * 11) for key, text in rows
        ]
        blocks.append("\n".join([f"  {command.name} {command.usage}", *lines]))
    return "\n".join(blocks)


def main() -> None:
    """Print the list; there are no options but --help and --version."""
    parser = argparse.ArgumentParser(
        prog="python -m pfnano_tag",
        description="Jet flavour tagging on PFNano. Run a command as `python -m pfnano_tag.COMMAND`; "
        "--help after it says more.\nA CARD is a YAML file, or the name of a shipped card.\n\n" + listing(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pfnano_tag {__version__}")
    parser.parse_args()
    parser.print_help()


if __name__ == "__main__":
    main()
