"""What is known of a network after an epoch: loss, accuracy and AUCs on the clean validation jets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pfnano_tag.evaluate.auc import auc_of
from pfnano_tag.infer.prediction import inference_batches
from pfnano_tag.models.batch import FlatInputs, call, collate, evaluating
from pfnano_tag.train.dataloader import LabelledInputs

WATCHED = ("BvsL", "CvsL", "CvsB")
"""Discriminants whose AUC is followed during training."""


def validate(
    module: nn.Module, pools: Iterable[LabelledInputs], classes: tuple[str, ...], loss: nn.Module, batch_size: int
) -> dict[str, Any]:
    """Validation loss with the training's weights, accuracy and AUCs of unweighted jets.

    Parameters
    ----------
    module : nn.Module
        Network; put into evaluation mode and back.
    pools : iterable of LabelledInputs
        Validation jets, not attacked; only their logits, labels and weights are kept.
    classes : tuple of str
        Flavour classes in the order of the outputs.
    loss : nn.Module
        Loss of (logits, labels, weights).
    batch_size : int
        Jets at once.

    Returns
    -------
    dict
        `validation_loss`, `validation_accuracy`, and `auc_NAME` per watched discriminant (None where a
        class is absent).
    """
    parts = [
        (_logits(module, pool.inputs, len(classes), batch_size), pool.label.clone(), pool.weight.clone())
        for pool in pools
    ]
    logits_JK, label_J, weight_J = (torch.cat(column) for column in zip(*parts, strict=True))
    probabilities = logits_JK.double().softmax(1).numpy()
    label = label_J.numpy()
    return {
        "validation_loss": float(loss(logits_JK.double(), label_J, weight_J.double())),
        "validation_accuracy": float((logits_JK.argmax(1) == label_J).double().mean()),
    } | {f"auc_{name}": auc_of(name, probabilities, label, classes) for name in WATCHED}


def _logits(module: nn.Module, jets: FlatInputs, classes: int, batch_size: int) -> Tensor:
    out = torch.empty(len(jets), classes)
    with evaluating(module), torch.inference_mode():
        for indices in inference_batches(module, jets, batch_size):
            out[indices] = call(module, collate(jets, indices))
    return out
