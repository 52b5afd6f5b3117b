"""What is known of a network after an epoch: loss, accuracy, AUCs and efficiencies on the clean validation jets.

Shape suffixes: J jets, K classes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pfnano_tag.card.evaluation import Evaluation
from pfnano_tag.evaluate.auc import auc_with_replicas
from pfnano_tag.evaluate.discriminants import compared
from pfnano_tag.evaluate.efficiency import working_point
from pfnano_tag.evaluate.metrics import Metrics, auc_name, efficiency_name, separable
from pfnano_tag.evaluate.roc import rank
from pfnano_tag.evaluate.tasks import TaskScores, loss_name
from pfnano_tag.infer.discriminants import discriminant
from pfnano_tag.infer.prediction import inference_batches
from pfnano_tag.models.batch import call_all, collate, evaluating
from pfnano_tag.models.batch_tasks import entries_of
from pfnano_tag.models.device import CPU, device_of
from pfnano_tag.models.tasks import weight_of
from pfnano_tag.train.dataloader import LabelledInputs
from pfnano_tag.train.distributed import ALONE, World


def validate(
    module: nn.Module,
    pools: Iterable[LabelledInputs],
    classes: tuple[str, ...],
    loss: nn.Module,
    batch_size: int,
    evaluation: Evaluation,
    weighted: bool,
    world: World = ALONE,
) -> Metrics:
    """Validation loss, and accuracy, AUCs and efficiencies of unweighted jets.

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
    evaluation : Evaluation
        Discriminants and mistag rates that are followed.
    weighted : bool
        Whether the loss has the training's weights.
    world : World
        Processes that share the jets: each gives those of its pools, and gets the metrics of all.

    Returns
    -------
    dict
        `validation_loss`, `validation_accuracy`, and what `separation` returns. With further tasks the loss is that
        of all, as in the training, and there are `validation_flavour_loss` and what `TaskScores` returns.
    """
    scores = TaskScores(module.tasks if module.targets else {})  # type: ignore[arg-type]
    parts = [
        (_logits(module, pool, len(classes), batch_size, scores, weighted), pool.label.clone(), pool.weight.clone())
        for pool in pools
    ]
    parts = parts or [(torch.empty(0, len(classes)), torch.empty(0, dtype=torch.int64), torch.empty(0))]
    if module.targets:
        scores.together(world.gathered)
    columns = (torch.cat(column) for column in zip(*parts, strict=True))
    logits_JK, label_J, weight_J = (world.gathered(column) for column in columns)
    loss = copy.deepcopy(loss).to(CPU)
    flavour = float(loss(logits_JK.double(), label_J, weight_J.double() if weighted else None))
    losses = {"validation_loss": flavour}
    if module.targets:
        losses = {"validation_loss": _total_loss(module, flavour, scores), loss_name("flavour"): flavour}
    found: Metrics = {name: value if math.isfinite(value) else None for name, value in losses.items()}
    found["validation_accuracy"] = float((logits_JK.argmax(1) == label_J).double().mean())
    return (found | scores.metrics()) | separation(
        logits_JK.double().softmax(1).numpy(), label_J.numpy(), classes, evaluation
    )


def separation(
    nodes_JK: NDArray[np.floating], label_J: NDArray[np.integer], classes: tuple[str, ...], evaluation: Evaluation
) -> Metrics:
    """Return the AUC of each discriminant and its signal efficiency at each mistag rate, the third flavour vetoed.

    Parameters
    ----------
    nodes_JK : ndarray [J, K]
        Output nodes.
    label_J : ndarray of int [J]
        Index of the true class.
    classes : tuple of str
        Flavour of each node.
    evaluation : Evaluation
        Discriminants (those that the classes don't allow are left out) and mistag rates.

    Returns
    -------
    dict
        `auc_NAME`, then `efficiency_NAME_MISTAG`: None where the jets lack one side, 0 where even the highest score
        lets more background through.
    """
    aucs: Metrics = {}
    efficiencies: Metrics = {}
    for name in separable(evaluation, classes):
        chosen_J, signal_J = compared(name, label_J, classes)
        both = bool(signal_J.any() and (chosen_J & ~signal_J).any())
        ranking = rank(discriminant(name, nodes_JK[chosen_J], classes), signal_J[chosen_J])
        none_RJ = np.empty((0, len(ranking.order_J)), dtype=np.uint8)  # no replicas: errors are for the test split
        aucs[auc_name(name)] = auc_with_replicas(ranking, none_RJ).value if both else None
        for mistag in evaluation.mistags:
            key = efficiency_name(name, mistag)
            efficiencies[key] = working_point(ranking, mistag, none_RJ).efficiency if both else None
    return aucs | efficiencies


def _logits(
    module: nn.Module, pool: LabelledInputs, classes: int, batch_size: int, scores: TaskScores, weighted: bool
) -> Tensor:
    """Logits of the flavour (J, K); what further tasks give goes to `scores`."""
    out, device = torch.empty(len(pool), classes), device_of(module)
    weight_J = pool.weight if weighted else None
    with evaluating(module), torch.inference_mode():
        for indices in inference_batches(module, pool.inputs, batch_size):
            batch = collate(pool.inputs, indices, pool.label, weight_J, pool.targets).to(device)
            outputs, entries = call_all(module, batch), entries_of(module, batch)
            out[indices] = outputs["flavour"].to(CPU)
            if entries:
                weights = {name: weight_of(of_task, batch.weight_B) for name, of_task in entries.items()}
                sums = module.task_sums(outputs, entries, batch.weight_B)  # type: ignore[operator]
                scores.add(outputs, entries, sums, weights)
    return out


def _total_loss(module: nn.Module, flavour: float, scores: TaskScores) -> float:
    """The loss of all tasks of all jets."""
    device = device_of(module)
    sums = {name: torch.tensor(value, device=device) for name, value in scores.loss_sums.items()}
    with torch.inference_mode():
        total = module.total_loss(torch.tensor(flavour, device=device), sums, scores.weights)  # type: ignore[operator]
    return float(total)
