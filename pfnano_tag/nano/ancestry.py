"""Where generated particles come from: ancestors in `GenPart`, found by pointer jumping.

Each round joins what a particle knows with what the ancestor it points to knows, and doubles the distance, so that
chains of any length need log2 of their length rounds; loops, in damaged files, end there too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.columns import Index, list_of_row
from pfnano_tag.nano.hadrons import LONG_LIVED, is_open

TAU = 15

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Decays:
    """Of each particle in `GenPart`: what decays there are on the way to what it decays to, itself included.

    Parameters
    ----------
    b, c : ndarray of bool [particles]
        Whether a b (c) hadron decays weakly: one without a b (c) hadron among its own decay products. Quarkonia
        don't count.
    other : ndarray of bool [particles]
        Whether a tau or a long-lived strange hadron decays.
    vertex : ndarray of int64 [particles]
        Row of the last of these decays; -1: there is none, all happened at the primary vertex.
    """

    b: Flags
    c: Flags
    other: Flags
    vertex: Index


def decays(pdg_id: NDArray[np.integer[Any]], mother: NDArray[np.integer[Any]], offsets: Index) -> Decays:
    """Return the decays on the way to each particle's decay products.

    Parameters
    ----------
    pdg_id, mother : ndarray of int [particles]
        Code, and index of the mother in the event (negative or out of range: none).
    offsets : ndarray of int64 [events + 1]
        Particles of each event.
    """
    code = np.abs(pdg_id.astype(np.int32))  # quicker to divide than 64 bits
    parent = rows_of_mothers(mother, offsets)
    b, c, tau = (_last(kind, parent) for kind in (is_open(code, 5), is_open(code, 4), code == TAU))
    other = tau | np.isin(code, LONG_LIVED)
    decaying = b | c | other
    vertex = _jump(np.where(decaying, np.arange(len(code)), parent))
    b, c, other = (at_or_above(flag, parent) for flag in (b, c, other))
    return Decays(b, c, other, np.where(decaying[vertex], vertex, -1))


def rows_of_mothers(mother: NDArray[np.integer[Any]], offsets: Index) -> Index:
    """Return the flat row of each particle's mother, int64 [particles]; its own where it has none.

    Parameters
    ----------
    mother : ndarray of int [particles]
        Index in the event (negative or out of range: none).
    offsets : ndarray of int64 [events + 1]
        Particles of each event.
    """
    event = list_of_row(offsets)
    index = mother.astype(np.int64)
    valid = (index >= 0) & (index < np.diff(offsets)[event])
    return np.where(valid, offsets[:-1][event] + index, np.arange(len(index)))


def _last(kind: Flags, parent: Index) -> Flags:
    """Return the particles of a kind that decay to none of the same kind."""
    has_next = np.zeros(len(kind), dtype=np.bool_)
    has_next[parent[kind & (parent != np.arange(len(kind)))]] = True
    return kind & ~has_next


def _rounds(size: int) -> range:
    return range(max(1, size.bit_length()))


def _jump(pointer: Index) -> Index:
    """Follow pointers to their ends, which point to themselves."""
    for _ in _rounds(len(pointer)):
        further = pointer[pointer]
        if np.array_equal(further, pointer):
            break
        pointer = further
    return pointer


def at_or_above(flag: Flags, parent: Index) -> Flags:
    """Return whether a particle or any of its ancestors has a flag.

    Parameters
    ----------
    flag : ndarray of bool [particles]
        Of the particle itself.
    parent : ndarray of int64 [particles]
        From `rows_of_mothers`.
    """
    pointer = parent
    for _ in _rounds(len(flag)):
        flag = flag | flag[pointer]
        further = pointer[pointer]
        if np.array_equal(further, pointer):
            break
        pointer = further
    return flag
