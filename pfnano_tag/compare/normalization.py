"""Normalisation of simulation to what was processed, and what the comparison is short of.

An event of simulation weighs

    cross section [pb] x 1000 x luminosity [1/fb] / effective sum of weights,

where the effective sum is, per file, the total of tree `Runs` times the share of generator weight of the events that
were looked at: events in lost chunks and, for datasets that networks were trained on, events outside the test split
do not count, and what is left stands for all.

The luminosity is the sum over the periods of data. Datasets of kind `data` that name the same `period` are primary
datasets of it: they share its luminosity, which counts once, and no event stands in two of them (their `triggers` and
`vetoes`). A dataset without a period is one of its own. Several files of one period and primary dataset belong into
one dataset, as a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from pfnano_tag.analyze.result import Cutflow
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.compare.completeness import Completeness, of_dataset
from pfnano_tag.compare.jobs import Job
from pfnano_tag.compare.merging import Merger
from pfnano_tag.compare.outputs import DatasetJobs
from pfnano_tag.errors import DataError

PB_PER_FB = 1000.0


@dataclass(frozen=True)
class Normalisation:
    """Scales of all datasets, and what is short.

    Parameters
    ----------
    luminosity : float
        Of the data [1/fb].
    simulation, data : dict of float
        Factor by dataset.
    short : tuple of str
        What the comparison is short of, for people; empty when complete.
    """

    luminosity: float
    simulation: dict[str, float]
    data: dict[str, float]
    short: tuple[str, ...]


def scale_of(cross_section: float, luminosity: float, sum_of_weights: float) -> float:
    """Return the factor from generator weights to expected events.

    Parameters
    ----------
    cross_section : float
        [pb]
    luminosity : float
        [1/fb]
    sum_of_weights : float
        Effective sum of generator weights.
    """
    return cross_section * PB_PER_FB * luminosity / sum_of_weights


def effective_sum(jobs: Iterable[Job]) -> float:
    """Return the effective sum of generator weights of a dataset's jobs."""
    return float(sum(job.sums["sumw_effective"] for job in jobs))


def luminosity_of(data: Iterable[Dataset]) -> float:
    """Return the luminosity of datasets of data [1/fb]: summed over periods, those of one period counting once."""
    periods = {dataset.period or ("alone", dataset.name): dataset.luminosity or 0.0 for dataset in data}
    return float(sum(periods.values()))


def normalise(merger: Merger) -> Normalisation:
    """Return the scales of all datasets.

    Parameters
    ----------
    merger : Merger
        Open.

    Raises
    ------
    DataError
        When there is no data or no simulation with job outputs, or a dataset's sum of weights is not positive.
    """
    groups = [group for group in merger.found if group.paths]
    data = [group.dataset for group in groups if group.dataset.kind == "data"]
    simulation = [group.dataset for group in groups if group.dataset.kind == "mc"]
    for kind, there in (("data", data), ("simulation", simulation)):
        if not there:
            raise DataError(
                f"nothing to compare: no job output of a dataset of {kind}; give the card one with role analyze, and "
                "analyze its files"
            )
    luminosity = luminosity_of(data)
    factors = {}
    for dataset in simulation:
        jobs = merger.jobs[dataset.name]
        total = effective_sum(jobs)
        if total > 0:
            factors[dataset.name] = scale_of(dataset.cross_section or 0.0, luminosity, total)
        elif any(job.sums["sumw_used"] != 0 for job in jobs):
            raise DataError(
                f"dataset {dataset.name}: the effective sum of generator weights is {total:g}; it must be positive "
                "(tree Runs of its files, or too many negative weights)"
            )
    short = [note for group in merger.found for note in shortfalls(group, merger.jobs[group.dataset.name])]
    return Normalisation(luminosity, factors, {dataset.name: 1.0 for dataset in data}, tuple(short))


