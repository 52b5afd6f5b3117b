"""Section `splitting`: training, validation and test events."""

from __future__ import annotations

from pydantic import field_validator

from pfnano_tag.card.base import Section


class Splitting(Section):
    """Fractions of the events, split by a hash of their identity."""

    fractions: tuple[float, float, float] = (0.72, 0.08, 0.20)
    """Training, validation and test."""

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
            raise ValueError(f"three positive fractions that sum to 1 are needed, not {list(fractions)}")
        return fractions
