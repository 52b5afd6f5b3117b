"""Whether a network can have the tasks that the card gives it, asked before jets are read.

The files of the study must have the truth that its heads learn from; metrics and columns need names of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from torch import nn

from pfnano_tag.card.evaluation import Evaluation
from pfnano_tag.errors import CardError, MissingBranch
from pfnano_tag.evaluate.metrics import metric_names
from pfnano_tag.evaluate.tasks import task_metric_names
from pfnano_tag.infer.discriminants import DISCRIMINANTS
from pfnano_tag.infer.regressions import regression_columns
from pfnano_tag.models.tasks import Task
from pfnano_tag.nano.targets import TARGETS, group_of
from pfnano_tag.prepare.prepared import FileRecord, Prepared


def targets_of(network: nn.Module) -> tuple[str, ...]:
    """Return the truth targets that a network learns from beside the class."""
    return tuple(cast(Iterable[str], network.targets))


def check_targets(model: str, targets: Sequence[str], prepared: Prepared) -> None:
    """Refuse a network with a head whose labels the files lack.

    Parameters
    ----------
    model : str
        Name of the model in the card.
    targets : sequence of str
        From `targets_of`.
    prepared : Prepared
        Says which branches each file lacks.

    Raises
    ------
    CardError
        When the inputs lack the group of constituents that a target belongs to.
    MissingBranch
        Naming a file, its missing branches, the model and the head.
    """
    for target in targets:
        group = group_of(target)
        if group != "jet" and group not in prepared.inputs.groups:
            raise CardError(
                f"model {model}: its head for {target} needs constituents of group {group}, and section inputs has "
                f"features of {', '.join(prepared.inputs.groups)} alone: add features of that group, or drop the head"
            )
        lacking = {record.path: _lacking(target, record) for record in prepared.files if record.chunks}
        bad = {path: branches for path, branches in lacking.items() if branches}
        if bad:
            path, branches = next(iter(bad.items()))
            more = f" (and {len(bad) - 1} more files)" if len(bad) > 1 else ""
            raise MissingBranch(
                f"{path}{more}: model {model} has a head for {target}, whose labels can't be had from this file: it "
                f"lacks {', '.join(branches)}; train that model on files that have them (docs/training.md says which "
                f"do), or leave the head out of models.{model}.arguments"
            )


def check_task_names(model: str, network: nn.Module, classes: Sequence[str]) -> None:
    """Refuse tasks of which two metrics, or two columns that `infer` writes, would have one name.

    Parameters
    ----------
    model : str
        Name of the model in the card.
    network : nn.Module
        With tasks beside the flavour.
    classes : sequence of str
        Flavour classes.

    Raises
    ------
    CardError
        Naming what would be there twice.
    """
    every = Evaluation(discriminants=tuple(DISCRIMINANTS))
    metrics = (*metric_names(every, classes), *task_metric_names(cast(Mapping[str, Task], network.tasks)))
    columns = (*classes, *DISCRIMINANTS, *regression_columns(network))
    for what, names in (("metrics", metrics), ("columns of infer", columns)):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise CardError(
                f"models.{model}.arguments.tasks: found {', '.join(cast(Iterable[str], network.tasks))}, of which "
                f"two {what} would be called {', '.join(twice)}; give the task another name"
            )


def _lacking(target: str, record: FileRecord) -> list[str]:
    return [branch for branch in TARGETS[target].branches if branch in record.absent]
