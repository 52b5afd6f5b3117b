"""The few named errors that users see, and the exit codes they end a command with.

A command ends with 0 when complete, 2 on bad input (`UserError`: one clear message, nothing written),
75 when it is incomplete but can continue (`Incomplete`), and 1 on a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_COMPLETE = 0
EXIT_BAD_INPUT = 2
EXIT_INCOMPLETE = 75


class UserError(Exception):
    """Something the user can mend: a card, an option, a file, a checkpoint. Exit code 2."""


class CardError(UserError):
    """The study card is wrong; the message lists every problem at once."""


class FileError(UserError):
    """A named file can't be opened or read at all."""


class MissingBranch(UserError):
    """A file lacks branches that something asked for; the message names all of them."""


class CheckpointError(UserError):
    """A model checkpoint is missing, damaged, not ours, or does not fit."""


class OutputError(UserError):
    """An output can't or must not be written (equal to an input, folder missing, in use)."""


class StudyError(UserError):
    """The study folder belongs to another card, or lacks what an earlier command writes."""


class DataError(UserError):
    """The content of the files makes the step impossible (say, a class without jets)."""


class MissingExtra(UserError):
    """An optional dependency is not installed; the message names the extra to install."""


class BadChunk(Exception):
    """One entry range of a file can't be read or makes no sense; the stage counts it and goes on.

    Parameters
    ----------
    path : str
        The file.
    start, stop : int
        Entry range, stop excluded.
    reason : str
        What was found.
    events : str
        `run:lumi:event` of the first and last event, where they are known.
    """

    def __init__(self, path: str, start: int, stop: int, reason: str, events: str = "") -> None:
        named = f" (events {events})" if events else ""
        super().__init__(f"{path}, entries {start} to {stop}{named}: {reason}")
        self.path, self.start, self.stop, self.reason, self.events = path, start, stop, reason, events

    def __reduce__(self) -> tuple[type[BadChunk], tuple[str, int, int, str, str]]:
        """Survive the way back from a worker process with all fields."""
        return type(self), (self.path, self.start, self.stop, self.reason, self.events)

    def to_json(self) -> dict[str, int | str]:
        """Return what a result says of the range that it lacks."""
        return {"start": self.start, "stop": self.stop, "reason": self.reason, "events": self.events}


class Incomplete(Exception):
    """The command did all it could, saved it, and says what is missing. Exit code 75."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known names most like `name`, best first.

    Parameters
    ----------
    name : str
        What was asked for.
    known : iterable of str
        What there is.
    count : int
        How many to return at most.

    Returns
    -------
    list of str
        Possibly empty.
    """
    folded: dict[str, str] = {}
    for candidate in known:
        folded.setdefault(candidate.lower(), candidate)
    close = difflib.get_close_matches(name.lower(), folded, n=count, cutoff=0.5)
    return [folded[match] for match in close]
