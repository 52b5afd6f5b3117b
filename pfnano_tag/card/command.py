"""What every command line has in common: the card, overrides, logging, exit codes.

`--help` must answer at once: nothing heavy is imported before the options are parsed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pfnano_tag.card.launch import Launch, launch_of
from pfnano_tag.card.usage import usage_left
from pfnano_tag.errors import EXIT_BAD_INPUT, EXIT_COMPLETE, EXIT_INCOMPLETE, Incomplete, UserError

if TYPE_CHECKING:
    from pfnano_tag.card.card import Card

log = logging.getLogger("pfnano_tag")
Item = TypeVar("Item")
TIME = "%H:%M:%S"
"""How the log tells the time."""


def parser_for(command: str, description: str | None, card: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the options that all commands share.

    Parameters
    ----------
    command : str
        Name of the command, as after `pfnano_tag.`.
    description : str or None
        Text of `--help`, usually the module's docstring.
    card : bool
        Whether the command takes a study card as its first argument.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m pfnano_tag.{command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log details")
    if card:
        parser.add_argument("card", help="study card: a YAML file, or the name of a shipped card")
        add_card_options(parser)
    return parser


def add_card_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that go with a card: overrides, and ways to look at it."""
    parser.add_argument(
        "-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the card"
    )
    parser.add_argument("--print-card", action="store_true", help="print the resolved card and stop")
    parser.add_argument("--explain", action=_Explain, metavar="KEY", help="print a key's meaning, unit and default")


class _Explain(argparse.Action):
    """Print the meaning of a key and stop, as `--help` does: neither card nor other options are needed."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        def step() -> None:
            from pfnano_tag.card.showing import explain

            print(explain(values))

        parser.exit(exit_code_of(step))


def positive(text: str) -> int:
    """Return a positive whole number: the `type` of options that count something.

    Raises
    ------
    ArgumentTypeError
        When it is anything else.
    """
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def add_models(options: argparse._ActionsContainer) -> None:
    """Add `--model`, for commands that apply trained networks, to a parser or a group."""
    options.add_argument(
        "--model",
        action="append",
        metavar="NAME[:EPOCH]",
        help="network or scan, at `best` (default), `last` or an epoch; repeat for more [default: all of the card]",
    )


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Add `--dry-run`, for commands that have a plan to print."""
    parser.add_argument("--dry-run", action="store_true", help="print plan, branches and memory, and stop")


def main_of(
    parser: argparse.ArgumentParser, run: Callable[[Card, argparse.Namespace], int | None], together: bool = False
) -> None:
    """Parse, read the card, run, and end the process with the exit code: 0 complete, 2 bad input, 75 incomplete.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        From `parser_for`.
    run : callable
        Gets the card and the options, returns an exit code or None (complete).
    together : bool
        Whether several processes, started by torchrun, can share the work; else they are refused.
    """
    if "--print-card" in sys.argv[1:]:
        _waive_other_options(parser)
    options = parser.parse_args()

    def step() -> int | None:
        if together:
            _speak_for(launch_of())
        else:
            _refuse_torchrun(parser.prog)
        card = card_of(options)
        return EXIT_COMPLETE if card is None else run(card, options)

    with usage_left():
        code = exit_code_of(step, verbose=options.verbose)
    sys.exit(code)


def _speak_for(launch: Launch) -> None:
    """Let the first of several processes tell how the work goes on, the others, by rank, only what is wrong."""
    if launch.rank:
        log.setLevel(logging.WARNING)
        for handler in logging.getLogger().handlers:
            handler.setFormatter(logging.Formatter(f"%(asctime)s rank {launch.rank}: %(message)s", TIME))


def _refuse_torchrun(command: str) -> None:
    """Refuse to do the same work several times over (srun may start independent commands side by side)."""
    launch = launch_of()
    if launch.by == "torchrun":
        raise UserError(f"{launch.size} processes were started, but this work is for one: run `{command}` by itself")


def _waive_other_options(parser: argparse.ArgumentParser) -> None:
    """Let a card be looked at without the options that running the command would need."""
    for action in parser._actions:
        action.required = action.required and action.dest == "card"


def exit_code_of(step: Callable[[], int | None], verbose: bool = False) -> int:
    """Run a step with logging set up; turn the named errors into messages and exit codes.

    A bug keeps its traceback and leaves through Python's own exit code 1. A reader that has seen enough of the output
    (`| head`) ends the command without a word.
    """
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(message)s", datefmt=TIME
    )
    for noisy in ("matplotlib", "PIL", "fsspec", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return step() or EXIT_COMPLETE
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except Incomplete as error:
        print(f"incomplete: {error}", file=sys.stderr)
        return EXIT_INCOMPLETE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at exit
        return EXIT_COMPLETE


def card_of(options: argparse.Namespace) -> Card | None:
    """Read the card that the options name; with `--print-card`, print it and return None.

    Raises
    ------
    CardError
        When the card can't be read or has problems.
    """
    from pfnano_tag.card.reading import read_card

    card = read_card(options.card, options.set)
    if options.print_card:
        from pfnano_tag.card.showing import resolved_yaml

        print(resolved_yaml(card), end="")
        return None
    log.info("card %s, study %s, hash %s", options.card, card.study.name, card.hash()[:12])
    return card


def progress(
    items: Iterable[Item],
    total: int | None = None,
    description: str = "",
    unit: str = "items",
    level: int = logging.INFO,
    size: Callable[[Item], int] | None = None,
    note: Callable[[], str] | None = None,
) -> Iterator[Item]:
    """Yield items under a progress bar; where stderr is no terminal, a plain line every tenth of the way.

    There is no bar where this process does not tell how the work goes on (`_speak_for`).

    Parameters
    ----------
    items : iterable
        What is worked on.
    total : int or None
        How many there are; None: no plain lines.
    description, unit : str
        Words before and after the numbers; the unit in plural.
    level : int
        Level of the plain lines in the log: DEBUG where the work's own lines say enough.
    size : callable or None
        How many units an item is; None: one.
    note : callable or None
        What the bar says of the work so far, asked after each item.
    """
    if sys.stderr.isatty() and log.level <= logging.INFO:
        from tqdm import tqdm

        with tqdm(total=total, desc=description, unit=f" {unit}", leave=False, dynamic_ncols=True) as bar:
            for item in items:
                yield item
                if note is not None:
                    bar.set_postfix_str(note(), refresh=False)
                bar.update(1 if size is None else size(item))
        return
    done = said = 0
    for item in items:
        yield item
        done += 1 if size is None else size(item)
        tenths = done * 10 // total if total else 0
        if tenths > said:
            said = tenths
            log.log(level, "%s %d/%d %s", description, done, total, unit)
