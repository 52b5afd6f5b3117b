"""Losses of networks of one task or several: what has a label in a batch, and one loss of all."""

from __future__ import annotations

from torch import Tensor, nn

from pfnano_tag.models.batch import Batch
from pfnano_tag.models.tasks import Entries, weight_of


def entries_of(module: nn.Module, batch: Batch) -> dict[str, Entries]:
    """What has a label in a batch, of each task beside the flavour."""
    if not module.targets:
        return {}
    found: dict[str, Entries] = module.entries(batch.masks, batch.targets, batch.label_B)  # type: ignore[operator]
    return found


def label_weights(module: nn.Module, batch: Batch) -> dict[str, float]:
    """Sum of the weights of what has a label in a batch, of each task beside the flavour."""
    return {name: weight_of(entries, batch.weight_B) for name, entries in entries_of(module, batch).items()}


def total_loss(
    module: nn.Module,
    flavour_loss: Tensor,
    outputs: dict[str, Tensor],
    batch: Batch,
    weights: dict[str, float] | None = None,
) -> Tensor:
    """One loss of all tasks of a network, given that of the flavour.

    Parameters
    ----------
    module : nn.Module
        The network.
    flavour_loss : Tensor
        Scalar.
    outputs : dict of Tensor
        From `call_all`.
    batch : Batch
        With targets.
    weights : dict of float or None
        What the sums of the tasks are divided by; None: from `label_weights` of this batch.
    """
    if not module.targets:
        return flavour_loss
    sums = module.task_sums(outputs, entries_of(module, batch), batch.weight_B)  # type: ignore[operator]
    known = label_weights(module, batch) if weights is None else weights
    total: Tensor = module.total_loss(flavour_loss, sums, known)  # type: ignore[operator]
    return total
