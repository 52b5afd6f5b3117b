"""Systematic shift: all features up (or down) by the same amount of scaled units, without a gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from pfnano_tag.attack.constraints import shifted
from pfnano_tag.models.batch import Batch


def systematic(batch: Batch, epsilon: float, allowed: dict[str, Tensor]) -> Batch:
    """X' = x + epsilon for every input that may move; a negative epsilon shifts down.

    Parameters
    ----------
    batch : Batch
        Jets.
    epsilon : float
        Shift in units of the scaled inputs.
    allowed : dict of str to Tensor
        Masks from `constraints.movable`.
    """
    return shifted(batch, {name: torch.full_like(x, epsilon) for name, x in batch.inputs.items()}, allowed)
