"""Which jets a discriminant of `infer.discriminants` compares, and which classes make a family of flavours.

Shape suffixes: J jets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.infer.discriminants import B_FLAVOURS, C_FLAVOURS, DISCRIMINANTS, places


def compared(name: str, label_J: NDArray[np.integer], classes: Sequence[str]) -> tuple[NDArray, NDArray]:
    """Return which jets a discriminant compares, and which of all jets are its signal.

    Parameters
    ----------
    name : str
        Key of `DISCRIMINANTS`.
    label_J : ndarray of int [J]
        Index of the true class.
    classes : sequence of str
        Classes.

    Returns
    -------
    chosen, signal : ndarray of bool [J]
        The vetoed flavour is in neither.
    """
    definition = DISCRIMINANTS[name]
    signal_J = np.isin(label_J, places(definition.signal, classes))
    return signal_J | np.isin(label_J, places(definition.background, classes)), signal_J


def families(classes: Sequence[str]) -> Mapping[str, list[int]]:
    """Return the class indices of b (with bb and lepb), c, uds and g."""
    groups = {"b": B_FLAVOURS, "c": C_FLAVOURS, "uds": ("uds",), "g": ("g",)}
    return {name: places(flavours, classes) for name, flavours in groups.items()}
