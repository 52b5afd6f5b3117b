"""The plan of a file: entry ranges on cluster edges, each one a chunk, the unit of work and of loss.

It depends on the file and on a size alone, never on the memory or the processes that are there, so that results of
chunks mean the same wherever they were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

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


def parts_of(start: int, stop: int, edges: Sequence[int], wanted: int) -> Plan:
    """Cut a chunk where clusters end, into parts of at most `wanted` entries or a single cluster.

    Parts are what is worked on at a time, to use little memory and the processor's caches; they never cut a cluster,
    so that each basket is decompressed once.

    Parameters
    ----------
    start, stop : int
        Entry range of the chunk, not empty.
    edges : sequence of int
        Where clusters end; rising.
    wanted : int
        Entries of a part.

    Returns
    -------
    tuple of (start, stop)
        Covering the chunk in order.
    """
    cuts = [start]
    inside = [edge for edge in edges if start < edge < stop]
    for edge, following in pairwise([*inside, stop]):
        if following - cuts[-1] > wanted:
            cuts.append(edge)
    return tuple(zip(cuts, [*cuts[1:], stop], strict=True))
