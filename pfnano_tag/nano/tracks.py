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


def momentum(pt: Array, eta: Array, phi: Array) -> Array:
    """Return the momentum (px, py, pz) [GeV], shape [3, n]."""
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])


def parallel(p: Array, jet: Array) -> Array:
    """PPar = p . j [GeV]."""
    return np.einsum("in,in->n", p, jet)


def transverse(p: Array, jet: Array) -> Array:
    """PtRel = sqrt(P^2 - PPar^2) = abs(p x j) [GeV]; the cross product keeps precision for collinear tracks."""
    return np.linalg.norm(np.cross(p, jet, axis=0), axis=0)


def relative_rapidity(ppar: Array, ptrel: Array) -> Array:
    """EtaRel = 0.5 ln((E + PPar)/(E - PPar)) with the pion mass.

    Written as ln((E + PPar)/sqrt(m^2 + PtRel^2)), which is the same and does not cancel.
    """
    transverse_mass = np.sqrt(PION_MASS**2 + ptrel**2)
    energy = np.sqrt(ppar**2 + transverse_mass**2)
    forward = np.log((energy + np.abs(ppar)) / transverse_mass)
    return np.copysign(forward, ppar)


def signed_ip2d(d0: Array, phi: Array, jet_phi: Array) -> Array:
    """Transverse impact parameter [cm], positive when it points along the jet (zero counts as positive).

    sign(IP . j) with both projected on z = 0; IP = (-d0 sin(phi), d0 cos(phi)).
    """
    along = d0 * np.sin(jet_phi - phi)
    return np.where(along < 0, -np.abs(d0), np.abs(d0))


def closest_approach(d0: Array, dz: Array, phi: Array) -> Array:
    """Return the point r of the track from the primary vertex [cm], shape [3, n]: (-d0 sin phi, d0 cos phi, dz)."""
    return np.stack([-d0 * np.sin(phi), d0 * np.cos(phi), dz])


def signed_ip3d(d0: Array, dz: Array, eta: Array, phi: Array, jet: Array) -> Array:
    """Three-dimensional impact parameter [cm], signed by its projection on the jet.

    IP = r - (r . t) t with the track direction t.
    """
    point, track = closest_approach(d0, dz, phi), direction(eta, phi)
    vector = point - np.einsum("in,in->n", point, track) * track
    size = np.sqrt(d0**2 + (dz / np.cosh(eta)) ** 2)
    return np.where(np.einsum("in,in->n", vector, jet) < 0, -size, size)


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
    size = np.linalg.norm(normal, axis=0)
    skew = np.abs(np.einsum("in,in->n", point, normal))
    across = np.linalg.norm(np.cross(point, jet, axis=0), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return -np.where(size > 0, skew / size, across)
