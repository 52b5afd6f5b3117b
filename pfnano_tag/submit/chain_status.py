"""How far the chains of a study are: from what their steps wrote down, and from what is in the queue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pfnano_tag.card.card import Card
from pfnano_tag.errors import EXIT_COMPLETE, StudyError
from pfnano_tag.submit.chain import Chain, read_chain
from pfnano_tag.submit.steps import steps_of

LAST_LINES = 200
"""Lines of a chain's log in which the last error is looked for."""


@dataclass(frozen=True)
class ChainStatus:
    """How far a chain is.

    Parameters
    ----------
    chain : Path
        Its folder.
    stages : tuple of str
        What it consists of.
    condition : str
        waiting (nothing of it has begun), under way, stopped or complete.
    why : str
        The last step; where it stopped, and what is wrong.
    """

    chain: Path
    stages: tuple[str, ...]
    condition: Literal["waiting", "under way", "stopped", "complete"]
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the status as JSON content."""
        return {**asdict(self), "chain": str(self.chain)}

    def __str__(self) -> str:
        """Return the status in words."""
        text = f"{self.chain.name} ({', '.join(self.stages)}): {self.condition}"
        return f"{text}; {self.why}" if self.why else text


def chain_statuses(card: Card) -> list[ChainStatus]:
    """Return how far each chain of a study is that a batch system does; those of this machine run in the foreground.

    Raises
    ------
    StudyError
        When a chain can't be read.
    """
    found = (read_chain(path.parent) for path in sorted((card.folder / "jobs").glob("*/chain.json")))
    return [status_of_chain(chain) for chain in found if chain.backend != "local"]


def status_of_chain(chain: Chain) -> ChainStatus:
    """Return how far a chain is."""
    steps = steps_of(chain.path)
    if steps is None:
        return ChainStatus(chain.path, chain.stages, "waiting")
    for step, code in steps:
        if code != EXIT_COMPLETE:
            why = f"'{step}' ended with exit code {code}: {_error_of(chain, step)} (log: {chain.path / 'log.txt'})"
            return ChainStatus(chain.path, chain.stages, "stopped", why)
    last = steps[-1][0] if steps else "submitted"
    final = "before compare" if chain.stages[-1] == "compare" else f"after {chain.stages[-1]}"
    if last == final:
        return ChainStatus(chain.path, chain.stages, "complete")
    lost = _lost(chain)
    if lost:
        why = f"behind '{last}' nothing of it is in the queue any more{lost}; `submit chain --folder` goes on"
        return ChainStatus(chain.path, chain.stages, "stopped", why)
    return ChainStatus(chain.path, chain.stages, "under way", f"last step: {last}")


def _error_of(chain: Chain, step: str) -> str:
    """Return what a step said is wrong: steps behind it may have said more."""
    lines = _log(chain.path / "log.txt")
    begun = max((place for place, line in enumerate(lines) if line.endswith(f" {step}")), default=-1)
    lines = lines[begun + 1 :]
    said = [line for line in lines if line.startswith(("error: ", "incomplete: "))]
    return next(iter(said), next(iter(reversed(lines)), "no message"))


def _lost(chain: Chain) -> str:
    """Return how the last of a chain ended, where none of it is in the queue; else nothing."""
    if chain.backend == "condor":
        return _lost_dag(chain)
    from pfnano_tag.submit.dependencies import in_queue, links

    try:
        if in_queue(chain):
            return ""
        ended = [f"{name}: {now.why}" for name, now in links(chain).items() if now.why]
    except StudyError:  # SLURM gives no answer, which the status of the jobs says
        return ""
    return f" ({'; '.join([*ended, *_words(chain)])})"


def _lost_dag(chain: Chain) -> str:
    from pfnano_tag.submit.dag import DAG, in_queue

    try:
        return "" if in_queue(chain) else f" (DAGMan's log: {chain.path / DAG}.dagman.out)"
    except StudyError:  # as above
        return ""


def _words(chain: Chain) -> Iterator[str]:
    """Yield what SLURM wrote last into the log of the links."""
    said = [line for line in _log(chain.path / "links.out") if line.startswith("slurmstepd")]
    yield from said[-1:]


def _log(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    except FileNotFoundError:
        return []
