"""Fast gradient sign method (Goodfellow et al., arXiv:1412.6572) on scaled inputs."""

from __future__ import annotations

from torch import Tensor, nn

from pfnano_tag.attack.constraints import shifted
from pfnano_tag.attack.gradient import AttackLoss, input_gradient
from pfnano_tag.models.batch import Batch
from pfnano_tag.models.losses import cross_entropy


def fgsm(
    module: nn.Module,
    batch: Batch,
    epsilon: float,
    allowed: dict[str, Tensor],
    loss: AttackLoss = cross_entropy,
) -> Batch:
    """X' = x + epsilon sign(dL/dx): every input moves by epsilon where it raises the loss, or not at all.

    Parameters
    ----------
    module : nn.Module
        Network, left in the mode and with the gradients it had.
    batch : Batch
        Jets; without labels the attack leads away from the network's own most probable class.
    epsilon : float
        Step in units of the scaled inputs.
    allowed : dict of str to Tensor
        Masks from `constraints.movable`.
    loss : callable
        Loss of (logits, labels), averaged without sample weights.
    """
    gradient = input_gradient(module, batch, loss)
    return shifted(batch, {name: g.sign().mul_(epsilon) for name, g in gradient.items()}, allowed)
