"""The job as a whole: chunks of one file into the ledger, the ledger into one result."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from pfnano_tag.analyze.reporting import report
from pfnano_tag.analyze.result import NOMINAL, SUMS, Cutflow, write_result
from pfnano_tag.analyze.selections import select, steps_of
from pfnano_tag.analyze.stopping import stopping
from pfnano_tag.analyze.variables import flavours_of
from pfnano_tag.analyze.weights import (
    effective_sums,
    event_weights,
    finite_sum,
    section_keys,
    sections_by_run,
)
from pfnano_tag.card import Card
from pfnano_tag.card.command import progress
from pfnano_tag.card.folder import analysis_path, check_bound, check_own_place
from pfnano_tag.card.hashing import content_hash
from pfnano_tag.card.output import check_output
from pfnano_tag.errors import BadChunk, DataError, Incomplete
from pfnano_tag.infer.networks import use_resources
from pfnano_tag.nano.reader import Chunk, open_file
from pfnano_tag.nano.writer import protect_events
from pfnano_tag.prepare.cleaning import clean

log = logging.getLogger(__name__)
Sections = NDArray[np.int64]
NO_SECTIONS: Sections = np.zeros(0, dtype=np.int64)


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
    target = Path(analysis_path(card, dataset, file) if output is None else output)
    check_bound(card)
    if output is None:
        check_own_place(card, dataset, file)
    check_output(target, [file])
    protect_events(target)
    use_resources(card)
    with open_file(file, card) as source:
        job = make_job(card, dataset, source, models)
        with locked(target) as folder, stopping():
            ledger = Ledger(folder, content_hash(job.key), job.key)
            if ledger.is_finished(target):
                log.info("%s: complete already (%d chunks): nothing to do", target, len(ledger.plan))
                return target
            try:
                _do(job, ledger, target)
            except DataError:  # the same in any rerun: nothing is worth keeping
                ledger.discard()
                raise
    return target


def describe(card: Card, dataset: str, file: str, models: Sequence[str] | None = None) -> str:
    """Return what a run would do: plan, branches, memory."""
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
                f"networks: {', '.join(job.networks.taggers) or 'none'}; variants: nominal"
                + "".join(f", {name}" for name in card.histograms.variants),
                f"events that enter: {'test split' if job.test_only else 'all'}",
                f"branches of all events: {', '.join(job.event_branches)}",
                f"branches of selected jets: {', '.join(job.jet_branches)}",
                f"{len(job.variables)} variables, {cells} cells: {3 * 16 * cells / 1e6:.0f} MB; "
                f"branches of a chunk: {chunk / 1e6:.0f} MB",
            ]
        )


def _do(job: Job, ledger: Ledger, target: Path) -> None:
    ledger.start(job.new_plan())
    if ledger.finished is not None:
        log.info("%s is gone or was altered: all is done again", target)
        ledger.reopen()
    lost = _all_chunks(job, ledger)
    if job.dataset.kind == "data" and lost:
        _veto_sections(job, ledger, lost)
    _merge(job, ledger, lost, target)
    if lost:
        chunks = "; ".join(str(error) for error in lost.values())
        raise Incomplete(
            f"{target}: {len(lost)} of {len(ledger.plan)} chunks are lost, a rerun tries again: {chunks}"
        )
    ledger.finish(target)


def _all_chunks(job: Job, ledger: Ledger) -> dict[int, BadChunk]:
    """Do the chunks that are not in the ledger; return those that can't be done."""
    lost: dict[int, BadChunk] = {}
    done = sum(_usable(ledger.load(number), NO_SECTIONS) for number in range(len(ledger.plan)))
    if done:
        log.info("%d of %d chunks are done already", done, len(ledger.plan))
    for number in progress(range(len(ledger.plan)), len(ledger.plan), f"analyze {job.dataset.name}", "chunks"):
        if not _usable(ledger.load(number), NO_SECTIONS):
            error = _one_chunk(job, ledger, number, NO_SECTIONS)
            if error is not None:
                lost[number] = error
    return lost


def _one_chunk(job: Job, ledger: Ledger, number: int, vetoed: Sections) -> BadChunk | None:
    """Do one chunk and keep its partial result; return why it is lost."""
    start, stop = ledger.plan[number]
    try:
        partial = _in_memory(job, job.source.chunk(start, stop), vetoed)
    except BadChunk as error:
        log.warning("lost: %s", error)
        ledger.forget(number)
        return error
    ledger.save(number, partial)
    return None


def _usable(partial: Partial | None, vetoed: Sections) -> bool:
    """Return whether a partial result is there, made with these vetoed sections where it matters."""
    return partial is not None and np.array_equal(partial["vetoed"], np.intersect1d(partial["all_sections"], vetoed))


