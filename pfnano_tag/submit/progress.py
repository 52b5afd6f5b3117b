"""How far a job of `analyze` is, from the ledgers in its item's folder."""

from __future__ import annotations

import json
from pathlib import Path

from pfnano_tag.analyze.parts import Part
from pfnano_tag.submit.items import Item

Counts = tuple[int, int] | None
"""Done and all; None where nothing is known."""


def counted(folder: Path, item: Item) -> tuple[Counts, Counts]:
    """Return events and chunks that are done, and how many there are in the files that were begun.

    Parameters
    ----------
    folder : Path
        The item's folder.
    item : Item
        What is done in it.
    """
    events, chunks, known = [0, 0], [0, 0], False
    for step in item.steps:
        ledger = step.ledger(folder)
        if ledger is None:
            continue
        try:
            stored = json.loads((ledger / "plan.json").read_text(encoding="utf-8"))
            plan = [(int(start), int(stop)) for start, stop in stored["plan"]]
            finished = stored["finished"] is not None
        except (OSError, ValueError, KeyError, TypeError):
            continue
        known = True
        own = range(len(plan)) if step.part is None else Part.parse(step.part).chunks(len(plan))
        sizes = {number: plan[number][1] - plan[number][0] for number in own}
        done = [number for number in own if finished or (ledger / f"chunk_{number:05d}.npz").exists()]
        events = [events[0] + sum(sizes[number] for number in done), events[1] + sum(sizes.values())]
        chunks = [chunks[0] + len(done), chunks[1] + len(own)]
    return ((events[0], events[1]), (chunks[0], chunks[1])) if known else (None, None)
