"""Defaults: what a placeholder is in the network's input, and how often features have one.

Which entries are placeholders is decided by masks made when the feature is read (no track, no vertex, the file's own
filler, NaN, infinity), never by comparing values: a genuine zero stays a value. Here is decided what a placeholder
becomes after scaling. AIS (Stein et al., arXiv:2203.13890) puts it 0.001 below the smallest value: a bin of its own,
but so close to the distribution that a shift of epsilon = 0.01 in scaled units carries regular values across it. The
network can separate the two only by a step, and a gradient attack would live on that step. At the mean (0 after
scaling), on the other hand, a placeholder could not be told from the most ordinary value. So it lies a whole
`MARGIN` (in standard deviations) below the smallest regular value of the training split, which no sensible epsilon
bridges, but never below `FLOOR`, so that one far outlier does not turn placeholders into outliers of their own.
Padding is 0 and masked; it is no placeholder.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.prepare.scaling import Moments

MARGIN = 0.5
"""Distance of the placeholder from the smallest regular value [standard deviations]."""

FLOOR = -5.0
"""Lowest scaled value of a placeholder."""


@dataclass(frozen=True)
class DefaultCounts:
    """Entries of a feature over all clean jets.

    Parameters
    ----------
    entries : int
        All entries (jets, or constituents of the group).
    placeholders : int
        Those without a value.
    non_finite : int
        NaN and infinity in the file, which became placeholders.
    """

    entries: int = 0
    placeholders: int = 0
    non_finite: int = 0

    def __add__(self, other: DefaultCounts) -> DefaultCounts:
        return DefaultCounts(
            self.entries + other.entries,
            self.placeholders + other.placeholders,
            self.non_finite + other.non_finite,
        )

    @property
    def share(self) -> float:
        """Fraction of entries that are placeholders; 0 without entries."""
        return self.placeholders / self.entries if self.entries else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON content."""
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> DefaultCounts:
        """Return counts from JSON content."""
        return DefaultCounts(**content)


def count_defaults(mask: NDArray[np.bool_], non_finite: int) -> DefaultCounts:
    """Return the counts of one feature in one chunk.

    Parameters
    ----------
    mask : ndarray of bool [n]
        True where the entry is a placeholder.
    non_finite : int
        How many of the entries were NaN or infinite in the file.
    """
    return DefaultCounts(len(mask), int(np.count_nonzero(mask)), non_finite)


def scaled_default(moments: Moments) -> float:
    """Return what a placeholder becomes in the scaled input.

    Parameters
    ----------
    moments : Moments
        Of the transformed regular values in the training split.

    Returns
    -------
    float
        `MARGIN` below the smallest scaled value, at least `FLOOR`; 0 for a feature that is not live.
    """
    if not moments.live or moments.low is None:
        return 0.0
    return max((moments.low - moments.mean) / moments.std - MARGIN, FLOOR)
