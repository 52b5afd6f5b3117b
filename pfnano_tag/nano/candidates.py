"""Charged and neutral candidates of jets: links, order, features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano import tracks
from pfnano_tag.nano.bounds import four_vector
from pfnano_tag.nano.columns import Index, Jagged, delta_phi, least_per_list, offsets_of, pairs_within, rank_in_list
from pfnano_tag.nano.layouts import Status
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.schema import Feature
from pfnano_tag.nano.selection import SelectedJets

Array = NDArray[np.floating]

NEAREST_VERTEX = 0.4
"""Largest distance to a secondary vertex that counts (`mindrsvpfcand` of cms-sw/cmssw)."""


@dataclass(frozen=True)
class Content:
    """Constituents of one group, before bounds.

    Parameters
    ----------
    features : list of (Feature, ndarray [n])
        Values with offsets applied.
    vector : dict of ndarray of float32 [n]
        Four-vector [GeV].
    offsets : ndarray of int64 [jets + 1]
    absent : dict of ndarray of bool [n]
        By what a feature `needs`: where that is not there.
    """

    features: list[tuple[Feature, Array]]
    vector: dict[str, NDArray[np.float32]]
    offsets: Index
    absent: dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Linked:
    """Links of candidates above threshold to chosen jets.

    Parameters
    ----------
    chunk, jets
        Where from, where to.
    link, candidate, jet : ndarray of int64 [n]
        Row of the link, of the candidate, of the chosen jet.
    event : ndarray of int64 [n]
        Event of the chunk.
    charged : ndarray of bool [n]
    """

    chunk: Chunk
    jets: SelectedJets
    link: Index
    candidate: Index
    jet: Index
    event: Index
    charged: NDArray[np.bool_]

    def count(self, charged: bool) -> NDArray[np.int64]:
        """Return the number of charged or neutral candidates of each jet, before any truncation."""
        return np.bincount(self.jet[self.charged == charged], minlength=len(self.jets))


def linked(chunk: Chunk, jets: SelectedJets, candidate_pt: float) -> Linked:
    """Follow the links from jets to candidates of at least a transverse momentum [GeV].

    Raises
    ------
    BadChunk
        When an index points outside its event.
    """
    link, jet, event = jets.linked(chunk, "JetPFCands_jetIdx")
    pt: Jagged = chunk["PFCands_pt"]
    to_candidate: Jagged = chunk["JetPFCands_pFCandsIdx"]
    if not np.array_equal(to_candidate.offsets, chunk["JetPFCands_jetIdx"].offsets):
        raise chunk.bad("JetPFCands_pFCandsIdx and JetPFCands_jetIdx have different lengths")
    index = to_candidate.values[link].astype(np.int64)
    outside = (index < 0) | (index >= pt.counts[event])
    if outside.any():
        where = int(np.flatnonzero(outside)[0])
        raise chunk.bad(
            f"JetPFCands_pFCandsIdx is {index[where]} in entry {chunk.start + event[where]}, "
            f"which has {pt.counts[event[where]]} candidates ({int(outside.sum())} such links)"
        )
    candidate = pt.offsets[event] + index
    hard = ~(pt.values[candidate] < candidate_pt)  # NaN stays: its features become placeholders, and are counted
    candidate = candidate[hard]
    charged = chunk["PFCands_charge"].values[candidate] != 0
    return Linked(chunk, jets, link[hard], candidate, jet[hard], event[hard], charged)


def read(links: Linked, group: str, features: Sequence[Feature], status: Mapping[str, Status], cap: int) -> Content:
    """Return one group's constituents in order, truncated, with their features.

    Parameters
    ----------
    links : Linked
        Of all candidates.
    group : str
        `charged` or `neutral`.
    features : sequence of Feature
        Of that group.
    status : mapping
        How each can be had.
    cap : int
        Constituents kept per jet.
    """
    rows = np.flatnonzero(links.charged == (group == "charged"))
    found = Candidates(links, rows)
    kept, offsets = found.ordered(group == "charged", cap)
    found = Candidates(links, rows[kept], found.nearest_vertex[kept])
    makers = _CHARGED if group == "charged" else _NEUTRAL
    values = [(f, _values(f, found, makers, status[f.id])) for f in features]
    absent = {"vertex": found.nearest_vertex >= NEAREST_VERTEX}
    if group == "charged":
        absent["track"] = ~found.has_track
    return Content(values, found.vector(), offsets, absent)


class Candidates:
    """Columns of candidates as they are needed; each is made once.

    Parameters
    ----------
    links : Linked
        All links.
    rows : ndarray of int64 [n]
        Which of them.
    nearest_vertex : ndarray [n], optional
        Distance to the nearest vertex where it is known already.
    """

    def __init__(self, links: Linked, rows: Index, nearest_vertex: Array | None = None) -> None:
        self.links, self.jet, self.event = links, links.jet[rows], links.event[rows]
        self._link, self._candidate = links.link[rows], links.candidate[rows]
        if nearest_vertex is not None:
            self.nearest_vertex = nearest_vertex

    def __len__(self) -> int:
        return len(self.jet)

    def branch(self, name: str) -> NDArray[np.floating]:
        """Return a branch of the candidates or of the links, one value per candidate."""
        rows = self._link if name.startswith("JetPFCands_") else self._candidate
        return self.links.chunk[name].values[rows]

    def branch64(self, name: str) -> Array:
        """Return a branch in double precision."""
        return self.branch(name).astype(np.float64)

    @cached_property
    def pt(self) -> Array:
        """Transverse momentum [GeV]."""
        return self.branch64("PFCands_pt")

    @cached_property
    def eta(self) -> Array:
        """Pseudorapidity."""
        return self.branch64("PFCands_eta")

    @cached_property
    def phi(self) -> Array:
        """Azimuth."""
        return self.branch64("PFCands_phi")

    @cached_property
    def d0(self) -> Array:
        """Transverse distance to the primary vertex [cm]."""
        return self.branch64("PFCands_d0")

    @cached_property
    def dz(self) -> Array:
        """Longitudinal distance to the primary vertex [cm]."""
        return self.branch64("PFCands_dz")

    @cached_property
    def d0_error(self) -> Array:
        """Uncertainty of d0 [cm]; -1 without a track."""
        return self.branch64("PFCands_d0Err")

    @cached_property
    def has_track(self) -> NDArray[np.bool_]:
        """Whether there are track details: d0Err > 0, never d0 != -1, which is a legal value."""
        if "PFCands_d0Err" not in self.links.chunk.branches:
            return np.zeros(len(self), dtype=np.bool_)
        return self.d0_error > 0

    @cached_property
    def jet_axis(self) -> Array:
        """Unit vector of the jet, shape [3, n]."""
        jets = self.links.jets
        return tracks.direction(jets.eta, jets.phi)[:, self.jet]

    @cached_property
    def jet_phi(self) -> Array:
        """Azimuth of the jet."""
        return self.links.jets.phi[self.jet]

    @cached_property
    def momentum(self) -> Array:
        """Momentum [GeV], shape [3, n]."""
        return tracks.momentum(self.pt, self.eta, self.phi)

    @cached_property
    def ppar(self) -> Array:
        """Momentum along the jet [GeV]."""
        return tracks.parallel(self.momentum, self.jet_axis)

    @cached_property
    def ptrel(self) -> Array:
        """Momentum across the jet [GeV]."""
        return tracks.transverse(self.momentum, self.jet_axis)

    @cached_property
    def delta_eta(self) -> Array:
        """Pseudorapidity relative to the jet."""
        return self.eta - self.links.jets.eta[self.jet]

    @cached_property
    def delta_phi(self) -> Array:
        """Azimuth relative to the jet."""
        return delta_phi(self.phi, self.jet_phi)

    @cached_property
    def delta_r(self) -> Array:
        """Distance to the jet."""
        return np.hypot(self.delta_eta, self.delta_phi)

    @cached_property
    def pt_fraction(self) -> Array:
        """Transverse momentum over the uncorrected jet's: tag infos are made before energy corrections."""
        jets = self.links.jets
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.pt / (jets.pt * jets.raw)[self.jet]

    @cached_property
    def sip2d(self) -> Array:
        """Signed transverse impact parameter [cm]."""
        return tracks.signed_ip2d(self.d0, self.phi, self.jet_phi)

    @cached_property
    def nearest_vertex(self) -> Array:
        """Distance to the nearest secondary vertex of the event, at most 0.4."""
        eta: Jagged = self.links.chunk["SV_eta"]
        phi: Jagged = self.links.chunk["SV_phi"]
        per_event = offsets_of(np.bincount(self.event, minlength=len(eta)))
        order = np.argsort(self.event, kind="stable")
        left, right, offsets = pairs_within(per_event, eta.offsets)
        one = order[left]
        distance = np.hypot(self.eta[one] - eta.values[right], delta_phi(self.phi[one], phi.values[right]))
        nearest = np.empty(len(self))
        nearest[order] = np.minimum(least_per_list(distance, offsets, NEAREST_VERTEX), NEAREST_VERTEX)
        return nearest

    def ordered(self, charged: bool, cap: int) -> tuple[Index, Index]:
        """Return which candidates are kept, in order, and their offsets per jet."""
        keys = [-self.pt_fraction, self.nearest_vertex]
        if charged:
            with np.errstate(divide="ignore", invalid="ignore"):
                significance = np.where(self.has_track, self.sip2d / self.d0_error, 0.0)
            keys.append(-significance)
        order = np.lexsort([*(np.where(np.isfinite(key), key, np.inf) for key in keys), self.jet])
        all_offsets = offsets_of(np.bincount(self.jet, minlength=len(self.links.jets)))
        kept = order[rank_in_list(all_offsets) < cap]
        return kept, offsets_of(np.minimum(np.diff(all_offsets), cap))

    def vector(self) -> dict[str, NDArray[np.float32]]:
        """Return the four-vector [GeV]; E = sqrt(p^2 + m^2)."""
        mass = self.branch64("PFCands_mass")
        px, py, pz = self.momentum
        energy = np.sqrt(px**2 + py**2 + pz**2 + mass**2)
        return four_vector(px, py, pz, energy)


