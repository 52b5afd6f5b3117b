"""Directions of secondary vertices: all of the event, also those below the threshold of NanoAOD's table.

PFNano links to a jet every vertex within its radius, with `sVIdx` -1 where the vertex is not in the table `SV`
(flight significance of 3 or less). Such a vertex has no direction of its own in the file, but relative to its jet.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.columns import Index, Jagged, delta_phi, list_of_row, offsets_of
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.selection import SelectedJets, aligned, integers

Array = NDArray[np.floating]

STORED_SHIFT = 0.5
"""PFNano stores `JetSVs_deltaR` as dR - 0.5, bounded by 0 from above: AK8 jets have vertices farther away."""

BELOW_THRESHOLD = (
    "JetSVs_jetIdx",
    "JetSVs_sVIdx",
    "JetSVs_phirel",
    "JetSVs_deltaR",
    "JetSVs_enration",
    "JetSVs_mass",
    "JetSVs_pt",
)
"""What the directions of vertices below the threshold are made from; files without them know the table alone."""


def all_vertices(chunk: Chunk) -> tuple[Array, Array, Index]:
    """Return the directions of all vertices of each event that are known.

    Returns
    -------
    eta, phi : ndarray [vertices]
        Those of the table `SV` first, then those that jets are linked to and that are not in it.
    offsets : ndarray of int64 [events + 1]
    """
    table: Jagged = chunk["SV_eta"]
    eta, phi = table.values, aligned(chunk, "SV_phi", table)
    if not chunk.branches.issuperset(BELOW_THRESHOLD):
        return eta, phi, table.offsets
    jets = SelectedJets.of(chunk, np.ones(len(chunk["Jet_pt"].values), dtype=np.bool_))
    link, jet, event = jets.linked(chunk, "JetSVs_jetIdx")
    columns = VertexColumns(chunk, link)
    index = integers(chunk, "JetSVs_sVIdx", chunk["JetSVs_jetIdx"], link)
    below = np.flatnonzero((index < 0) & (columns["deltaR"] < 0))
    if len(below) == 0:
        return eta, phi, table.offsets
    eta_rel, phi_rel = _direction_from_energy(columns, below, jets, jet[below])
    more_eta = (jets.eta[jet[below]] + eta_rel).astype(eta.dtype)
    more_phi = delta_phi(jets.phi[jet[below]], -phi_rel).astype(phi.dtype)
    events = np.concatenate([list_of_row(table.offsets), event[below]])
    order = np.argsort(events, kind="stable")
    offsets = offsets_of(np.bincount(events, minlength=chunk.num_events))
    return np.concatenate([eta, more_eta])[order], np.concatenate([phi, more_phi])[order], offsets


class VertexColumns:
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


def relative_direction(columns: VertexColumns, jets: SelectedJets, jet: Index, event: Index) -> tuple[Array, Array]:
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


def _direction_from_energy(
    columns: VertexColumns, rows: Index, jets: SelectedJets, jet: Index
) -> tuple[Array, Array]:
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
