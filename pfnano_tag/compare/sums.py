"""Sums of job outputs, which are job outputs again, as `hadd` would make them: one variable of one output at a time
is added to what is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pfnano_tag.analyze.result import Array, Content, Cutflow, JobResult, Variable, write_result
from pfnano_tag.compare.groups import Node
from pfnano_tag.compare.jobs import refuse_changed
from pfnano_tag.errors import FileError, StudyError


@dataclass
class Sum:
    """One variable, summed so far.

    Parameters
    ----------
    variable : Variable
        With all categories that came.
    content : Content
        Sums; changed in place.
    """

    variable: Variable
    content: Content

    def add(self, variable: Variable, content: Content) -> None:
        """Add another output's histograms, by category; a category that is new is one more row."""
        mine = self.variable.categories
        if variable.categories == mine:
            self.content.values[...] += content.values
            self.content.variances[...] += content.variances
            return
        places = {category: place for place, category in enumerate(mine)}
        new = tuple(category for category in variable.categories if category not in places)
        places |= {category: len(mine) + place for place, category in enumerate(new)}
        if new:
            self.variable = replace(self.variable, categories=mine + new)
            self.content = Content(
                *(_longer(rows, len(new)) for rows in (self.content.values, self.content.variances))
            )
        chosen = [places[category] for category in variable.categories]
        self.content.values[chosen] += content.values
        self.content.variances[chosen] += content.variances


def _longer(rows: Array, new: int) -> Array:
    return np.concatenate([rows, np.zeros((new, rows.shape[1]))])


def add_up(node: Node) -> None:
    """Sum the sources of a node, in their order, and write the sum, whole or not at all.

    Parameters
    ----------
    node : Node
        With sources, which are there.

    Raises
    ------
    FileError
        When a source can't be read.
    StudyError
        When an output is written meanwhile, or the file of a sum is of something else.
    """
    found: dict[str, Sum] = {}
    sums: dict[str, float] = {}
    cutflows: dict[str, Cutflow] = {}
    about: dict[str, str] = {}
    for source in node.sources:
        with open_node(source) as result:
            about = {name: result.info[name] for name in ("dataset", "kind")}
            for name, variable in result.variables.items():
                content = result.read(name)
                if name in found:
                    found[name].add(variable, content)
                else:
                    found[name] = Sum(variable, content)
            sums = {name: sums.get(name, 0.0) + number for name, number in result.sums.items()}
            cutflows |= {region: _plus(cutflows.get(region), flow) for region, flow in result.cutflows.items()}
        if not source.sources:
            refuse_changed(source)
    contents = {name: (one.variable, one.content) for name, one in found.items()}
    write_result(node.path, {**about, "key": node.key}, sums, cutflows, contents)


def open_node(node: Node) -> JobResult:
    """Open a job output, or a sum that has been made before.

    Raises
    ------
    FileError
        When it can't be read.
    StudyError
        When the file of a sum is of something else.
    """
    if not node.sources:
        return JobResult(node.path)
    mend = f"it is made again when you remove it, as is all of {node.path.parent}"
    try:
        result = JobResult(node.path)
    except FileError as error:
        raise FileError(f"{error} ({mend})") from error
    if result.info.get("key") != node.key:
        result.close()
        raise StudyError(f"{node.path}: is no sum of the job outputs that its name stands for; {mend}")
    return result


def _plus(known: Cutflow | None, more: Cutflow) -> Cutflow:
    if known is None:
        return more
    return Cutflow(known.steps, known.raw + more.raw, known.weighted + more.weighted)
