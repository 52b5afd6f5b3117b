"""What is kept of each job output: provenance, sums of weights, cutflows; no histogram.

Descriptions of a group of outputs are written to a file, so that a later comparison opens none of them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pfnano_tag.analyze.result import Cutflow, JobResult, Variable
from pfnano_tag.card.output import write_json
from pfnano_tag.compare.groups import KEY_DIGITS, Node, key_of, leaf
from pfnano_tag.errors import StudyError

KEPT = (
    *("dataset", "kind", "settings", "settings_by_part", "settings_of_dataset", "models", "file", "split"),
    *("unknown_lumis", "lumis", "dropped_lumis"),
)
"""Provenance that merging, normalisation and results need."""
SECTIONS = ("lumis", "dropped_lumis")
OWN = (*SECTIONS, "file")
"""Provenance that differs from job to job; all else is kept once for all jobs that have the same."""

Axes = tuple[object, ...]
"""Kind and bins of a variable, all that must agree between outputs but the categories."""


@dataclass(frozen=True)
class Job:
    """What is kept of a job output.

    Parameters
    ----------
    path : Path
        The job output.
    info : dict
        As in `JobResult`, what `KEPT` names.
    sums, cutflows : dict
        As in `JobResult`.
    variables : dict
        Name -> kind and bins.
    """

    path: Path
    info: dict[str, Any]
    sums: dict[str, float]
    cutflows: dict[str, Cutflow]
    variables: Mapping[str, Axes] = field(default_factory=dict)


def refuse_changed(node: Node) -> None:
    """Refuse an output that is not what it was when the merging began.

    Raises
    ------
    StudyError
        When it has been written since.
    """
    if leaf(node.path).key != node.key:
        raise StudyError(f"{node.path}: was written while it was merged; run the command again")


def description_path(group: Sequence[Node], folder: Path) -> Path:
    """Return where the descriptions of a group of outputs belong."""
    return folder / f"{key_of(group)[:KEY_DIGITS]}.json"


def describe(group: Sequence[Node], target: Path) -> None:
    """Open each output of a group and write what is kept of it.

    Raises
    ------
    FileError
        When an output can't be read.
    StudyError
        When one is written meanwhile.
    """
    variables: list[Any] = []
    jobs = [_described(node, variables) for node in group]
    write_json(target, {"key": key_of(group), "jobs": jobs, "variables": variables})


def _described(node: Node, variables: list[Any]) -> dict[str, Any]:
    with JobResult(node.path) as result:
        axes = {name: _axes(variable) for name, variable in result.variables.items()}
        if axes not in variables:
            variables.append(axes)
        job = {
            "info": {name: result.info[name] for name in KEPT if name in result.info},
            "sums": result.sums,
            "cutflows": {
                region: [list(flow.steps), flow.raw.tolist(), flow.weighted.tolist()]
                for region, flow in result.cutflows.items()
            },
            "variables": variables.index(axes),
        }
    refuse_changed(node)
    return job


def _axes(variable: Variable) -> list[object]:
    return [variable.kind, variable.bins, variable.low, variable.high, [asdict(axis) for axis in variable.axes]]


class Descriptions:
    """Reads descriptions; what is the same in many jobs is in memory once."""

    def __init__(self) -> None:
        self._shared: dict[str, Any] = {}

    def read(self, group: Sequence[Node], path: Path) -> list[Job] | None:
        """Return the jobs of a group of outputs; None when they have not been described, or the file is damaged."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["key"] != key_of(group):
                return None
            return [
                self._job(node, job, content["variables"]) for node, job in zip(group, content["jobs"], strict=True)
            ]
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None

    def _job(self, node: Node, job: Mapping[str, Any], variables: Sequence[Any]) -> Job:
        info = {name: value if name in OWN else self._once(value) for name, value in job["info"].items()}
        for name in SECTIONS:  # as numbers of a list they take nine times the memory
            recorded = info.get(name) or {}
            info[name] = {run: np.array(sections, dtype=np.uint32) for run, sections in recorded.items()}
        cutflows = {
            region: Cutflow(tuple(self._once(steps)), np.array(raw), np.array(weighted))
            for region, (steps, raw, weighted) in job["cutflows"].items()
        }
        return Job(node.path, info, job["sums"], cutflows, self._once(variables[job["variables"]]))

    def _once(self, value: Any) -> Any:
        return self._shared.setdefault(json.dumps(value), value)
