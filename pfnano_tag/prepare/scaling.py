"""Scaling: mean and standard deviation of the transformed features, in a form that merges exactly.

Only the training split enters, without placeholders and padding (which does not exist yet). The float path: features
are float32 and transformed in float32, as in the conversion to network inputs; moments are summed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_SPREAD = 1e-6
"""Standard deviation, relative to the largest magnitude, below which a feature counts as constant (float32)."""


@dataclass(frozen=True)
class Moments:
    """Count, mean, sum of squared deviations and extremes of a set of numbers.

    Parameters
    ----------
    count : int
        How many.
    mean : float
        Their mean; 0 when there are none.
    m2 : float
        Sum of the squared deviations from the mean.
    low, high : float or None
        Extremes; None when there are no numbers.
    """

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0
    low: float | None = None
    high: float | None = None

    @property
    def std(self) -> float:
        """Standard deviation (of the population, as scikit-learn's StandardScaler has it)."""
        return math.sqrt(self.m2 / self.count) if self.count else 0.0

    @property
    def live(self) -> bool:
        """Whether there are two different numbers, seen through float32 rounding."""
        if self.low is None or self.high is None:
            return False
        return self.std > SMALLEST_SPREAD * max(abs(self.low), abs(self.high))

    def to_json(self) -> dict[str, Any]:
        """Return the moments as JSON content; floats keep all digits."""
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> Moments:
        """Return moments from JSON content."""
        return Moments(**content)


def moments_of(values: NDArray[np.floating[Any]]) -> Moments:
    """Return the moments of finite numbers.

    Parameters
    ----------
    values : ndarray of float [n]
        Transformed values without placeholders.
    """
    if len(values) == 0:
        return Moments()
    wide = values.astype(np.float64)
    mean = float(wide.mean())
    deviation = wide - mean
    # the second term takes back what rounding of the mean leaves (corrected two-pass algorithm)
    m2 = float(np.square(deviation).sum()) - float(deviation.sum()) ** 2 / len(wide)
    return Moments(len(wide), mean, max(m2, 0.0), float(wide.min()), float(wide.max()))


def merged(parts: Iterable[Moments]) -> Moments:
    """Return the moments of the union of disjoint sets (Chan, Golub, LeVeque 1983, eq. 2.1)."""
    total = Moments()
    for part in parts:
        total = _pair(total, part)
    return total


def _pair(a: Moments, b: Moments) -> Moments:
    if a.count == 0 or b.count == 0:
        return a if b.count == 0 else b
    count = a.count + b.count
    shift = b.mean - a.mean
    lows = [x for x in (a.low, b.low) if x is not None]
    highs = [x for x in (a.high, b.high) if x is not None]
    return Moments(
        count,
        a.mean + shift * (b.count / count),
        a.m2 + b.m2 + shift * shift * (a.count * (b.count / count)),
        min(lows),
        max(highs),
    )
