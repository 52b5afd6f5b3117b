"""Gaussian noise: x' = x + N(0, sigma) on scaled inputs (the papers' control for FGSM, arXiv:2203.13890)."""

from __future__ import annotations

from torch import Tensor

from pfnano_tag.attack.constraints import shifted
from pfnano_tag.attack.draws import normal
from pfnano_tag.models.batch import Batch


def noise(batch: Batch, sigma: float, allowed: dict[str, Tensor], seed: int = 0) -> Batch:
    """Add Gaussian noise to every input that may move.

    Parameters
    ----------
    batch : Batch
        Jets.
    sigma : float
        Standard deviation in units of the scaled inputs.
    allowed : dict of str to Tensor
        Masks from `constraints.movable`.
    seed : int
        A jet's noise is a pure function of the seed and the jet, whatever the batch.
    """
    return shifted(batch, {name: sigma * draw for name, draw in normal(batch, seed).items()}, allowed)
