"""Link collections: jets with candidates, jets with secondary vertices, and the tagging variables of jets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pfnano_tag.generate import deepcsv
from pfnano_tag.generate.clustering import RADIUS
from pfnano_tag.generate.jets import Jets
from pfnano_tag.generate.probability import MAX_DELTA_R, jet_probability
from pfnano_tag.generate.ragged import Array, Table, delta_r, pairs, table_of
from pfnano_tag.generate.tracks import impact_variables, momentum_variables
from pfnano_tag.nano.columns import grouped, offsets_of, rank_in_list, rows_of_lists, wrapped

#: share of links whose btagSip3dSig is not a number, as in the real file
NAN_SHARE = 0.001
#: a vertex is in the SV collection above this flight significance
SV_SIGNIFICANCE = 3.0


def track_variables(
    candidates: Table, jets: Table, rows: Array, jet: Array, sigma: tuple[Array, Array]
) -> dict[str, Array]:
    """All track variables of candidate rows against their jets (rows must have tracks)."""
    c = {k: candidates[k][rows] for k in ("pt", "eta", "phi", "d0", "dz", "d0Err", "dzErr", "trkChi2")}
    jet_eta, jet_phi, event = jets["eta"][jet], jets["phi"][jet], jets.event[jet]
    momentum = momentum_variables(c["pt"], c["eta"], c["phi"], jet_eta, jet_phi)
    impact = impact_variables(
        c["d0"],
        c["dz"],
        c["d0Err"],
        c["dzErr"],
        c["eta"],
        c["phi"],
        jet_eta,
        jet_phi,
        sigma[0][event],
        sigma[1][event],
    )
    return c | momentum | impact


def stored_candidates(candidates: Table, jets: Sequence[Jets], all_candidates: bool) -> tuple[Table, Array]:
    """PFCands (those in any of the jets, or all), and each candidate's local index there (-1: not stored)."""
    keep = np.full(len(candidates), all_candidates)
    for collection in jets:
        keep[collection.link_candidate] = True
    kept = candidates.select(keep)
    return kept, np.where(keep, np.cumsum(keep) - 1 - kept.offsets[:-1][candidates.event], -1)


def candidate_links(
    candidates: Table, jets: Jets, index: Array, sigma: tuple[Array, Array], rng: np.random.Generator
) -> Table:
    """JetPFCands of a jet collection, sorted by jet, then by index.

    Parameters
    ----------
    index : Array
        Local index in PFCands of each candidate.
    """
    table = jets.table
    event = table.event[jets.link_jet]
    columns: dict[str, Array] = {
        "pt": candidates["pt"][jets.link_candidate],
        "jetIdx": jets.link_jet - table.offsets[:-1][event],
        "pFCandsIdx": index[jets.link_candidate],
    }
    has_track = candidates["track"][jets.link_candidate]
    values = track_variables(candidates, table, jets.link_candidate[has_track], jets.link_jet[has_track], sigma)
    for name in ("EtaRel", "PtRatio", "PParRatio", "Sip3dVal", "Sip3dSig", "JetDistVal"):
        column = np.zeros(len(has_track))
        column[has_track] = values[name]
        columns[f"btag{name}"] = column
    broken = has_track & (rng.random(len(has_track)) < NAN_SHARE)
    columns["btagSip3dSig"][broken] = np.nan
    return table_of(event, table.num_events, **columns)


def selected_vertices(found: Table, position: Array) -> tuple[Table, Array]:
    """SV (vertices with dlenSig > 3), and each vertex's local index there (-1: not in it).

    Parameters
    ----------
    position : Array
        Reconstructed primary vertex [E, 3], cm.
    """
    selected = found["dlenSig"] > SV_SIGNIFICANCE
    sv = found.select(selected)
    local = np.where(selected, np.cumsum(selected) - 1, -1)
    local = np.where(selected, local - sv.offsets[:-1][found.event], -1)
    shift = position[sv.event]
    # SV_chi2 is per degree of freedom, other than JetSVs_chi2
    sv = sv.with_columns(
        chi2=sv["chi2"] / sv["ndof"], x=sv["x"] + shift[:, 0], y=sv["y"] + shift[:, 1], z=sv["z"] + shift[:, 2]
    )
    return sv, local


