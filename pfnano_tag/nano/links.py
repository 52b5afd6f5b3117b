"""Links from jets to candidates, followed and checked, in blocks of events that fit in a processor's cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano import tracks
from pfnano_tag.nano.columns import (
    Index,
    Jagged,
    blocks,
    delta_phi,
    offsets_of,
    outside_lists,
    rows_of_lists,
)
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.selection import SelectedJets, aligned, integers
from pfnano_tag.nano.vertex_directions import all_vertices

Array = NDArray[np.floating]

NEAREST_VERTEX = 0.4
"""Largest distance to a secondary vertex that counts (`mindrsvpfcand` of cms-sw/cmssw)."""

BLOCK = 1 << 16
"""Links that are worked on at once."""

_STRAIGHT = 3.14
"""Differences of azimuth below this are not around the corner."""

_MARGIN = 1e-5
"""Room for rounding where vertices too far from a jet are left out."""


@dataclass(frozen=True)
class Source:
    """Where columns of candidates come from.

    Parameters
    ----------
    chunk, jets
        Where the links start and end.
    checked : dict of ndarray
        Branches that were found to be as long as their collection.
    """

    chunk: Chunk
    jets: SelectedJets
    checked: dict[str, NDArray[np.floating]] = field(default_factory=dict)

    def column(self, name: str) -> NDArray[np.floating]:
        """Return a branch of the candidates or of the links, checked to be as long as its collection."""
        if name not in self.checked:
            like = "JetPFCands_jetIdx" if name.startswith("JetPFCands_") else "PFCands_pt"
            self.checked[name] = aligned(self.chunk, name, self.chunk[like])
        return self.checked[name]

    @cached_property
    def jet_eta(self) -> NDArray[np.float32]:
        """Pseudorapidity of the jets."""
        return self.jets.eta.astype(np.float32)

    @cached_property
    def jet_phi(self) -> NDArray[np.float32]:
        """Azimuth of the jets."""
        return self.jets.phi.astype(np.float32)

    @cached_property
    def jet_cosh(self) -> NDArray[np.float32]:
        """cosh(eta) of the jets."""
        return np.cosh(self.jets.eta).astype(np.float32)

    @cached_property
    def jet_raw_pt(self) -> NDArray[np.float32]:
        """Transverse momentum of the uncorrected jets [GeV]."""
        return (self.jets.pt * self.jets.raw).astype(np.float32)

    @cached_property
    def jet_axis(self) -> Array:
        """Unit vectors of the jets, shape [3, jets]."""
        return tracks.direction(self.jets.eta, self.jets.phi)

    @cached_property
    def vertices(self) -> tuple[Array, Array, Index]:
        """Directions of all secondary vertices, and their offsets by event."""
        return all_vertices(self.chunk)


class Block:
    """Candidates above threshold of neighbouring jets, jet by jet, with what they have to do with jet and vertices.

    Parameters
    ----------
    source : Source
        Branches and jets.
    first, last : int
        Chosen jets first to last - 1.
    jet, link, candidate : ndarray of int64 [n]
        Chosen jet (rising), row of the link and of the candidate in the chunk.

    Attributes
    ----------
    rows : dict of ndarray of int64
        Which of the candidates are `charged`, which `neutral`.
    counts : dict of ndarray of int64 [last - first]
        How many of these each jet has.
    """

    def __init__(self, source: Source, first: int, last: int, jet: Index, link: Index, candidate: Index) -> None:
        self.source, self.first, self.last = source, first, last
        self.jet, self.link, self.candidate = jet, link, candidate
        charged = source.column("PFCands_charge").take(candidate) != 0
        self.rows = {"charged": np.flatnonzero(charged), "neutral": np.flatnonzero(~charged)}
        self.counts = {
            group: np.bincount(jet.take(rows) - first, minlength=last - first) for group, rows in self.rows.items()
        }

    @cached_property
    def eta(self) -> Array:
        """Pseudorapidity."""
        return self.source.column("PFCands_eta").take(self.candidate)

    @cached_property
    def phi(self) -> Array:
        """Azimuth."""
        return self.source.column("PFCands_phi").take(self.candidate)

    @cached_property
    def delta_eta(self) -> Array:
        """Pseudorapidity relative to the jet."""
        return self.eta - self.source.jet_eta.take(self.jet)

    @cached_property
    def delta_phi(self) -> Array:
        """Azimuth relative to the jet."""
        return _delta_phi(self.phi, self.source.jet_phi.take(self.jet))

    @cached_property
    def delta_r(self) -> Array:
        """Distance to the jet."""
        return _distance(self.delta_eta, self.delta_phi)

    @cached_property
    def nearest_vertex(self) -> Array:
        """Distance to the nearest secondary vertex of the event, at most 0.4."""
        nearest = np.full(len(self.jet), NEAREST_VERTEX, dtype=np.float32)
        if len(self.jet) == 0:
            return nearest
        sv_eta, sv_phi, sv_offsets = self.source.vertices
        event = self.source.jets.event[self.first : self.last]
        jet_eta, jet_phi = (x[self.first : self.last] for x in (self.source.jet_eta, self.source.jet_phi))
        first_vertex, vertices = sv_offsets[event], np.diff(sv_offsets)[event]
        candidates = self.counts["charged"] + self.counts["neutral"]
        offsets = offsets_of(candidates)
        # A vertex farther from the jet than 0.4 and the farthest candidate together can't be nearer than 0.4 to any.
        reach = NEAREST_VERTEX + float(self.delta_r.max()) + _MARGIN
        for rank in range(int(vertices.max())):  # the first vertex of each event that has one, the second, ...
            jets = np.flatnonzero(vertices > rank)
            vertex = first_vertex.take(jets) + rank
            eta, phi = sv_eta.take(vertex), sv_phi.take(vertex)
            distance = _distance(jet_eta.take(jets) - eta, _delta_phi(jet_phi.take(jets), phi))
            near = np.flatnonzero(~(distance > reach))  # NaN is never out of reach: it goes on to the candidates
            jets = jets.take(near)
            rows, _ = rows_of_lists(offsets, jets)
            counts = candidates.take(jets)
            eta = self.eta.take(rows) - np.repeat(eta.take(near), counts)
            phi = _delta_phi(self.phi.take(rows), np.repeat(phi.take(near), counts))
            nearest[rows] = np.minimum(nearest.take(rows), _distance(eta, phi))
        return nearest


def _distance(eta: Array, phi: Array) -> Array:
    return np.asarray(np.sqrt(eta * eta + phi * phi))


def _delta_phi(first: Array, second: Array) -> Array:
    """Return first - second in [-pi, pi): exact also in single precision, where a whole turn would be rounded."""
    difference = first - second
    if len(difference) == 0 or (difference.min() > -_STRAIGHT and difference.max() < _STRAIGHT):
        return difference
    far = np.flatnonzero(~(np.abs(difference) < _STRAIGHT))
    difference[far] = delta_phi(first.take(far).astype(np.float64), second.take(far).astype(np.float64))
    return difference


@dataclass(frozen=True)
class Linked:
    """Candidates above threshold of chosen jets.

    Parameters
    ----------
    blocks : tuple of Block
        In the order of the jets; together all of them.
    """

    blocks: tuple[Block, ...]

    def count(self, group: str) -> NDArray[np.int64]:
        """Return the number of `charged` or `neutral` candidates of each jet, before any truncation."""
        counts = [block.counts[group] for block in self.blocks]
        return np.concatenate([np.zeros(0, dtype=np.int64), *counts])


def linked(chunk: Chunk, jets: SelectedJets, candidate_pt: float) -> Linked:
    """Follow the links from jets to candidates of at least a transverse momentum [GeV].

    Raises
    ------
    BadChunk
        When an index points outside its event, or branches of a collection have different lengths.
    """
    to_jet: Jagged = chunk["JetPFCands_jetIdx"]
    for name, like in (("JetPFCands_jetIdx", "Jet_pt"), ("PFCands_pt", "Jet_pt")):
        if len(chunk[name]) != len(chunk[like]):
            raise chunk.bad(f"{name} has {len(chunk[name])} entries, {like} has {len(chunk[like])}")
    source = Source(chunk, jets)
    followed = [_follow(source, candidate_pt, events) for events in blocks(to_jet.offsets, BLOCK)]
    return Linked(tuple(followed))


def _follow(source: Source, candidate_pt: float, events: tuple[int, int]) -> Block:
    """Return the links of some events, in the order of the jets."""
    chunk, jets = source.chunk, source.jets
    link, jet, event = jets.linked(chunk, "JetPFCands_jetIdx", events)
    pt: Jagged = chunk["PFCands_pt"]
    index = integers(chunk, "JetPFCands_pFCandsIdx", chunk["JetPFCands_jetIdx"], link)
    outside = outside_lists(index, pt.counts.take(event))
    if outside is not None:
        where = int(outside[0])
        raise chunk.bad(
            f"JetPFCands_pFCandsIdx is {index[where]} in entry {chunk.start + event[where]}, "
            f"which has {pt.counts[event[where]]} candidates ({len(outside)} such links)"
        )
    candidate = pt.offsets.take(event)
    candidate += index
    if not (jet[1:] >= jet[:-1]).all():
        order = np.argsort(jet, kind="stable")
        link, jet, candidate = link[order], jet[order], candidate[order]
    # A candidate whose momentum is NaN stays: its features become placeholders, and are counted.
    rows = np.flatnonzero(~(pt.values.take(candidate) < candidate_pt))
    first, last = np.searchsorted(jets.event, events).tolist()
    return Block(source, first, last, jet.take(rows), link.take(rows), candidate.take(rows))
