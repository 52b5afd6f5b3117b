"""Charged and neutral candidates of jets: order, features.

What the file holds in single precision is worked on in single precision, by formulas in which nothing cancels:
features agree with double precision to 1e-6 of their scale (the momentum, for its components). Impact parameters and
distances that a file lacks (`JetPFCands_btag*`) are made in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano import tracks
from pfnano_tag.nano.bounds import four_vector
from pfnano_tag.nano.columns import Index, offsets_of, rank_in_list
from pfnano_tag.nano.jets import VECTOR
from pfnano_tag.nano.layouts import Status
from pfnano_tag.nano.links import NEAREST_VERTEX, Block, Linked
from pfnano_tag.nano.ordering import order_in_lists
from pfnano_tag.nano.schema import Feature

Array = NDArray[np.floating]


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
    candidate : ndarray of int64 [n], or None
        Row in the chunk's candidates, where asked for.
    """

    features: list[tuple[Feature, Array]]
    vector: dict[str, NDArray[np.float32]]
    offsets: Index
    absent: dict[str, NDArray[np.bool_]]
    candidate: Index | None = None


def read(
    links: Linked,
    group: str,
    features: Sequence[Feature],
    status: Mapping[str, Status],
    cap: int,
    with_candidate: bool = False,
) -> Content:
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
    with_candidate : bool
        Whether to say which candidates they are.
    """
    offsets = offsets_of(np.minimum(links.count(group), cap))
    size = int(offsets[-1])
    values = [(f, np.empty(size, dtype=np.float32)) for f in features]
    vector = {name: np.empty(size, dtype=np.float32) for name in VECTOR}
    absent = {name: np.empty(size, dtype=np.bool_) for name in ("vertex", "track")}
    candidate = np.empty(size, dtype=np.int64) if with_candidate else None
    makers = _CHARGED if group == "charged" else _NEUTRAL
    for block in links.blocks:
        found = in_order(block, group, cap)
        part = slice(int(offsets[block.first]), int(offsets[block.last]))
        for feature, column in values:
            column[part] = _values(feature, found, makers, status[feature.id])
        for name, component in found.vector().items():
            vector[name][part] = component
        if candidate is not None:
            candidate[part] = found.candidate
        absent["vertex"][part] = found.nearest_vertex >= NEAREST_VERTEX
        absent["track"][part] = ~found.has_track if group == "charged" else True
    return Content([*values], vector, offsets, absent, candidate)


def in_order(block: Block, group: str, cap: int) -> Candidates:
    """Return the candidates of one group, at most so many of each jet, in order.

    Charged: by falling significance (0 without a track), then nearness to a vertex, then pT. Neutral: by nearness,
    then pT. Equal in all: as in the file.

    Parameters
    ----------
    block : Block
        Candidates of some jets.
    group : str
        `charged` or `neutral`.
    cap : int
        Constituents kept per jet.
    """
    found = Candidates(block, block.rows[group])

    def exact(rows: Index) -> list[Array]:
        tied = found.take(rows)
        keys: list[Array] = [tied.nearest_vertex, -tied.pt_fraction]
        if group == "charged":
            significance = tied.sip2d.astype(np.float64) / tied.d0_error
            keys.insert(0, -np.where(tied.has_track, significance, 0.0))
        return keys

    coarse = _falling_significance(found) if group == "charged" else _rising_nearness(found)
    order = order_in_lists(found.jet - block.first, block.last - block.first, coarse, exact)
    if block.counts[group].max(initial=0) > cap:
        order = order[rank_in_list(offsets_of(block.counts[group])) < cap]
    return found.take(order)


def _falling_significance(found: Candidates) -> Array:
    key = -found.sip2d_significance
    if not found.has_track.all():
        key[~found.has_track] = 0.0
    return key


def _rising_nearness(found: Candidates) -> Array:
    """Distance below 0.4; for all others, which have that in common, more than 1 and rising with falling pT."""
    fraction, nearest = found.pt_fraction, found.nearest_vertex
    near = np.flatnonzero(nearest < NEAREST_VERTEX)
    key = 1 + 1 / np.maximum(fraction, 0)
    key[near] = nearest.take(near)
    sound = np.isfinite(fraction + nearest)
    if not sound.all():
        key[~sound] = np.inf
    return key


class Candidates:
    """Columns of candidates as they are needed; each is made once.

    Parameters
    ----------
    block : Block
        Where they are from.
    rows : ndarray of int64 [n]
        Which of its candidates.
    """

    def __init__(self, block: Block, rows: Index) -> None:
        self.block, self.source, self.rows = block, block.source, rows
        self.jet, self.candidate = block.jet.take(rows), block.candidate.take(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Index) -> Candidates:
        """Return chosen candidates, with the columns that made their order."""
        taken = Candidates(self.block, self.rows.take(rows))
        for name in _CARRIED & vars(self).keys():
            setattr(taken, name, getattr(self, name).take(rows))
        return taken

    def branch(self, name: str) -> NDArray[np.floating]:
        """Return a branch of the candidates or of the links, one value per candidate."""
        rows = self.block.link.take(self.rows) if name.startswith("JetPFCands_") else self.candidate
        return self.source.column(name).take(rows)

    def branch64(self, name: str) -> Array:
        """Return a branch in double precision."""
        return self.branch(name).astype(np.float64)

    @cached_property
    def pt(self) -> Array:
        """Transverse momentum [GeV]."""
        return self.branch("PFCands_pt")

    @cached_property
    def eta(self) -> Array:
        """Pseudorapidity."""
        return self.block.eta.take(self.rows)

    @cached_property
    def phi(self) -> Array:
        """Azimuth."""
        return self.block.phi.take(self.rows)

    @cached_property
    def d0(self) -> Array:
        """Transverse distance to the primary vertex [cm]."""
        return self.branch("PFCands_d0")

    @cached_property
    def d0_error(self) -> Array:
        """Uncertainty of d0 [cm]; -1 without a track."""
        return self.branch("PFCands_d0Err")

    @cached_property
    def has_track(self) -> NDArray[np.bool_]:
        """Whether there are track details: d0Err > 0, never d0 != -1, which is a legal value."""
        if "PFCands_d0Err" not in self.source.chunk.branches:
            return np.zeros(len(self), dtype=np.bool_)
        return self.d0_error > 0

    @cached_property
    def delta_eta(self) -> Array:
        """Pseudorapidity relative to the jet."""
        return self.block.delta_eta.take(self.rows)

    @cached_property
    def delta_phi(self) -> Array:
        """Azimuth relative to the jet."""
        return self.block.delta_phi.take(self.rows)

    @cached_property
    def delta_r(self) -> Array:
        """Distance to the jet."""
        return self.block.delta_r.take(self.rows)

    @cached_property
    def nearest_vertex(self) -> Array:
        """Distance to the nearest secondary vertex of the event, at most 0.4."""
        return self.block.nearest_vertex.take(self.rows)

    @cached_property
    def pt_fraction(self) -> Array:
        """Transverse momentum over the uncorrected jet's: tag infos are made before energy corrections."""
        return self.pt / self.source.jet_raw_pt.take(self.jet)

    @cached_property
    def cosh(self) -> Array:
        """cosh(eta) = p/pT."""
        return tracks.cosh(self.eta)

    @cached_property
    def size(self) -> Array:
        """Momentum [GeV]."""
        return self.pt * self.cosh

    @cached_property
    def opening(self) -> Array:
        """1 - cos(angle to the jet)."""
        return tracks.opening(self.delta_eta, self.delta_phi, self.cosh, self.source.jet_cosh.take(self.jet))

    @cached_property
    def sip2d(self) -> Array:
        """Signed transverse impact parameter [cm]."""
        return tracks.signed_ip2d(self.d0, self.delta_phi)

    @cached_property
    def line(self) -> tuple[Array, Array, Array, Array]:
        """d0, dz [cm], eta and phi of the track in double precision."""
        return (
            self.branch64("PFCands_d0"),
            self.branch64("PFCands_dz"),
            self.eta.astype(float),
            self.phi.astype(float),
        )

    @cached_property
    def sip3d(self) -> Array:
        """Signed three-dimensional impact parameter [cm]."""
        return tracks.signed_ip3d(*self.line, self.jet_axis)

    @cached_property
    def jet_axis(self) -> Array:
        """Unit vector of the jet, shape [3, n]."""
        return self.source.jet_axis[:, self.jet]

    @cached_property
    def sip2d_significance(self) -> Array:
        """Signed transverse impact parameter over its uncertainty; without meaning where there is no track."""
        return self.sip2d / self.d0_error

    def vector(self) -> dict[str, NDArray[np.float32]]:
        """Return the four-vector [GeV]; E = sqrt(p^2 + m^2)."""
        px, py = self.pt * np.cos(self.phi), self.pt * np.sin(self.phi)
        pz = self.pt * tracks.sinh(self.eta, self.cosh)
        return four_vector(px, py, pz, np.sqrt(self.size**2 + self.branch("PFCands_mass") ** 2))


