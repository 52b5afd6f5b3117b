"""Splitting by event identity: training, validation and test from a hash of (dataset, run, section, event).

Never by position: neither the order of files nor their chunks matter, and jets of one event stay together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")
"""Names of the splits; a jet's split is the index in here."""

IDENTITY = ("run", "luminosityBlock", "event")
"""Branches that identify an event inside its dataset."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix 64-bit words so that every bit of the result depends on every bit of the word (a bijection).

    The finaliser of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).

    Parameters
    ----------
    words : ndarray of uint64
        Any shape.
    """
    z = words + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


def uniform(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return numbers in [0, 1) from the upper 53 bits of mixed words."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def event_hash(
    dataset: str, run: NDArray[np.integer[Any]], lumi: NDArray[np.integer[Any]], event: NDArray[np.integer[Any]]
) -> NDArray[np.uint64]:
    """Return a uniform 64-bit number per event, a function of the event's identity alone.

    Parameters
    ----------
    dataset : str
        Name of the dataset: simulated samples number their events alike, so the name is part of the identity.
    run, lumi, event : ndarray of int [events]
        Run, luminosity section and event number.

    Returns
    -------
    ndarray of uint64 [events]
        Two events of one dataset, run and section never share it; others do with probability 2**-64.
    """
    seed = np.frombuffer(hashlib.sha256(dataset.encode()).digest()[:8], dtype="<u8").astype(np.uint64)
    state = np.broadcast_to(seed, np.shape(event))
    for identity in (run, lumi, event):
        state = mixed(state ^ np.asarray(identity).astype(np.uint64))
    return state


def split_of(hashes: NDArray[np.uint64], fractions: Sequence[float]) -> NDArray[np.uint8]:
    """Return the split of each event: 0 training, 1 validation, 2 test.

    Parameters
    ----------
    hashes : ndarray of uint64
        From `event_hash`.
    fractions : sequence of float
        Of the three splits; they sum to 1.
    """
    edges = np.cumsum(np.asarray(fractions, dtype=np.float64))[:-1]
    return np.searchsorted(edges, uniform(hashes), side="right").astype(np.uint8)
