"""What validation jets tell of the tasks that a network has beside the flavour: a loss and a figure each.

Regressions: half of the width of the central 68.3 % of prediction - truth (`resolution_TASK`, lower is better).
Constituents: the share of right classes (`validation_TASK_accuracy`), and that of each class
(`validation_TASK_CLASS_accuracy`). Pairs: the AUC (`auc_TASK`), and efficiency and purity of the pairs with a
probability above one half (`pair_efficiency_TASK`, `pair_purity_TASK`). Jets are not weighted here; in the losses
(`validation_TASK_loss`) they may be.

Shape suffixes: E entries (jets, constituents or pairs with a label), C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pfnano_tag.evaluate.metrics import Metrics, auc_name
from pfnano_tag.models.tasks import ConstituentClassification, EdgeClassification, Entries, Task
from pfnano_tag.nano.targets import ORIGINS

CLASS_NAMES = {"charged/origin": ORIGINS}
"""Names of the classes of constituents, by target."""
CENTRAL = (0.1585, 0.8415)
"""Quantiles between which a Gaussian has 68.3 %."""
LOGITS = (-25.0, 25.0, 10_000)
"""Bins of the logits of pairs, which are too many to be kept: lowest, highest, number."""


def loss_name(task: str) -> str:
    """Return the name of a task's validation loss."""
    return f"validation_{task}_loss"


def task_metric_names(tasks: Mapping[str, Task]) -> tuple[str, ...]:
    """Return the metrics of an epoch that tasks add; `flavour`, the task of every network, gets a loss of its own.

    Parameters
    ----------
    tasks : mapping of Task
        Tasks beside the flavour, by name.
    """
    if not tasks:
        return ()
    losses = (loss_name(name) for name in ("flavour", *tasks))
    return (*losses, *(metric for name, task in tasks.items() for metric in _figure_of(name, task).metrics()))


Gathered = Callable[[Tensor], Tensor]
"""Puts rows of all processes that validate together one behind the other."""


class Figure(Protocol):
    """Takes the outputs of batches, and makes figures of them."""

    def add(self, output: Tensor, entries: Entries) -> None:
        """Take a batch."""

    def together(self, gathered: Gathered) -> None:
        """Take what all processes have found."""

    def metrics(self) -> Metrics:
        """Return the figures of all batches; None where nothing has a label."""


