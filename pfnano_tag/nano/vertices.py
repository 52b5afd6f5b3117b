"""Secondary vertices of jets: links, order, features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.bounds import four_vector
from pfnano_tag.nano.candidates import Content
from pfnano_tag.nano.columns import Index, Jagged, delta_phi, offsets_of, rank_in_list
from pfnano_tag.nano.layouts import Status
from pfnano_tag.nano.ordering import order_in_lists
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.schema import Feature
from pfnano_tag.nano.selection import SelectedJets, aligned, integers

Array = NDArray[np.floating]

STORED_SHIFT = 0.5
"""PFNano stores `JetSVs_deltaR` as dR - 0.5."""


def count(chunk: Chunk, jets: SelectedJets) -> NDArray[np.int64]:
    """Return the number of secondary vertices of each jet, before any truncation."""
    _, jet, _ = jets.linked(chunk, "JetSVs_jetIdx")
    return np.bincount(jet, minlength=len(jets))


def read(
    chunk: Chunk, jets: SelectedJets, features: Sequence[Feature], status: Mapping[str, Status], cap: int
) -> Content:
    """Return the vertices of jets by falling 2D flight significance, truncated, with their features.

    Parameters
    ----------
    chunk : Chunk
        Events.
    jets : SelectedJets
        Which jets.
    features : sequence of Feature
        Of group `sv`.
    status : mapping
        How each can be had.
    cap : int
        Vertices kept per jet.

    Raises
    ------
    BadChunk
        When an index points outside its event.
    """
    link, jet, event = jets.linked(chunk, "JetSVs_jetIdx")
    if not (jet[1:] >= jet[:-1]).all():
        rows = np.argsort(jet, kind="stable")
        link, jet, event = link[rows], jet[rows], event[rows]
    columns = _Columns(chunk, link)
    key = -columns["dxysig"].astype(np.float64)
    order = order_in_lists(jet, len(jets), key, lambda rows: [key[rows]])
    all_offsets = offsets_of(np.bincount(jet, minlength=len(jets)))
    kept = order[rank_in_list(all_offsets) < cap]
    columns, jet, event = _Columns(chunk, link[kept]), jet[kept], event[kept]
    eta_rel, phi_rel = _relative_direction(columns, jets, jet, event)
    derived = {"etarel": np.abs(eta_rel) - 0.5, "phirel": np.abs(phi_rel) - 0.5}
    values = [(f, _values(f, columns, jets, jet, derived, status[f.id])) for f in features]
    offsets = offsets_of(np.minimum(np.diff(all_offsets), cap))
    return Content(values, _vector(columns, jets, jet, eta_rel, phi_rel), offsets, {})


class _Columns:
    """Branches of JetSVs for chosen links, checked to be as long as their collection."""

    def __init__(self, chunk: Chunk, link: Index) -> None:
        self.chunk, self.link = chunk, link

    def __len__(self) -> int:
        return len(self.link)

    def __getitem__(self, name: str) -> Array:
        return aligned(self.chunk, f"JetSVs_{name}", self.chunk["JetSVs_jetIdx"])[self.link]

    def double(self, name: str, rows: Index | None = None) -> Array:
        """Return a branch in double precision, of some of the links."""
        return (self[name] if rows is None else self[name][rows]).astype(np.float64)


def _values(
    feature: Feature,
    columns: _Columns,
    jets: SelectedJets,
    jet: Index,
    derived: Mapping[str, Array],
    status: Status,
) -> Array:
    if status == "missing":
        return np.full(len(columns), feature.default)
    if feature.name in derived:
        return derived[feature.name]
    values = columns[feature.read[-1].removeprefix("JetSVs_")]
    if feature.name == "enratio":
        # PFNano divides by the corrected jet's energy, DeepJet by the uncorrected one's.
        with np.errstate(divide="ignore", invalid="ignore"):
            return values / jets.raw[jet]
    return values


def _relative_direction(columns: _Columns, jets: SelectedJets, jet: Index, event: Index) -> tuple[Array, Array]:
    """Return signed eta(SV) - eta(jet) and phi(SV) - phi(jet).

    From SV_eta and SV_phi where the vertex is in NanoAOD's table (sVIdx >= 0). Elsewhere
    abs(deta) = sqrt(dR^2 - dphi^2), and its sign is the one that fits the vertex's energy better (right in 97 % of
    the vertices of a 2017 file that have both).
    """
    chunk = columns.chunk
    index = integers(chunk, "JetSVs_sVIdx", chunk["JetSVs_jetIdx"], columns.link)
    sv_eta: Jagged = chunk["SV_eta"]
    outside = (index >= sv_eta.counts[event]) | (index < -1)
    if outside.any():
        where = int(np.flatnonzero(outside)[0])
        raise chunk.bad(
            f"JetSVs_sVIdx is {index[where]} in entry {chunk.start + event[where]}, "
            f"which has {sv_eta.counts[event[where]]} secondary vertices"
        )
    eta_rel, phi_rel = np.empty(len(index)), np.empty(len(index))
    known, unknown = np.flatnonzero(index >= 0), np.flatnonzero(index < 0)
    row = (sv_eta.offsets[event] + index)[known]
    eta_rel[known] = sv_eta.values[row] - jets.eta[jet[known]]
    sv_phi = aligned(chunk, "SV_phi", sv_eta)[row].astype(np.float64)
    phi_rel[known] = delta_phi(sv_phi, jets.phi[jet[known]])
    eta_rel[unknown], phi_rel[unknown] = _direction_from_energy(columns, unknown, jets, jet[unknown])
    return eta_rel, phi_rel


def _direction_from_energy(columns: _Columns, rows: Index, jets: SelectedJets, jet: Index) -> tuple[Array, Array]:
    phi_rel, distance = columns.double("phirel", rows), columns.double("deltaR", rows) + STORED_SHIFT
    size = np.sqrt(np.clip(distance**2 - phi_rel**2, 0, None))
    eta = jets.eta[jet]
    jet_energy = np.sqrt((jets.pt[jet] * np.cosh(eta)) ** 2 + jets.mass[jet] ** 2)
    energy = columns.double("enration", rows) * jet_energy
    momentum = np.sqrt(np.clip(energy**2 - columns.double("mass", rows) ** 2, 0, None))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosh = momentum / columns.double("pt", rows)
    above, below = np.abs(np.cosh(eta + size) - cosh), np.abs(np.cosh(eta - size) - cosh)
    return np.where(below < above, -size, size), phi_rel


def _vector(
    columns: _Columns, jets: SelectedJets, jet: Index, eta_rel: Array, phi_rel: Array
) -> dict[str, NDArray[np.float32]]:
    pt, mass = columns.double("pt"), columns.double("mass")
    eta, phi = jets.eta[jet] + eta_rel, jets.phi[jet] + phi_rel
    pz = pt * np.sinh(eta)
    return four_vector(pt * np.cos(phi), pt * np.sin(phi), pz, np.sqrt(pt**2 + pz**2 + mass**2))
