"""Projected gradient descent (Madry et al., arXiv:1706.06083): FGSM in small steps from a random start."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pfnano_tag.attack.constraints import moved
from pfnano_tag.attack.draws import uniform
from pfnano_tag.attack.gradient import AttackLoss, input_gradient, with_labels
from pfnano_tag.models.batch import Batch
from pfnano_tag.models.losses import cross_entropy


def pgd(
    module: nn.Module,
    batch: Batch,
    epsilon: float,
    allowed: dict[str, Tensor],
    steps: int = 10,
    step_size: float = 0.25,
    loss: AttackLoss = cross_entropy,
    seed: int = 0,
) -> Batch:
    """Raise the loss inside the box `|x' - x| <= epsilon` in several steps.

    Parameters
    ----------
    module : nn.Module
        Network.
    batch : Batch
        Jets; without labels the most probable class of the nominal jet is taken in every step.
    epsilon : float
        Half width of the box in units of the scaled inputs.
    allowed : dict of str to Tensor
        Masks from `constraints.movable`.
    steps : int
        Gradient steps.
    step_size : float
        Length of a step as a fraction of epsilon.
    loss : callable
        Loss of (logits, labels), averaged without sample weights.
    seed : int
        Of the random start, which is a pure function of seed and jet.
    """
    start = batch.inputs
    labelled = with_labels(module, batch)
    draws = uniform(batch, seed)
    values = {name: x + epsilon * (2 * draws[name] - 1) for name, x in start.items()}
    attacked = moved(labelled, values, allowed)
    for _ in range(steps):
        gradient = input_gradient(module, attacked, loss)
        values = {name: x + step_size * epsilon * gradient[name].sign() for name, x in attacked.inputs.items()}
        boxed = {name: torch.clamp(x, start[name] - epsilon, start[name] + epsilon) for name, x in values.items()}
        attacked = moved(attacked, boxed, allowed)
    return moved(batch, attacked.inputs, allowed)
