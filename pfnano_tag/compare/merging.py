"""Merging the job outputs of all files of all datasets: found, checked against each other, added up one variable at
a time.

What is short is written down, never filled in: files without a job output, jobs that lost chunks, datasets whose list
of files can't be seen from here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pfnano_tag.analyze.array_files import is_arrays
from pfnano_tag.analyze.factors import factor_files
from pfnano_tag.analyze.result import NO_REPLICA, Array, Category, Content, Cutflow, JobResult, Variable
from pfnano_tag.card.card import Card
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.card.files import expand_files
from pfnano_tag.card.folder import analysis_path
from pfnano_tag.card.hashing import file_hash
from pfnano_tag.errors import CardError, DataError, FileError, StudyError

log = logging.getLogger(__name__)

OPEN_FILES = 200
"""Job outputs kept open; further ones are opened again for each variable."""

Rows = dict[Category, tuple[Array, Array]]
"""Sums of weights and of squared weights [bins + 2], by category."""


@dataclass(frozen=True)
class Job:
    """What is kept of a job output while it is not being read.

    Parameters
    ----------
    path : Path
        The job output.
    info, sums, cutflows : dict
        As in `JobResult`.
    """

    path: Path
    info: dict[str, Any]
    sums: dict[str, float]
    cutflows: dict[str, Cutflow]


@dataclass(frozen=True)
class DatasetJobs:
    """The job outputs of one dataset.

    Parameters
    ----------
    dataset : Dataset
        Of the card.
    paths : tuple of Path
        Outputs that are there, sorted: sums then have the same bits in any order of the dataset's files.
    missing : tuple of str
        Files of the dataset without an output.
    unlisted : str
        Why the dataset's files can't be listed here; empty when they can.
    """

    dataset: Dataset
    paths: tuple[Path, ...]
    missing: tuple[str, ...] = ()
    unlisted: str = ""


def find_jobs(card: Card) -> list[DatasetJobs]:
    """Return the job outputs of all datasets with role `analyze`, in the card's order.

    Raises
    ------
    StudyError
        When there is none at all.
    DataError
        When two files of a dataset share an output.
    """
    found = [_jobs_of(card, dataset) for dataset in card.datasets_for("analyze")]
    if not any(jobs.paths for jobs in found):
        folder = card.folder / "analysis"
        raise StudyError(f"{folder}: no job output of any dataset; run `analyze` for each file first")
    return found


def _jobs_of(card: Card, dataset: Dataset) -> DatasetJobs:
    try:
        files = expand_files(card.patterns(dataset))
    except FileError as error:
        # The inputs may lie where the jobs ran: then what came back is all that can be seen.
        log.warning(
            "dataset %s: its files can't be listed here (%s); taking the outputs there are", dataset.name, error
        )
        folder = analysis_path(card, dataset.name, "any").parent
        outputs_there = tuple(sorted(path for path in folder.glob("*.root") if not is_arrays(path)))
        return DatasetJobs(dataset, outputs_there, unlisted=str(error))
    outputs = {file: analysis_path(card, dataset.name, file) for file in files}
    if len(set(outputs.values())) < len(outputs):
        raise DataError(f"dataset {dataset.name}: two of its files have the same output name; give them other names")
    there = tuple(sorted(path for path in outputs.values() if path.is_file()))
    return DatasetJobs(dataset, there, tuple(file for file, path in outputs.items() if not path.is_file()))


@dataclass
class Merger:
    """The job outputs of a study, open for merging; a context manager.

    Parameters
    ----------
    found : sequence of DatasetJobs
        From `find_jobs`.

    Parameters
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
        When the jobs were made with different cards, models or formats, or a variable's bins differ.
    DataError
        When two jobs are of one and the same file.
    FileError
        When an output can't be read.
    """

    found: list[DatasetJobs]
    jobs: dict[str, list[Job]] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    partial: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    _having: dict[str, set[Path]] = field(default_factory=dict)
    _open: dict[Path, JobResult] = field(default_factory=dict)
    _shared: dict[Variable, Variable] = field(default_factory=dict)

    def __enter__(self) -> Merger:
        try:
            for group in self.found:
                self.jobs[group.dataset.name] = [self._first_look(path, group.dataset) for path in group.paths]
            everything = [job for jobs in self.jobs.values() for job in jobs]
            refuse_mixtures(everything)
            refuse_repetitions(everything)
            self._leave_out_partial([job.path for job in everything])
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all outputs."""
        for result in self._open.values():
            result.close()
        self._open.clear()

    def _first_look(self, path: Path, dataset: Dataset) -> Job:
        result = self._result(path)
        if _identity(result) != (dataset.name, dataset.kind):
            found, wanted = (f"{name!r} ({kind})" for name, kind in (_identity(result), (dataset.name, dataset.kind)))
            raise StudyError(f"{path}: output of dataset {found}, expected {wanted}; analyze it again")
        for name, variable in result.variables.items():
            known = self.variables.setdefault(name, variable)
            if _bins(known) != _bins(variable):
                raise StudyError(f"{path}: variable {name!r} has other bins than in other outputs; analyze it again")
            self._having.setdefault(name, set()).add(path)
        job = Job(path, result.info, result.sums, result.cutflows)
        self._done(result)
        return job

    def _leave_out_partial(self, paths: list[Path]) -> None:
        for name, having in self._having.items():
            lacking = tuple(path for path in paths if path not in having)
            if lacking:
                del self.variables[name]
                self.partial[name] = lacking
                log.warning(
                    "%s is left out: %d of %d job outputs lack it, such as %s",
                    *(name, len(lacking), len(paths), lacking[0]),
                )

    def _result(self, path: Path) -> JobResult:
        """Return an output, open; equal descriptions of variables are kept once."""
        if path not in self._open:
            result = JobResult(path)
            result.variables = {
                name: self._shared.setdefault(variable, variable) for name, variable in result.variables.items()
            }
            self._open[path] = result
        return self._open[path]

    def _done(self, result: JobResult) -> None:
        if len(self._open) > OPEN_FILES:
            self._open.pop(result.path).close()

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
            if dataset in factors:
                sums = self._summed(name, jobs)
                sums = as_component(sums, dataset) if by_dataset else sums
                _add(rows, {c: (v * factors[dataset], w * factors[dataset] ** 2) for c, (v, w) in sums.items()})
        return rows

    def _summed(self, name: str, jobs: Iterable[Job]) -> Rows:
        """Return one variable summed over the jobs of one dataset; whole arrays where the categories agree."""
        sums: dict[tuple[Category, ...], Content] = {}
        for job in jobs:
            result = self._result(job.path)
            if name in result.variables:
                content, categories = result.read(name), result.variables[name].categories
                known = sums.get(categories)
                sums[categories] = content if known is None else _plus(known, content)
            self._done(result)
        rows: Rows = {}
        for categories, content in sums.items():
            _add(rows, dict(zip(categories, zip(content.values, content.variances, strict=True), strict=True)))
        return rows


