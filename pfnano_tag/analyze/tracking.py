"""Tracks with other impact parameters, lost tracks, lost vertices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.draws import Draws
from pfnano_tag.card.systematics import (
    ImpactParameterBias,
    ImpactParameterResolution,
    Systematic,
    TrackingEfficiency,
    VertexEfficiency,
)
from pfnano_tag.nano import tracks
from pfnano_tag.nano.columns import Index, Jagged, list_of_row, offsets_of
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.schema import CANDIDATE_LINKS, SV_DIRECTION, SV_LINKS
from pfnano_tag.nano.selection import aligned, integers, linked_rows

Columns = dict[str, "Jagged | NDArray[Any]"]
Array = NDArray[np.floating]

VALUE, SIGNIFICANCE = "JetPFCands_btagSip3dVal", "JetPFCands_btagSip3dSig"
STORED = (VALUE, SIGNIFICANCE, "JetPFCands_btagJetDistVal")
"""What files may hold of impact parameters: what the variation does to the derived values is done to these."""

_TRACKS = ("PFCands_pt", "PFCands_d0", "PFCands_dz", "PFCands_d0Err", "PFCands_dzErr")
_DIRECTIONS = ("PFCands_eta", "PFCands_phi", "Jet_pt", "Jet_eta", "Jet_phi")


@dataclass(frozen=True)
class Linked:
    """A collection that jets are linked to: names of the table, of the links, of the row in the table, and the
    branches that are needed whatever the job reads, one of the table first.
    """

    table: str
    links: str
    index: str
    needed: tuple[str, ...]


TRACKS = Linked("PFCands", "JetPFCands", CANDIDATE_LINKS[1], ("PFCands_pt", "PFCands_charge", *CANDIDATE_LINKS))
VERTICES = Linked("SV", "JetSVs", SV_LINKS[1], (*SV_DIRECTION, *SV_LINKS))


def impact_branches(systematic: Systematic, branches: frozenset[str]) -> tuple[str, ...]:
    """Return the branches that `smeared` and `biased` read."""
    stored = tuple(name for name in STORED if name in branches)
    return (*_TRACKS, *CANDIDATE_LINKS, *_DIRECTIONS, *stored)


def track_branches(systematic: Systematic, branches: frozenset[str]) -> tuple[str, ...]:
    """Return the branches that `lost_tracks` reads."""
    return TRACKS.needed


def vertex_branches(systematic: Systematic, branches: frozenset[str]) -> tuple[str, ...]:
    """Return the branches that `lost_vertices` reads."""
    return VERTICES.needed


def smeared(systematic: ImpactParameterResolution, chunk: Chunk, draws: Draws, read: frozenset[str]) -> Columns:
    """Return the columns of tracks with sqrt(factor^2 - 1) errors of d0 and dz added at random."""
    candidates: Jagged = chunk["PFCands_pt"]
    width = np.sqrt(systematic.factor**2 - 1)
    changes = [
        width * draws.normal(candidates.offsets, name) * aligned(chunk, f"PFCands_{name}Err", candidates)
        for name in ("d0", "dz")
    ]
    return _with_impact(chunk, changes[0], changes[1], read)


def biased(systematic: ImpactParameterBias, chunk: Chunk, draws: Draws, read: frozenset[str]) -> Columns:
    """Return the columns of tracks whose d0 and dz are shifted."""
    candidates: Jagged = chunk["PFCands_pt"]
    changes = [np.full(len(candidates.values), way) for way in (systematic.transverse, systematic.longitudinal)]
    return _with_impact(chunk, changes[0], changes[1], read)


def _with_impact(chunk: Chunk, d0_change: Array, dz_change: Array, read: frozenset[str]) -> Columns:
    """Return impact parameters of candidates with a track, changed, and what files hold of them."""
    candidates: Jagged = chunk["PFCands_pt"]
    has_track = aligned(chunk, "PFCands_d0Err", candidates) > 0
    before, after = {}, {}
    columns: Columns = {}
    for name, change in (("d0", d0_change), ("dz", dz_change)):
        values = aligned(chunk, f"PFCands_{name}", candidates)
        before[name] = values.astype(np.float64)
        after[name] = np.where(has_track, before[name] + change, before[name])
        columns[f"PFCands_{name}"] = Jagged(after[name].astype(values.dtype), candidates.offsets)
    stored = [name for name in STORED if name in read]
    if stored:
        columns |= _stored(chunk, candidates, before, after, has_track, stored)
    return columns


def _stored(
    chunk: Chunk,
    candidates: Jagged,
    before: Mapping[str, Array],
    after: Mapping[str, Array],
    has_track: NDArray[np.bool_],
    stored: list[str],
) -> Columns:
    """Return stored impact parameters of candidates relative to jets with the change of the derived ones added.

    The error of the three-dimensional one, its value over its significance, stays.
    """
    links: Jagged = chunk["JetPFCands_jetIdx"]
    jets: Jagged = chunk["Jet_pt"]
    to_jet, jets_of = linked_rows(chunk, "JetPFCands_jetIdx", links, jets)
    to_candidate, candidates_of = linked_rows(chunk, "JetPFCands_pFCandsIdx", links, candidates)
    rows, of_jet, of_candidate = np.intersect1d(to_jet, to_candidate, assume_unique=True, return_indices=True)
    jet, row = jets_of[of_jet], candidates_of[of_candidate]
    tracked = has_track[row]
    rows, jet, row = rows[tracked], jet[tracked], row[tracked]
    eta, phi = (aligned(chunk, f"PFCands_{name}", candidates)[row].astype(np.float64) for name in ("eta", "phi"))
    axis = tracks.direction(*(aligned(chunk, f"Jet_{name}", jets)[jet].astype(np.float64) for name in ("eta", "phi")))
    ip, distance = (
        [function(impact["d0"][row], impact["dz"][row], eta, phi, axis) for impact in (before, after)]
        for function in (tracks.signed_ip3d, tracks.jet_distance)
    )
    columns: Columns = {}
    value = aligned(chunk, VALUE, links)[rows] if VALUE in chunk.branches else ip[0]
    for name in stored:
        new = aligned(chunk, name, links).copy()
        if name == SIGNIFICANCE:
            error = value / new[rows]
            change = np.where(error > 0, (ip[1] - ip[0]) / error, 0.0)
        else:
            change = ip[1] - ip[0] if name == VALUE else distance[1] - distance[0]
        new[rows] += change.astype(new.dtype)
        columns[name] = Jagged(new, links.offsets)
    return columns


def lost_tracks(systematic: TrackingEfficiency, chunk: Chunk, draws: Draws, read: frozenset[str]) -> Columns:
    """Return candidates of which some charged ones are lost, each with the same probability, from event and jets."""
    table: Jagged = chunk["PFCands_pt"]
    kept = draws.uniform(table.offsets, "track") >= systematic.loss
    kept |= aligned(chunk, "PFCands_charge", table) == 0
    links: Jagged = chunk["JetPFCands_jetIdx"]
    return _without(chunk, read, kept, np.ones(len(links.values), dtype=np.bool_), TRACKS)


def lost_vertices(systematic: VertexEfficiency, chunk: Chunk, draws: Draws, read: frozenset[str]) -> Columns:
    """Return vertices of which some are lost, each with the same probability, from the table and from all jets.

    A vertex that is not in the table is drawn for each jet that it is linked to.
    """
    table: Jagged = chunk["SV_eta"]
    links: Jagged = chunk["JetSVs_jetIdx"]
    kept = draws.uniform(table.offsets, "vertex") >= systematic.loss
    return _without(chunk, read, kept, draws.uniform(links.offsets, "link") >= systematic.loss, VERTICES)


def _without(
    chunk: Chunk, read: frozenset[str], kept: NDArray[np.bool_], kept_link: NDArray[np.bool_], names: Linked
) -> Columns:
    """Return what is kept of a table and of its links to jets; links not in the table are kept by `kept_link`."""
    table: Jagged = chunk[names.needed[0]]
    links: Jagged = chunk[f"{names.links}_jetIdx"]
    index = integers(chunk, names.index, links, slice(None)).astype(np.int64)
    known, row = linked_rows(chunk, names.index, links, table)
    event = list_of_row(links.offsets)
    kept_link = kept_link.copy()
    kept_link[known] = kept[row]
    offsets, link_offsets = _offsets(kept, table), _offsets(kept_link, links)
    new = index.copy()
    new[known] = (np.cumsum(kept) - 1)[row] - offsets[event[known]]  # row among those that are kept
    columns: Columns = {}
    for name in (name for name in read | set(names.needed) if name in chunk.branches):
        if name.startswith(f"{names.table}_"):
            columns[name] = Jagged(aligned(chunk, name, table)[kept], offsets)
        elif name.startswith(f"{names.links}_"):
            values = new if name == names.index else aligned(chunk, name, links)
            columns[name] = Jagged(values[kept_link], link_offsets)
        elif name in (f"n{names.table}", f"n{names.links}"):
            columns[name] = np.diff(offsets if name == f"n{names.table}" else link_offsets)
    return columns


def _offsets(kept: NDArray[np.bool_], like: Jagged) -> Index:
    """Return the offsets of what is kept of a jagged column."""
    return offsets_of(np.bincount(list_of_row(like.offsets)[kept], minlength=len(like)))
