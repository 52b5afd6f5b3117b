"""Random numbers of objects in events: functions of seed, name, the event's identity and the place in the event."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from pfnano_tag.nano.columns import Index, list_of_row, rank_in_list
from pfnano_tag.prepare.splitting import mixed, uniform


@dataclass(frozen=True)
class Draws:
    """Where the random numbers of a chunk come from.

    Parameters
    ----------
    hashes : ndarray of uint64 [events]
        Identity of the events.
    seed : int
        Of the study.
    name : str
        What the numbers are for: another name, other numbers.
    """

    hashes: NDArray[np.uint64]
    seed: int
    name: str

    def uniform(self, offsets: Index, what: str) -> NDArray[np.float64]:
        """Return numbers in [0, 1) for the entries of a jagged collection.

        Parameters
        ----------
        offsets : ndarray of int64 [events + 1]
            The collection's entries of each event.
        what : str
            Separates several numbers of one entry.
        """
        digest = hashlib.sha256(f"{self.seed}/{self.name}/{what}".encode()).digest()
        salt = np.uint64(int.from_bytes(digest[:8], "little"))
        of_event = mixed(self.hashes ^ salt)[list_of_row(offsets)]
        return uniform(mixed(of_event + rank_in_list(offsets).astype(np.uint64)))

    def normal(self, offsets: Index, what: str) -> NDArray[np.float64]:
        """Return standard normal numbers for the entries of a jagged collection (see `uniform`)."""
        return np.asarray(ndtri(np.maximum(self.uniform(offsets, what), 2.0**-54)), dtype=np.float64)
