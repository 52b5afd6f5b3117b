"""The systematic axis: names of all variations of a job, those of weights first, then those of objects."""

from __future__ import annotations

from pfnano_tag.analyze.result import NOMINAL
from pfnano_tag.card import Card


def names_of(card: Card, kind: str) -> tuple[str, ...]:
    """Return the systematic axis of a dataset's kind: `nominal`, then the variations that simulation has."""
    return (NOMINAL,) if kind == "data" else (NOMINAL, *card.weights.variations, *card.systematics)
