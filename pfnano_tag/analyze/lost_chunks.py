"""What a job is short of when chunks are lost: luminosity sections of data, sums of weights of simulation."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.job import Job
from pfnano_tag.analyze.ledger import Ledger, Partial
from pfnano_tag.analyze.weights import effective_sums, finite_sum, section_keys
from pfnano_tag.errors import BadChunk

log = logging.getLogger(__name__)
Sections = NDArray[np.int64]
NO_SECTIONS: Sections = np.zeros(0, dtype=np.int64)


def lost_sections(job: Job, ledger: Ledger, lost: Mapping[int, BadChunk]) -> tuple[Sections, bool]:
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


def totals(job: Job, ledger: Ledger, lost: Mapping[int, BadChunk], sums: Mapping[str, float]) -> dict[str, float]:
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
