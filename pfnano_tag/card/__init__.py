"""The study card: one file per section, frozen validated models.

Reads: a YAML 1.2 file (or a shipped card by name) and `key=value` overrides.
Guarantees: unknown keys, wrong types and duplicate keys are errors, all reported at once; every key but
`study.name` and `datasets` has a default; a hash of any sections identifies what a result was made with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfnano_tag.card.card import Card
    from pfnano_tag.card.reading import read_card

__all__ = ["Card", "read_card"]


def __getattr__(name: str) -> Any:
    """Import pydantic only when a card is used, so that `--help` answers at once."""
    if name == "Card":
        from pfnano_tag.card.card import Card

        return Card
    if name == "read_card":
        from pfnano_tag.card.reading import read_card

        return read_card
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
