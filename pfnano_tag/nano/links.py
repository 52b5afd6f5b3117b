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
    list_of_row,
    offsets_of,
    outside_lists,
    rows_of_lists,
)
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.selection import SelectedJets, aligned, integers

Array = NDArray[np.floating]

NEAREST_VERTEX = 0.4
"""Largest distance to a secondary vertex that counts (`mindrsvpfcand` of cms-sw/cmssw)."""

BLOCK = 1 << 16
"""Links that are worked on at once."""

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
    def jet_cosh(self) -> NDArray[np.float32]:
        """cosh(eta) of the jets."""
        return np.cosh(self.jets.eta).astype(np.float32)

    @cached_property
    def jet_raw_pt(self) -> Array:
        """Transverse momentum of the uncorrected jets [GeV]."""
        return self.jets.pt * self.jets.raw

    @cached_property
    def jet_axis(self) -> Array:
        """Unit vectors of the jets, shape [3, jets]."""
        return tracks.direction(self.jets.eta, self.jets.phi)

    def vertices_near(self, first: int, last: int, reach: float) -> tuple[Array, Array, Index]:
        """Return directions of the vertices within reach of jets first to last - 1, and their offsets per jet."""
        every: Jagged = self.chunk["SV_eta"]
        jet_eta, jet_phi = self.jets.eta[first:last], self.jets.phi[first:last]
        row, offsets = rows_of_lists(every.offsets, self.jets.event[first:last])
        jet, eta = list_of_row(offsets), every.values.take(row).astype(np.float64)
        eta_rel = eta - jet_eta.take(jet)
        # A NaN is never out of reach: it goes through to the candidates.
        near = np.flatnonzero(~(np.abs(eta_rel) > reach))
        row, jet, eta, eta_rel = row.take(near), jet.take(near), eta.take(near), eta_rel.take(near)
        phi = aligned(self.chunk, "SV_phi", every).take(row).astype(np.float64)
        phi_rel = delta_phi(phi, jet_phi.take(jet))
        near = np.flatnonzero(~(eta_rel * eta_rel + phi_rel * phi_rel > reach * reach))
        counts = np.bincount(jet.take(near), minlength=last - first)
        return eta.take(near), phi.take(near), offsets_of(counts)


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
    """

    def __init__(self, source: Source, first: int, last: int, jet: Index, link: Index, candidate: Index) -> None:
        self.source, self.first, self.last = source, first, last
        self.jet, self.link, self.candidate = jet, link, candidate
        charged = source.column("PFCands_charge").take(candidate) != 0
        self.rows = {"charged": np.flatnonzero(charged), "neutral": np.flatnonzero(~charged)}

    def counts(self, group: str | None = None) -> Index:
        """Return the number of candidates of each jet, of one group or of all."""
        jet = self.jet if group is None else self.jet.take(self.rows[group])
        return np.bincount(jet - self.first, minlength=self.last - self.first)

    @cached_property
    def delta_eta(self) -> NDArray[np.float32]:
        """Pseudorapidity relative to the jet."""
        eta = self.source.column("PFCands_eta").take(self.candidate)
        return (eta - self.source.jets.eta.take(self.jet)).astype(np.float32)

    @cached_property
    def delta_phi(self) -> NDArray[np.float32]:
        """Azimuth relative to the jet."""
        phi = self.source.column("PFCands_phi").take(self.candidate)
        return delta_phi(phi, self.source.jets.phi.take(self.jet)).astype(np.float32)

    @cached_property
    def delta_r(self) -> NDArray[np.float32]:
        """Distance to the jet."""
        return np.sqrt(self.delta_eta * self.delta_eta + self.delta_phi * self.delta_phi)

    @cached_property
    def nearest_vertex(self) -> Array:
        """Distance to the nearest secondary vertex of the event, at most 0.4.

        A vertex farther from the jet than 0.4 and the farthest candidate together can't be nearer than 0.4 to any.
        """
        nearest = np.full(len(self.jet), NEAREST_VERTEX)
        if len(self.jet) == 0:
            return nearest
        reach = NEAREST_VERTEX + float(self.delta_r.max()) + _MARGIN
        sv_eta, sv_phi, near = self.source.vertices_near(self.first, self.last, reach)
        every_eta, every_phi = self.source.column("PFCands_eta"), self.source.column("PFCands_phi")
        vertices, candidates = np.diff(near), self.counts()
        offsets = offsets_of(candidates)
        for rank in range(int(vertices.max(initial=0))):  # the first vertex of each jet that has one, the second, ...
            jets = np.flatnonzero(vertices > rank)
            rows, _ = rows_of_lists(offsets, jets)
            candidate, vertex, counts = self.candidate.take(rows), near[jets] + rank, candidates[jets]
            eta = every_eta.take(candidate) - np.repeat(sv_eta[vertex], counts)
            phi = delta_phi(every_phi.take(candidate), np.repeat(sv_phi[vertex], counts))
            nearest[rows] = np.minimum(nearest.take(rows), np.sqrt(eta * eta + phi * phi))
        return nearest


@dataclass(frozen=True)
class Linked:
    """Candidates above threshold of chosen jets.

    Parameters
    ----------
    blocks : tuple of Block
        In the order of the jets; together all of them.
    """

    blocks: tuple[Block, ...]

    def count(self, charged: bool) -> NDArray[np.int64]:
        """Return the number of charged or neutral candidates of each jet, before any truncation."""
        counts = [block.counts("charged" if charged else "neutral") for block in self.blocks]
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
    source.column("JetPFCands_pFCandsIdx")
    followed = [_follow(source, candidate_pt, events) for events in blocks(to_jet.offsets, BLOCK)]
    return Linked(tuple(followed))


def _follow(source: Source, candidate_pt: float, events: tuple[int, int]) -> Block:
    """Return the links of some events, in the order of the jets."""
    chunk, jets = source.chunk, source.jets
    link, jet, event = jets.linked(chunk, "JetPFCands_jetIdx", events)
    pt: Jagged = chunk["PFCands_pt"]
    index = integers(chunk, "JetPFCands_pFCandsIdx", chunk["JetPFCands_pFCandsIdx"]).take(link)
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
