"""Merging the job outputs of all files of all datasets: checked against each other, added up, read one variable at a
time.

Each output is opened twice: to see what it is, and, when all of them may be merged, to be added to the sum of its
group (see `groups`). What was made of a group stays in the study's folder, and is used again as long as the outputs
are the same.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import TracebackType

import numpy as np

from pfnano_tag.analyze.result import NO_REPLICA, Array, Category, JobResult, Variable
from pfnano_tag.card.card import Card
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.compare.groups import Node, groups, leaf, sums_in, to_be_made, tree
from pfnano_tag.compare.jobs import Axes, Descriptions, Job, describe, description_path
from pfnano_tag.compare.outputs import DatasetJobs
from pfnano_tag.compare.pool import Pool
from pfnano_tag.compare.refusals import refuse_mixtures, refuse_repetitions
from pfnano_tag.compare.sums import add_up, open_node
from pfnano_tag.errors import StudyError

log = logging.getLogger(__name__)

Rows = dict[Category, tuple[Array, Array]]
"""Sums of weights and of squared weights [bins + 2], by category."""


def merge_folder(card: Card) -> Path:
    """Return where a study keeps what was made of groups of its job outputs."""
    return card.folder / "comparison" / "merged"


@dataclass
class Merger:
    """The job outputs of a study, for merging; a context manager.

    Parameters
    ----------
    found : sequence of DatasetJobs
        From `find_jobs`.
    folder : Path or None
        Keeps what is made of groups of outputs, per dataset; what is in it of other outputs is removed. None: a
        folder that goes with the merger.
    processes : int or None
        That read outputs; None: one per core. The sums have the same bits for any number.

    Attributes
    ----------
    jobs : dict
        Jobs by name of the dataset.
    variables : dict of Variable
        Of all jobs, by name, without their categories' order meaning anything across datasets. Those that not all
        jobs have are none of them: a sum over some of the files would pass for one over all.
    partial : dict of tuple of Path
        The latter, with the outputs that lack them (a tagger that only some files store).

    Raises
    ------
    StudyError
        When the jobs were made with different cards, models or formats, or a variable's bins differ; when an output
        is written meanwhile.
    DataError
        When two jobs are of one and the same file.
    FileError
        When an output can't be read.
    """

    found: list[DatasetJobs]
    folder: Path | None = None
    processes: int | None = 1
    jobs: dict[str, list[Job]] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    partial: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    _tops: dict[str, Node] = field(default_factory=dict)
    _sums: dict[str, JobResult] = field(default_factory=dict)
    _temporary: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Merger:
        self._pool = Pool(self.processes or len(os.sched_getaffinity(0)))
        if self.folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="pfnano_tag_merge_")
        try:
            self._look()
            everything = list(chain(*self.jobs.values()))
            refuse_mixtures(everything)
            refuse_repetitions(everything)
            self._note_variables(everything)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files, end all processes."""
        for result in self._sums.values():
            result.close()
        self._sums.clear()
        self._pool.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _folder_of(self, dataset: str) -> Path:
        return Path(self._temporary.name if self._temporary is not None else self.folder or "") / dataset

    def _look(self) -> None:
        """Learn what the outputs are, from themselves or from what was written down of their group."""
        descriptions, asked, unknown = Descriptions(), [], []
        for one in self.found:
            name, leaves = one.dataset.name, [leaf(path) for path in one.paths]
            self.jobs[name] = []
            if leaves:
                self._tops[name] = tree(leaves, self._folder_of(name))
            for group in groups(leaves):
                asked.append((one.dataset, group, description_path(group, self._folder_of(name))))
        known = [descriptions.read(group, path) for _, group, path in asked]
        unknown = [(group, path) for (_, group, path), jobs in zip(asked, known, strict=True) if jobs is None]
        self._pool.run(_describe, unknown, [len(group) for group, _ in unknown], "opening", "job outputs")
        for (dataset, group, path), jobs in zip(asked, known, strict=True):
            jobs = descriptions.read(group, path) if jobs is None else jobs
            if jobs is None:
                raise StudyError(f"{path}: is gone or damaged, though just written; run the command again")
            for job in jobs:
                _refuse_others(job, dataset)
            self.jobs[dataset.name] += jobs

    def _note_variables(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        with JobResult(jobs[0].path) as result:
            self.variables = dict(result.variables)
        known: dict[str, Axes] = {}
        having: dict[str, set[Path]] = {}
        for job in jobs:
            for name, axes in job.variables.items():
                if known.setdefault(name, axes) != axes:
                    raise StudyError(
                        f"{job.path}: variable {name!r} has other bins than in other outputs; analyze it again"
                    )
                having.setdefault(name, set()).add(job.path)
        for name, paths in having.items():
            lacking = tuple(job.path for job in jobs if job.path not in paths)
            if lacking:
                self.variables.pop(name, None)
                self.partial[name] = lacking
                log.warning(
                    "%s is left out: %d of %d job outputs lack it, such as %s",
                    *(name, len(lacking), len(jobs), lacking[0]),
                )

    def _sum(self, dataset: str) -> JobResult:
        """Return the sum of a dataset, open; the first time, those of all datasets are made."""
        if not self._sums:
            missing = [node for top in self._tops.values() for node in to_be_made(top)]
            for height in sorted({node.height for node in missing}):  # sums of sums come after these
                level = [node for node in missing if node.height == height]
                self._pool.run(add_up, level, [len(node.sources) for node in level], "adding up", "files")
            self._pool.close()
            self._sums = {name: open_node(top) for name, top in self._tops.items()}
            if self._temporary is None:
                self._remove_others()
        return self._sums[dataset]

    def _remove_others(self) -> None:
        """Remove what was made of outputs as they no longer are."""
        for one in self.found:
            folder = self._folder_of(one.dataset.name)
            top = self._tops.get(one.dataset.name)
            used = {node.path for node in sums_in(top)} if top else set()
            used |= {description_path(group, folder) for group in groups(list(_leaves(top)))} if top else set()
            for path in [*folder.glob("[!.]*.root"), *folder.glob("[!.]*.json")]:  # not what is being written
                if path not in used:
                    path.unlink(missing_ok=True)

    def merged(self, name: str, factors: Mapping[str, float], by_dataset: bool = False) -> Rows:
        """Return one variable, summed over all jobs of all datasets, each dataset scaled.

        Parameters
        ----------
        name : str
            Variable.
        factors : mapping
            Scale by name of the dataset; a dataset without one is left out.
        by_dataset : bool
            Keep datasets apart, and sum over flavours instead: the name of the dataset stands for the flavour.
        """
        rows: Rows = {}
        for dataset, jobs in self.jobs.items():
            if dataset in factors and jobs:
                result = self._sum(dataset)
                content = result.read(name)
                one = dict(
                    zip(
                        result.variables[name].categories,
                        zip(content.values, content.variances, strict=True),
                        strict=True,
                    )
                )
                one = as_component(one, dataset) if by_dataset else one
                _add(rows, {c: (v * factors[dataset], w * factors[dataset] ** 2) for c, (v, w) in one.items()})
        return rows


def _describe(item: tuple[tuple[Node, ...], Path]) -> None:
    describe(*item)


def _refuse_others(job: Job, dataset: Dataset) -> None:
    identity = job.info["dataset"], job.info["kind"]
    if identity != (dataset.name, dataset.kind):
        found, wanted = (f"{name!r} ({kind})" for name, kind in (identity, (dataset.name, dataset.kind)))
        raise StudyError(f"{job.path}: output of dataset {found}, expected {wanted}; analyze it again")


def _leaves(top: Node) -> Iterator[Node]:
    if not top.sources:
        yield top
    for source in top.sources:
        yield from _leaves(source)


def as_component(rows: Rows, component: str) -> Rows:
    """Return rows summed over flavours, with another name for the flavour; replicas, summed already, stay."""
    found: Rows = {}
    for category, content in rows.items():
        named = category if category.replica != NO_REPLICA else category._replace(flavour=component)
        _add(found, {named: content})
    return found


def _add(rows: Rows, more: Mapping[Category, tuple[Array, Array]]) -> None:
    for category, (values, variances) in more.items():
        before = rows.get(category)
        rows[category] = (values, variances) if before is None else (before[0] + values, before[1] + variances)


def rows_of(rows: Rows, flavours: Iterable[str] | None, **fixed: object) -> Rows:
    """Return the rows whose category has the fixed fields, and one of the flavours where they are given."""
    wanted = None if flavours is None else set(flavours)
    return {
        category: content
        for category, content in rows.items()
        if (wanted is None or category.flavour in wanted)
        and all(getattr(category, name) == value for name, value in fixed.items())
    }


def total(rows: Rows) -> tuple[Array, Array]:
    """Return the sum of rows (at least one)."""
    contents = list(rows.values())
    values = np.sum([values for values, _ in contents], axis=0)
    return values, np.sum([variances for _, variances in contents], axis=0)
