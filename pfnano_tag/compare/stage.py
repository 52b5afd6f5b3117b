"""The comparison as a whole: merge, normalise, compare, write, draw."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from pfnano_tag.analyze.result import NOMINAL
from pfnano_tag.card.card import Card
from pfnano_tag.card.command import progress
from pfnano_tag.card.folder import bind, sample_text
from pfnano_tag.card.output import write_json, write_whole
from pfnano_tag.compare.agreement import LEAST_EXPECTED, Agreement
from pfnano_tag.compare.attacked import nominal_against_attacked
from pfnano_tag.compare.comparing import Asked, Findings, compare_all
from pfnano_tag.compare.completeness import of_all
from pfnano_tag.compare.distances import Distance
from pfnano_tag.compare.merging import Merger, merge_folder
from pfnano_tag.compare.normalization import (
    Normalisation,
    completeness,
    cutflows,
    empty_regions,
    normalise,
    processed_sections,
    summary,
)
from pfnano_tag.compare.outputs import find_jobs, gather_jobs
from pfnano_tag.compare.refusals import refuse_stale
from pfnano_tag.compare.stacks import Words, draw, draw_page, reduced_words
from pfnano_tag.compare.table import final_table, read_simulated
from pfnano_tag.compare.templates import Templates
from pfnano_tag.compare.verdicts import Subject, differences
from pfnano_tag.errors import Incomplete
from pfnano_tag.plotting.colours import model_colours

log = logging.getLogger(__name__)

FEW_PICTURES = 8
"""Up to this many pictures are drawn by this process alone."""


def run(
    card: Card,
    workers: int | None = None,
    report: Callable[[str], object] = log.info,
    templates: Sequence[str] = (),
    signal: str | None = None,
) -> dict[str, Any]:
    """Compare data with simulation.

    Parameters
    ----------
    card : Card
        The study's card.
    workers : int or None
        Processes that merge and draw; None: one per core.
    report : callable
        Gets the final table.
    templates : sequence of str
        Variables whose templates for fits are written.
    signal : str or None
        Process whose rate such a fit measures; None: the first one of the card.

    Returns
    -------
    dict
        What is in `comparison/results.json`, the agreements under `agreement`.

    Raises
    ------
    CardError
        When a variable of the templates or of a blinding window is unknown, or blinded.
    StudyError
        When there are no job outputs, or they were made with different settings.
    DataError
        When data or simulation is missing altogether.
    Incomplete
        When files or chunks are missing; everything has been written by then.
    """
    found = gather_jobs(card)
    bind(card)
    folder = card.folder / "comparison"
    writer = Templates.of(card, folder / "templates", templates, signal)
    with Merger(found, merge_folder(card), workers) as merger:
        refuse_stale(card, (job for jobs in merger.jobs.values() for job in jobs))
        writer.check(merger.variables)
        normalisation = normalise(merger)
        _warn(merger, normalisation)
        words = _words(card, normalisation)
        findings = compare_all(merger, normalisation, words, _asked(card), folder, writer)
        results = _results(card, merger, normalisation, findings) | {"templates": writer.finish()}
        _write_sections(merger, folder)
    table = final_table(card, findings.discriminants, results)
    _draw(findings, folder, workers or len(os.sched_getaffinity(0)))
    _write(folder, table, results)
    log.info("comparison: %s", folder)
    report(table)
    if normalisation.short:
        raise Incomplete(f"{'; '.join(normalisation.short)}; the comparison in {folder} says so")
    return results


def _write(folder: Path, table: str, results: dict[str, Any]) -> None:
    with write_whole(folder / "table.md") as temporary:
        temporary.write_text(table, encoding="utf-8")
    write_json(folder / "results.json", as_written(results))  # last: when it is there, all of it is there


def as_written(results: dict[str, Any]) -> dict[str, Any]:
    """Return the content of `results.json`: what was compared, then agreements by `region/variable/model/variant`."""
    about = {key: value for key, value in results.items() if key != "agreement"}
    return {**about, **results["agreement"]}


def plan(card: Card, templates: Sequence[str] = (), signal: str | None = None) -> str:
    """Return what `run` would do, as text."""
    writer = Templates.of(card, card.folder / "comparison" / "templates", templates, signal)
    lines = []
    for group in find_jobs(card):
        missing = f", {len(group.missing)} files not analyzed" if group.missing else ""
        lines.append(f"dataset {group.dataset.name} ({group.dataset.kind}): {len(group.paths)} job outputs{missing}")
    asked = card.comparison
    lines.append(f"simulation scaled to {asked.normalisation}, stacked by {asked.stack_by}")
    lines += [f"data blinded: {name} in {low:g} to {high:g}" for name, (low, high) in asked.blind.items()]
    if writer.variables:
        lines.append(f"templates of {', '.join(writer.variables)}, signal {writer.signal}")
    return "\n".join([*lines, f"writes: {card.folder / 'comparison'}"])


def _warn(merger: Merger, normalisation: Normalisation) -> None:
    for note in normalisation.short:
        log.warning("incomplete: %s", note)
    for note in empty_regions(merger):
        log.warning("%s", note)


def _words(card: Card, normalisation: Normalisation) -> Words:
    to_data = card.comparison.normalisation == "data"
    simulated = [dataset.name for dataset in card.datasets_for("analyze") if dataset.kind == "mc"]
    colours = model_colours(simulated) if card.comparison.stack_by == "dataset" else {}
    return Words(sample_text(card, "analyze"), normalisation.luminosity, to_data, normalisation.short, colours)


def _asked(card: Card) -> Asked:
    asked = card.comparison
    return Asked(
        bins=asked.bins,
        to_data=asked.normalisation == "data",
        toys=asked.toys,
        seed=card.study.seed,
        by_dataset=asked.stack_by == "dataset",
        blind=asked.blind,
    )


def _results(card: Card, merger: Merger, normalisation: Normalisation, findings: Findings) -> dict[str, Any]:
    jobs = [job for group in merger.jobs.values() for job in group]
    entries = {
        subject.key: _entry(findings, subject, one)
        for subject, one in [*findings.discriminants.items(), *findings.others.items()]
    }
    return {
        "study": card.study.name,
        "card": card.hash(),
        "settings": jobs[0].info["settings"],
        "models": jobs[0].info["models"],
        "complete": not normalisation.short,
        "short": list(normalisation.short),
        "completeness": of_all(completeness(merger).values()).to_json(),
        "luminosity": normalisation.luminosity,
        "normalisation": card.comparison.normalisation,
        "bins": card.comparison.bins,
        "least_expected": LEAST_EXPECTED,
        "toys": card.comparison.toys,
        "stack_by": card.comparison.stack_by,
        "systematics": findings.sources,
        "blinded": _blinded(card, findings),
        "left_out": {name: [str(path) for path in paths] for name, paths in merger.partial.items()},
        "datasets": summary(merger, normalisation),
        "cutflows": cutflows(merger, normalisation),
        "agreement": entries,
        "differences": differences(findings.discriminants, findings.distances),
        "nominal_against_attacked": _against(card, jobs[0].info["models"], findings),
    }


def _against(card: Card, models: Mapping[str, Any], findings: Findings) -> dict[str, Any]:
    simulated = read_simulated(card.folder).of(models)
    strengths = {name: attack.epsilon for name, attack in card.attacks.items()}
    return nominal_against_attacked(
        findings.discriminants, findings.distances, simulated.evaluation, simulated.attacks, strengths
    )


def _blinded(card: Card, findings: Findings) -> dict[str, Any]:
    """Return the windows of the card, and the whole bins that they hide, by variable."""
    windows = card.comparison.blind
    found = {}
    for name, ranges in findings.blinded.items():
        quantity = name.removeprefix("agreement_").removeprefix("without_cut_")
        window = windows[name] if name in windows else windows[quantity]
        found[name] = {"window": list(window), "hidden": [list(one) for one in ranges]}
    return found


def _entry(findings: Findings, subject: Subject, one: Agreement | None) -> dict[str, Any]:
    """Return one agreement as JSON content."""
    data, simulation = findings.yields.get(subject, (None, None))
    entry: dict[str, Any] = {"data": data, "simulation": simulation}
    if subject in findings.undefined:
        entry["undefined"] = dict(zip(("data", "simulation"), findings.undefined[subject], strict=True))
    entry["distances"] = {
        name: _distance(name, distance, findings.units[subject])
        for name, distance in findings.distances.get(subject, {}).items()
    }
    if one is None:
        reason = f"fewer than two bins of {LEAST_EXPECTED:g} expected counts and effective simulated entries"
        return {"chi2": None, "ndf": None, "p": None, "bins": 0, "bootstrap": None, **entry, "reason": reason}
    entry = {
        "chi2": one.chi2,
        "ndf": one.ndf,
        "p": one.p,
        "bins": len(one.starts),
        "bootstrap": _bootstrap(one),
        **entry,
    }
    varied = findings.with_systematics.get(subject)
    entry["chi2_with_systematics"] = varied and varied.chi2
    entry["p_with_systematics"] = varied and varied.p
    entry["bootstrap_with_systematics"] = varied and _bootstrap(varied)
    shape = findings.shapes.get(subject)
    if shape is not None:
        entry["shape"] = {"chi2": shape.chi2, "ndf": shape.ndf, "p": shape.p, "error": shape.reduced.error}
    return entry


def _bootstrap(one: Agreement) -> dict[str, Any] | None:
    if one.reduced.error is None:
        return None
    return {"of": "chi2/ndf", "mean": one.reduced.mean, "error": one.reduced.error}


def _distance(name: str, distance: Distance, unit: str) -> dict[str, Any]:
    """Return one distance as JSON content; that of the earth mover has the variable's unit."""
    units = {"earth_mover": unit or "of the axis", "jensen_shannon": "bit"}
    content = {"value": distance.reduced.value, "error": distance.reduced.error, "p": distance.p}
    return content | ({"unit": units[name]} if name in units else {})


