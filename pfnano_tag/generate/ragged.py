"""Flat columns with event offsets, and the few operations on them that the generator needs.

Shapes: `n` rows, `E` events; `offsets` is int64 `[E + 1]`; `event` is int64 `[n]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.columns import delta_phi, list_of_row, offsets_of, pairs_within, rank_in_list, rows_of_lists

Array = NDArray[Any]


def slices(starts: Array, counts: Array) -> NDArray[np.int64]:
    """Concatenated index ranges `starts[i] ... starts[i] + counts[i] - 1`."""
    return np.repeat(np.asarray(starts, np.int64), counts) + rank_in_list(offsets_of(counts))


def sums(values: Array, group: Array, num_groups: int) -> NDArray[np.float64]:
    """Sum of `values` by `group` index, float64 `[num_groups]`."""
    return np.bincount(group, weights=np.asarray(values, np.float64), minlength=num_groups).astype(
        np.float64, copy=False
    )


@dataclass(frozen=True)
class Table:
    """Rows of many events: `columns` (each of length n) and `offsets` int64 `[E + 1]`."""

    columns: dict[str, Array]
    offsets: NDArray[np.int64]

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    def __len__(self) -> int:
        return int(self.offsets[-1])

    @property
    def num_events(self) -> int:
        """Number of events."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """Rows per event, int64 `[E]`."""
        return np.diff(self.offsets)

    @cached_property
    def event(self) -> NDArray[np.int64]:
        """Event index of each row, int64 `[n]`."""
        return list_of_row(self.offsets)

    @cached_property
    def position(self) -> NDArray[np.int64]:
        """Row number inside its event, int64 `[n]`."""
        return rank_in_list(self.offsets)

    def select(self, keep: Array) -> Table:
        """Rows where the boolean `keep` is true, in the same order."""
        counts = np.bincount(self.event[keep], minlength=self.num_events)
        return Table({k: v[keep] for k, v in self.columns.items()}, offsets_of(counts))

    def order(self, *keys: Array) -> NDArray[np.int64]:
        """Stable permutation that sorts by event, then by `keys` (the first key is the most important)."""
        return np.lexsort((*keys[::-1], self.event))

    def permute(self, order: Array) -> Table:
        """Rows in another order; `order` must keep each row in its event."""
        return Table({k: v[order] for k, v in self.columns.items()}, self.offsets)

    def with_columns(self, **columns: Array) -> Table:
        """The same rows with columns added or replaced."""
        return Table({**self.columns, **columns}, self.offsets)


def table_of(event: Array, num_events: int, **columns: Array) -> Table:
    """Table from rows that are already sorted by `event`."""
    return Table(columns, offsets_of(np.bincount(event, minlength=num_events)))


def merge(tables: Sequence[Table]) -> Table:
    """Join tables event by event: in each event the rows of the first table, then of the second, ...

    Only the columns of the first table are kept; all tables must have them.
    """
    counts = [t.counts for t in tables]
    offsets = offsets_of(np.sum(counts, axis=0))
    start = offsets[:-1].copy()
    targets = []
    for t, c in zip(tables, counts, strict=True):
        targets.append(start[t.event] + t.position)
        start += c
    columns = {}
    for name, first in tables[0].columns.items():
        out = np.empty(int(offsets[-1]), first.dtype)
        for t, target in zip(tables, targets, strict=True):
            out[target] = t[name]
        columns[name] = out
    return Table(columns, offsets)


def concatenate(tables: Sequence[Table]) -> Table:
    """Events of the first table, then of the second, ..."""
    columns = {k: np.concatenate([t[k] for t in tables]) for k in tables[0].columns}
    return Table(columns, offsets_of(np.concatenate([t.counts for t in tables])))


def sampled_events(table: Table, chosen: Array) -> Table:
    """The events `chosen` (int64, repeats allowed) of a table, in that order."""
    rows, offsets = rows_of_lists(table.offsets, chosen)
    return Table({k: v[rows] for k, v in table.columns.items()}, offsets)


def regrouped(table: Table, per_group: Array) -> Table:
    """Join consecutive events: group g gets the next `per_group[g]` events of `table`."""
    bounds = offsets_of(per_group)
    return Table(table.columns, table.offsets[bounds])


def pairs(left: Table, right: Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All (row of left, row of right) combinations inside each event, as two flat index arrays."""
    i, j, _ = pairs_within(left.offsets, right.offsets)
    return i, j


def delta_r(eta1: Array, phi1: Array, eta2: Array, phi2: Array) -> Array:
    """Distance in (eta, phi)."""
    return np.hypot(eta1 - eta2, delta_phi(phi1, phi2))


def nearest(left: Table, right: Table, radius: float) -> tuple[NDArray[np.int64], Array]:
    """For each row of `left` the closest row of `right` in the same event within `radius` in (eta, phi).

    Returns
    -------
    index
        int64 `[len(left)]`, flat row of `right`, -1 where there is none.
    distance
        float64 `[len(left)]`, infinity where there is none.
    """
    i, j = pairs(left, right)
    dr = delta_r(left["eta"][i], left["phi"][i], right["eta"][j], right["phi"][j])
    near = dr < radius
    i, j, dr = i[near], j[near], dr[near]
    order = np.lexsort((dr, i))[::-1]
    index = np.full(len(left), -1, np.int64)
    distance = np.full(len(left), np.inf)
    index[i[order]] = j[order]
    distance[i[order]] = dr[order]
    return index, distance
