"""What the steps of a chain write down, and `status` reads: `steps.txt` in the chain's folder, one step per line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pfnano_tag.errors import EXIT_BAD_INPUT, StudyError, UserError

STEPS = "steps.txt"
SUBMITTED = ("submitted", -1)
"""Stands for the chain's being submitted, again perhaps: what is behind it counts."""


def note(chain: Path, step: str, code: int) -> None:
    """Write down how a step ended.

    Parameters
    ----------
    chain : Path
        The chain's folder.
    step : str
        `before prepare`, say.
    code : int
        Its exit code.
    """
    with (chain / STEPS).open("a", encoding="utf-8") as steps:
        steps.write(f"{step} {code}\n")


@contextmanager
def submission(chain: Path) -> Iterator[None]:
    """Write down that a chain is being submitted, before any of it runs; and that it was not, when that fails."""
    note(chain, *SUBMITTED)
    try:
        yield
    except UserError:
        note(chain, "submission", EXIT_BAD_INPUT)
        raise


def steps_of(chain: Path) -> list[tuple[str, int]] | None:
    """Return the steps since the chain was submitted last, with their exit codes; None when it never was.

    Raises
    ------
    StudyError
        When they can't be read.
    """
    try:
        lines = (chain / STEPS).read_text(encoding="utf-8").splitlines()
        steps = [(step, int(code)) for step, _, code in (line.rpartition(" ") for line in lines)]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StudyError(f"{chain / STEPS}: can't be read as steps of a chain: {error}") from error
    begun = max((place for place, step in enumerate(steps) if step == SUBMITTED), default=-1)
    return steps[begun + 1 :]
