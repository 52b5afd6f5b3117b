"""One file by several jobs: each does a part of the plan's chunks, and one run puts the parts together.

`H.root.part2of5/` is a ledger (`ledger`) with the chunks of the second of five parts, and `part.json`, which says
what it is. Nothing is summed there: sums, dropped luminosity sections and lost chunks of a file are known when all
its chunks are, and the result is that of a single job to the last bit. Imports nothing heavy: batch jobs are split
with it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pfnano_tag.analyze.stopping import Stopped
from pfnano_tag.card.output import write_json
from pfnano_tag.errors import CardError, Incomplete, StudyError, UserError

if TYPE_CHECKING:  # the runner of a job imports this module, and waits with little memory
    from pfnano_tag.card.card import Card

log = logging.getLogger(__name__)

NAME = re.compile(r"^(?P<output>.+)\.part(?P<number>\d+)of(?P<of>\d+)$")
ABOUT = "part.json"


@dataclass(frozen=True)
class Part:
    """Which of a file's parts.

    Parameters
    ----------
    number : int
        Counted from 1.
    of : int
        How many there are.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise CardError(f"part {self}: expected K/N with K from 1 to N, say 2/5")

    @classmethod
    def parse(cls, text: str) -> Part:
        """Return the part of a text like 2/5.

        Raises
        ------
        CardError
            When it is no such text.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None:
            raise CardError(f"part {text}: expected K/N, the K-th of N parts, say 2/5")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def folder(self, output: Path) -> Path:
        """Return where the part of an output is kept: beside it."""
        return output.with_name(f"{output.name}.part{self.number}of{self.of}")

    def chunks(self, count: int) -> range:
        """Return the numbers of its chunks, of so many: neighbours, as many as in the other parts, or one more."""
        return range((self.number - 1) * count // self.of, self.number * count // self.of)


def ledger_folder(output: Path) -> Path:
    """Return the folder of the ledger of an output."""
    return output.with_name(output.name + ".ledger")


def output_of(folder: Path) -> Path | None:
    """Return the output that a folder has a part of; None where it has none."""
    found = NAME.match(folder.name)
    return None if found is None else folder.with_name(found["output"])


@dataclass(frozen=True)
class Kept:
    """A part that is there.

    Parameters
    ----------
    folder : Path
        With its ledger.
    part : Part
        Which one.
    dataset, file : str
        What it was made of.
    models : tuple of str or None
        Networks, as they were asked for; None: all of the card.
    ended : bool
        Whether all its chunks were tried; else it is in work, was killed, or was told to stop.
    """

    folder: Path
    part: Part
    dataset: str
    file: str
    models: tuple[str, ...] | None
    ended: bool = False

    def write(self) -> None:
        """Write down what the folder is."""
        about = {"part": str(self.part), "dataset": self.dataset, "file": self.file, "models": self.models}
        write_json(self.folder / ABOUT, {**about, "ended": self.ended})

    @classmethod
    def read(cls, folder: Path) -> Kept:
        """Return the part in a folder.

        Raises
        ------
        StudyError
            When it does not say what it is.
        """
        try:
            about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            models = None if about["models"] is None else tuple(about["models"])
            part, ended = Part.parse(about["part"]), bool(about["ended"])
            return cls(folder, part, about["dataset"], about["file"], models, ended)
        except (OSError, ValueError, KeyError, TypeError, CardError) as error:
            raise StudyError(f"{folder / ABOUT}: can't be read ({error}); remove the folder") from error


def has_ended(folder: Path) -> bool:
    """Return whether a folder has a part all chunks of which were tried."""
    try:
        return Kept.read(folder).ended
    except StudyError:
        return False


def only_in_parts(folder: Path) -> list[Path]:
    """Return the outputs of which a dataset's folder has parts, but not the whole."""
    return [output for output in _by_output(folder) if not output.is_file()]


def join_parts(card: Card) -> None:
    """Put together the files of a study of which all parts are there; say what is missing of others.

    Parameters
    ----------
    card : Card
        The study's card.

    Raises
    ------
    Stopped
        When it is told to stop.
    """
    found = [item for place in sorted((card.folder / "analysis").glob("*/")) for item in _by_output(place).items()]
    for output, folders in found:
        try:
            kept = [Kept.read(folder) for folder in folders if folder.exists()]  # others may join, too
        except StudyError as error:
            log.warning("%s: its parts can't be put together here: %s", output, error)
            continue
        groups = _groups(output, kept)
        if not groups and kept and not output.is_file():
            log.warning("%s: %s", output, waiting(kept))
        for some, whole in groups:
            _join(card, output, some, whole)


def waiting(kept: Sequence[Kept]) -> str:
    """Return what is there of a file that waits for more, in words."""
    done = ", ".join(str(one.part) for one in kept if one.ended)
    begun = ", ".join(str(one.part) for one in kept if not one.ended)
    have = f"parts {done} are there" if done else "no part is done"
    return f"{have}, it waits for the others" + (f" (begun or stopped: {begun})" if begun else "")


def _join(card: Card, output: Path, kept: Sequence[Kept], whole: bool) -> None:
    from pfnano_tag.analyze.joining import join  # with torch: only where there is something to do

    try:
        join(card, output, kept, whole)
    except Stopped:
        raise
    except Incomplete as error:
        named = "" if str(output) in str(error) else f"{output}: "
        log.warning("%s%s", named, error)
    except UserError as error:
        log.warning("%s: its parts can't be put together here: %s", output, error)


def _by_output(folder: Path) -> dict[Path, list[Path]]:
    """Return the outputs of which a folder has parts, with the parts' folders."""
    found: dict[Path, list[Path]] = {}
    for place in sorted(folder.glob("*.part*of*")):
        output = output_of(place)
        if output is not None and (place / ABOUT).exists():
            found.setdefault(output, []).append(place)
    return found


def _groups(output: Path, kept: Sequence[Kept]) -> list[tuple[list[Kept], bool]]:
    """Return parts that go together, each with whether they are a whole; others only where there is an output."""
    ended = sorted((one for one in kept if one.ended), key=lambda one: (one.part.of, one.part.number))
    splittings: dict[Any, list[Kept]] = {}
    for one in ended:
        splittings.setdefault((one.part.of, one.models), []).append(one)
    wholes = [some for (of, _), some in splittings.items() if len(some) == of]
    if wholes or not output.is_file():
        return [(some, True) for some in wholes]
    late: dict[Any, list[Kept]] = {}  # they may have what the output lacks
    for one in ended:
        late.setdefault(one.models, []).append(one)
    return [(some, False) for some in late.values()]
