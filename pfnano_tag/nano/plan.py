"""The plan of a file: entry ranges on cluster edges, each one a chunk, the unit of work and of loss.

It depends on the file and on a size alone, never on the memory or the processes that are there, so that results of
chunks mean the same wherever they were made.
"""

from __future__ import annotations

from collections.abc import Sequence

Plan = tuple[tuple[int, int], ...]
"""(start, stop) of each chunk, covering all entries in order."""

LARGEST = 4
"""Clusters of more than so many times the wanted size are cut; their baskets are then decompressed more than once."""


def plan_chunks(edges: Sequence[int], wanted: int) -> Plan:
    """Join clusters to chunks of about `wanted` entries; cut clusters of more than `LARGEST` times that.

    Parameters
    ----------
    edges : sequence of int
        Where clusters end; rising; the last is the number of entries.
    wanted : int
        Entries of a chunk.

    Returns
    -------
    tuple of (start, stop)
        Empty without entries.
    """
    stops: list[int] = []
    start = previous = 0
    for edge in edges:
        if edge - start > wanted and previous > start:
            stops.append(previous)
            start = previous
        if edge - start > LARGEST * wanted:
            pieces = -(-(edge - start) // wanted)
            stops += [start + (edge - start) * piece // pieces for piece in range(1, pieces + 1)]
            start = edge
        previous = edge
    if previous > start:
        stops.append(previous)
    return tuple(zip([0, *stops[:-1]], stops, strict=True)) if stops else ()