def as_component(rows: Rows, component: str) -> Rows:
    """Return rows summed over flavours, with another name for the flavour; replicas, summed already, stay."""
    found: Rows = {}
    for category, content in rows.items():
        named = category if category.replica != NO_REPLICA else category._replace(flavour=component)
        _add(found, {named: content})
    return found


def _bins(variable: Variable) -> tuple[object, ...]:
    return variable.kind, variable.bins, variable.low, variable.high, variable.axes


def _identity(result: JobResult) -> tuple[str, str]:
    return result.info["dataset"], result.info["kind"]


def _plus(first: Content, second: Content) -> Content:
    return Content(first.values + second.values, first.variances + second.variances)


def _add(rows: Rows, more: Mapping[Category, tuple[Array, Array]]) -> None:
    for category, (values, variances) in more.items():
        before = rows.get(category)
        rows[category] = (values, variances) if before is None else (before[0] + values, before[1] + variances)


def refuse_mixtures(jobs: Iterable[Job]) -> None:
    """Refuse job outputs that were not made with the same card sections, models and format, or, of one dataset, not
    with the same triggers, vetoes, lumi mask and split.

    Raises
    ------
    StudyError
        Naming two outputs and what differs.
    """
    first: Job | None = None
    of_datasets: dict[str, Job] = {}
    for job in jobs:
        other = of_datasets.setdefault(job.info["dataset"], job)
        ours, theirs = (one.info.get("settings_of_dataset", {}) for one in (other, job))
        if ours != theirs:
            what = ", ".join(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key))
            raise StudyError(
                f"{other.path} and {job.path}, of one dataset, were made with different settings of it ({what}); "
                "analyze all its files with the same card"
            )
        first = first or job
        if job.info["settings"] != first.info["settings"]:
            what = _what_differs(first.info, job.info)
            raise StudyError(
                f"{first.path} and {job.path} were made with different settings ({what}); "
                "analyze all files with the same card and models"
            )


