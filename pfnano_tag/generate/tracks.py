"""Track variables relative to a jet, by the definitions of CMSSW's TrackInfoBuilder.

A track is the straight line r + u t with r = (-d0 sin phi, d0 cos phi, dz) [cm] relative to the primary
vertex and t its unit direction; j is the unit vector of the jet.  All functions work on flat arrays.
"""

from __future__ import annotations

import numpy as np

from pfnano_tag.generate.ragged import Array, Table, delta_r

PION_MASS = 0.13957


def direction(eta: Array, phi: Array) -> Array:
    """Unit vectors [n, 3]."""
    return np.stack([np.cos(phi), np.sin(phi), np.sinh(eta)], axis=1) / np.cosh(eta)[:, None]


def reference_point(d0: Array, dz: Array, phi: Array) -> Array:
    """Point of closest approach to the vertex in the transverse plane [n, 3], cm."""
    return np.stack([-d0 * np.sin(phi), d0 * np.cos(phi), dz], axis=1)


def _dot(a: Array, b: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->i", a, b))


def _sign(x: Array) -> Array:
    """Sign with zero counted as positive."""
    return np.where(x < 0, -1.0, 1.0)


def momentum_variables(pt: Array, eta: Array, phi: Array, jet_eta: Array, jet_phi: Array) -> dict[str, Array]:
    """EtaRel, PtRel, PPar, PtRatio, PParRatio, DeltaR of tracks against their jets' directions."""
    t, j = direction(eta, phi), direction(jet_eta, jet_phi)
    p = pt * np.cosh(eta)
    cosine = np.clip(_dot(t, j), -1.0, 1.0)
    parallel, perpendicular = p * cosine, p * np.sqrt(1.0 - cosine**2)
    energy = np.hypot(p, PION_MASS)
    return {
        "EtaRel": 0.5 * np.log((energy + parallel) / np.maximum(energy - parallel, 1e-12)),
        "PtRel": perpendicular,
        "PPar": parallel,
        "PtRatio": perpendicular / p,
        "PParRatio": cosine,
        "DeltaR": delta_r(eta, phi, jet_eta, jet_phi),
    }


def impact_variables(
    d0: Array,
    dz: Array,
    d0_err: Array,
    dz_err: Array,
    eta: Array,
    phi: Array,
    jet_eta: Array,
    jet_phi: Array,
    sigma_xy: Array,
    sigma_z: Array,
) -> dict[str, Array]:
    """Sip2dVal, Sip2dSig, Sip3dVal, Sip3dSig, JetDistVal and DecayLenVal of tracks [cm].

    Parameters
    ----------
    sigma_xy, sigma_z : Array
        Uncertainty of the primary vertex [cm].

    Notes
    -----
    The impact vector is r - (r.t) t, so |IP3D| = sqrt(d0^2 + (dz/cosh eta)^2); its sign is that of its
    product with j.  JetDistVal is minus the distance of the jet line from the track line, DecayLenVal the
    distance of the vertex from the point on the track line that is closest to the jet line.
    """
    t, j = direction(eta, phi), direction(jet_eta, jet_phi)
    r = reference_point(d0, dz, phi)
    sip2d = np.abs(d0) * _sign(d0 * np.sin(jet_phi - phi))
    vector = r - _dot(r, t)[:, None] * t
    length = np.hypot(d0, dz / np.cosh(eta))
    longitudinal = dz / np.cosh(eta) ** 2
    variance = d0**2 * (d0_err**2 + sigma_xy**2) + longitudinal**2 * (dz_err**2 + sigma_z**2)
    sigma3d = np.sqrt(variance) / np.maximum(length, 1e-9)
    sip3d = length * _sign(_dot(vector, j))
    cross = np.cross(j, t)
    norm = np.maximum(np.linalg.norm(cross, axis=1), 1e-9)
    # closest approach of the lines s j and r + u t: u = (a (r.j) - r.t) / (1 - a^2) with a = t.j
    a = _dot(t, j)
    u = (a * _dot(r, j) - _dot(r, t)) / np.maximum(norm**2, 1e-9)
    return {
        "Sip2dVal": sip2d,
        "Sip2dSig": sip2d / np.hypot(d0_err, sigma_xy),
        "Sip3dVal": sip3d,
        "Sip3dSig": sip3d / np.maximum(sigma3d, 1e-9),
        "JetDistVal": -np.abs(_dot(r, cross)) / norm,
        "DecayLenVal": np.linalg.norm(r + u[:, None] * t, axis=1),
    }


def significance_3d(tracks: Table, sigma_xy: Array, sigma_z: Array) -> Array:
    """Unsigned 3D impact-parameter significance of tracks (d0, dz, d0Err, dzErr, eta), without a jet."""
    d0, dz, eta = tracks["d0"], tracks["dz"], tracks["eta"]
    length = np.hypot(d0, dz / np.cosh(eta))
    longitudinal = dz / np.cosh(eta) ** 2
    variance = d0**2 * (tracks["d0Err"] ** 2 + sigma_xy**2) + longitudinal**2 * (tracks["dzErr"] ** 2 + sigma_z**2)
    return np.asarray(length**2 / np.maximum(np.sqrt(variance), 1e-12))