Maker = Callable[[Candidates], Array]


def _values(feature: Feature, found: Candidates, makers: Mapping[str, Maker], status: Status) -> Array:
    """Return a feature as read (btag* branches hold zeros without a track: derived there), or derived."""
    if status == "missing":
        return np.full(len(found), feature.default)
    branch = feature.read[-1] if feature.read else ""
    if status == "read" and branch.startswith("PFCands_"):
        return found.branch(branch)
    if status == "derived" or feature.name not in ("trackEtaRel", "trackPParRatio"):
        return makers[feature.name](found) if status == "derived" else found.branch(branch)
    return np.where(found.has_track, found.branch(branch), makers[feature.name](found))


def _sip2d_significance(c: Candidates) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return c.sip2d / c.d0_error


def _sip3d(c: Candidates) -> Array:
    return tracks.signed_ip3d(c.d0, c.dz, c.eta, c.phi, c.jet_axis)


def _sip3d_significance(c: Candidates) -> Array:
    error = tracks.ip3d_error(c.d0, c.d0_error, c.dz, c.branch64("PFCands_dzErr"), c.eta)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _sip3d(c) / error


_COMMON: dict[str, Maker] = {
    "ptrel": lambda c: c.pt_fraction - 1,
    "drminsv": lambda c: c.nearest_vertex - NEAREST_VERTEX,
}
_CHARGED: dict[str, Maker] = {
    **_COMMON,
    "trackEtaRel": lambda c: tracks.relative_rapidity(c.ppar, c.ptrel),
    "trackPtRel": lambda c: c.ptrel,
    "trackPPar": lambda c: c.ppar,
    "trackDeltaR": lambda c: c.delta_r,
    "trackPParRatio": lambda c: c.ppar / (c.pt * np.cosh(c.eta)),
    "trackSip2dVal": lambda c: c.sip2d,
    "trackSip2dSig": _sip2d_significance,
    "trackSip3dVal": _sip3d,
    "trackSip3dSig": _sip3d_significance,
    "trackJetDistVal": lambda c: tracks.jet_distance(c.d0, c.dz, c.eta, c.phi, c.jet_axis),
}
_NEUTRAL: dict[str, Maker] = {
    **_COMMON,
    "etarel": lambda c: np.abs(c.delta_eta) - 0.5,
    "phirel": lambda c: np.abs(c.delta_phi) - 0.5,
    "deltaR": lambda c: c.delta_r - 0.6,
    "isGamma": lambda c: (np.abs(c.branch("PFCands_pdgId")) == 22).astype(np.float64),
}
