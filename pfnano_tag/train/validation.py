"""What is known of a network after an epoch: loss, accuracy and AUCs on the clean validation jets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pfnano_tag.evaluate.auc import auc_of
from pfnano_tag.infer.prediction import inference_batches
from pfnano_tag.models.batch import call, collate, evaluating
from pfnano_tag.train.dataloader import LabelledInputs

WATCHED = ("BvsL", "CvsL", "CvsB")
"""Discriminants whose AUC is followed during training."""


def validate(
    module: nn.Module, jets: LabelledInputs, classes: tuple[str, ...], loss: nn.Module, batch_size: int
) -> dict[str, Any]:
    """Validation loss with the training's weights, accuracy and AUCs of unweighted jets.

    Parameters
    ----------
    module : nn.Module
        Network; put into evaluation mode and back.
    jets : LabelledInputs
        Validation jets, not attacked.
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
    logits_JK = _logits(module, jets, len(classes), batch_size)
    probabilities = logits_JK.double().softmax(1).numpy()
    label = jets.label.numpy()
    return {
        "validation_loss": float(loss(logits_JK.double(), jets.label, jets.weight.double())),
        "validation_accuracy": float((logits_JK.argmax(1) == jets.label).double().mean()),
    } | {f"auc_{name}": auc_of(name, probabilities, label, classes) for name in WATCHED}


def _logits(module: nn.Module, jets: LabelledInputs, classes: int, batch_size: int) -> Tensor:
    out = torch.empty(len(jets), classes)
    with evaluating(module), torch.inference_mode():
        for indices in inference_batches(module, jets.inputs, batch_size):
            out[indices] = call(module, collate(jets.inputs, indices))
    return out