def _write_sections(merger: Merger, folder: Path) -> None:
    """Write the luminosity sections of data that were processed whole, as certification files."""
    for group in merger.found:
        if group.dataset.kind == "data":
            jobs = merger.jobs[group.dataset.name]
            write_json(folder / f"lumis_{group.dataset.name}.json", processed_sections(jobs))
            dropped = processed_sections(jobs, "dropped_lumis")
            if dropped:
                write_json(folder / f"dropped_lumis_{group.dataset.name}.json", dropped)


def _draw(findings: Findings, folder: Path, workers: int) -> None:
    """Draw all pictures, and per region and variant a page of all discriminants and models."""
    pictures = [shown for _, shown in findings.pictures]
    if workers == 1 or len(pictures) <= FEW_PICTURES:
        for shown in progress(pictures, total=len(pictures), description="drawing", unit="pictures"):
            draw(shown)
    else:
        context = multiprocessing.get_context("spawn")  # reading leaves threads behind, which fork would break
        with ProcessPoolExecutor(min(workers, len(pictures)), mp_context=context) as pool:
            done = pool.map(draw, pictures, chunksize=4)
            list(progress(done, total=len(pictures), description="drawing", unit="pictures"))
    drawn = {*(shown.path for shown in pictures), *_draw_pages(findings, folder)}
    for path in {path.parent for path in drawn}:
        for old in set(path.glob("*.png")) - drawn:  # of an earlier comparison, say with another model
            old.unlink()


def _draw_pages(findings: Findings, folder: Path) -> list[Path]:
    pages = []
    shown = {subject: one for subject, one in findings.pictures if subject in findings.discriminants}
    for region, variant in dict.fromkeys((subject.region, subject.variant) for subject in shown):
        here = [subject for subject in shown if (subject.region, subject.variant) == (region, variant)]
        models = list(dict.fromkeys(subject.model for subject in here))
        rows = [
            [shown.get(Subject(region, variable, model, variant)) for model in models]
            for variable in dict.fromkeys(subject.variable for subject in here)
        ]
        notes = {shown[subject].path: _note(findings.discriminants[subject]) for subject in here}
        suffix = "" if variant == NOMINAL else f"_{variant}"
        pages.append(draw_page(rows, models, notes, folder / region / f"discriminants{suffix}.png"))
    return pages


def _note(one: Agreement | None) -> str:
    if one is None:
        return "too few jets for an agreement"
    return reduced_words(one)
