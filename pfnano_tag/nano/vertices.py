"""Secondary vertices of jets: links, order, features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.bounds import four_vector
from pfnano_tag.nano.candidates import Content
from pfnano_tag.nano.columns import Index, offsets_of, rank_in_list
from pfnano_tag.nano.layouts import Status
from pfnano_tag.nano.ordering import order_in_lists
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.schema import Feature
from pfnano_tag.nano.selection import SelectedJets
from pfnano_tag.nano.vertex_directions import VertexColumns, relative_direction

Array = NDArray[np.floating]


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
    columns = VertexColumns(chunk, link)
    key = -columns["dxysig"].astype(np.float64)
    order = order_in_lists(jet, len(jets), key, lambda rows: [key[rows]])
    all_offsets = offsets_of(np.bincount(jet, minlength=len(jets)))
    kept = order[rank_in_list(all_offsets) < cap]
    columns, jet, event = VertexColumns(chunk, link[kept]), jet[kept], event[kept]
    eta_rel, phi_rel = relative_direction(columns, jets, jet, event)
    derived = {"etarel": np.abs(eta_rel) - 0.5, "phirel": np.abs(phi_rel) - 0.5}
    values = [(f, _values(f, columns, jets, jet, derived, status[f.id])) for f in features]
    offsets = offsets_of(np.minimum(np.diff(all_offsets), cap))
    return Content(values, _vector(columns, jets, jet, eta_rel, phi_rel), offsets, {})


def _values(
    feature: Feature,
    columns: VertexColumns,
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


def _vector(
    columns: VertexColumns, jets: SelectedJets, jet: Index, eta_rel: Array, phi_rel: Array
) -> dict[str, NDArray[np.float32]]:
    pt, mass = columns.double("pt"), columns.double("mass")
    eta, phi = jets.eta[jet] + eta_rel, jets.phi[jet] + phi_rel
    pz = pt * np.sinh(eta)
    return four_vector(pt * np.cos(phi), pt * np.sin(phi), pz, np.sqrt(pt**2 + pz**2 + mass**2))
