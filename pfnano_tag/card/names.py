"""Names that a card gives to things: of models, attacks, regions, variations, factors, variables, columns."""

from __future__ import annotations

import re
from typing import TypeVar

NAME = r"[A-Za-z][A-Za-z0-9_]*"

Named = TypeVar("Named")


def sound_names(named: dict[str, Named]) -> dict[str, Named]:
    """Return a mapping unchanged; `ValueError` when a key of it is no name."""
    for name in named:
        if not re.fullmatch(NAME, name):
            raise ValueError(f"{name!r} is no name: letters, digits and `_`, starting with a letter")
    return named
