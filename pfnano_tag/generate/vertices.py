"""Secondary vertices from tracks alone, in the manner of CMSSW's inclusive vertex finder, columnar.

d0 and dz of a straight track are linear in the position of a vertex, so a fit is one 3x3 system per vertex.
Seeds are all pairs of displaced tracks within a cone (3D significances above 1, one of them above 2); the
best-supported pair of each event collects the compatible tracks, an adaptive fit (weights
1 / (1 + exp((chi2 - 9) / 2))) decides which ones belong, the tracks are used up, and the next pair follows.
ndof = 2 sum(w) - 3 is fractional, as in the real file.  Jets with pt > 30 GeV in ttbar have a vertex with
dlenSig > 3 in 79 % (b), 45 % (c), 6 % (light).
Positions are relative to the reconstructed primary vertex [cm].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pfnano_tag.generate.ragged import Array, Table, delta_r, pairs, sums, table_of
from pfnano_tag.generate.tracks import PION_MASS, significance_3d

CUTOFF = 9.0  # chi2 of half weight
_MAX_VERTICES = 10
_CONE = 0.4
COLUMNS = (
    *("x", "y", "z", "dlen", "dlenSig", "dxy", "dxySig", "chi2", "ndof", "ntracks"),
    *("pt", "eta", "phi", "mass", "energy", "pAngle"),
)


@dataclass(frozen=True)
class Fit:
    """Fitted vertices: position [V, 3] and covariance [V, 3, 3] in cm, cm^2; chi2 of each track."""

    position: Array
    covariance: Array
    track_chi2: Array


def design(eta: Array, phi: Array) -> tuple[Array, Array]:
    """Rows [n, 3] that give d0 and dz of a track through a point: d0 = a.v, dz = b.v."""
    c, s, slope = np.cos(phi), np.sin(phi), np.sinh(eta)
    zero = np.zeros_like(c)
    return np.stack([-s, c, zero], axis=1), np.stack([-c * slope, -s * slope, zero + 1.0], axis=1)


def fit(tracks: Table, rows: Array, vertex: Array, weight: Array, num_vertices: int) -> Fit:
    """Weighted least-squares vertices.

    Parameters
    ----------
    tracks : Table
        Columns d0, dz, d0Err, dzErr, eta, phi.
    rows, vertex, weight : Array
        Track row, vertex number and weight of each track in a vertex.
    """
    a, b = design(tracks["eta"][rows], tracks["phi"][rows])
    d0, dz = tracks["d0"][rows], tracks["dz"][rows]
    w0, wz = 1.0 / tracks["d0Err"][rows] ** 2, 1.0 / tracks["dzErr"][rows] ** 2
    matrix = np.zeros((num_vertices, 3, 3))
    vector = np.zeros((num_vertices, 3))
    for i in range(3):
        vector[:, i] = sums(weight * (w0 * d0 * a[:, i] + wz * dz * b[:, i]), vertex, num_vertices)
        for k in range(i, 3):
            entry = sums(weight * (w0 * a[:, i] * a[:, k] + wz * b[:, i] * b[:, k]), vertex, num_vertices)
            matrix[:, i, k] = matrix[:, k, i] = entry
    # a prior of 30 cm keeps parallel tracks from making the system singular
    covariance = np.linalg.inv(matrix + np.eye(3) / 900.0)
    position = np.einsum("vij,vj->vi", covariance, vector)
    at = position[vertex]
    chi2 = w0 * (d0 - np.einsum("ij,ij->i", a, at)) ** 2 + wz * (dz - np.einsum("ij,ij->i", b, at)) ** 2
    return Fit(position, covariance, chi2)


def adaptive_weight(chi2: Array) -> Array:
    """Weight of a track in an adaptive fit at temperature 1 (Fruehwirth, Waltenberger, Vanlaer 2007)."""
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(0.5 * (chi2 - CUTOFF), -50.0, 50.0))))


def significance(position: Array, covariance: Array, transverse: bool = False) -> tuple[Array, Array]:
    """Flight distance and its error along the flight direction, in 3D or in the transverse plane."""
    v = position * np.array([1.0, 1.0, 0.0]) if transverse else position
    length = np.maximum(np.linalg.norm(v, axis=1), 1e-9)
    unit = v / length[:, None]
    return length, np.sqrt(np.einsum("vi,vij,vj->v", unit, covariance, unit))


def usable_tracks(candidates: Table, sigma_xy: Array, sigma_z: Array, rng: np.random.Generator) -> Table:
    """Tracks that the finder looks at, with their 3D significance `sig`; `cand`: flat candidate row.

    pt > 0.8 GeV and dz within 0.6 cm.  Tracks with d0 beyond 0.3 cm or without hits in the first two layers
    mostly fail the finder's hit requirements (this keeps far V0s at their observed rate).
    """
    c = candidates
    keep = c["track"] & (c["pt"] > 0.8) & (np.abs(c["dz"]) < 0.6) & (np.abs(c["d0"]) < 1.5) & (c["trkChi2"] < 5)
    far = (np.abs(c["d0"]) > 0.3) | (np.hypot(c["vx"], c["vy"]) > 2.5)
    keep &= ~far | (rng.random(len(c)) < 0.35)
    t = c.with_columns(cand=np.arange(len(c))).select(keep)
    sig = significance_3d(t, sigma_xy[t.event], sigma_z[t.event])
    names = ("pt", "eta", "phi", "d0", "dz", "d0Err", "dzErr", "cand")
    return Table({k: t[k] for k in names} | {"sig": sig}, t.offsets)


def seed_pairs(tracks: Table, pv_covariance: Array) -> Table:
    """Good two-track vertices: columns first, second (track rows), support, x, y, z."""
    displaced = tracks.with_columns(track=np.arange(len(tracks))).select(tracks["sig"] > 1.0)
    i, j = pairs(displaced, displaced)
    upper = i < j
    i, j = i[upper], j[upper]
    strong = np.maximum(displaced["sig"][i], displaced["sig"][j]) > 2.0
    i, j = i[strong], j[strong]
    close = delta_r(*(displaced[k][r] for r in (i, j) for k in ("eta", "phi"))) < _CONE
    i, j = i[close], j[close]
    event = displaced.event[i]
    first, second = displaced["track"][i], displaced["track"][j]
    n = len(first)
    number = np.arange(n)
    rows = np.concatenate([first, second])
    result = fit(tracks, rows, np.concatenate([number, number]), np.ones(2 * n), n)
    chi2 = result.track_chi2[:n] + result.track_chi2[n:]
    px, py, pz = (p[first] + p[second] for p in momenta(tracks))
    length, error = significance(result.position, result.covariance + pv_covariance[event])
    along = (result.position * np.stack([px, py, pz], axis=1)).sum(axis=1)
    cosine = along / (length * np.sqrt(px**2 + py**2 + pz**2))
    good = (chi2 < 7.0) & (length > 2.0 * error) & (cosine > 0.9) & (length < 12.0)
    good &= np.hypot(result.position[:, 0], result.position[:, 1]) < 6.0
    first, second, event = first[good], second[good], event[good]
    used = np.bincount(first, minlength=len(tracks)) + np.bincount(second, minlength=len(tracks))
    x, y, z = result.position[good].T
    columns = {"first": first, "second": second, "support": used[first] + used[second] - 0.05 * chi2[good]}
    return table_of(event, tracks.num_events, **columns, x=x, y=y, z=z)


def momenta(tracks: Table) -> tuple[Array, Array, Array]:
    """px, py, pz of tracks."""
    pt = tracks["pt"]
    return pt * np.cos(tracks["phi"]), pt * np.sin(tracks["phi"]), pt * np.sinh(tracks["eta"])


def find_vertices(tracks: Table, pv_covariance: Array) -> tuple[Table, Array, Array]:
    """All secondary vertices of all events.

    Parameters
    ----------
    tracks : Table
        From `usable_tracks`.
    pv_covariance : Array
        Of the primary vertex [E, 3, 3].

    Returns
    -------
    vertices
        Columns x, y, z (relative to the primary vertex), dlen, dlenSig, dxy, dxySig, chi2, ndof, ntracks,
        pt, eta, phi, mass, energy, pAngle.
    member_track, member_vertex
        Track rows (of `tracks`) and the flat vertex row they belong to.
    """
    seeds = seed_pairs(tracks, pv_covariance)
    used = np.zeros(len(tracks), np.bool_)
    found: list[dict[str, Array]] = []
    member_track: list[Array] = []
    member_vertex: list[Array] = []
    total = 0
    for _ in range(_MAX_VERTICES):
        alive = ~(used[seeds["first"]] | used[seeds["second"]])
        seeds = seeds.select(alive)
        if not len(seeds):
            break
        best = seeds.permute(seeds.order(-seeds["support"])).select(seeds.position == 0)
        vertices, rows, vertex = _grow(best, tracks, used, pv_covariance)
        kept = np.cumsum(vertices["good"]) - 1
        good = vertices["good"][vertex]
        member_track.append(rows[good])
        member_vertex.append(kept[vertex[good]] + total)
        total += int(vertices["good"].sum())
        found.append({k: v[vertices["good"]] for k, v in vertices.items()})
        used[rows[good]] = True
        # a seed that gave no vertex must not come again
        used[best["first"][~vertices["good"]]] = True
    return _assemble(found, member_track, member_vertex, tracks.num_events)


def thinned(found: Table, member_track: Array, member_vertex: Array, keep: Array) -> tuple[Table, Array, Array]:
    """Vertices (as from `find_vertices`) where `keep` is true, with their tracks renumbered."""
    renumber = np.cumsum(keep) - 1
    inside = keep[member_vertex]
    return found.select(keep), member_track[inside], renumber[member_vertex[inside]]


def _grow(best: Table, tracks: Table, used: Array, pv_covariance: Array) -> tuple[dict[str, Array], Array, Array]:
    """Collect tracks around each seed and fit adaptively; return vertex columns and the tracks in them."""
    n = len(best)
    event = best.event
    free = tracks.with_columns(track=np.arange(len(tracks))).select(~used & (tracks["sig"] > 1.0))
    vertex, other = pairs(best, free)
    rows = free["track"][other]
    position = np.stack([best["x"], best["y"], best["z"]], axis=1)
    phi = np.arctan2(position[:, 1], position[:, 0])
    eta = np.arcsinh(position[:, 2] / np.maximum(np.hypot(position[:, 0], position[:, 1]), 1e-9))
    near = delta_r(eta[vertex], phi[vertex], tracks["eta"][rows], tracks["phi"][rows]) < 0.5
    seed = (rows == best["first"][vertex]) | (rows == best["second"][vertex])
    a, b = design(tracks["eta"][rows], tracks["phi"][rows])
    at = position[vertex]
    chi2 = ((tracks["d0"][rows] - np.einsum("ij,ij->i", a, at)) / tracks["d0Err"][rows]) ** 2
    chi2 += ((tracks["dz"][rows] - np.einsum("ij,ij->i", b, at)) / tracks["dzErr"][rows]) ** 2
    keep = seed | (near & (chi2 < 12.0))
    rows, vertex = rows[keep], vertex[keep]
    weight = np.ones(len(rows))
    for _ in range(3):
        result = fit(tracks, rows, vertex, weight, n)
        weight = adaptive_weight(result.track_chi2)
    inside = weight > 0.5
    rows, vertex, weight, chi2 = rows[inside], vertex[inside], weight[inside], result.track_chi2[inside]
    columns = _describe(tracks, rows, vertex, weight, chi2, result, pv_covariance[event])
    columns["event"] = event
    return columns, rows, vertex


def _describe(
    tracks: Table, rows: Array, vertex: Array, weight: Array, chi2: Array, result: Fit, pv_covariance: Array
) -> dict[str, Array]:
    """Columns of fitted vertices, and `good`: at least two tracks and a flight distance worth keeping."""
    n = len(result.position)
    px, py, pz = (sums(p[rows], vertex, n) for p in momenta(tracks))
    p = tracks["pt"][rows] * np.cosh(tracks["eta"][rows])
    energy = sums(np.hypot(p, PION_MASS), vertex, n)
    pt = np.hypot(px, py)
    momentum = np.stack([px, py, pz], axis=1)
    covariance = result.covariance + pv_covariance
    dlen, dlen_error = significance(result.position, covariance)
    dxy, dxy_error = significance(result.position, covariance, transverse=True)
    norm = np.maximum(np.linalg.norm(momentum, axis=1), 1e-9)
    cosine = np.clip((momentum * result.position).sum(axis=1) / (norm * dlen), -1.0, 1.0)
    ntracks = np.bincount(vertex, minlength=n)
    ndof = 2.0 * sums(weight, vertex, n) - 3.0
    mass = np.sqrt(np.maximum(energy**2 - norm**2, 0.0))
    good = (ntracks >= 2) & (ndof > 0.1) & (dlen / dlen_error > 1.5) & (cosine > 0.85) & (mass < 12.0)
    x, y, z = result.position.T
    return {
        "x": x,
        "y": y,
        "z": z,
        "dlen": dlen,
        "dlenSig": dlen / dlen_error,
        "dxy": dxy,
        "dxySig": dxy / dxy_error,
        "chi2": sums(weight * chi2, vertex, n),
        "ndof": ndof,
        "ntracks": ntracks,
        "pt": pt,
        "eta": np.arcsinh(pz / np.maximum(pt, 1e-9)),
        "phi": np.arctan2(py, px),
        "mass": mass,
        "energy": energy,
        # momentum against the direction back to the primary vertex, as in this production: near pi
        "pAngle": np.pi - np.arccos(cosine),
        "good": good,
    }


def _assemble(
    found: list[dict[str, Array]], member_track: list[Array], member_vertex: list[Array], num_events: int
) -> tuple[Table, Array, Array]:
    """Sort the rounds' vertices by event and renumber their tracks' vertex."""
    if not found:
        names = COLUMNS
        none = np.zeros(0, np.int64)
        return table_of(none, num_events, **{k: np.zeros(0) for k in names}), none, none
    columns = {k: np.concatenate([f[k] for f in found]) for k in found[0]}
    event = columns.pop("event")
    columns.pop("good")
    order = np.argsort(event, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    table = table_of(event[order], num_events, **{k: v[order] for k, v in columns.items()})
    return table, np.concatenate(member_track), rank[np.concatenate(member_vertex)]
