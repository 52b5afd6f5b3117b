"""A submission: some items of a job folder, handed to a batch system once.

`submissions/001.json` in the job folder says which items, with which memory, and under which names the batch system
knows them; the files that the batch system reads are beside it.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pfnano_tag.card.output import write_json
from pfnano_tag.errors import StudyError
from pfnano_tag.submit.jobfolder import JobFolder

TIMEOUT = 120
"""Seconds that a batch system may take for an answer."""
TIMED_OUT = re.compile(r"timed out|zero bytes were transmitted", re.IGNORECASE)
"""In the words of a batch system's command that gave up waiting for the batch system."""


class NoAnswer(StudyError):
    """A batch system gave no answer: whether it has done what it was asked for is not known."""


@dataclass(frozen=True)
class Submission:
    """Items that were, or are to be, handed to a batch system together.

    Parameters
    ----------
    number : int
        Counted from 1 in the job folder.
    indices : tuple of int
        The items.
    memory : tuple of int
        Memory of each [MB].
    ids : tuple of str
        Names by which the batch system knows the submission; empty before it was asked.
    """

    number: int
    indices: tuple[int, ...]
    memory: tuple[int, ...]
    ids: tuple[str, ...] = ()

    def place(self, job: JobFolder, ending: str) -> Path:
        """Return the path of a file of the submission in the job folder."""
        return job.path / "submissions" / f"{self.number:03d}{ending}"

    def write(self, job: JobFolder) -> None:
        """Write the submission down."""
        write_json(self.place(job, ".json"), asdict(self))


def submissions_of(job: JobFolder) -> list[Submission]:
    """Return the submissions of a job folder, in order.

    Raises
    ------
    StudyError
        When one can't be read.
    """
    found = []
    for path in sorted((job.path / "submissions").glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            lists = {key: tuple(content[key]) for key in ("indices", "memory", "ids")}
            found.append(Submission(content["number"], **lists))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StudyError(f"{path}: can't be read as a submission: {error}") from error
    return found


def next_submission(job: JobFolder, indices: Sequence[int], memory: Sequence[int]) -> Submission:
    """Return the submission that comes next."""
    number = max((one.number for one in submissions_of(job)), default=0) + 1
    return Submission(number, tuple(indices), tuple(memory))


def ask(
    command: Sequence[str],
    seconds: float | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command of a batch system; return what it says (`answer`)."""
    return answer(command, seconds, cwd, environment)[0]


def answer(
    command: Sequence[str],
    seconds: float | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[str, str]:
    """Run a command of a batch system; return what it says, and what it warns of.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    seconds : float, optional
        How long it may take; `TIMEOUT` when not given.
    cwd : Path, optional
        Where it runs; here when not given.
    environment : mapping of str, optional
        Its variables; those of this process when not given.

    Raises
    ------
    NoAnswer
        When it gives no answer in time, or says that it got none itself.
    StudyError
        When there is no such command, or it fails; with its words.
    """
    seconds = TIMEOUT if seconds is None else seconds
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            cwd=cwd,
            env=environment,
        )
    except FileNotFoundError as error:
        raise StudyError(f"{command[0]}: no such command here; is it a submit machine?") from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"{command[0]}: no answer within {seconds:g} s; is the batch system up?") from error
    if done.returncode != 0:
        said = " ".join((done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-5:])
        kind = NoAnswer if TIMED_OUT.search(said) else StudyError
        raise kind(f"{command[0]}: exit code {done.returncode}: {said}")
    return done.stdout, done.stderr