_CARRIED = frozenset({"d0", "d0_error", "has_track", "delta_phi", "pt_fraction", "sip2d", "sip2d_significance", "pt"})
"""Columns that make the order, and are taken along."""

Maker = Callable[[Candidates], Array]


def _values(feature: Feature, found: Candidates, makers: Mapping[str, Maker], status: Status) -> Array:
    """Return a feature as read (btag* branches hold zeros without a track: derived there), or derived."""
    if status == "missing":
        return np.full(len(found), feature.default)
    if status == "derived":
        return makers[feature.name](found)
    values = found.branch(feature.read[-1])
    if feature.name in ("trackEtaRel", "trackPParRatio"):
        without = np.flatnonzero(~found.has_track)
        if len(without):
            values[without] = makers[feature.name](found.take(without))
    return values


def _sip3d_significance(c: Candidates) -> Array:
    d0, dz, eta, _ = c.line
    return c.sip3d / tracks.ip3d_error(d0, c.branch64("PFCands_d0Err"), dz, c.branch64("PFCands_dzErr"), eta)


_COMMON: dict[str, Maker] = {
    "ptrel": lambda c: c.pt_fraction - 1,
    "drminsv": lambda c: c.nearest_vertex - NEAREST_VERTEX,
}
_CHARGED: dict[str, Maker] = {
    **_COMMON,
    "trackEtaRel": lambda c: tracks.relative_rapidity(
        tracks.parallel(c.size, c.opening), tracks.transverse(c.size, c.opening)
    ),
    "trackPtRel": lambda c: tracks.transverse(c.size, c.opening),
    "trackPPar": lambda c: tracks.parallel(c.size, c.opening),
    "trackDeltaR": lambda c: c.delta_r,
    "trackPParRatio": lambda c: 1 - c.opening,
    "trackSip2dVal": lambda c: c.sip2d,
    "trackSip2dSig": lambda c: c.sip2d_significance,
    "trackSip3dVal": lambda c: c.sip3d,
    "trackSip3dSig": _sip3d_significance,
    "trackJetDistVal": lambda c: tracks.jet_distance(*c.line, c.jet_axis),
}
_NEUTRAL: dict[str, Maker] = {
    **_COMMON,
    "etarel": lambda c: np.abs(c.delta_eta) - 0.5,
    "phirel": lambda c: np.abs(c.delta_phi) - 0.5,
    "deltaR": lambda c: c.delta_r - 0.6,
    "isGamma": lambda c: np.abs(c.branch("PFCands_pdgId")) == 22,
}