class TaskScores:
    """Sums over the validation jets, batch by batch.

    Parameters
    ----------
    tasks : mapping of Task
        Tasks beside the flavour, by name.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self.loss_sums = dict.fromkeys(tasks, 0.0)
        self.weights = dict.fromkeys(tasks, 0.0)
        self._figures = {name: _figure_of(name, task) for name, task in tasks.items()}

    def add(
        self,
        outputs: Mapping[str, Tensor],
        entries: Mapping[str, Entries],
        loss_sums: Mapping[str, Tensor],
        weights: Mapping[str, float],
    ) -> None:
        """Take a batch.

        Parameters
        ----------
        outputs : mapping of Tensor
            Of all tasks.
        entries : mapping of Entries
            What has a label.
        loss_sums, weights : mapping of Tensor and of float
            Sums of w l and of w, of each task.
        """
        for name, figure in self._figures.items():
            self.loss_sums[name] += float(loss_sums[name])
            self.weights[name] += weights[name]
            figure.add(outputs[name], entries[name])

    def together(self, gathered: Gathered) -> None:
        """Take what all processes have found, each from its jets.

        Parameters
        ----------
        gathered : callable
            Gives the rows of all processes.
        """
        sums = torch.tensor([[*self.loss_sums.values(), *self.weights.values()]], dtype=torch.float64)
        of_all = gathered(sums).sum(0).tolist()
        self.loss_sums = dict(zip(self.loss_sums, of_all, strict=False))
        self.weights = dict(zip(self.weights, of_all[len(self.weights) :], strict=True))
        for figure in self._figures.values():
            figure.together(gathered)

    def metrics(self) -> Metrics:
        """Return losses and figures of all tasks."""
        losses = {
            loss_name(name): total / self.weights[name] if self.weights[name] else None
            for name, total in self.loss_sums.items()
        }
        return losses | {key: value for figure in self._figures.values() for key, value in figure.metrics().items()}


def _figure_of(name: str, task: Task) -> Figure:
    if isinstance(task, ConstituentClassification):
        return _Accuracy(name, CLASS_NAMES[task.target])
    if isinstance(task, EdgeClassification):
        return _Pairs(name)
    return _Resolution(name)


class _Resolution:
    """Of a regression, whose first output is the prediction."""

    def __init__(self, name: str) -> None:
        self._name, self._errors = name, [np.empty(0)]

    def add(self, output: Tensor, entries: Entries) -> None:
        error_E = output[entries.rows_E, 0].double() - entries.target_E.double()
        self._errors.append(error_E.cpu().numpy())

    def together(self, gathered: Gathered) -> None:
        self._errors = [gathered(torch.from_numpy(np.concatenate(self._errors))).numpy()]

    def metrics(self) -> Metrics:
        error_E = np.concatenate(self._errors)
        width = float(np.diff(np.quantile(error_E, CENTRAL))[0]) / 2 if len(error_E) else None
        return {f"resolution_{self._name}": width}


class _Accuracy:
    """Of the classes of constituents."""

    def __init__(self, name: str, classes: tuple[str, ...]) -> None:
        self._name, self._classes = name, classes
        self._counts_CC = np.zeros((len(classes), len(classes)), dtype=np.int64)
        """Entries by true class and most probable class."""

    def add(self, output: Tensor, entries: Entries) -> None:
        both_E = entries.target_E * len(self._classes) + output[entries.rows_E].argmax(1)
        self._counts_CC += both_E.bincount(minlength=self._counts_CC.size).view(self._counts_CC.shape).cpu().numpy()

    def together(self, gathered: Gathered) -> None:
        self._counts_CC = gathered(torch.from_numpy(self._counts_CC)[None]).sum(0).numpy()

    def metrics(self) -> Metrics:
        right_C, all_C = self._counts_CC.diagonal(), self._counts_CC.sum(1)
        found: Metrics = {f"validation_{self._name}_accuracy": _share(right_C.sum(), all_C.sum())}
        for index, label in enumerate(self._classes):
            found[f"validation_{self._name}_{label}_accuracy"] = _share(right_C[index], all_C[index])
        return found


class _Pairs:
    """Of pairs that share a vertex, against those that don't."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._counts = torch.zeros(2, LOGITS[2] + 1, dtype=torch.int64)
        """Pairs of different vertices, of the same vertex, by the bin of the logit; zero is an edge."""

    def add(self, output: Tensor, entries: Entries) -> None:
        low, high, bins = LOGITS
        place_E = ((output[entries.rows_E].float() - low) * (bins / (high - low))).clamp(0, bins).long().cpu()
        both_E = entries.target_E.long().cpu() * (bins + 1) + place_E
        self._counts += both_E.bincount(minlength=self._counts.numel()).view(self._counts.shape)

    def together(self, gathered: Gathered) -> None:
        self._counts = gathered(self._counts[None]).sum(0)

    def metrics(self) -> Metrics:
        other, same = (counts.double().numpy() for counts in self._counts)
        below = np.cumsum(other) - other
        both = other.sum() * same.sum()
        middle = LOGITS[2] // 2
        taken = same[middle:].sum()
        return {
            auc_name(self._name): float((same * (below + other / 2)).sum() / both) if both else None,
            f"pair_efficiency_{self._name}": _share(taken, same.sum()),
            f"pair_purity_{self._name}": _share(taken, taken + other[middle:].sum()),
        }


def _share(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None
