"""The calibration as a whole: merge, measure, write, draw."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pfnano_tag.analyze.result import NO_MODEL, Variable
from pfnano_tag.calibrate.corrections import corrections
from pfnano_tag.calibrate.fit import minimiser
from pfnano_tag.calibrate.measuring import Found, measure_points, measure_shape, reader
from pfnano_tag.calibrate.pictures import draw_all
from pfnano_tag.calibrate.results import as_json
from pfnano_tag.calibrate.templates import FLAVOURS
from pfnano_tag.calibrate.working_points import Score, scores_of
from pfnano_tag.card.card import Card
from pfnano_tag.card.command import progress
from pfnano_tag.card.folder import bind
from pfnano_tag.card.output import write_json
from pfnano_tag.compare.blinding import hidden_bins
from pfnano_tag.compare.merging import Merger, merge_folder
from pfnano_tag.compare.normalization import Normalisation, normalise
from pfnano_tag.compare.outputs import find_jobs, gather_jobs
from pfnano_tag.compare.refusals import refuse_stale
from pfnano_tag.errors import CardError, DataError, Incomplete

log = logging.getLogger(__name__)


def run(card: Card, report: Callable[[str], object] = log.info, workers: int | None = None) -> dict[str, Any]:
    """Measure scale factors and shape weights.

    Parameters
    ----------
    card : Card
        The study's card.
    report : callable
        Gets the table of scale factors.
    workers : int or None
        Processes that merge; None: one per core.

    Returns
    -------
    dict
        What is in `calibration/results.json`.

    Raises
    ------
    CardError
        When section `calibration` names no regions, or taggers that are not there, or what it fits is blinded.
    StudyError
        When there are no job outputs or no evaluation, or they don't belong together.
    DataError
        When a region has no data or no simulation of its flavour, or nothing could be measured.
    MissingExtra
        When iminuit is not installed.
    Incomplete
        When some working point or shape could not be measured, or job outputs are missing; all else has been written.
    """
    _regions(card)
    minimiser()
    jobs = gather_jobs(card)
    bind(card)
    folder = card.folder / "calibration"
    with Merger(jobs, merge_folder(card), workers) as merger:
        refuse_stale(card, (job for group in merger.jobs.values() for job in group))
        normalisation = normalise(merger)
        found = _measure(card, merger, normalisation)
        if not found.anything:
            raise DataError("nothing could be measured: " + "; ".join(found.failed))
        results = as_json(card, merger, normalisation, found)
    draw_all(card, found, normalisation.luminosity, normalisation.short, folder)
    write_json(folder / "corrections.json", corrections(card, found))
    write_json(folder / "results.json", results)  # last: when it is there, all of it is there
    log.info("calibration: %s", folder)
    report(table(card, found))
    if results["short"]:
        raise Incomplete(f"{'; '.join(results['short'])}; all else is in {folder}")
    return results


def plan(card: Card) -> str:
    """Return what `run` would do, as text."""
    regions = _regions(card)
    with Merger(find_jobs(card)) as merger:
        refuse_stale(card, (job for group in merger.jobs.values() for job in group))
        scores = _scores(card, merger)
        refuse_blinded(card, scores, merger.variables)
        pairs = _shapes(merger)
        lines = [f"region of {flavour}: {region}" for flavour, region in regions.items()]
        lines += [
            f"scale factors: {score.tagger} {score.discriminant} at mistag {', '.join(score.thresholds)}"
            for score in scores
        ]
        lines += [f"shape weights: {model} {variable.quantity}" for model, variable in pairs]
    return "\n".join([*lines, f"writes: {card.folder / 'calibration'}"])


def _regions(card: Card) -> dict[str, str]:
    regions = card.calibration.regions
    if not regions:
        raise CardError(
            "calibration: no region is named; give each flavour the region that is rich in it, for example "
            f"calibration: {{{', '.join(f'{flavour}: REGION' for flavour in FLAVOURS)}}} (section regions has: "
            f"{', '.join(card.regions)})"
        )
    return regions


def _scores(card: Card, merger: Merger) -> list[Score]:
    info = next(job.info for group in merger.jobs.values() for job in group)
    return scores_of(card, info["models"], merger.variables)


def refuse_blinded(card: Card, scores: Iterable[Score], variables: Mapping[str, Variable]) -> None:
    """Refuse to fit data in which the card asks not to look.

    Raises
    ------
    CardError
        Naming the histograms.
    """
    chosen = list(scores)
    networks = {score.model for score in chosen} - {NO_MODEL}
    read = dict.fromkeys(score.variable for score in chosen)
    read |= dict.fromkeys(
        name for name, v in variables.items() if v.axes and networks & {c.model for c in v.categories}
    )
    windows = card.comparison.blind
    blinded = [name for name in read if hidden_bins(variables[name], windows).any()]
    if blinded:
        raise CardError(
            f"the card blinds {', '.join(blinded)} (comparison.blind: {', '.join(windows)}); a fit would look at the "
            "data. Take the window out, or choose others by calibration.taggers, discriminants and histograms.pairs"
        )


def _shapes(merger: Merger) -> list[tuple[str, Variable]]:
    """Return the pairs of discriminants of each network."""
    pairs = [v for v in merger.variables.values() if v.axes and all(axis.is_score for axis in v.axes)]
    models = {v.name: dict.fromkeys(c.model for c in v.categories if c.model != NO_MODEL) for v in pairs}
    return [(model, variable) for variable in pairs for model in models[variable.name]]


def _measure(card: Card, merger: Merger, normalisation: Normalisation) -> Found:
    found, read = Found(), reader(merger, normalisation)
    # Networks share the histograms that are read.
    scores = sorted(_scores(card, merger), key=lambda score: (score.discriminant, score.variable))
    refuse_blinded(card, scores, merger.variables)
    for score in progress(scores, total=len(scores), description="fitting", unit="discriminants"):
        found.points[score.tagger, score.discriminant] = measure_points(card, score, merger.variables, read)
    chosen = {score.tagger for score in scores}
    pairs = [(model, variable) for model, variable in _shapes(merger) if model in chosen]
    if not pairs:
        log.info("no shape weights: histograms.pairs names no pair of discriminants")
    for model, variable in progress(pairs, total=len(pairs), description="shapes", unit="pairs"):
        found.shapes.append(measure_shape(card, model, variable, read))
    for failure in found.failed:
        log.warning("not measured: %s", failure)
    return found


def table(card: Card, found: Found) -> str:
    """Return the scale factors as a Markdown table, with total errors."""
    flavours = list(card.calibration.regions)
    lines = [
        f"| scale factors | mistag rate | {' | '.join(flavours)} |",
        f"|---|---|{'---|' * len(flavours)}",
    ]
    for (tagger, discriminant), points in found.points.items():
        for point in points:
            if point.measured is not None:
                places = [FLAVOURS.index(flavour) for flavour in flavours]
                values = [f"{point.measured.fitted.sf_F[i]:.3f} ± {point.measured.total_F[i]:.3f}" for i in places]
                lines.append(f"| {tagger} {discriminant} | {point.name} | {' | '.join(values)} |")
    return "\n".join(lines)
