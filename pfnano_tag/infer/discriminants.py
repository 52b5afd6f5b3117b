"""Discriminants: likelihood ratios of two families of flavours, from a network's output nodes.

Definitions as in cms-btv-pog/BTVNanoCommissioning and cms-sw/cmssw:PhysicsTools/NanoAOD (jetsAK4): with
B = b + bb + lepb and L = uds + g, BvsL = B/(B+L), CvsB = c/(c+B), CvsL = c/(c+L), BvsC = B/(B+c),
QvsG = uds/(uds+g). Beware that the stored `btagDeepFlavQG` is the complement, g/(g+uds).

Shape suffixes: J jets, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

B_FLAVOURS = ("b", "bb", "lepb")
C_FLAVOURS = ("c",)
LIGHT_FLAVOURS = ("uds", "g")

UNDEFINED = -1.0
"""Value of a discriminant whose denominator is not above zero (as in NanoAOD); it counts as the lowest score."""


@dataclass(frozen=True)
class Discriminant:
    """Signal and background flavours; jets of any other flavour are vetoed where the two are compared.

    Parameters
    ----------
    signal, background : tuple of str
        Flavours. Those that the classes of a network merge into others are passed over.
    signal_name, background_name : str
        For axis labels.
    """

    signal: tuple[str, ...]
    background: tuple[str, ...]
    signal_name: str
    background_name: str


DISCRIMINANTS: dict[str, Discriminant] = {
    "BvsL": Discriminant(B_FLAVOURS, LIGHT_FLAVOURS, "b", "udsg"),
    "CvsB": Discriminant(C_FLAVOURS, B_FLAVOURS, "c", "b"),
    "CvsL": Discriminant(C_FLAVOURS, LIGHT_FLAVOURS, "c", "udsg"),
    "BvsC": Discriminant(B_FLAVOURS, C_FLAVOURS, "b", "c"),
    "QvsG": Discriminant(("uds",), ("g",), "uds", "g"),
}


def discriminant(name: str, probabilities_JK: NDArray[np.floating], classes: Sequence[str]) -> NDArray[np.float64]:
    """Return a discriminant of each jet.

    Parameters
    ----------
    name : str
        Key of `DISCRIMINANTS`.
    probabilities_JK : ndarray [J, K]
        Output nodes; they need not sum to one.
    classes : sequence of str
        Flavour of each column.

    Returns
    -------
    ndarray of float64 [J]
        0 to 1, or -1 where the denominator is not above zero (or not a number), and for all jets where the classes
        hold no flavour of one side apart.
    """
    definition = DISCRIMINANTS[name]
    nodes_JK = np.asarray(probabilities_JK, dtype=np.float64)
    signal, background = places(definition.signal, classes), places(definition.background, classes)
    if not (signal and background):
        return np.full(len(nodes_JK), UNDEFINED)
    signal_J = nodes_JK[:, signal].sum(axis=1)
    total_J = signal_J + nodes_JK[:, background].sum(axis=1)
    return np.divide(signal_J, total_J, out=np.full(len(nodes_JK), UNDEFINED), where=total_J > 0)


def places(flavours: Iterable[str], classes: Sequence[str]) -> list[int]:
    """Return the class indices of those flavours that the classes hold apart."""
    wanted = set(flavours)
    return [index for index, name in enumerate(classes) if name in wanted]
