"""Items of a job folder: what one job does, and what it must leave.

Imports nothing heavy: the runner of a job reads them, and waits with little memory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pfnano_tag.analyze.parts import Part, ledger_folder, output_of


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
    part : str or None
        For option `--part`: K/N, where several jobs share a file.
    """

    arguments: tuple[str, ...]
    file: str | None = None
    output: str | None = None
    part: str | None = None

    def ledger(self, folder: Path) -> Path | None:
        """Return where the ledger of the call is, in an item's folder; None where it keeps none."""
        if self.output is None:
            return None
        output = folder / self.output
        return ledger_folder(output) if self.part is None else Part.parse(self.part).folder(output)


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

    def gone(self, study: Path) -> list[str]:
        """Return which outputs are not in a study; a part may have been put together with others since."""
        return [name for name in self.outputs if not ((study / name).exists() or _whole_is_there(study / name))]

    def to_json(self) -> dict[str, Any]:
        """Return the item as JSON content."""
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> Item:
        """Return an item from JSON content."""
        steps = tuple(Step(tuple(step.pop("arguments")), **step) for step in map(dict, content["steps"]))
        return Item(content["index"], content["name"], steps, tuple(content["outputs"]))


def _whole_is_there(place: Path) -> bool:
    whole = output_of(place)
    return whole is not None and whole.exists()
