"""JetTable: the only form of jets in memory. One row per jet; constituents flat, with offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.columns import Index, offsets_of, rows_of_lists

VECTOR = ("px", "py", "pz", "energy")
"""Columns of the four-vector [GeV] in every constituent group."""


@dataclass(frozen=True)
class ConstituentTable:
    """Constituents of one group for all jets.

    Parameters
    ----------
    columns : dict of ndarray [n]
        Feature values by name, and the four-vector.
    offsets : ndarray of int64 [jets + 1]
        Constituents of jet i are rows offsets[i] to offsets[i + 1].
    """

    columns: dict[str, NDArray[np.float32]]
    offsets: Index

    @property
    def counts(self) -> Index:
        """Constituents per jet."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class JetTable:
    """Jets and their constituents.

    Parameters
    ----------
    jet : dict of ndarray [jets]
        Jet-level features by name.
    groups : dict of ConstituentTable
        By group (`charged`, `neutral`, `sv`).
    event : ndarray of int64 [jets]
        Event of the chunk that the jet belongs to.
    row : ndarray of int64 [jets]
        Row of the jet in the chunk's flat jet collection: scores go back to events with it.
    default : dict of ndarray of bool
        By feature identifier: where the value is a placeholder. Features without an entry have none.
    non_finite : dict of int
        By feature identifier: NaN and infinity that became placeholders.
    targets : dict of ndarray
        Truth targets by identifier (`nano.targets`), [jets] or [constituents of their group]; never inputs.
    """

    jet: dict[str, NDArray[np.float32]]
    groups: dict[str, ConstituentTable]
    event: Index
    row: Index
    default: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    non_finite: dict[str, int] = field(default_factory=dict)
    targets: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.event)

    def select(self, jets: NDArray[np.bool_] | Index) -> JetTable:
        """Return chosen jets, by mask or by index (in that order, repeated at will)."""
        index = np.flatnonzero(jets) if jets.dtype == np.bool_ else jets.astype(np.int64)
        picks = {name: rows_of_lists(table.offsets, index) for name, table in self.groups.items()}
        groups = {
            name: ConstituentTable({c: v[picks[name][0]] for c, v in table.columns.items()}, picks[name][1])
            for name, table in self.groups.items()
        }
        default, targets = (
            {n: values[index if n.startswith("jet/") else picks[n.split("/")[0]][0]] for n, values in columns.items()}
            for columns in (self.default, self.targets)
        )
        jet = {name: values[index] for name, values in self.jet.items()}
        return JetTable(jet, groups, self.event[index], self.row[index], default, dict(self.non_finite), targets)

    @staticmethod
    def concatenate(tables: Sequence[JetTable]) -> JetTable:
        """Return the jets of several tables with the same columns, one table after the other.

        Raises
        ------
        ValueError
            When there is no table.
        """
        if not tables:
            raise ValueError("no table to concatenate")
        first = tables[0]
        groups = {
            name: ConstituentTable(
                {c: np.concatenate([t.groups[name].columns[c] for t in tables]) for c in table.columns},
                offsets_of(np.concatenate([t.groups[name].counts for t in tables])),
            )
            for name, table in first.groups.items()
        }
        masked = {name for table in tables for name in table.default}
        default = {name: np.concatenate([t.default_mask(name) for t in tables]) for name in sorted(masked)}
        counted = {name for table in tables for name in table.non_finite}
        return JetTable(
            {name: np.concatenate([t.jet[name] for t in tables]) for name in first.jet},
            groups,
            np.concatenate([t.event for t in tables]),
            np.concatenate([t.row for t in tables]),
            default,
            {name: sum(t.non_finite.get(name, 0) for t in tables) for name in sorted(counted)},
            {name: np.concatenate([t.targets[name] for t in tables]) for name in first.targets},
        )

    def column(self, feature: str) -> NDArray[np.float32]:
        """Return a feature's values by identifier: [jets] or [constituents of its group]."""
        group, name = feature.split("/")
        return self.jet[name] if group == "jet" else self.groups[group].columns[name]

    def default_mask(self, feature: str) -> NDArray[np.bool_]:
        """Return where a feature is a placeholder, also when it never is."""
        if feature in self.default:
            return self.default[feature]
        return np.zeros(len(self.column(feature)), dtype=np.bool_)
