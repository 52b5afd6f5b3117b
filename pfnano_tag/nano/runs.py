"""Sums of generator weights, from the tree `Runs` of a file: over all events that the file was made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pfnano_tag.errors import FileError, UserError
from pfnano_tag.nano.sources import RootFile, first_line

TREE = "Runs"
BRANCHES = ("genEventCount", "genEventSumw", "genEventSumw2")
"""Some productions write them with `_` behind."""


@dataclass(frozen=True)
class RunsTotals:
    """Sums over the events that a file was made from, of the tree `Runs` (simulation).

    Parameters
    ----------
    count : int
        Events generated.
    sumw, sumw2 : float
        Sum of generator weights and of their squares.
    """

    count: int
    sumw: float
    sumw2: float


def totals_of(file: RootFile) -> RunsTotals | None:
    """Return the sums of generator weights; None where the file has none (data).

    Raises
    ------
    FileError
        When they can't be read.
    """
    if TREE not in file.keys:
        return None
    try:
        stored = file.container(TREE).names
        names = [next((n for n in (name, f"{name}_") if n in stored), "") for name in BRANCHES]
        if not all(names):
            return None
        arrays = file.arrays_of(TREE, names)
    except (MemoryError, UserError):
        raise
    except Exception as error:  # a damaged basket can raise anything
        raise FileError(f"{file.path}: the sums in '{TREE}' can't be read: {first_line(error)}") from error
    count, sumw, sumw2 = (np.asarray(arrays[name]) for name in names)
    return RunsTotals(int(count.sum()), float(np.sum(sumw)), float(np.sum(sumw2)))
