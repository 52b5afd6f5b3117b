"""Track quantities from first principles.

Formulas: cms-sw/cmssw RecoBTag/FeatureTools/src/TrackInfoBuilder.cc and TrackingTools/IPTools/src/IPTools.cc, with
tracks taken as straight lines through their point of closest approach. All arrays are per candidate [n]; lengths in
cm, momenta in GeV; directions are unit vectors [3, n].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

PION_MASS = 0.13957
"""GeV, as in TrackInfoBuilder."""

VERTEX_ERROR = 0.0010
"""Assumed uncertainty of the primary vertex in each direction [cm]; files do not hold it."""


def direction(eta: Array, phi: Array) -> Array:
    """Return the unit vector of a direction, shape [3, n]."""
    transverse = 1 / np.cosh(eta)
    return np.stack([np.cos(phi) * transverse, np.sin(phi) * transverse, np.tanh(eta)])


def cosh(eta: Array) -> Array:
    """Return cosh(eta) = p/pT, through exp, for which NumPy has fast code in single precision."""
    rising = np.exp(eta)
    return np.asarray(0.5 * (rising + 1 / rising))


def sinh(eta: Array, cosh_eta: Array) -> Array:
    """Return sinh(eta) = pz/pT; through tanh it is exact for small eta too."""
    return np.asarray(np.tanh(eta) * cosh_eta)


def opening(delta_eta: Array, delta_phi: Array, cosh_eta: Array, cosh_jet: Array) -> Array:
    """Return 1 - cos(angle) of a track and its jet.

    1 - t . j = 2 (sinh^2(deta/2) + sin^2(dphi/2)) / (cosh(eta) cosh(eta_jet)), the same as from the vectors, but
    exact in single precision also for collinear tracks, where 1 - t . j and the cross product t x j cancel.

    Parameters
    ----------
    delta_eta, delta_phi : ndarray [n]
        Track relative to the jet.
    cosh_eta, cosh_jet : ndarray [n]
        cosh(eta) of both.
    """
    half = 0.5 * delta_eta
    across, around = sinh(half, cosh(half)), np.sin(0.5 * delta_phi)
    return 2 * (across * across + around * around) / (cosh_eta * cosh_jet)


def parallel(p: Array, opened: Array) -> Array:
    """PPar = p . j = P cos(angle) [GeV], with P = abs(p) and 1 - cos(angle) of `opening`."""
    return p * (1 - opened)


def transverse(p: Array, opened: Array) -> Array:
    """PtRel = sqrt(P^2 - PPar^2) = P sin(angle) [GeV], with P = abs(p) and 1 - cos(angle) of `opening`."""
    return p * np.sqrt(np.maximum(opened * (2 - opened), 0))


def relative_rapidity(ppar: Array, ptrel: Array) -> Array:
    """EtaRel = 0.5 ln((E + PPar)/(E - PPar)) with the pion mass.

    Written as ln((E + PPar)/sqrt(m^2 + PtRel^2)), which is the same and does not cancel.
    """
    transverse_mass = np.sqrt(PION_MASS**2 + ptrel**2)
    energy = np.sqrt(ppar**2 + transverse_mass**2)
    forward = np.log((energy + np.abs(ppar)) / transverse_mass)
    return np.copysign(forward, ppar)


def signed_ip2d(d0: Array, delta_phi: Array) -> Array:
    """Transverse impact parameter [cm], positive when it points along the jet (zero counts as positive).

    sign(IP . j) with both projected on z = 0; IP = (-d0 sin(phi), d0 cos(phi)), so IP . j goes as
    -d0 sin(delta_phi).

    Parameters
    ----------
    d0 : ndarray [n]
        As in the file, of either sign [cm].
    delta_phi : ndarray [n]
        Azimuth of the track relative to the jet, in [-pi, pi), where it has the sign of its sine.
    """
    along = 0 - d0 * delta_phi  # never -0
    signed = np.copysign(d0, along)
    if np.isnan(along.sum()):
        signed[np.isnan(along)] = np.nan  # no direction, no sign
    return signed


def _dot(a: Array, b: Array) -> Array:
    """Return the scalar products of vectors [3, n]; the same for a track whatever stands beside it."""
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


def closest_approach(d0: Array, dz: Array, phi: Array) -> Array:
    """Return the point r of the track from the primary vertex [cm], shape [3, n]: (-d0 sin phi, d0 cos phi, dz)."""
    return np.stack([-d0 * np.sin(phi), d0 * np.cos(phi), dz])


def signed_ip3d(d0: Array, dz: Array, eta: Array, phi: Array, jet: Array) -> Array:
    """Three-dimensional impact parameter [cm], signed by its projection on the jet.

    IP = r - (r . t) t with the track direction t.
    """
    point, track = closest_approach(d0, dz, phi), direction(eta, phi)
    vector = point - _dot(point, track) * track
    size = np.sqrt(d0**2 + (dz / np.cosh(eta)) ** 2)
    return np.where(_dot(vector, jet) < 0, -size, size)


def ip3d_error(d0: Array, d0_error: Array, dz: Array, dz_error: Array, eta: Array) -> Array:
    """Uncertainty of the three-dimensional impact parameter [cm], primary vertex included (`VERTEX_ERROR`).

    sigma^2 = (d0^2 (sd0^2 + sv^2) + (dz/cosh^2 eta)^2 (sdz^2 + sv^2)) / IP^2; its limit for IP -> 0 is used there.
    """
    transverse_square = d0_error**2 + VERTEX_ERROR**2
    slope = 1 / np.cosh(eta)
    along_square = dz_error**2 + VERTEX_ERROR**2
    size_square = d0**2 + (dz * slope) ** 2
    numerator = d0**2 * transverse_square + (dz * slope**2) ** 2 * along_square
    with np.errstate(invalid="ignore", divide="ignore"):
        square = np.where(size_square > 0, numerator / size_square, transverse_square)
    return np.sqrt(square)


def jet_distance(d0: Array, dz: Array, eta: Array, phi: Array, jet: Array) -> Array:
    """JetDistVal = -abs(r . (j x t)) / abs(j x t) [cm]: distance of the track's and the jet's lines, never positive.

    Parallel lines: minus the distance of their points.
    """
    point, track = closest_approach(d0, dz, phi), direction(eta, phi)
    normal = np.cross(jet, track, axis=0)
    size = np.sqrt(_dot(normal, normal))
    skew = np.abs(_dot(point, normal))
    aside = np.cross(point, jet, axis=0)
    across = np.sqrt(_dot(aside, aside))
    with np.errstate(invalid="ignore", divide="ignore"):
        return -np.where(size > 0, skew / size, across)
