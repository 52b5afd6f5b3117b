"""What `submit` asks of a batch system; HTCondor, SLURM and this machine answer, each in a file of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from pfnano_tag.card.card import Card
from pfnano_tag.submit.jobfolder import JobFolder
from pfnano_tag.submit.submission import Submission

State = Literal["idle", "running", "held", "gone"]


@dataclass(frozen=True)
class Known:
    """What a batch system says of an item.

    Parameters
    ----------
    state : str
        idle, running, held, or gone: it has left the queue.
    why : str
        Why it is held, or how it ended, in the batch system's words; may be empty.
    memory_short : bool
        Whether it was held or ended for want of memory.
    memory : int
        What it asks for [MB]; 0 where that is not known.
    """

    state: State
    why: str = ""
    memory_short: bool = False
    memory: int = 0


class Engine(Protocol):
    """A batch system."""

    def write(self, card: Card, job: JobFolder, submission: Submission) -> str:
        """Write what the batch system reads; return the command that submits, for people."""

    def submit(self, card: Card, job: JobFolder, submission: Submission) -> Submission:
        """Hand the items over; return the submission with the names it got.

        Raises
        ------
        StudyError
            When the batch system is not there, gives no answer, or refuses; with its words.
        """

    def states(self, job: JobFolder) -> Mapping[int, Known]:
        """Return what is known of each item that was handed over, by its index.

        Raises
        ------
        StudyError
            When the batch system is not there, or gives no answer.
        """

    def remove(self, job: JobFolder, indices: Iterable[int]) -> None:
        """Take items out of the queue, say held ones."""


def engine_of(backend: str) -> Engine:
    """Return the batch system of a name: condor, slurm or local."""
    if backend == "condor":
        from pfnano_tag.submit.condor import Condor

        return Condor()
    if backend == "slurm":
        from pfnano_tag.submit.slurm import Slurm

        return Slurm()
    from pfnano_tag.submit.local import Local

    return Local()
