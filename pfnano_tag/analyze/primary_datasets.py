"""Overlap removal between primary datasets: an event that fired triggers of several stands in each of them.

A dataset of data takes the events that fired one of its own triggers and none of those that the card leaves to other
datasets, so that each event of a period enters once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.cuts import any_of, there, triggers_there
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.nano.layouts import require_branches
from pfnano_tag.nano.reader import Chunk

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Fired:
    """What the triggers say of the events of a chunk.

    Parameters
    ----------
    own : ndarray of bool [events]
        Events that fired one of the dataset's own triggers; all where it names none.
    vetoed : ndarray of bool [events]
        Events that fired one of another dataset.
    """

    own: Mask
    vetoed: Mask


def trigger_branches(dataset: Dataset, branches: frozenset[str], path: str) -> tuple[str, ...]:
    """Return the trigger paths of a dataset that a file has, its own and those of others.

    Raises
    ------
    MissingBranch
        Naming every path that the file lacks (those marked `?` apart), or when it has none of its own.
    """
    own = triggers_there(dataset.triggers, branches, path)
    paths = (*own, *there(dataset.vetoes, branches))
    require_branches(paths, branches, path, f"dataset {dataset.name} (triggers, vetoes)")
    return paths


def fired(dataset: Dataset, chunk: Chunk) -> Fired:
    """Return which events of a chunk fired the dataset's own triggers, and which those of others."""
    own, vetoes = there(dataset.triggers, chunk.branches), there(dataset.vetoes, chunk.branches)
    return Fired(
        any_of(chunk, own) if own else np.ones(chunk.num_events, dtype=np.bool_),
        any_of(chunk, vetoes) if vetoes else np.zeros(chunk.num_events, dtype=np.bool_),
    )
