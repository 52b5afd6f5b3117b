"""Types that branches must have: with others, numbers would be read that mean something else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.columns import Jagged

ONE_PER_EVENT = ("run", "luminosityBlock", "event", "genWeight", "PV_npvs")
"""Branches that are no lists."""
IDENTITY = ("run", "luminosityBlock", "event")
"""Branches that identify an event; in single precision different events would become one."""
SIGNED = (
    *("Jet_partonFlavour", "Jet_genJetIdx", "GenPart_pdgId", "GenPart_genPartIdxMother"),
    *("GenCands_charge", "GenCands_genPartMotherIdx"),
)
"""Branches of truth in which negative numbers mean something: an unsigned type makes large ones of them."""
WHOLE = ("Jet_FlavSplit", "Jet_hadronFlavour", "Jet_nBHadrons", "Jet_nCHadrons", "GenPart_status", *SIGNED)
"""Branches of truth, which hold whole numbers."""
REAL = ("_pt", "_eta", "_phi", "_mass")
"""Ends of the names of branches that hold real numbers, whatever else differs between productions."""


def wrong_type(name: str, column: Jagged | NDArray[Any], is_list: bool) -> str:
    """Return what a branch holds and what is expected instead; empty where it is right.

    Parameters
    ----------
    name : str
        Canonical name.
    column : Jagged or ndarray
        As it is in the file.
    is_list : bool
        Whether its collection has a counter.
    """
    jagged = isinstance(column, Jagged)
    if jagged != is_list and (is_list or name in ONE_PER_EVENT):
        words = {True: "lists", False: "one value per event"}
        return f"{words[jagged]}, expected {words[is_list]}"
    return _of_list(name, column.values.dtype) if isinstance(column, Jagged) else _of_event(name, column)


def _of_list(name: str, dtype: np.dtype[Any]) -> str:
    if name.endswith(REAL) and dtype.kind != "f":
        return f"{dtype}, expected real numbers"
    if name in WHOLE and dtype.kind not in "iu":
        return f"{dtype}, expected whole numbers"
    if name in SIGNED and dtype.kind == "u":
        return f"{dtype}, expected signed numbers"
    return ""


def _of_event(name: str, column: NDArray[Any]) -> str:
    if name in ONE_PER_EVENT and column.ndim != 1:
        return f"{column.shape[1]} values per event, expected one"
    if name in IDENTITY and column.dtype.kind not in "iu" and column.dtype != np.float64:
        return f"{column.dtype}, expected integers: it identifies the events"
    return ""
