"""What a job tells in its log at the end: cutflows, what was dropped, regions that select nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from pfnano_tag.analyze.result import SUMS, Cutflow

log = logging.getLogger(__name__)

OVERLAP = ("entries_not_fired", "entries_of_others")
"""Sums of what the card leaves to other primary datasets: told, and nothing to worry about."""

DROPPED = (
    "entries_bad_weight",
    "entries_uncertified",
    "corrections_clamped",
    "jets_not_finite",
    "inputs_not_finite",
    "chunks_lost",
)
"""Sums that a job warns of when they are not 0."""


def report(target: Path, totals: Mapping[str, float], cutflows: Mapping[str, Cutflow]) -> None:
    """Log what a job did.

    Parameters
    ----------
    target : Path
        Its output.
    totals : mapping
        By the names in `SUMS`.
    cutflows : mapping of Cutflow
        By region.
    """
    for region, cutflow in cutflows.items():
        log.info("region %s: %-18s %10s %14s", region, "step", "events", "weighted")
        for step, raw, weighted in zip(cutflow.steps, cutflow.raw, cutflow.weighted, strict=True):
            log.info("region %s: %-18s %10d %14.6g", region, step, raw, weighted)
        if cutflow.emptied_by is not None:
            log.warning("region %s selects nothing: no event passes %r", region, cutflow.emptied_by)
    for name in (*OVERLAP, *DROPPED):
        if totals[name]:
            log.log(logging.INFO if name in OVERLAP else logging.WARNING, "%s: %d", SUMS[name], totals[name])
    log.info("%s: %d of %d events", target, totals["entries_used"], totals["entries"])
