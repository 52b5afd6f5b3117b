"""Items of a job folder: what one job does, and what it must leave.

Imports nothing heavy: the runner of a job reads them, and waits with little memory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One call of a stage.

    Parameters
    ----------
    arguments : tuple of str
        Options of `python -m pfnano_tag.<stage> CARD`, but those below.
    file : str or None
        For option `--file`: absolute path or address, replicas separated by `|`.
    output : str or None
        For option `--output`: a path below the item's folder.
    """

    arguments: tuple[str, ...]
    file: str | None = None
    output: str | None = None


@dataclass(frozen=True)
class Item:
    """What one job does.

    Parameters
    ----------
    index : int
        Position in the list of items; the name of the item's folder.
    name : str
        For people, different for each item: `dy/file`, `ttbar:0`, or the name of a network.
    steps : tuple of Step
        Calls of the stage, one after the other.
    outputs : tuple of str
        What must be there when the item is complete: paths relative to the study's folder, which are those relative
        to the item's folder.
    """

    index: int
    name: str
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the item as JSON content."""
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> Item:
        """Return an item from JSON content."""
        steps = tuple(Step(tuple(step["arguments"]), step["file"], step["output"]) for step in content["steps"])
        return Item(content["index"], content["name"], steps, tuple(content["outputs"]))
