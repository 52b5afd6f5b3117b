"""Gradient of the loss with respect to the inputs of a batch.

The network is in evaluation mode while the gradient is taken (no dropout, no statistics updated) and is left as
it was found; its parameters' gradients are not touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from pfnano_tag.models.batch import Batch, call, evaluating
from pfnano_tag.models.losses import cross_entropy

AttackLoss = Callable[[Tensor, Tensor], Tensor]


def input_gradient(module: nn.Module, batch: Batch, loss: AttackLoss = cross_entropy) -> dict[str, Tensor]:
    """Gradient of the mean loss, without sample weights, for `jet` (B, F) and every group (B, N, F).

    Parameters
    ----------
    module : nn.Module
        Network.
    batch : Batch
        Jets; without labels the network's own most probable class takes their place.
    loss : callable
        Loss of (logits, labels).

    Returns
    -------
    dict of str to Tensor
        In the order and shapes of `batch.inputs`; zero for inputs that the network does not use.
    """
    with torch.enable_grad(), evaluating(module):
        inputs = {name: x.detach().requires_grad_() for name, x in batch.inputs.items()}
        groups = {name: x for name, x in inputs.items() if name != "jet"}
        logits_BK = call(module, batch.with_inputs(inputs["jet"], groups))
        label_B = logits_BK.detach().argmax(1) if batch.label_B is None else batch.label_B
        gradients = torch.autograd.grad(loss(logits_BK, label_B), list(inputs.values()), allow_unused=True)
    return {
        name: torch.zeros_like(x) if gradient is None else gradient
        for (name, x), gradient in zip(inputs.items(), gradients, strict=True)
    }


def with_labels(module: nn.Module, batch: Batch) -> Batch:
    """The batch with labels: its own, or the network's most probable class for these inputs."""
    if batch.label_B is not None:
        return batch
    with torch.no_grad(), evaluating(module):
        return replace(batch, label_B=call(module, batch).argmax(1))