def refuse_repetitions(jobs: Iterable[Job]) -> None:
    """Refuse two outputs of one file, known by its identity wherever it lies: its events would count twice.

    Raises
    ------
    DataError
        Naming both outputs and the places of the file.
    """
    known: dict[str, Job] = {}
    for job in jobs:
        identity = job.info.get("file", {}).get("identity")
        other = known.setdefault(identity, job) if identity else job
        if other is not job:
            places = " and ".join(str(one.info["file"]["path"]) for one in (other, job))
            raise DataError(
                f"{other.path} and {job.path} are of one and the same file ({places}): its events would count twice; "
                "name it once in the card"
            )


def _what_differs(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Return the parts of the settings that differ, by name."""
    ours, theirs = first.get("settings_by_part", {}), second.get("settings_by_part", {})
    return ", ".join(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)) or "unknown parts"


def refuse_stale(card: Card, jobs: Iterable[Job]) -> None:
    """Refuse job outputs that were made with another card than this one.

    Raises
    ------
    StudyError
        Naming an output and the sections of the card that changed since.
    """
    attacks = {name: card.attacks[name].model_dump(mode="json") for name in card.histograms.variants}
    stated: dict[str, Any] = {"attacks": attacks, "replicas": card.comparison.replicas}
    try:
        stated["corrections"] = factor_files(card)
    except CardError as error:  # they may lie where the jobs ran
        log.info("not compared with what the jobs read: %s", error)
    for job in jobs:
        parts = job.info.get("settings_by_part", {})
        # Hashes of sections are strings; the rest is in the settings as it is (models: hashes of checkpoints).
        now: dict[str, Any] = {name: card.hash(name) for name, value in parts.items() if _is_section(name, value)}
        now |= {name: value for name, value in stated.items() if name in parts}
        changed = [name for name, value in now.items() if parts[name] != value]
        changed += _changed_of_dataset(card, job)
        if changed:
            raise StudyError(
                f"{job.path}: made with another card, {', '.join(changed)} changed since; run `analyze` again "
                "(for all files), or undo the change"
            )


def _changed_of_dataset(card: Card, job: Job) -> list[str]:
    """Return what the card says of a job's dataset now, and did not when the job was done."""
    then, dataset = job.info.get("settings_of_dataset", {}), card.dataset(job.info["dataset"])
    now: dict[str, Any] = {
        "test_only": "train" in dataset.roles and bool(job.info["models"]),
        "triggers": list(dataset.triggers),
        "vetoes": list(dataset.vetoes),
    }
    try:
        now["lumi_mask"] = None if dataset.lumi_mask is None else file_hash(Path(dataset.lumi_mask))
    except OSError as error:  # it may lie where the jobs ran
        log.info("%s: the lumi mask can't be compared with that of the jobs: %s", dataset.lumi_mask, error)
    keys = {"test_only": "roles"}
    return [f"{dataset.name}.{keys.get(key, key)}" for key, value in now.items() if then.get(key, value) != value]


def _is_section(name: str, value: object) -> bool:
    return isinstance(value, str) and name in Card.model_fields


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
