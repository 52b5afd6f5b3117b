"""Order of rows inside lists: one sort of packed integers instead of a lexical sort over all keys.

A row's list, a coarse key and the row's number go into one 64-bit integer; sorting these gives the order by list and
coarse key, with the rows of equal keys as they stood. Only such rows are then sorted by the exact keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.columns import Index

ExactKeys = Callable[[Index], Sequence[NDArray[np.floating]]]


def order_in_lists(list_of: Index, lists: int, coarse: NDArray[np.floating], exact: ExactKeys) -> Index:
    """Return rows list by list, inside a list by rising keys; rows with equal keys keep their order.

    Parameters
    ----------
    list_of : ndarray of int64 [n]
        List of each row, rising, in 0 to lists - 1.
    lists : int
        How many lists there are.
    coarse : ndarray of float [n]
        A key that never contradicts the exact ones: where it is less (in single precision), the row comes first.
        Not finite: last.
    exact : callable
        Returns the keys of chosen rows, the most important first; asked for rows whose coarse keys are equal. Keys
        that are not finite count as infinite.

    Returns
    -------
    ndarray of int64 [n]
    """
    size = len(list_of)
    if size == 0:
        return np.zeros(0, dtype=np.int64)
    row_bits = np.uint64((size - 1).bit_length())
    list_bits = (lists - 1).bit_length()
    key_bits = max(0, min(32, 64 - int(row_bits) - list_bits))
    packed = list_of.astype(np.uint64) << np.uint64(key_bits)
    packed |= rising_integers(coarse).astype(np.uint64) >> np.uint64(32 - key_bits)
    packed <<= row_bits
    packed |= np.arange(size, dtype=np.uint64)
    packed.sort()
    order: Index = (packed & np.uint64((1 << int(row_bits)) - 1)).astype(np.int64)
    packed >>= row_bits
    same = packed[1:] == packed[:-1]
    if same.any():
        _settle(order, same, exact)
    return order


def rising_integers(values: NDArray[np.floating]) -> NDArray[np.uint32]:
    """Return integers that rise with the values in single precision; all values that are not finite come last."""
    single = values.astype(np.float32) + np.float32(0)  # makes -0 a +0
    finite = np.isfinite(single)
    if not finite.all():
        single[~finite] = np.inf
    bits = single.view(np.uint32)
    # Floats order as integers of sign and size: flip all bits of negative values, the sign of the others.
    flip = (single.view(np.int32) >> 31).view(np.uint32)
    flip |= np.uint32(1 << 31)
    return np.bitwise_xor(bits, flip, out=flip)


def _settle(order: Index, same: NDArray[np.bool_], exact: ExactKeys) -> None:
    """Sort, in place, the runs of rows whose coarse keys are equal (`same`: a row's is that of the one before)."""
    tied = np.zeros(len(order), dtype=np.bool_)
    tied[1:] = same
    first = ~tied
    tied[:-1] |= same
    where = np.flatnonzero(tied)
    rows, run = order[where], np.cumsum(first[where])
    keys = [np.where(np.isfinite(key), key, np.inf) for key in exact(rows)]
    order[where] = rows[np.lexsort([*reversed(keys), run])]
