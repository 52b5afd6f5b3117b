"""From a chunk of events to a JetTable with all inputs of the networks.

Order and truncation follow cms-sw/cmssw:RecoBTag/FeatureTools: charged by falling 2D significance, then nearness to a
secondary vertex, then pT; neutral by nearness to a vertex, then pT; vertices by falling 2D flight significance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano import candidates, vertices
from pfnano_tag.nano.bounds import Bounded, bounded
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.jets import ConstituentTable, JetTable
from pfnano_tag.nano.layouts import Status, branches_of, require_features
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.schema import CHARGED, FEATURES, JET_VECTOR, NEUTRAL, SV_VECTOR, Feature
from pfnano_tag.nano.selection import SelectedJets

_ORDER = {"jet": (), "charged": CHARGED, "neutral": NEUTRAL, "sv": SV_VECTOR}
"""What the order of a group's constituents needs, also where all its features are dropped."""


def branches_for(ids: Iterable[str], branches: frozenset[str]) -> set[str]:
    """Return the branches of a file that `read_jets` reads for features.

    Parameters
    ----------
    ids : iterable of str
        Feature identifiers; missing ones need no branch.
    branches : frozenset of str
        Branches of the file.
    """
    wanted = [FEATURES[name] for name in ids]
    needed = set(JET_VECTOR)
    for feature in wanted:
        needed.update(branches_of(feature, branches))
    for group in {feature.group for feature in wanted}:
        needed.update(_ORDER[group])
    return needed & branches


def read_jets(
    chunk: Chunk,
    features: Iterable[str],
    jet_mask: NDArray[np.bool_],
    caps: Mapping[str, int],
    candidate_pt: float,
    droppable: Iterable[str] = (),
) -> JetTable:
    """Return chosen jets of a chunk with features, bounded but not scaled.

    Parameters
    ----------
    chunk : Chunk
        Events; branches are read as needed.
    features : iterable of str
        Feature identifiers.
    jet_mask : ndarray of bool [jets of the chunk]
        Which jets of the flat collection.
    caps : mapping
        Constituents kept per jet, by group.
    candidate_pt : float
        Lowest transverse momentum of a candidate [GeV].
    droppable : iterable of str
        Features that become their default where the file can't give them.

    Returns
    -------
    JetTable
        Groups that the features name, with four-vectors.

    Raises
    ------
    MissingBranch
        When a feature can't be had and may not be dropped.
    BadChunk
        When the content makes no sense (indices out of range) or can't be read.
    """
    ids = list(features)
    status = require_features(ids, chunk.branches, chunk.file.path, droppable)
    chunk.load(branches_for(ids, chunk.branches))
    with np.errstate(all="ignore"):  # NaN and infinity in the file become placeholders, and are counted
        return _table(chunk, ids, SelectedJets.of(chunk, jet_mask), status, caps, candidate_pt)


def _table(
    chunk: Chunk,
    ids: list[str],
    jets: SelectedJets,
    status: Mapping[str, Status],
    caps: Mapping[str, int],
    candidate_pt: float,
) -> JetTable:
    """Return the features of chosen jets, group by group."""
    wanted = {group: [FEATURES[name] for name in ids if FEATURES[name].group == group] for group in _groups(ids)}
    table = _Collected(status)
    counts: dict[str, NDArray[np.int64]] = {}
    if {"charged", "neutral"} & wanted.keys() or {"jet/nCpfcand", "jet/nNpfcand"} & set(ids):
        linked = candidates.linked(chunk, jets, candidate_pt)
        counts |= {"nCpfcand": linked.count(charged=True), "nNpfcand": linked.count(charged=False)}
        for group in ("charged", "neutral"):
            if group in wanted:
                table.add(group, candidates.read(linked, group, wanted[group], status, caps[group]))
    if "sv" in wanted or "jet/nsv" in ids:
        counts["nsv"] = vertices.count(chunk, jets)
    if "sv" in wanted:
        table.add("sv", vertices.read(chunk, jets, wanted["sv"], status, caps["sv"]))
    jet_columns = {f.name: table.bound(f, _jet_values(f, chunk, jets, counts, status)) for f in wanted.get("jet", [])}
    return JetTable(jet_columns, table.groups, jets.event, jets.row, table.default, table.non_finite)


class _Collected:
    """Columns bounded so far, with their masks and the count of non-finite values."""

    def __init__(self, status: Mapping[str, Status]) -> None:
        self.status = status
        self.groups: dict[str, ConstituentTable] = {}
        self.default: dict[str, NDArray[np.bool_]] = {}
        self.non_finite: dict[str, int] = {}

    def add(self, group: str, content: candidates.Content) -> None:
        columns = {f.name: self.bound(f, values, content.absent.get(f.needs)) for f, values in content.features}
        self.groups[group] = ConstituentTable({**columns, **content.vector}, content.offsets)

    def bound(
        self, feature: Feature, values: NDArray[np.floating], absent: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        if self.status[feature.id] == "missing":
            absent = np.ones(len(values), dtype=np.bool_)
        result: Bounded = bounded(values, feature, absent)
        if result.default.any():
            self.default[feature.id] = result.default
        if result.non_finite:
            self.non_finite[feature.id] = result.non_finite
        return result.values


def _groups(ids: list[str]) -> list[str]:
    return list(dict.fromkeys(FEATURES[name].group for name in ids))


def _jet_values(
    feature: Feature,
    chunk: Chunk,
    jets: SelectedJets,
    counts: Mapping[str, NDArray[np.int64]],
    status: Mapping[str, Status],
) -> NDArray[np.floating]:
    """Return a jet-level feature as it is in the file, or counted."""
    if status[feature.id] == "missing":
        return np.full(len(jets), feature.default, dtype=np.float32)
    if feature.name in counts:
        return counts[feature.name].astype(np.float32)
    column = chunk[feature.read[0]]
    if isinstance(column, Jagged):
        return column.values[jets.row].astype(np.float32)
    return column[jets.event].astype(np.float32)
