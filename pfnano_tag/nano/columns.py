"""Flat content plus offsets: the idioms that replace loops over events and jets.

Offsets have one entry more than there are lists; list i holds rows offsets[i] to offsets[i + 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Jagged:
    """A jagged column.

    Parameters
    ----------
    values : ndarray [n]
        All lists, one after the other.
    offsets : ndarray of int64 [lists + 1]
        Rising, from 0 to n.
    """

    values: NDArray[Any]
    offsets: Index

    @property
    def counts(self) -> Index:
        """Length of each list."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1


def offsets_of(counts: NDArray[np.integer]) -> Index:
    """Return offsets for list lengths."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def list_of_row(offsets: Index) -> Index:
    """Return, for each row, which list it belongs to."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def rank_in_list(offsets: Index) -> Index:
    """Return, for each row, its position in its list (0, 1, ...)."""
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))


def rows_of_lists(offsets: Index, lists: Index) -> tuple[Index, Index]:
    """Return the rows of chosen lists, one after the other, and their new offsets.

    Parameters
    ----------
    offsets : ndarray of int64
        Of all lists.
    lists : ndarray of int64
        Which lists, in any order, repeated at will.
    """
    counts = np.diff(offsets)[lists]
    new = offsets_of(counts)
    rows = np.arange(new[-1]) + np.repeat(offsets[lists] - new[:-1], counts)
    return rows, new


def grouped(list_of: Index, lists: int) -> tuple[Index, Index]:
    """Group rows by list: the stable order of rows, and the offsets of the lists.

    Parameters
    ----------
    list_of : ndarray of int64 [n]
        List of each row, in 0 to lists - 1.
    lists : int
        How many lists there are.
    """
    counts = np.bincount(list_of, minlength=lists)
    order = np.argsort(list_of, kind="stable")
    return order, offsets_of(counts)


def blocks(offsets: Index, rows: int) -> list[tuple[int, int]]:
    """Cut lists into runs of whole lists that hold about a number of rows, so that their columns stay in the cache.

    Parameters
    ----------
    offsets : ndarray of int64 [lists + 1]
        Of the lists.
    rows : int
        Rows of a block; one list alone may have more.

    Returns
    -------
    list of (first, last)
        Lists first to last - 1; all lists together, in order; empty where there is no list.
    """
    lists = len(offsets) - 1
    if lists == 0:
        return []
    cuts = np.searchsorted(offsets, np.arange(rows, offsets[-1], rows), side="left")
    edges = np.unique(np.concatenate([[0], cuts, [lists]])).tolist()
    return list(pairwise(edges))


def pairs_within(left: Index, right: Index) -> tuple[Index, Index, Index]:
    """Return all pairs of a left and a right row of the same list.

    Parameters
    ----------
    left, right : ndarray of int64
        Offsets of the same lists on both sides.

    Returns
    -------
    left_rows, right_rows : ndarray of int64 [pairs]
        Pairs ordered by left row, then by right row.
    offsets : ndarray of int64 [left rows + 1]
        The pairs of each left row.
    """
    list_of_left = list_of_row(left)
    rows, offsets = rows_of_lists(right, list_of_left)
    return np.repeat(np.arange(left[-1]), np.diff(offsets)), rows, offsets


def outside_lists(index: NDArray[np.signedinteger], counts: Index) -> Index | None:
    """Return the rows whose index is not in 0 to count - 1 of its list; None where there is none.

    Parameters
    ----------
    index, counts : ndarray of int [n]
        Index into a list, and the length of that list.
    """
    if len(index) == 0 or (index.min() >= 0 and bool((index < counts).all())):
        return None
    return np.flatnonzero((index < 0) | (index >= counts))


def wrapped(angle: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return angles brought into [-pi, pi); those that are there already stay as they are."""
    result = np.asarray(angle - 2 * np.pi * np.rint(angle * (0.5 / np.pi)))
    # Rounding leaves what is next to the ends on either side of them.
    above, below = result >= np.pi, result < -np.pi
    if above.any() or below.any():
        result = np.maximum(result + 2 * np.pi * (below * 1.0 - above * 1.0), -np.pi)
    return result


def delta_phi(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return first - second in [-pi, pi)."""
    return wrapped(first - second)