def shortfalls(group: DatasetJobs, jobs: list[Job]) -> list[str]:
    """Return what a dataset is short of, for people."""
    name, notes = group.dataset.name, []
    files = len(group.paths) + len(group.missing)
    if group.missing:
        notes.append(f"{name}: {len(group.missing)} of {files} files not analyzed")
    if not files:
        notes.append(f"{name}: no output")
    lost = int(sum(job.sums["chunks_lost"] for job in jobs))
    if lost:
        notes.append(f"{name}: {lost} of {int(sum(job.sums['chunks'] for job in jobs))} chunks lost")
    if any(job.info.get("unknown_lumis") for job in jobs):
        notes.append(f"{name}: luminosity sections of lost chunks unknown")
    if jobs and group.dataset.kind == "mc" and not effective_sum(jobs) > 0:
        notes.append(f"{name}: no event was looked at")
    return notes


def processed_sections(jobs: Iterable[Job], key: str = "lumis") -> dict[str, list[list[int]]]:
    """Return luminosity sections of data jobs as in a certification file: {run: [[first, last], ...]}.

    Parameters
    ----------
    jobs : iterable of Job
        Of a dataset of data.
    key : str
        `lumis` (processed whole) or `dropped_lumis` (lost events).
    """
    sections: dict[int, set[int]] = {}
    for job in jobs:
        recorded: Any = job.info.get(key) or {}
        for run, numbers in recorded.items():
            sections.setdefault(int(run), set()).update(int(number) for number in numbers)
    return {str(run): _ranges(sections[run]) for run in sorted(sections)}


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Return ranges of neighbouring numbers, both ends included."""
    ordered = enumerate(sorted(numbers))
    runs = (list(group) for _, group in groupby(ordered, key=lambda pair: pair[1] - pair[0]))
    return [[run[0][1], run[-1][1]] for run in runs]


def completeness(merger: Merger) -> dict[str, Completeness]:
    """Return how complete each dataset is."""
    return {group.dataset.name: of_dataset(group, merger.jobs[group.dataset.name]) for group in merger.found}


def summary(merger: Merger, normalisation: Normalisation) -> dict[str, Mapping[str, Any]]:
    """Return files, chunks, sums and scale of each dataset, for the results."""
    described: dict[str, Mapping[str, Any]] = {}
    complete = completeness(merger)
    for group in merger.found:
        jobs = merger.jobs[group.dataset.name]
        name = group.dataset.name
        described[name] = {
            "kind": group.dataset.kind,
            **complete[name].to_json(),
            "missing_files": list(group.missing),
            "files_unlisted": group.unlisted or None,
            "events": int(sum(job.sums["entries_used"] for job in jobs)),
            "period": group.dataset.period,
            "not_fired": int(sum(job.sums["entries_not_fired"] for job in jobs)),
            "of_others": int(sum(job.sums["entries_of_others"] for job in jobs)),
            "split": sorted({str(job.info.get("split")) for job in jobs}),
            "sumw_effective": effective_sum(jobs) if group.dataset.kind == "mc" else None,
            "scale": normalisation.simulation.get(name, normalisation.data.get(name)),
        }
    return described


def empty_regions(merger: Merger) -> list[str]:
    """Return which regions no event of any dataset passes, for people."""
    flows: dict[str, list[Cutflow]] = {}
    for jobs in merger.jobs.values():
        for job in jobs:
            for region, flow in job.cutflows.items():
                flows.setdefault(region, []).append(flow)
    notes = []
    for region, found in flows.items():
        raw, weighted = (np.sum([getattr(flow, key) for flow in found], axis=0) for key in ("raw", "weighted"))
        step = Cutflow(found[0].steps, raw, weighted).emptied_by
        if step is not None:
            notes.append(f"region {region} selects nothing: none of {raw[0]:.0f} events passes {step!r}")
    return notes


def cutflows(merger: Merger, normalisation: Normalisation) -> dict[str, dict[str, Any]]:
    """Return events after each step, per region and dataset: raw counts, and (normalised) sums of weights."""
    found: dict[str, dict[str, Any]] = {}
    scales = {**normalisation.simulation, **normalisation.data}
    for dataset, jobs in merger.jobs.items():
        for region in dict.fromkeys(region for job in jobs for region in job.cutflows):
            flows = [job.cutflows[region] for job in jobs if region in job.cutflows]
            scale = scales.get(dataset, 0.0)
            found.setdefault(region, {})[dataset] = {
                "steps": list(flows[0].steps),
                "raw": np.sum([flow.raw for flow in flows], axis=0).tolist(),
                "events": (scale * np.sum([flow.weighted for flow in flows], axis=0)).tolist(),
            }
    return found
