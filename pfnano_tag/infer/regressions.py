"""What the regressions of a network say of a jet, as columns of numbers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pfnano_tag.models.tasks import Task


def regression_columns(module: nn.Module) -> tuple[str, ...]:
    """Return the names of what a network's regressions give for a jet: the task's, and `TASK_sigma`."""
    return tuple(f"{name}{suffix}" for name, task in _regressions(module).items() for suffix in task.columns)


def numbers_of(module: nn.Module, outputs: Mapping[str, Tensor]) -> Tensor | None:
    """Return the numbers (B, columns) in the order of `regression_columns`, or None where there are none.

    Parameters
    ----------
    module : nn.Module
        Network.
    outputs : mapping of Tensor
        From `models.batch.call_all`.
    """
    found = [task.numbers(outputs[name]) for name, task in _regressions(module).items()]
    return torch.cat(found, dim=1) if found else None


def _regressions(module: nn.Module) -> dict[str, Task]:
    if not module.targets:
        return {}
    tasks: dict[str, Task] = module.tasks  # type: ignore[assignment]
    return {name: task for name, task in tasks.items() if task.columns}
