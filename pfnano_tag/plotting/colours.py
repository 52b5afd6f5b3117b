"""Colours and names of flavours and models, the same in every picture.

Flavours as in the data/simulation plots of BTV (cms-btv-pog/BTVNanoCommissioning, plotdataMC); bb and lepb are
shades of b. Models take colours of M. Petroff's sequences (arXiv:2107.02270), which colour-blind readers can tell
apart and which differ from those of the flavours that stand next to them.
"""

from __future__ import annotations

from collections.abc import Iterable

FLAVOUR_COLOURS: dict[str, str] = {
    "b": "#fcb302",
    "bb": "#b27d00",
    "lepb": "#ffdf80",
    "c": "#ed1e02",
    "uds": "#15a3ef",
    "udsg": "#15a3ef",
    "light": "#15a3ef",
    "s": "#209A24",
    "g": "#7a21dd",
    "pu": "#717581",
}

FLAVOUR_NAMES: dict[str, str] = {
    "lepb": "b (leptonic)",
    "udsg": "udsg",
    "light": "udsg",
    "pu": "pile-up",
}

MODEL_COLOURS = ("#3f90da", "#bd1f01", "#832db6", "#e76300", "#2f7d32", "#717581", "#a96b59", "#92dadd")
LINE_STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STORED_COLOURS = ("#111111", "#777777", "#aaaaaa")


def flavour_colour(flavour: str) -> str:
    """Return a flavour's colour; grey for one that has none."""
    return FLAVOUR_COLOURS.get(flavour, "#717581")


def flavour_name(flavour: str) -> str:
    """Return how a flavour is called in a legend."""
    return FLAVOUR_NAMES.get(flavour, flavour)


def model_colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each model, by its place in the list (repeating after eight)."""
    return {name: MODEL_COLOURS[i % len(MODEL_COLOURS)] for i, name in enumerate(names)}
