"""Secondary vertices of jets: links, order, features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.bounds import four_vector
from pfnano_tag.nano.candidates import Content
from pfnano_tag.nano.columns import Index, Jagged, delta_phi, offsets_of, rank_in_list
from pfnano_tag.nano.layouts import Status
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.schema import Feature
from pfnano_tag.nano.selection import SelectedJets

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
    key = -chunk["JetSVs_dxysig"].values[link].astype(np.float64)
    order = np.lexsort([np.where(np.isfinite(key), key, np.inf), jet])
    all_offsets = offsets_of(np.bincount(jet, minlength=len(jets)))
    kept = order[rank_in_list(all_offsets) < cap]
    link, jet, event = link[kept], jet[kept], event[kept]
    eta_rel, phi_rel = _relative_direction(chunk, jets, link, jet, event)
    derived = {"etarel": np.abs(eta_rel) - 0.5, "phirel": np.abs(phi_rel) - 0.5}
    values = [(f, _values(f, chunk, jets, link, jet, derived, status[f.id])) for f in features]
    offsets = offsets_of(np.minimum(np.diff(all_offsets), cap))
    vector = _vector(chunk, jets, link, jet, eta_rel, phi_rel)
    return Content(values, vector, offsets, {})


def _values(
    feature: Feature,
    chunk: Chunk,
    jets: SelectedJets,
    link: Index,
    jet: Index,
    derived: Mapping[str, Array],
    status: Status,
) -> Array:
    if status == "missing":
        return np.full(len(link), feature.default)
    if feature.name in derived:
        return derived[feature.name]
    values: Array = chunk[feature.read[-1]].values[link]
    if feature.name == "enratio":
        # PFNano divides by the corrected jet's energy, DeepJet by the uncorrected one's.
        with np.errstate(divide="ignore", invalid="ignore"):
            return values / jets.raw[jet]
    return values


def _relative_direction(
    chunk: Chunk, jets: SelectedJets, link: Index, jet: Index, event: Index
) -> tuple[Array, Array]:
    """Return signed eta(SV) - eta(jet) and phi(SV) - phi(jet).

    From SV_eta and SV_phi where the vertex is in NanoAOD's table (sVIdx >= 0). Elsewhere
    abs(deta) = sqrt(dR^2 - dphi^2), and its sign is the one that fits the vertex's energy better (right in 97 % of
    the vertices of a 2017 file that have both).
    """
    index = chunk["JetSVs_sVIdx"].values[link].astype(np.int64)
    sv_eta: Jagged = chunk["SV_eta"]
    if (index >= sv_eta.counts[event]).any() or (index < -1).any():
        where = int(np.flatnonzero((index >= sv_eta.counts[event]) | (index < -1))[0])
        raise chunk.bad(
            f"JetSVs_sVIdx is {index[where]} in entry {chunk.start + event[where]}, "
            f"which has {sv_eta.counts[event[where]]} secondary vertices"
        )
    eta_rel, phi_rel = _direction_from_energy(chunk, jets, link, jet)
    known = index >= 0
    row = (sv_eta.offsets[event] + index)[known]
    eta_rel[known] = sv_eta.values[row] - jets.eta[jet[known]]
    phi_rel[known] = delta_phi(chunk["SV_phi"].values[row].astype(np.float64), jets.phi[jet[known]])
    return eta_rel, phi_rel


def _direction_from_energy(chunk: Chunk, jets: SelectedJets, link: Index, jet: Index) -> tuple[Array, Array]:
    def column(name: str) -> Array:
        return chunk[f"JetSVs_{name}"].values[link].astype(np.float64)

    phi_rel, distance = column("phirel"), column("deltaR") + STORED_SHIFT
    size = np.sqrt(np.clip(distance**2 - phi_rel**2, 0, None))
    jet_energy = np.sqrt((jets.pt * np.cosh(jets.eta)) ** 2 + jets.mass**2)[jet]
    momentum = np.sqrt(np.clip((column("enration") * jet_energy) ** 2 - column("mass") ** 2, 0, None))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosh = momentum / column("pt")
    above = np.abs(np.cosh(jets.eta[jet] + size) - cosh)
    below = np.abs(np.cosh(jets.eta[jet] - size) - cosh)
    return np.where(below < above, -size, size), phi_rel


def _vector(
    chunk: Chunk, jets: SelectedJets, link: Index, jet: Index, eta_rel: Array, phi_rel: Array
) -> dict[str, NDArray[np.float32]]:
    pt = chunk["JetSVs_pt"].values[link].astype(np.float64)
    mass = chunk["JetSVs_mass"].values[link].astype(np.float64)
    eta, phi = jets.eta[jet] + eta_rel, jets.phi[jet] + phi_rel
    pz = pt * np.sinh(eta)
    return four_vector(pt * np.cos(phi), pt * np.sin(phi), pz, np.sqrt(pt**2 + pz**2 + mass**2))
