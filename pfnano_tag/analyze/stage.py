"""The job as a whole: chunks of one file into the ledger, the ledger into one result."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.arrays import Rows, take_inputs, take_jets
from pfnano_tag.analyze.cuts import Selection, any_jet, something
from pfnano_tag.analyze.distortions import distorted
from pfnano_tag.analyze.filling import (
    choose_jets,
    fill_events,
    fill_expressions,
    fill_inputs,
    fill_jets,
    fill_scores,
    flavour_rows,
)
from pfnano_tag.analyze.histogramming import Histograms, Weights
from pfnano_tag.analyze.job import Job, make_job
from pfnano_tag.analyze.ledger import Ledger, Partial, locked
from pfnano_tag.analyze.lost_chunks import NO_SECTIONS, Sections, lost_sections
from pfnano_tag.analyze.memory import in_memory
from pfnano_tag.analyze.merging import merge
from pfnano_tag.analyze.parts import Part
from pfnano_tag.analyze.result import NOMINAL, SUMS
from pfnano_tag.analyze.selections import select
from pfnano_tag.analyze.stopping import TimeLimit, stopping
from pfnano_tag.analyze.variables import flavours_of
from pfnano_tag.analyze.weights import event_weights, section_keys, weight_of_varied
from pfnano_tag.card import Card
from pfnano_tag.card.command import progress
from pfnano_tag.card.folder import analysis_path, check_bound, check_own_place
from pfnano_tag.card.hashing import content_hash
from pfnano_tag.card.output import check_output
from pfnano_tag.errors import BadChunk, DataError, Incomplete, UserError
from pfnano_tag.infer.networks import use_resources
from pfnano_tag.nano.identity import events_of, with_events
from pfnano_tag.nano.plan import Plan
from pfnano_tag.nano.reader import Chunk, open_file
from pfnano_tag.nano.writer import protect_events
from pfnano_tag.prepare.cleaning import clean

log = logging.getLogger(__name__)

DEATHS_BEFORE_SLICES, MOST_DEATHS = 2, 3
"""Processes killed in a chunk. After one it is done again as it was: most are evictions, and the result is that of an
undisturbed job to the last bit. After two it is done in slices, after three it is given up."""


def run(
    card: Card, dataset: str, file: str, output: str | Path | None = None, models: Sequence[str] | None = None
) -> Path:
    """Do the data/MC job of one file, or what is left of it.

    Parameters
    ----------
    card : Card
        The study.
    dataset : str
        Name of the dataset that the file belongs to.
    file : str
        PFNano file.
    output : str or Path or None
        ROOT file of histograms; None: the study's own place for it.
    models : sequence of str or None
        Networks (`name`, `name:EPOCH`); None: all of the card at best; empty: none.

    Returns
    -------
    Path
        The output.

    Raises
    ------
    UserError
        When card, file, checkpoints, corrections or output don't do; nothing is written.
    Incomplete
        After all that could be done is saved: chunks were lost, or the job was told to stop.
    """
    limit = TimeLimit(card.resources.max_minutes)
    with opened(card, dataset, file, output, models) as (job, target), locked(target) as folder, stopping():
        ledger = Ledger(folder, content_hash(job.key), job.key)
        if ledger.is_finished(*job.outputs(target)):
            log.info("%s: complete already (%d chunks): nothing to do", target, len(ledger.plan))
            return target
        try:
            do_job(job, ledger, target, limit)
        except DataError:  # the same in any rerun: nothing is worth keeping
            ledger.discard()
            raise
    return target


@contextmanager
def opened(
    card: Card, dataset: str, file: str, output: str | Path | None, models: Sequence[str] | None
) -> Iterator[tuple[Job, Path]]:
    """Context with a job, its file open, and its output: all has been checked.

    Parameters
    ----------
    card, dataset, file, output, models
        As for `run`.

    Raises
    ------
    UserError
        As `run`.
    """
    target = Path(analysis_path(card, dataset, file) if output is None else output)
    check_bound(card)
    if output is None:
        check_own_place(card, dataset, file)
    check_output(target, [file])
    protect_events(target)
    use_resources(card)
    with open_file(file, card) as source:
        job = make_job(card, dataset, source, models)
        for other in job.outputs(target)[1:]:
            check_output(other, [file])
            protect_events(other)
        yield job, target


def describe(
    card: Card, dataset: str, file: str, models: Sequence[str] | None = None, part: Part | None = None
) -> str:
    """Return what a run, or one of a part of the file, would do: plan, branches, memory."""
    with open_file(file, card) as source:
        job = make_job(card, dataset, source, models)
        plan = job.new_plan()
        cells = sum(np.prod(variable.shape) for variable in job.variables.values())
        largest = max((stop - start for start, stop in plan), default=0)
        branches = (*job.event_branches, *job.jet_branches)
        size = source.uncompressed_bytes(branches)
        chunk = size * largest / max(1, source.num_entries)
        return "\n".join(
            [
                f"{file}: {source.num_entries} events in {len(plan)} chunks, up to {largest} events each",
                *([] if part is None else [_part_in_words(part, plan)]),
                f"networks: {', '.join(job.networks.taggers) or 'none'}; variants: nominal"
                + "".join(f", {name}" for name in card.histograms.variants),
                f"events that enter: {'test split' if job.test_only else 'all'}",
                f"branches of all events: {', '.join(job.event_branches)}",
                f"branches of selected jets: {', '.join(job.jet_branches)}",
                *_rows_of(job),
                f"{len(job.variables)} variables, {cells} cells: {3 * 16 * cells / 1e6:.0f} MB; "
                f"branches of a chunk: {chunk / 1e6:.0f} MB",
            ]
        )


def _part_in_words(part: Part, plan: Plan) -> str:
    chunks = part.chunks(len(plan))
    events = sum(stop - start for start, stop in plan[chunks.start : chunks.stop])
    return f"part {part} of it: {len(chunks)} chunks, {events} events"


def _rows_of(job: Job) -> list[str]:
    """Return what is said of the rows of jets beforehand."""
    if not job.columns:
        return []
    row = sum(np.dtype(column.dtype).itemsize for column in job.columns)
    names = ", ".join(column.name for column in job.columns)
    return [f"rows of jets ({job.outputs(Path('H.root'))[1]}), {row} bytes each before compression: {names}"]


def do_job(job: Job, ledger: Ledger, target: Path, limit: TimeLimit) -> None:
    """Do the chunks that are not in the ledger, and write the result.

    Raises
    ------
    Incomplete
        After it is written: chunks were lost.
    """
    ledger.start(job.new_plan())
    if ledger.finished is not None:
        log.info("%s is gone or was altered: all is done again", " or ".join(map(str, job.outputs(target))))
        ledger.reopen()
    lost = do_chunks(job, ledger, limit, range(len(ledger.plan)))
    if job.dataset.kind == "data" and lost:
        _veto_sections(job, ledger, lost)
    merge(job, ledger, lost, target)
    if lost:
        chunks = "; ".join(str(error) for error in lost.values())
        raise Incomplete(
            f"{target}: {len(lost)} of {len(ledger.plan)} chunks are lost, a rerun tries again: {chunks}"
        )
    ledger.finish(*job.outputs(target))


def do_chunks(job: Job, ledger: Ledger, limit: TimeLimit, numbers: range) -> dict[int, BadChunk]:
    """Do the chunks of some numbers that are not in the ledger; return those that can't be done.

    Chunks in which a process was killed come last: the others are then saved, should it happen again.

    Raises
    ------
    Incomplete
        When the time is up.
    """
    lost: dict[int, BadChunk] = {}
    done = sum(_usable(ledger.load(number), NO_SECTIONS) for number in numbers)
    if done:
        log.info("%d of %d chunks are done already", done, len(numbers))
    order = sorted(numbers, key=lambda number: (ledger.deaths(number), number))
    for number in progress(order, len(order), f"analyze {job.dataset.name}", "chunks"):
        if not _usable(ledger.load(number), NO_SECTIONS):
            limit.before_chunk()
            error = _one_chunk(job, ledger, number, NO_SECTIONS)
            if error is not None:
                lost[number] = error
    return dict(sorted(lost.items()))


def _one_chunk(job: Job, ledger: Ledger, number: int, vetoed: Sections) -> BadChunk | None:
    """Do one chunk and keep its partial result; return why it is lost."""
    chunk = job.source.chunk(*ledger.plan[number])
    try:
        sliced = _after_deaths(ledger, number, chunk)
        with ledger.attempt(number):
            partial = in_memory(job.card, chunk, lambda card, part: process_chunk(job, card, part, vetoed), sliced)
            ledger.save(number, partial)
    except BadChunk as error:
        named = with_events(error, job.source)
        log.warning("lost: %s", named)
        ledger.forget(number)
        return named
    except UserError:
        raise
    except Exception:
        events = events_of(job.source, chunk.start, chunk.stop)
        log.error("%s (events %s): an error that is not the file's", chunk, events)
        raise
    return None


def _after_deaths(ledger: Ledger, number: int, chunk: Chunk) -> bool:
    """Return whether a chunk is to be done in slices, as processes were killed in it; raise when it was too many."""
    deaths = ledger.deaths(number)
    if deaths >= MOST_DEATHS:
        raise chunk.bad(
            f"{deaths} processes were killed while they worked on it, the last one on slices of it: it needs more "
            f"memory, or the job was evicted each time; remove {ledger.note(number)} to have it tried again"
        )
    sliced = deaths >= DEATHS_BEFORE_SLICES
    if deaths:
        log.warning("%s: %d processes were killed in it%s", chunk, deaths, "; now in slices" if sliced else "")
    return sliced


def _usable(partial: Partial | None, vetoed: Sections) -> bool:
    """Return whether a partial result is there, made with these vetoed sections where it matters."""
    if partial is None or "slices" not in partial:  # the second: kept by an older version
        return False
    return np.array_equal(partial["vetoed"], np.intersect1d(partial["all_sections"], vetoed))


def process_chunk(job: Job, card: Card, chunk: Chunk, vetoed: Sections) -> Partial:
    """Return the partial result of one chunk.

    Parameters
    ----------
    job : Job
        What to do.
    card : Card
        The job's card, maybe with another batch size.
    chunk : Chunk
        Events.
    vetoed : ndarray of int64
        Luminosity sections that are dropped whole (data).

    Returns
    -------
    dict of ndarray
        `index`, `values`, `variances` (`Histograms.sparse`), `sums`, `cutflow_raw`, `cutflow_weighted` (all regions,
        one after the other), `sections`, `all_sections`, `vetoed`, and `column.NAME` (rows of jets).

    Raises
    ------
    BadChunk
        When something can't be read.
    """
    chunk.load(job.event_branches)
    weights = event_weights(chunk, card, job.dataset, job.factors, job.test_only, job.lumi_mask, vetoed)
    nominal_weight = weights.weights[NOMINAL]
    selections, not_finite = _selected(card, chunk, weights.used, nominal_weight)
    sums = {**weights.sums, "jets_not_finite": float(not_finite)}
    sections = section_keys(chunk["run"], chunk["luminosityBlock"]) if job.dataset.kind == "data" else NO_SECTIONS
    present = np.unique(sections)
    histograms, rows = Histograms(job.variables), Rows(job.columns)
    if something(selections):
        non_finite = _fill(job, card, chunk, selections, weights.weights, weights.hashes, histograms, rows)
        sums["inputs_not_finite"] = float(non_finite)
    for name, systematic in job.systematics.items():
        varied = distorted(name, systematic, chunk, weights.hashes, card.study.seed, job.branches)
        weight = weight_of_varied(varied, chunk, card, job.factors, weights)
        selected, _ = _selected(card, varied, weights.used, weight)
        if something(selected):
            _fill(job, card, varied, selected, {name: weight}, weights.hashes, histograms, Rows(()))
    flows = [flow for selection in selections.values() for flow in selection.cutflow(nominal_weight)]
    partial = {
        **histograms.sparse(),
        **rows.partial(),
        "sums": np.array([sums.get(name, 0.0) for name in SUMS]),
        "cutflow_raw": np.array([raw for raw, _ in flows], dtype=np.float64),
        "cutflow_weighted": np.array([weighted for _, weighted in flows]),
        "sections": weights.sections,
        "all_sections": present,
        "vetoed": np.intersect1d(present, vetoed),
    }
    chunk.drop()
    return partial


def _selected(
    card: Card, chunk: Chunk, used: NDArray[np.bool_], weight: NDArray[np.float64]
) -> tuple[dict[str, Selection], int]:
    """Return what each region selects, and how many jets were dropped as their kinematics are not finite."""
    everything = np.ones(len(chunk["Jet_pt"].values), dtype=np.bool_)
    cleaned = clean(chunk, card.jets, weight, everything)
    selections = {name: select(region, chunk, cleaned.kept, used) for name, region in card.regions.items()}
    return selections, cleaned.cutflow["not_finite"]


def _fill(
    job: Job,
    card: Card,
    chunk: Chunk,
    selections: Mapping[str, Selection],
    weights: Weights,
    hashes: NDArray[np.uint64],
    histograms: Histograms,
    rows: Rows,
) -> int:
    """Fill everything; branches of jets and candidates are read here. Return how many inputs were not finite."""
    jets_there = any_jet(selections)
    chunk.load(job.jet_branches if jets_there else job.truth)
    flavour = flavour_rows(chunk, card, job.dataset.kind)
    axis = len(flavours_of(card, job.dataset.kind))
    fill_events(histograms, chunk, selections, weights, flavour, axis)
    if not jets_there:
        return 0
    replicas = card.comparison.replicas if job.networks.taggers and NOMINAL in weights else 0
    jets = choose_jets(chunk, selections, weights, hashes, flavour, axis, replicas)
    take_jets(rows, chunk, selections, weights, jets.row, jets.flavour)
    fill_jets(histograms, chunk, jets)
    fill_expressions(histograms, chunk, selections, weights, flavour, jets)
    if not job.networks.taggers:
        return 0
    mask = np.zeros(len(flavour), dtype=np.bool_)
    mask[jets.row] = True
    table = job.networks.read(chunk, mask)
    if not job.systematics:
        chunk.drop()
    take_inputs(rows, table)
    fill_inputs(histograms, table, jets)
    attacked = NOMINAL in weights or card.histograms.systematics_of_variants
    variants = (NOMINAL, *card.histograms.variants) if attacked else (NOMINAL,)
    fill_scores(histograms, card, job.networks, table, jets, variants, rows)
    return sum(table.non_finite.values())


def _veto_sections(job: Job, ledger: Ledger, lost: dict[int, BadChunk]) -> None:
    """Drop luminosity sections that lost events from the chunks that hold the rest of them."""
    known = -1
    while known != len(lost):
        known = len(lost)
        vetoed, _ = lost_sections(job, ledger, lost)
        for number in range(len(ledger.plan)):
            if number not in lost and not _usable(ledger.load(number), vetoed):
                error = _one_chunk(job, ledger, number, vetoed)
                if error is not None:
                    lost[number] = error
