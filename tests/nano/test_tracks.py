"""Track quantities: closed forms, and a twin that works with vectors one track at a time."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfnano_tag.nano import tracks
from pfnano_tag.nano.columns import delta_phi


@pytest.fixture(scope="module")
def random_tracks():
    rng = np.random.default_rng(3)
    n = 500
    return {
        "pt": rng.uniform(1, 50, n),
        "eta": rng.uniform(-2.4, 2.4, n),
        "phi": rng.uniform(-np.pi, np.pi, n),
        "d0": rng.normal(0, 0.05, n),
        "dz": rng.normal(0, 0.1, n),
        "jet_eta": rng.uniform(-2.4, 2.4, n),
        "jet_phi": rng.uniform(-np.pi, np.pi, n),
    }


def vectors(t, i):
    unit = lambda eta, phi: np.array([np.cos(phi), np.sin(phi), np.sinh(eta)]) / np.cosh(eta)  # noqa: E731
    p = t["pt"][i] * np.cosh(t["eta"][i]) * unit(t["eta"][i], t["phi"][i])
    r = np.array([-t["d0"][i] * np.sin(t["phi"][i]), t["d0"][i] * np.cos(t["phi"][i]), t["dz"][i]])
    return p, unit(t["jet_eta"][i], t["jet_phi"][i]), r


def relative(t, dtype=np.float64):
    """Momentum and 1 - cos(angle to the jet), from single or double precision."""
    eta, phi, jet_eta, jet_phi, pt = (t[name].astype(dtype) for name in ("eta", "phi", "jet_eta", "jet_phi", "pt"))
    cosh = tracks.cosh(eta)
    return pt * cosh, tracks.opening(eta - jet_eta, delta_phi(phi, jet_phi), cosh, tracks.cosh(jet_eta))


def test_against_vectors_one_by_one(random_tracks):
    t = random_tracks
    jet = tracks.direction(t["jet_eta"], t["jet_phi"])
    p, opened = relative(t)
    ppar, ptrel = tracks.parallel(p, opened), tracks.transverse(p, opened)
    etarel = tracks.relative_rapidity(ppar, ptrel)
    ip2d = tracks.signed_ip2d(t["d0"], delta_phi(t["phi"], t["jet_phi"]))
    ip3d = tracks.signed_ip3d(t["d0"], t["dz"], t["eta"], t["phi"], jet)
    distance = tracks.jet_distance(t["d0"], t["dz"], t["eta"], t["phi"], jet)
    for i in range(len(t["pt"])):
        pi, ji, ri = vectors(t, i)
        size = np.linalg.norm(pi)
        assert np.isclose(ppar[i], pi @ ji)
        assert np.isclose(ptrel[i], np.sqrt(max(size**2 - (pi @ ji) ** 2, 0)), rtol=1e-6)
        energy = np.hypot(size, tracks.PION_MASS)
        assert np.isclose(etarel[i], 0.5 * np.log((energy + pi @ ji) / (energy - pi @ ji)), rtol=1e-6)
        ti = pi / size
        vector = ri - (ri @ ti) * ti
        assert np.isclose(abs(ip3d[i]), np.linalg.norm(vector))
        assert np.sign(ip3d[i]) == np.sign(vector @ ji)
        assert np.sign(ip2d[i]) == np.sign(ri[:2] @ ji[:2])
        assert np.isclose(abs(ip2d[i]), abs(t["d0"][i]))
        # Distance of two lines by minimising |r + s t - u j|^2.
        normal_matrix = np.array([[1, -(ti @ ji)], [-(ti @ ji), 1]])
        s, u = np.linalg.solve(normal_matrix, [-(ri @ ti), ri @ ji])
        assert np.isclose(-distance[i], np.linalg.norm(ri + s * ti - u * ji), atol=1e-9)


def test_single_precision_is_enough_for_the_smallest_angles(random_tracks):
    """Angles of 1e-1 to 1e-6: from vectors in single precision nothing would be left of them."""
    t = {name: values.astype(np.float32).astype(np.float64) for name, values in random_tracks.items()}
    for angle in (1e-1, 1e-3, 1e-5):
        t["jet_eta"] = (t["eta"] + angle).astype(np.float32).astype(np.float64)
        t["jet_phi"] = (t["phi"] * (1 - angle)).astype(np.float32).astype(np.float64)
        double, single = relative(t), relative(t, np.float32)
        assert np.allclose(tracks.transverse(*single), tracks.transverse(*double), rtol=2e-6)
        assert np.allclose(tracks.parallel(*single), tracks.parallel(*double), rtol=1e-6)
        assert tracks.transverse(*single).dtype == np.float32
        jet = tracks.direction(t["jet_eta"], t["jet_phi"])
        p = double[0] * tracks.direction(t["eta"], t["phi"])
        assert np.allclose(tracks.transverse(*double), np.linalg.norm(np.cross(p, jet, axis=0), axis=0), rtol=1e-5)


@given(st.floats(-7, 7, width=32))
def test_hyperbolic_functions_in_single_precision(eta):
    value = np.array([eta], dtype=np.float32)
    cosh = tracks.cosh(value)
    assert np.isclose(cosh[0], math.cosh(eta), rtol=5e-7)
    assert np.isclose(tracks.sinh(value, cosh)[0], math.sinh(eta), rtol=1e-6, atol=1e-44)


def test_collinear_track():
    eta, phi = np.array([0.3]), np.array([1.0])
    jet, zero = tracks.direction(eta, phi), np.zeros(1)
    opened = tracks.opening(zero, zero, np.cosh(eta), np.cosh(eta))
    assert opened == 0
    assert np.isclose(tracks.parallel(10 * np.cosh(eta), opened), 10 * np.cosh(0.3))
    assert tracks.transverse(10 * np.cosh(eta), opened) == 0
    assert np.isclose(tracks.relative_rapidity(np.array([5.0]), zero), np.arcsinh(5 / tracks.PION_MASS))
    assert np.isclose(tracks.jet_distance(np.array([0.02]), np.array([0.0]), eta, phi, jet), -0.02)


def test_opposite_and_perpendicular_tracks():
    zero, one = np.zeros(2), np.ones(2)
    opened = tracks.opening(zero, np.array([-np.pi, np.pi / 2]), one, one)
    assert np.allclose(tracks.parallel(3 * one, opened), [-3, 0], atol=1e-15)
    assert np.allclose(tracks.transverse(3 * one, opened), [0, 3], atol=1e-7)
    assert tracks.relative_rapidity(np.array([-3.0]), np.zeros(1)) < 0


def test_zero_impact_parameter_counts_as_positive_and_its_error_is_finite():
    zero = np.zeros(1)
    for d0, phi in ((0.0, 1.0), (0.0, -1.0), (-0.3, 0.0), (0.3, 0.0), (-0.0, -1.0)):
        value = tracks.signed_ip2d(np.array([d0]), np.array([phi]))[0]
        assert value == abs(d0)
        assert not np.signbit(value)
    error = tracks.ip3d_error(zero, np.array([0.003]), zero, np.array([0.004]), zero)
    assert np.isclose(error, np.hypot(0.003, tracks.VERTEX_ERROR))


def test_impact_parameter_without_a_direction_has_no_sign():
    value = tracks.signed_ip2d(np.array([0.1, 0.1, -0.1]), np.array([np.nan, -0.2, 0.2]))
    assert np.isnan(value[0])
    assert value[1:].tolist() == [0.1, 0.1]


def test_transverse_error_propagation():
    d0, error = np.array([0.1]), np.array([0.002])
    zero = np.zeros(1)
    assert np.isclose(tracks.ip3d_error(d0, error, zero, zero + 5, zero + 1.5), np.hypot(0.002, tracks.VERTEX_ERROR))
