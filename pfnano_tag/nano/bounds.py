"""Bounds of features: NaN and infinity become placeholders, the rest is clipped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.schema import Feature

HUGE = 1e32
"""Larger sizes count as not finite (`catch_infs` of cms-sw/cmssw)."""
LARGEST_ENERGY = 1e6
"""No energy in a collision of today is larger [GeV]; squares of it are exact enough in single precision."""


@dataclass(frozen=True)
class Bounded:
    """A feature's values in bounds.

    Parameters
    ----------
    values : ndarray of float32 [n]
        Finite.
    default : ndarray of bool [n]
        Where the value is a placeholder.
    non_finite : int
        How many values were NaN, infinite or beyond `HUGE`.
    """

    values: NDArray[np.float32]
    default: NDArray[np.bool_]
    non_finite: int


def bounded(values: NDArray[np.floating], feature: Feature, absent: NDArray[np.bool_] | None = None) -> Bounded:
    """Clip a feature to its bounds, with placeholders where it has no value.

    Parameters
    ----------
    values : ndarray of float [n]
        Before clipping; offsets (such as the -1 of `ptrel`) are applied already.
    feature : Feature
        Gives bounds, replacement and default.
    absent : ndarray of bool [n], optional
        Where the feature has no value (no track): set to its default.

    Notes
    -----
    A value that the file itself stores as a placeholder (-999 in `Jet_DeepCSV_*`) counts as a default, and so does
    -1 in the four AboveCharm variables ("no track lifts the mass above charm").
    """
    values = np.asarray(values, dtype=np.float32)
    sound, clipped = _clipped(values, feature)
    stored = _stored_placeholder(values, feature)
    if sound and stored is None:
        if absent is None or not absent.any():
            return Bounded(clipped, np.zeros(len(values), dtype=np.bool_), 0)
        default, broken = absent.copy(), None
    else:
        broken = ~(np.abs(values) <= HUGE)
        if absent is not None:
            broken &= ~absent
        default = broken.copy() if absent is None else broken | absent
        if stored is not None:
            default |= stored
    filled = clipped.copy()
    np.putmask(filled, default, np.float32(feature.default))
    if broken is None:
        return Bounded(filled, default, 0)
    filled[broken] = feature.replacement
    return Bounded(filled, default, int(broken.sum()))


def _clipped(values: NDArray[np.float32], feature: Feature) -> tuple[bool, NDArray[np.float32]]:
    """Return whether all values are finite and below `HUGE`, and the values in bounds (not copied if they are)."""
    if len(values) == 0:
        return True, values
    lowest, highest = float(values.min()), float(values.max())  # NaN goes through, and fails all comparisons
    low = -np.inf if feature.low is None else feature.low
    high = np.inf if feature.high is None else feature.high
    sound = lowest >= -HUGE and highest <= HUGE
    if lowest >= low and highest <= high:
        return sound, values
    return sound, np.clip(values, np.float32(low), np.float32(high))


def _stored_placeholder(values: NDArray[np.float32], feature: Feature) -> NDArray[np.bool_] | None:
    if not feature.read or not feature.read[0].startswith("Jet_DeepCSV_"):
        return None
    stored = values <= -998
    if feature.name.endswith("AboveCharm"):
        stored |= values == -1
    if feature.name == "jetNTracksEtaRel":
        stored |= values == -1
    return stored


def four_vector(
    px: NDArray[np.floating], py: NDArray[np.floating], pz: NDArray[np.floating], energy: NDArray[np.floating]
) -> dict[str, NDArray[np.float32]]:
    """Return the columns of four-vectors [GeV]; one that is not finite, or absurd, becomes zero as a whole.

    One NaN among the constituents would else reach all of them through the attention of a transformer.
    """
    sound = np.isfinite(px + py + pz) & (energy < LARGEST_ENERGY)
    columns = {"px": px, "py": py, "pz": pz, "energy": energy}
    if sound.all():
        return {name: np.asarray(values, dtype=np.float32) for name, values in columns.items()}
    return {name: np.where(sound, values, 0.0).astype(np.float32) for name, values in columns.items()}