def jet_vertices(jets: Table, found: Table, index: Array, radius: float = RADIUS) -> Table:
    """JetSVs of a jet collection: all vertices within `radius`, by falling dxysig.

    Parameters
    ----------
    index : Array
        Local index in SV of each vertex.
    """
    jet, vertex, distance = vertex_links(jets, found, radius)
    v = {k: found[k][vertex] for k in found.columns}
    event = jets.event[jet]
    columns = {
        "mass": v["mass"],
        "pt": v["pt"],
        "ntracks": v["ntracks"],
        "chi2": v["chi2"],
        "normchi2": np.clip(v["chi2"] / v["ndof"], -1000.0, 1000.0),
        "dxy": v["dxy"],
        "dxysig": np.clip(v["dxySig"], -1.0, 800.0),
        "d3d": v["dlen"],
        "d3dsig": np.clip(v["dlenSig"], -1.0, 800.0),
        "costhetasvpv": -np.cos(v["pAngle"]),
        "phirel": wrapped(v["phi"] - jets["phi"][jet]),
        "ptrel": v["pt"] / jets["pt"][jet],
        "deltaR": np.clip(distance - 0.5, -2.0, 0.0),
        "enration": v["energy"] / jets["energy"][jet],
        "jetIdx": jet - jets.offsets[:-1][event],
        "sVIdx": index[vertex],
    }
    return table_of(event, jets.num_events, **columns)


def vertex_links(jets: Table, found: Table, radius: float = RADIUS) -> tuple[Array, Array, Array]:
    """(jet, vertex, distance) of all pairs within `radius`, sorted by jet and falling dxySig."""
    jet, vertex = pairs(jets, found)
    distance = delta_r(jets["eta"][jet], jets["phi"][jet], found["eta"][vertex], found["phi"][vertex])
    near = distance < radius
    jet, vertex, distance = jet[near], vertex[near], distance[near]
    order = np.lexsort((-found["dxySig"][vertex], jet))
    return jet[order], vertex[order], distance[order]


def tag_variables(
    candidates: Table,
    jets: Jets,
    sigma: tuple[Array, Array],
    found: Table,
    tracks: Table,
    member_track: Array,
    member_vertex: Array,
) -> dict[str, Array]:
    """`DeepCSV_*` and `Proba` of all jets.

    Parameters
    ----------
    found, tracks : Table
    member_track, member_vertex : Array
        Vertices, the tracks the finder used, and which track is in which vertex.
    """
    table = jets.table
    has_track = candidates["track"][jets.link_candidate]
    jet, rows = jets.link_jet[has_track], jets.link_candidate[has_track]
    columns = track_variables(candidates, table, rows, jet, sigma)
    selected = deepcsv.select_tracks(jet, columns)
    link_jet, vertex, distance = vertex_links(table, found)
    at = {k: found[k][vertex] for k in found.columns} | {"deltaR": distance}
    good = np.flatnonzero(deepcsv.good_vertex(at))
    first = good[rank_in_list(offsets_of(np.bincount(link_jet[good], minlength=len(table)))) == 0]
    member_jet, members = _members(found, tracks, member_track, member_vertex, link_jet[first], vertex[first])
    plain = {k: table[k] for k in ("eta", "phi", "raw_energy")}
    variables = deepcsv.deepcsv_variables(selected, plain, link_jet, at, member_jet, members)
    out = {f"DeepCSV_{k}": v for k, v in variables.items()}
    close = selected.columns["DeltaR"] < MAX_DELTA_R
    out["Proba"] = jet_probability(selected.columns["Sip3dSig"][close], selected.jet[close], len(table))
    return out


def _members(
    found: Table, tracks: Table, member_track: Array, member_vertex: Array, jet: Array, vertex: Array
) -> tuple[Array, dict[str, Array]]:
    """Tracks of the given (jet, vertex) pairs, with the vertex's flight direction."""
    order, offsets = grouped(member_vertex, len(found))
    rows, picked = rows_of_lists(offsets, vertex)
    track, of = member_track[order[rows]], np.repeat(vertex, np.diff(picked))
    flight = np.maximum(np.hypot(found["x"], found["y"]), 1e-9)
    axis = {"axis_eta": np.arcsinh(found["z"] / flight)[of], "axis_phi": np.arctan2(found["y"], found["x"])[of]}
    return np.repeat(jet, np.diff(picked)), {k: tracks[k][track] for k in ("pt", "eta", "phi")} | axis
