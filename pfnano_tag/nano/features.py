"""From a chunk of events to a JetTable with all inputs of the networks, the same for every layout.

Order and truncation follow cms-sw/cmssw:RecoBTag/FeatureTools: charged by falling 2D significance, then nearness to a
secondary vertex, then pT; neutral by nearness to a vertex, then pT; vertices by falling 2D flight significance. The
layouts `deepjet` and `jets` are ordered when they are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano import candidates, deepjet, jet_tree, truth, vertices
from pfnano_tag.nano.bounds import Bounded, bounded
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.jets import VECTOR, ConstituentTable, JetTable
from pfnano_tag.nano.layouts import Contents, Status, require_branches, require_inputs
from pfnano_tag.nano.links import linked
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.schema import CHARGED, FEATURES, JET_VECTOR, NEUTRAL, SV_VECTOR, Feature, Group
from pfnano_tag.nano.selection import SelectedJets, aligned
from pfnano_tag.nano.targets import NO_TRUTH, TARGETS, group_of, of_group, target_branches, unknown_values
from pfnano_tag.nano.vertex_directions import BELOW_THRESHOLD

_ORDER: dict[str, tuple[str, ...]] = {
    "jet": (),
    "charged": (*CHARGED, *BELOW_THRESHOLD),
    "neutral": (*NEUTRAL, *BELOW_THRESHOLD),
    "sv": SV_VECTOR,
}
"""What the order of a group's constituents is made from, also where all its features are dropped."""


def branches_for(ids: Iterable[str], contents: Contents) -> set[str]:
    """Return the branches of a file that `read_jets` reads for features.

    Parameters
    ----------
    ids : iterable of str
        Feature identifiers; missing ones need no branch.
    contents : Contents
        Of the file.
    """
    wanted = [FEATURES[name] for name in ids]
    needed = set(JET_VECTOR if contents.layout in ("candidates", "btvnano") else ("Jet_pt",))
    for feature in wanted:
        needed.update(contents.branches_of(feature))
    for group in {feature.group for feature in wanted}:
        needed.update(_beside(group, contents))
    return needed & contents.branches


def _beside(group: Group, contents: Contents) -> tuple[str, ...]:
    """Return what the constituents of a group need beside their features: order, numbers, four-vectors."""
    if group == "jet" or contents.layout == "nano":
        return ()
    if contents.layout == "deepjet":
        return (deepjet.COUNTS[group], *(contents.slots.get(deepjet.CHI2, ()) if group == "charged" else ()))
    if contents.layout == "jets":
        return (f"{group}/n", *jet_tree.vectors_of(group, contents.branches))
    return _ORDER[group]


def read_jets(
    chunk: Chunk,
    features: Iterable[str],
    jet_mask: NDArray[np.bool_],
    caps: Mapping[str, int],
    candidate_pt: float,
    droppable: Iterable[str] = (),
    targets: Sequence[str] = (),
) -> JetTable:
    """Return chosen jets of a chunk with features, bounded but not scaled.

    Branches of constituents are read here, and only when a jet is chosen.

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
    targets : sequence of str
        Truth targets that go beside the features (`nano.targets`).

    Returns
    -------
    JetTable
        Groups that the features name; with four-vectors where the layout has those of constituents.

    Raises
    ------
    MissingBranch, DataError
        When a feature can't be had and may not be dropped, or was cut too short when the file was made.
    BadChunk
        When the content makes no sense (indices out of range) or can't be read.
    """
    ids = list(features)
    contents = chunk.file.contents
    status = require_inputs(contents, ids, caps, candidate_pt, droppable)
    require_targets(contents, targets)
    groups = {"jet", *(FEATURES[name].group for name in ids)}
    if not groups.issuperset(group_of(name) for name in targets):
        raise ValueError(
            f"targets {list(targets)} need features of their groups, there are those of {sorted(groups)}"
        )
    if not jet_mask.any():
        return empty_table(ids, contents, targets)
    chunk.load(branches_for(ids, contents) | target_branches(targets))
    with np.errstate(all="ignore"):  # NaN and infinity in the file become placeholders, and are counted
        return _table(chunk, ids, jet_mask, status, caps, candidate_pt, targets)


def require_targets(contents: Contents, targets: Iterable[str]) -> None:
    """Complain where a file can't give truth targets.

    Raises
    ------
    MissingBranch
        Naming the branches that the file lacks.
    """
    for name in targets:
        require_branches(TARGETS[name].branches, contents.branches, contents.path, f"truth target {name}")


def empty_table(ids: Iterable[str], contents: Contents, targets: Iterable[str] = ()) -> JetTable:
    """Return a table without jets, with the columns that other chunks of the file have."""
    groups: dict[str, dict[str, NDArray[np.float32]]] = {}
    nothing = np.zeros(0, dtype=np.float32)
    for feature in (FEATURES[name] for name in ids):
        groups.setdefault(feature.group, {})[feature.name] = nothing
    jet = groups.pop("jet", {})
    tables = {}
    for group, columns in groups.items():
        vector = dict.fromkeys(VECTOR, nothing) if has_vectors(contents, group) else {}
        tables[group] = ConstituentTable({**columns, **vector}, np.zeros(1, dtype=np.int64))
    none = np.zeros(0, dtype=np.int64)
    return JetTable(jet, tables, none, none, targets={name: unknown_values(name, 0) for name in targets})


def has_vectors(contents: Contents, group: str) -> bool:
    """Return whether the constituents of a group have four-vectors in a file."""
    if contents.layout == "jets":
        return bool(jet_tree.vectors_of(group, contents.branches))
    return contents.layout in ("candidates", "btvnano")


