"""Submitting what is missing once more, with more memory where memory was what it lacked."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pfnano_tag.card.card import Card
from pfnano_tag.submit.engines import engine_of
from pfnano_tag.submit.jobfolder import JobFolder
from pfnano_tag.submit.status import Condition, ItemStatus, JobStatus, memory_asked
from pfnano_tag.submit.submission import Submission, next_submission

log = logging.getLogger(__name__)

AGAIN: tuple[Condition, ...] = ("held", "incomplete", "failed", "lost", "waiting")
"""Conditions from which an item does not come by itself."""
GROWTH = 2
"""What the memory is multiplied by where there was too little."""


def missing(status: JobStatus) -> tuple[ItemStatus, ...]:
    """Return the items that need to be submitted once more."""
    return tuple(item for item in status.items if item.condition in AGAIN)


def resubmission(card: Card, job: JobFolder, items: Sequence[ItemStatus]) -> Submission:
    """Return the submission of items that are missing.

    Parameters
    ----------
    card : Card
        The study's card; what a job asks for is taken from it as it is now.
    job : JobFolder
        The items' job folder.
    items : sequence of ItemStatus
        From `missing`.
    """
    asked, slot = memory_asked(job), card.submit.slot(job.stage)
    memory = []
    for item in items:
        least = max(slot.memory or 0, asked.get(item.index, 0))
        more = min(GROWTH * least, card.submit.max_memory) if item.memory_short else least
        if item.memory_short and more <= asked.get(item.index, 0):
            log.warning("%s: lacked memory with %d MB, which is submit.max_memory already: raise it", item.name, more)
        memory.append(more)
    return next_submission(job, [item.index for item in items], memory)


def take_out(job: JobFolder, items: Sequence[ItemStatus]) -> None:
    """Take held items out of the queue, before they are submitted once more."""
    held = [item.index for item in items if item.condition == "held"]
    if held:
        engine_of(job.backend).remove(job, held)
