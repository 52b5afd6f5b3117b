"""What a chain consists of, as far as that is known before any of it has run."""

from __future__ import annotations

from collections.abc import Sequence

from pfnano_tag.card.card import Card
from pfnano_tag.errors import CardError
from pfnano_tag.submit.grouping import grouping_of
from pfnano_tag.submit.split import items_of

STAGES = ("generate", "prepare", "train", "analyze", "compare")
"""What a chain may hold, in this order."""
USUAL = STAGES[1:]


def planned(card: Card, stages: Sequence[str] = USUAL, models: Sequence[str] | None = None) -> dict[str, int | None]:
    """Return the stages of a chain in their order, and how many jobs each has; None where that is not known yet.

    Raises
    ------
    CardError
        When a stage or model is unknown.
    UserError
        When it is known by now that a stage has nothing to do, or a model is there already.
    """
    ordered = [stage for stage in STAGES if stage in stages]
    if len(ordered) != len(stages) or not ordered:
        raise CardError(
            f"--stages {','.join(stages)}: expected some of {', '.join(STAGES)}, with commas between them"
        )
    for name in card.models_named(models):
        card.training_of(name.partition(":")[0])  # says which models the card has
    unknown = "generate" in ordered  # files that are not there yet
    return {
        stage: None
        if stage == "compare" or (unknown and stage in ("prepare", "analyze"))
        else len(items_of(card, stage, (), models_of(stage, models), grouping_of(card, stage)))
        for stage in ordered
    }


def describe_chain(card: Card, backend: str, stages: Sequence[str], models: Sequence[str] | None) -> str:
    """Return what a chain would do; nothing is written."""
    place = "in the last link job" if backend == "slurm" else "on this machine"
    lines = [f"chain for {backend}"]
    for stage, count in planned(card, stages, models).items():
        if stage == "compare":
            lines.append(f"compare: {place}, with all results that there are")
            continue
        slot = card.submit.slot(stage)
        jobs = "one job per file" if count is None else f"{count} jobs"
        lines.append(f"{stage}: {jobs}, each {slot.memory} MB of memory, {slot.time} minutes")
    return "\n".join(lines)


def models_of(stage: str, models: Sequence[str] | None) -> Sequence[str] | None:
    """Return the networks that a stage is told of: only two work on networks."""
    return models if stage in ("train", "analyze") else None
