"""Impact parameters and track variables in closed form."""

import numpy as np
import pytest

from pfnano_tag.generate.detector import impact_parameters
from pfnano_tag.generate.tracks import direction, impact_variables, momentum_variables, reference_point


def scalar(values):
    return {k: float(v[0]) for k, v in values.items()}


def impact(d0, dz, eta, phi, jet_eta, jet_phi, d0_err=0.003, dz_err=0.004, sxy=0.0, sz=0.0):
    arrays = [np.array([float(v)]) for v in (d0, dz, d0_err, dz_err, eta, phi, jet_eta, jet_phi, sxy, sz)]
    return scalar(impact_variables(*arrays))


def test_track_from_displaced_point_along_x():
    # a track along +y through (0.1, 0, 0): d0 = -vx sin(phi) + vy cos(phi) = -0.1, dz = 0
    d0, dz = impact_parameters(*(np.array([v]) for v in (0.1, 0.0, 0.0, 0.0, np.pi / 2)))
    assert d0[0] == pytest.approx(-0.1)
    assert dz[0] == pytest.approx(0.0)
    # its line passes that point
    point = reference_point(d0, dz, np.array([np.pi / 2]))[0]
    np.testing.assert_allclose(point, [0.1, 0, 0], atol=1e-12)


def test_impact_parameters_do_not_depend_on_the_point_of_the_line():
    rng = np.random.default_rng(3)
    eta, phi = rng.uniform(-2, 2, 50), rng.uniform(-3, 3, 50)
    point = rng.normal(size=(50, 3))
    moved = point + rng.normal(size=(50, 1)) * direction(eta, phi)
    for first, second in zip(
        impact_parameters(*point.T, eta, phi), impact_parameters(*moved.T, eta, phi), strict=True
    ):
        np.testing.assert_allclose(first, second, atol=1e-9)


def test_signs_follow_the_jet():
    # the track crosses the x axis at +0.1, so a jet along +x has it in front, one along -x behind
    ahead = impact(-0.1, 0.0, 0.0, np.pi / 2, 0.0, 0.0)
    behind = impact(-0.1, 0.0, 0.0, np.pi / 2, 0.0, np.pi)
    assert ahead["Sip2dVal"] == pytest.approx(0.1)
    assert ahead["Sip3dVal"] == pytest.approx(0.1)
    assert behind["Sip2dVal"] == pytest.approx(-0.1)
    assert behind["Sip3dVal"] == pytest.approx(-0.1)
    assert ahead["Sip2dSig"] == pytest.approx(0.1 / 0.003)


def test_crossing_lines_have_no_distance_and_known_decay_length():
    # jet along x, track from (0.5, 0, 0) at 45 degrees
    phi = np.pi / 4
    d0, dz = impact_parameters(*(np.array([v]) for v in (0.5, 0.0, 0.0, 0.0, phi)))
    values = impact(d0[0], dz[0], 0.0, phi, 0.0, 0.0)
    assert values["JetDistVal"] == pytest.approx(0.0, abs=1e-12)
    assert values["DecayLenVal"] == pytest.approx(0.5)
    # shifted by 0.02 in z the lines miss each other by that much
    values = impact(d0[0], dz[0] + 0.02, 0.0, phi, 0.0, 0.0)
    assert values["JetDistVal"] == pytest.approx(-0.02)


def test_three_dimensional_significance_combines_both_projections():
    eta = 1.2
    values = impact(0.03, 0.04, eta, 0.3, eta, 0.2, d0_err=0.001, dz_err=0.002, sxy=0.0005, sz=0.001)
    length = np.hypot(0.03, 0.04 / np.cosh(eta))
    variance = 0.03**2 * (0.001**2 + 0.0005**2) + (0.04 / np.cosh(eta) ** 2) ** 2 * (0.002**2 + 0.001**2)
    assert abs(values["Sip3dVal"]) == pytest.approx(length)
    assert abs(values["Sip3dSig"]) == pytest.approx(length**2 / np.sqrt(variance))


def test_momentum_variables_against_vectors():
    pt, eta, phi, jet_eta, jet_phi = (np.array([v]) for v in (5.0, 0.7, 0.4, 0.5, 0.6))
    values = scalar(momentum_variables(pt, eta, phi, jet_eta, jet_phi))
    p = 5.0 * np.array([np.cos(0.4), np.sin(0.4), np.sinh(0.7)])
    j = np.array([np.cos(0.6), np.sin(0.6), np.sinh(0.5)]) / np.cosh(0.5)
    along = p @ j
    total = np.linalg.norm(p)
    energy = np.hypot(total, 0.13957)
    assert values["PPar"] == pytest.approx(along)
    assert values["PtRel"] == pytest.approx(np.linalg.norm(np.cross(p, j)))
    assert values["PParRatio"] == pytest.approx(along / total)
    assert values["EtaRel"] == pytest.approx(np.arctanh(along / energy))
    assert values["DeltaR"] == pytest.approx(np.hypot(0.2, 0.2))
