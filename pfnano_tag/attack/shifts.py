"""What an attack does to the distributions of the inputs, in their own units.

Shape suffixes: B jets, N constituents, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pfnano_tag.attack.constraints import in_units
from pfnano_tag.models.batch import Batch
from pfnano_tag.nano.schema import FEATURES
from pfnano_tag.prepare.inputs import InputSpec


@dataclass
class Shift:
    """Histograms of one input without placeholders, nominal and attacked; edge bins hold what lies beyond them.

    Parameters
    ----------
    nominal, attacked : ndarray of int64 [bins]
        Counts.
    moved : int
        Values that changed.
    values : int
        All values.
    total : float
        Sum of absolute changes, in scaled units.
    """

    nominal: NDArray[np.int64]
    attacked: NDArray[np.int64]
    moved: int = 0
    values: int = 0
    total: float = 0.0

    @property
    def distance(self) -> float:
        """Largest difference of the two cumulative distributions at a bin edge (0 to 1)."""
        if self.values == 0:
            return 0.0
        return float(np.abs(np.cumsum(self.nominal - self.attacked)).max() / self.values)


class InputShifts:
    """Adds up what an attack did to the inputs.

    Parameters
    ----------
    spec : InputSpec
        Inputs, in the order of the batches' columns.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec
        self.shifts = {f.id: Shift(_empty(f.id), _empty(f.id)) for f in spec.features}

    def add(self, nominal: Batch, attacked: Batch) -> None:
        """Add the same jets before and after an attack."""
        real = {"jet": ~nominal.jet_default_BF}
        real |= {name: group.mask_BN[:, :, None] & ~group.default_BNF for name, group in nominal.groups.items()}
        for name, features in self.spec.groups.items():
            before, after = nominal.inputs[name], attacked.inputs[name]
            units = in_units(before, features), in_units(after, features)
            for column, feature in enumerate(features):
                there = real[name][..., column]
                shift = self.shifts[feature.id]
                change = (after - before)[..., column][there]
                shift.values += len(change)
                shift.moved += int(torch.count_nonzero(change))
                shift.total += float(change.abs().sum(dtype=torch.float64))
                for counts, values in zip((shift.nominal, shift.attacked), units, strict=True):
                    counts += _histogram(feature.id, values[..., column][there])


def _histogram(feature: str, values: torch.Tensor) -> NDArray[np.int64]:
    bins, low, high = FEATURES[feature].axis
    place = ((values - low) * (bins / (high - low))).clamp(0, bins - 1).long()
    return torch.bincount(place, minlength=bins).cpu().numpy()


def _empty(feature: str) -> NDArray[np.int64]:
    return np.zeros(FEATURES[feature].axis[0], dtype=np.int64)