def _in_memory(job: Job, chunk: Chunk, vetoed: Sections) -> Partial:
    """Do a chunk; with ever smaller batches when memory runs out."""
    batch = job.card.resources.batch_size
    while batch >= 1:
        resources = job.card.resources.model_copy(update={"batch_size": batch})
        try:
            return process_chunk(job, job.card.model_copy(update={"resources": resources}), chunk, vetoed)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and "memory" not in str(error):
                raise
            chunk.drop()
            batch //= 2
            log.warning("entries %d to %d: out of memory; again with %d jets a batch", chunk.start, chunk.stop, batch)
    raise chunk.bad("out of memory even with one jet a batch; set resources.chunk to a smaller value")


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
        one after the other), `sections`, `all_sections`, `vetoed`.

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
    histograms = Histograms(job.variables)
    if something(selections):
        non_finite = _fill(job, card, chunk, selections, weights.weights, weights.hashes, histograms)
        sums["inputs_not_finite"] = float(non_finite)
    for name, systematic in job.systematics.items():
        varied = distorted(name, systematic, chunk, weights.hashes, card.study.seed, job.branches)
        selected, _ = _selected(card, varied, weights.used, nominal_weight)
        if something(selected):
            _fill(job, card, varied, selected, {name: nominal_weight}, weights.hashes, histograms)
    flows = [flow for selection in selections.values() for flow in selection.cutflow(nominal_weight)]
    partial = {
        **histograms.sparse(),
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
    fill_jets(histograms, chunk, jets)
    fill_expressions(histograms, chunk, selections, weights, flavour, jets)
    if not job.networks.taggers:
        return 0
    mask = np.zeros(len(flavour), dtype=np.bool_)
    mask[jets.row] = True
    table = job.networks.read(chunk, mask)
    if not job.systematics:
        chunk.drop()
    fill_inputs(histograms, table, jets)
    attacked = NOMINAL in weights or card.histograms.systematics_of_variants
    variants = (NOMINAL, *card.histograms.variants) if attacked else (NOMINAL,)
    fill_scores(histograms, card, job.networks, table, jets, variants)
    return sum(table.non_finite.values())


def _veto_sections(job: Job, ledger: Ledger, lost: dict[int, BadChunk]) -> None:
    """Drop luminosity sections that lost events from the chunks that hold the rest of them."""
    known = -1
    while known != len(lost):
        known = len(lost)
        vetoed, _ = _lost_sections(job, ledger, lost)
        for number in range(len(ledger.plan)):
            if number not in lost and not _usable(ledger.load(number), vetoed):
                error = _one_chunk(job, ledger, number, vetoed)
                if error is not None:
                    lost[number] = error


def _lost_sections(job: Job, ledger: Ledger, lost: Mapping[int, BadChunk]) -> tuple[Sections, bool]:
    """Return the luminosity sections with events in lost chunks, and whether some chunk can't tell its own.

    Of such a chunk the sections at its edges are known from its neighbours.
    """
    found, unknown = [NO_SECTIONS], False
    for number in lost:
        chunk = job.source.chunk(*ledger.plan[number])
        try:
            found.append(section_keys(chunk["run"], chunk["luminosityBlock"]))
        except BadChunk as error:
            log.warning("%s: the luminosity sections of the lost chunk are not known", error)
            unknown = True
            found += [_edge(ledger.load(number - 1), -1), _edge(ledger.load(number + 1), 0)]
    return np.unique(np.concatenate(found)), unknown


def _edge(partial: Partial | None, which: int) -> Sections:
    """Return the last or first luminosity section of a neighbour."""
    if partial is None or len(partial["all_sections"]) == 0:
        return NO_SECTIONS
    return partial["all_sections"][[which]]


def _merge(job: Job, ledger: Ledger, lost: Mapping[int, BadChunk], target: Path) -> None:
    """Sum the partial results in the order of the plan and write the result."""
    histograms = Histograms(job.variables)
    names = list(SUMS)
    steps = [len(steps_of(region)) for region in job.card.regions.values()]
    sums, raw, weighted = np.zeros(len(names)), np.zeros(sum(steps)), np.zeros(sum(steps))
    sections = [NO_SECTIONS]
    for number in range(len(ledger.plan)):
        partial = ledger.load(number)
        if partial is None:
            continue
        histograms.add(partial)
        sums += partial["sums"]
        raw += partial["cutflow_raw"]
        weighted += partial["cutflow_weighted"]
        sections.append(partial["sections"])
    totals = _totals(job, ledger, lost, dict(zip(names, sums.tolist(), strict=True)))
    cuts = np.cumsum([0, *steps])
    cutflows = {
        name: Cutflow(steps_of(region), raw[cuts[i] : cuts[i + 1]], weighted[cuts[i] : cuts[i + 1]])
        for i, (name, region) in enumerate(job.card.regions.items())
    }
    dropped, unknown = _lost_sections(job, ledger, lost) if job.dataset.kind == "data" else (NO_SECTIONS, False)
    if len(dropped):
        log.warning("luminosity sections dropped whole, as lost chunks hold events of theirs: %d", len(dropped))
    info: dict[str, Any] = {
        **job.provenance(),
        "lost": [{"start": e.start, "stop": e.stop, "reason": e.reason} for e in lost.values()],
        "lumis": sections_by_run(np.concatenate(sections)),
        "dropped_lumis": sections_by_run(dropped),
        "unknown_lumis": unknown,
    }
    write_result(target, info, totals, cutflows, histograms.contents())
    report(target, totals, cutflows)


def _totals(job: Job, ledger: Ledger, lost: Mapping[int, BadChunk], sums: Mapping[str, float]) -> dict[str, float]:
    """Return all sums, with those of the file and of lost chunks."""
    runs = job.source.runs
    total = {
        **sums,
        "files": 1.0,
        "entries": float(job.source.num_entries),
        "chunks": float(len(ledger.plan)),
        "chunks_lost": float(len(lost)),
        "runs_count": float(job.source.num_entries if runs is None else runs.count),
    }
    if job.dataset.kind == "data":
        return total
    total["sumw_entries"] = total["sumw_processed"] + sum(_lost_weight(job, *ledger.plan[n]) for n in lost)
    empty = job.card.splitting.fractions[2] if job.test_only else 1.0
    return effective_sums(total, None if runs is None else runs.sumw, empty)


def _lost_weight(job: Job, start: int, stop: int) -> float:
    """Return the sum of generator weights of a lost chunk; NaN when not even they can be read."""
    try:
        return finite_sum(job.source.chunk(start, stop)["genWeight"])
    except BadChunk as error:
        log.warning("%s: its weight is taken to be its share of the entries", error)
        return float("nan")
