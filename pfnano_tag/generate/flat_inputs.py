"""The inputs of DeepJet, per jet: selected, sorted and bounded as CMSSW's converters do.

Definitions of cms-sw/cmssw, RecoBTag/FeatureTools: ChargedCandidateConverter, NeutralCandidateConverter,
SecondaryVertexConverter, deep_helpers (`catch_infs_and_bound`, `mindrsvpfcand`, sorting). Momenta relative to the jet
refer to the uncorrected jet, as tag infos are made before the energy correction. The reader has its own derivation of
the same quantities; nothing of it is used here, so that the two can be held against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pfnano_tag.generate.linking import track_variables, vertex_links
from pfnano_tag.generate.ragged import Array, Table, delta_r, nearest, table_of
from pfnano_tag.generate.tracks import momentum_variables
from pfnano_tag.nano.columns import delta_phi

if TYPE_CHECKING:
    from pfnano_tag.generate.simulation import Chunk

MIN_PT = 0.95
VERTEX_RADIUS = 0.4
#: quality and chi2 of a candidate without track
NO_TRACK_QUALITY, NO_TRACK_CHI2 = 1, -1.0
#: replacement, lower and upper bound of the track variables
_TRACK_BOUNDS = {
    "trackEtaRel": (0.0, -5.0, 15.0),
    "trackPtRel": (0.0, -1.0, 4.0),
    "trackPPar": (0.0, -1e5, 1e5),
    "trackDeltaR": (0.0, -5.0, 5.0),
    "trackPtRatio": (0.0, -1.0, 10.0),
    "trackPParRatio": (0.0, -10.0, 100.0),
    "trackSip2dVal": (0.0, -1.0, 70.0),
    "trackSip2dSig": (0.0, -1.0, 4e4),
    "trackSip3dVal": (0.0, -1.0, 1e5),
    "trackSip3dSig": (0.0, -1.0, 4e4),
    "trackJetDistVal": (0.0, -20.0, 1.0),
}
_IMPACT = ("Sip2dVal", "Sip2dSig", "Sip3dVal", "Sip3dSig", "JetDistVal")


def bounded(values: Array, replacement: float, low: float, high: float, offset: float = 0.0) -> Array:
    """`catch_infs_and_bound`: replace what is not finite or beyond 1e32, add the offset, then clip."""
    lost = ~(np.abs(values) <= 1e32)
    return np.clip(np.where(lost, replacement, values) + offset, low, high)


def flat_inputs(chunk: Chunk) -> dict[str, Table]:
    """Charged (`Cpfcan`) and neutral candidates (`Npfcan`) and vertices (`sv`) of all jets, none cut off.

    Returns
    -------
    dict of Table
        One list of rows per jet (`offsets` has one entry more than there are jets).
    """
    candidates = chunk.seen.candidates
    near = nearest(candidates, chunk.vertices, VERTEX_RADIUS)[1]
    distance = np.minimum(near, VERTEX_RADIUS)
    hard = candidates["pt"][chunk.jets.link_candidate] >= MIN_PT
    charged = candidates["charge"][chunk.jets.link_candidate] != 0
    return {
        "Cpfcan": _charged(chunk, np.flatnonzero(hard & charged), distance),
        "Npfcan": _neutral(chunk, np.flatnonzero(hard & ~charged), distance),
        "sv": _vertices(chunk),
    }


def _charged(chunk: Chunk, links: Array, distance: Array) -> Table:
    """Charged candidates, by falling 2D significance, then nearness to a vertex, then pt."""
    jet, row = chunk.jets.link_jet[links], chunk.jets.link_candidate[links]
    c = {k: v[row] for k, v in chunk.seen.candidates.columns.items()}
    raw = _track_columns(chunk, links)
    columns = _shared(chunk.jets.table, jet, c, distance[row])
    for name, (replacement, low, high) in _TRACK_BOUNDS.items():
        columns[f"BtagPf_{name}"] = bounded(raw[name], replacement, low, high)
    columns |= {
        "VTX_ass": c["pvAssocQuality"],
        "chi2": np.where(c["track"], bounded(c["trkChi2"], -1.0, -1.0, 300.0), NO_TRACK_CHI2),
        "quality": np.where(c["track"], c["trkQuality"], NO_TRACK_QUALITY),
        "charge": c["charge"],
        "isMu": np.abs(c["pdgId"]) == 13,
        "isEl": np.abs(c["pdgId"]) == 11,
    }
    significance = raw["trackSip2dSig"]
    significance = np.where(np.isfinite(significance), significance, -np.inf)
    order = np.lexsort((-c["pt"], distance[row], -significance, jet))
    return table_of(jet[order], len(chunk.jets.table), **{k: v[order] for k, v in columns.items()})


def _track_columns(chunk: Chunk, links: Array) -> dict[str, Array]:
    """Unbounded track variables of links; impact parameters are 0 where there is no track."""
    jets, candidates = chunk.jets, chunk.seen.candidates
    jet, row = jets.link_jet[links], jets.link_candidate[links]
    table = jets.table
    pt, eta, phi = (candidates[k][row] for k in ("pt", "eta", "phi"))
    variables = momentum_variables(pt, eta, phi, table["eta"][jet], table["phi"][jet])
    out = {f"track{name}": values for name, values in variables.items()}
    track = candidates["track"][row]
    values = track_variables(candidates, table, row[track], jet[track], chunk.seen.sigma)
    for name in _IMPACT:
        out[f"track{name}"] = np.zeros(len(links))
        out[f"track{name}"][track] = values[name]
    # the significance that is not a number in JetPFCands is none here either
    broken = np.isnan(chunk.tables["JetPFCands"]["btagSip3dSig"][links])
    out["trackSip3dSig"][broken] = np.nan
    return out


def _shared(jets: Table, jet: Array, c: dict[str, Array], distance: Array) -> dict[str, Array]:
    """Columns of charged and neutral candidates alike."""
    momentum = c["pt"] * np.cosh(c["eta"])
    energy = np.hypot(momentum, c["mass"])
    dr = delta_r(c["eta"], c["phi"], jets["eta"][jet], jets["phi"][jet])
    return {
        **four_vector(c["pt"], c["eta"], c["phi"], energy),
        "ptrel": bounded(c["pt"] / jets["raw_pt"][jet], 0.0, -1.0, 0.0, -1.0),
        "erel": bounded(energy / jets["raw_energy"][jet], 0.0, -1.0, 0.0, -1.0),
        "deltaR": bounded(dr, 0.0, -0.6, 0.0, -0.6),
        **_relative(jets, jet, c["eta"], c["phi"]),
        "puppiw": c["puppiWeight"],
        "drminsv": bounded(distance, 0.0, -VERTEX_RADIUS, 0.0, -VERTEX_RADIUS),
    }


def four_vector(pt: Array, eta: Array, phi: Array, energy: Array) -> dict[str, Array]:
    """pt, eta, phi, px, py, pz, e [GeV]."""
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    return {"pt": pt, "eta": eta, "phi": phi, "px": px, "py": py, "pz": pz, "e": energy}


def _relative(jets: Table, jet: Array, eta: Array, phi: Array) -> dict[str, Array]:
    """Absolute distances from the jet in eta and in phi, less 0.5."""
    return {
        "etarel": bounded(np.abs(eta - jets["eta"][jet]), 0.0, -2.0, 0.0, -0.5),
        "phirel": bounded(np.abs(delta_phi(phi, jets["phi"][jet])), 0.0, -2.0, 0.0, -0.5),
    }


def _neutral(chunk: Chunk, links: Array, distance: Array) -> Table:
    """Neutral candidates, by nearness to a vertex, then falling pt."""
    jet, row = chunk.jets.link_jet[links], chunk.jets.link_candidate[links]
    c = {k: v[row] for k, v in chunk.seen.candidates.columns.items()}
    columns = _shared(chunk.jets.table, jet, c, distance[row])
    columns["isGamma"] = np.abs(c["pdgId"]) == 22
    # the calorimeters are not told apart
    columns["HadFrac"] = np.zeros(len(links))
    order = np.lexsort((-c["pt"], distance[row], jet))
    return table_of(jet[order], len(chunk.jets.table), **{k: v[order] for k, v in columns.items()})


def _vertices(chunk: Chunk) -> Table:
    """Vertices within 0.4 of the jet, by falling 2D significance."""
    jets = chunk.jets.table
    jet, vertex, distance = vertex_links(jets, chunk.vertices)
    v = {k: column[vertex] for k, column in chunk.vertices.columns.items()}
    columns = {
        **four_vector(v["pt"], v["eta"], v["phi"], v["energy"]),
        "mass": v["mass"],
        **_relative(jets, jet, v["eta"], v["phi"]),
        "deltaR": bounded(distance, 0.0, -2.0, 0.0, -0.5),
        "ntracks": v["ntracks"],
        "chi2": v["chi2"],
        "ndf": v["ndof"],
        "normchi2": bounded(v["chi2"] / v["ndof"], 1000.0, -1000.0, 1000.0),
        "dxy": v["dxy"],
        "dxysig": bounded(v["dxySig"], 0.0, -1.0, 800.0),
        "d3d": v["dlen"],
        "d3dsig": bounded(v["dlenSig"], 0.0, -1.0, 800.0),
        "costhetasvpv": -np.cos(v["pAngle"]),
        "enratio": v["energy"] / jets["raw_energy"][jet],
    }
    return table_of(jet, len(jets), **columns)
