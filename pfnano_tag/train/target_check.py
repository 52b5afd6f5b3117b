"""Whether the files of a study have the truth that the heads of a network learn from, asked before they are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from torch import nn

from pfnano_tag.errors import CardError, MissingBranch
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


def _lacking(target: str, record: FileRecord) -> list[str]:
    return [branch for branch in TARGETS[target].branches if branch in record.absent]
