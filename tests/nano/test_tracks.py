"""Track quantities: closed forms, and a twin that works with vectors one track at a time."""

import numpy as np
import pytest

from pfnano_tag.nano import tracks


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


def test_against_vectors_one_by_one(random_tracks):
    t = random_tracks
    jet = tracks.direction(t["jet_eta"], t["jet_phi"])
    p = tracks.momentum(t["pt"], t["eta"], t["phi"])
    ppar, ptrel = tracks.parallel(p, jet), tracks.transverse(p, jet)
    etarel = tracks.relative_rapidity(ppar, ptrel)
    ip2d = tracks.signed_ip2d(t["d0"], t["phi"], t["jet_phi"])
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


def test_collinear_track():
    one = np.array([0.3]), np.array([1.0])
    jet = tracks.direction(*one)
    p = tracks.momentum(np.array([10.0]), *one)
    ppar = tracks.parallel(p, jet)
    assert np.isclose(ppar, 10 * np.cosh(0.3))
    assert np.isclose(tracks.transverse(p, jet), 0, atol=1e-7)
    distance = tracks.jet_distance(np.array([0.02]), np.array([0.0]), *one, jet)
    assert np.isclose(distance, -0.02)


def test_zero_impact_parameter_counts_as_positive_and_its_error_is_finite():
    zero = np.zeros(1)
    assert tracks.signed_ip2d(zero, zero, zero + 1)[0] == 0
    assert not np.signbit(tracks.signed_ip2d(zero, zero, zero + 1)[0])
    error = tracks.ip3d_error(zero, np.array([0.003]), zero, np.array([0.004]), zero)
    assert np.isclose(error, np.hypot(0.003, tracks.VERTEX_ERROR))


def test_transverse_error_propagation():
    d0, error = np.array([0.1]), np.array([0.002])
    zero = np.zeros(1)
    assert np.isclose(tracks.ip3d_error(d0, error, zero, zero + 5, zero + 1.5), np.hypot(0.002, tracks.VERTEX_ERROR))
