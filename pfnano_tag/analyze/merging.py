"""The ledger into one result: partial results summed, and rows of jets appended, in the order of the plan."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pfnano_tag.analyze.array_files import array_file
from pfnano_tag.analyze.histogramming import Histograms
from pfnano_tag.analyze.job import Job
from pfnano_tag.analyze.ledger import Ledger
from pfnano_tag.analyze.lost_chunks import NO_SECTIONS, Sections, lost_sections, totals
from pfnano_tag.analyze.reporting import report
from pfnano_tag.analyze.result import SUMS, Cutflow, write_result
from pfnano_tag.analyze.selections import steps_of
from pfnano_tag.analyze.weights import sections_by_run
from pfnano_tag.errors import BadChunk

log = logging.getLogger(__name__)


def merge(job: Job, ledger: Ledger, lost: Mapping[int, BadChunk], target: Path) -> None:
    """Write the result: rows of jets first, so that the histograms are never newer than they are.

    Parameters
    ----------
    job : Job
        What was done.
    ledger : Ledger
        Has the partial results; one is in memory at a time.
    lost : mapping of BadChunk
        By number of the chunk.
    target : Path
        The ROOT file of histograms.

    Raises
    ------
    OutputError
        When something can't be written.
    """
    histograms = Histograms(job.variables)
    names = list(SUMS)
    steps = [len(steps_of(region)) for region in job.card.regions.values()]
    sums, raw, weighted = np.zeros(len(names)), np.zeros(sum(steps)), np.zeros(sum(steps))
    sections, sliced = [NO_SECTIONS], []
    with array_file(target, job.card.arrays.format, job.columns) as arrays:
        for number in range(len(ledger.plan)):
            partial = ledger.load(number)
            if partial is None:
                continue
            histograms.add(partial)
            arrays.extend(partial)
            sums += partial["sums"]
            raw += partial["cutflow_raw"]
            weighted += partial["cutflow_weighted"]
            sections.append(partial["sections"])
            if partial["slices"][0] > 1:
                start, stop = ledger.plan[number]
                sliced.append({"start": start, "stop": stop, "slices": int(partial["slices"][0])})
        sums_of_file = totals(job, ledger, lost, dict(zip(names, sums.tolist(), strict=True)))
        info: dict[str, Any] = {
            **job.provenance(),
            "arrays": arrays.describe(),
            "lost": [error.to_json() for error in lost.values()],
            "sliced": sliced,
            **_sections(job, ledger, lost, sections),
        }
        arrays.note(info, sums_of_file)
    cuts = np.cumsum([0, *steps])
    cutflows = {
        name: Cutflow(steps_of(region), raw[cuts[i] : cuts[i + 1]], weighted[cuts[i] : cuts[i + 1]])
        for i, (name, region) in enumerate(job.card.regions.items())
    }
    write_result(target, info, sums_of_file, cutflows, histograms.contents())
    report(target, sums_of_file, cutflows)


def _sections(job: Job, ledger: Ledger, lost: Mapping[int, BadChunk], processed: list[Sections]) -> dict[str, Any]:
    """Return what the provenance says of luminosity sections."""
    dropped, unknown = lost_sections(job, ledger, lost) if job.dataset.kind == "data" else (NO_SECTIONS, False)
    if len(dropped):
        log.warning("luminosity sections dropped whole, as lost chunks hold events of theirs: %d", len(dropped))
    return {
        "lumis": sections_by_run(np.concatenate(processed)),
        "dropped_lumis": sections_by_run(dropped),
        "unknown_lumis": unknown,
    }