def _table(
    chunk: Chunk,
    ids: list[str],
    mask: NDArray[np.bool_],
    status: Mapping[str, Status],
    caps: Mapping[str, int],
    candidate_pt: float,
    targets: Sequence[str],
) -> JetTable:
    """Return the features of chosen jets, group by group."""
    wanted = {group: [FEATURES[name] for name in ids if FEATURES[name].group == group] for group in _groups(ids)}
    table = _Collected(status)
    counts: dict[str, NDArray[np.int64]] = {}
    layout = chunk.file.layout
    row = np.flatnonzero(mask)
    if layout in ("deepjet", "jets"):
        reader = deepjet.read if layout == "deepjet" else jet_tree.read
        event = deepjet.event_of(chunk, row) if layout == "deepjet" else row
        for group in (name for name in wanted if name != "jet"):
            table.add(group, reader(chunk, row, group, wanted[group], status, caps[group]))
    else:
        jets = SelectedJets.of(chunk, mask)
        event = jets.event
        counts = _add_linked(
            table, chunk, jets, wanted, status, caps, candidate_pt, bool(of_group(targets, "charged"))
        )
    jet_columns = {
        f.name: table.bound(f, _jet_values(f, chunk, row, event, counts, status)) for f in wanted.get("jet", [])
    }
    groups: dict[str, ConstituentTable] = {group: table.groups[group] for group in wanted if group != "jet"}
    found = _targets(chunk, row, event, targets, groups, table.candidate)
    return JetTable(jet_columns, groups, event, row, table.default, table.non_finite, found)


def _targets(
    chunk: Chunk,
    row: NDArray[np.int64],
    event: NDArray[np.int64],
    targets: Sequence[str],
    groups: Mapping[str, ConstituentTable],
    candidate: NDArray[np.int64] | None,
) -> dict[str, NDArray[Any]]:
    """Return truth targets of jets and of their charged candidates, in the order of those."""
    found: dict[str, NDArray[Any]] = {}
    if "jet/pt_ratio" in targets:
        found["jet/pt_ratio"] = truth.pt_ratio(chunk, row, event)
    if candidate is not None:
        known = np.repeat(truth.has_truth(chunk, row, event), groups["charged"].counts)
        of_candidate = truth.candidate_truth(chunk)
        for name in of_group(targets, "charged"):
            values = getattr(of_candidate, name.partition("/")[2])[candidate]
            found[name] = np.where(known, values, NO_TRUTH).astype(np.int32)
    return found


def _add_linked(
    table: _Collected,
    chunk: Chunk,
    jets: SelectedJets,
    wanted: Mapping[Group, list[Feature]],
    status: Mapping[str, Status],
    caps: Mapping[str, int],
    candidate_pt: float,
    with_candidate: bool,
) -> dict[str, NDArray[np.int64]]:
    """Add the groups of layouts that link jets to candidates and vertices; return the numbers before truncation."""
    counts: dict[str, NDArray[np.int64]] = {}
    counted = {f.name for f in wanted.get("jet", []) if status[f.id] != "missing"}
    if {"charged", "neutral"} & wanted.keys() or {"nCpfcand", "nNpfcand"} & counted:
        links = linked(chunk, jets, candidate_pt)
        counts |= {"nCpfcand": links.count("charged"), "nNpfcand": links.count("neutral")}
        for group in ("charged", "neutral"):
            if group in wanted:
                which = with_candidate and group == "charged"
                table.add(group, candidates.read(links, group, wanted[group], status, caps[group], which))
    if "sv" in wanted or "nsv" in counted:
        counts["nsv"] = vertices.count(chunk, jets)
    if "sv" in wanted:
        table.add("sv", vertices.read(chunk, jets, wanted["sv"], status, caps["sv"]))
    return counts


class _Collected:
    """Columns bounded so far, with their masks and the count of non-finite values."""

    def __init__(self, status: Mapping[str, Status]) -> None:
        self.status = status
        self.groups: dict[str, ConstituentTable] = {}
        self.candidate: NDArray[np.int64] | None = None
        self.default: dict[str, NDArray[np.bool_]] = {}
        self.non_finite: dict[str, int] = {}

    def add(self, group: str, content: candidates.Content) -> None:
        columns = {f.name: self.bound(f, values, content.absent.get(f.needs)) for f, values in content.features}
        self.groups[group] = ConstituentTable({**columns, **content.vector}, content.offsets)
        if content.candidate is not None:
            self.candidate = content.candidate

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


def _groups(ids: list[str]) -> list[Group]:
    return list(dict.fromkeys(FEATURES[name].group for name in ids))


def _jet_values(
    feature: Feature,
    chunk: Chunk,
    row: NDArray[np.int64],
    event: NDArray[np.int64],
    counts: Mapping[str, NDArray[np.int64]],
    status: Mapping[str, Status],
) -> NDArray[np.floating]:
    """Return a jet-level feature as it is in the file, or counted."""
    if status[feature.id] == "missing":
        return np.full(len(row), feature.default, dtype=np.float32)
    if feature.name in counts:
        return counts[feature.name].astype(np.float32)
    branch = chunk.file.contents.branches_of(feature)[0]
    column = chunk[branch]
    if isinstance(column, Jagged):
        return aligned(chunk, branch, chunk["Jet_pt"])[row].astype(np.float32)
    if column.ndim != 1:
        raise chunk.bad(f"{chunk.file.stored(branch)} has {column.shape[1]} values per entry, expected one")
    return np.asarray(column[event], dtype=np.float32)
