"""Normed gradient method: a step along the gradient, whose length is epsilon per jet and input group.

Public definition: AnnikaStein/b-hive, utils/torch/attacks_ParT.py (the method that arXiv:2306.17846 announces).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pfnano_tag.attack.constraints import shifted
from pfnano_tag.attack.gradient import AttackLoss, input_gradient
from pfnano_tag.models.batch import Batch
from pfnano_tag.models.losses import cross_entropy

NORM_FLOOR = 1e-6


def normed_gradient(
    module: nn.Module,
    batch: Batch,
    epsilon: float,
    allowed: dict[str, Tensor],
    loss: AttackLoss = cross_entropy,
) -> Batch:
    """X' = x + epsilon g / ||g||_2, the norm taken per jet over a whole group; keeps correlations of the gradient.

    Parameters
    ----------
    module : nn.Module
        Network, left in the mode and with the gradients it had.
    batch : Batch
        Jets; without labels the attack leads away from the network's own most probable class.
    epsilon : float
        Length of the step in units of the scaled inputs.
    allowed : dict of str to Tensor
        Masks from `constraints.movable`.
    loss : callable
        Loss of (logits, labels), summed over jets here: a jet's direction does not depend on the batch size.
    """
    gradient = input_gradient(module, batch, lambda logits, label: len(batch) * loss(logits, label))
    return shifted(batch, {name: epsilon * _unit(g) for name, g in gradient.items()}, allowed)


def _unit(gradient: Tensor) -> Tensor:
    """Gradient over its norm per jet (floor 1e-6, a vanishing gradient gives no step), non-finite parts zero."""
    flat = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).flatten(1)
    norm = torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp(min=NORM_FLOOR)
    return (flat / norm).view_as(gradient)
