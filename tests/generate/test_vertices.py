"""Vertex fits in closed form, and the finder on tracks of known vertices."""

import numpy as np
import pytest

from pfnano_tag.generate.detector import impact_parameters
from pfnano_tag.generate.ragged import Table, table_of
from pfnano_tag.generate.vertices import adaptive_weight, find_vertices, fit, significance


def tracks_from(points, directions, errors=(0.002, 0.003), rng=None, event=None, events=1):
    eta, phi = directions
    d0, dz = impact_parameters(*points.T, eta, phi)
    if rng is not None:
        d0, dz = d0 + rng.normal(0, errors[0], len(d0)), dz + rng.normal(0, errors[1], len(dz))
    n = len(eta)
    columns = {"eta": eta, "phi": phi, "d0": d0, "dz": dz, "pt": np.full(n, 3.0)}
    columns |= {"d0Err": np.full(n, errors[0]), "dzErr": np.full(n, errors[1]), "sig": np.hypot(d0, dz) / errors[0]}
    return table_of(np.zeros(n, int) if event is None else event, events, **columns)


def test_exact_tracks_give_the_vertex_back():
    point = np.array([0.31, -0.22, 0.53])
    directions = np.array([0.3, 0.9, -0.2]), np.array([-0.6, -0.2, -1.1])
    tracks = tracks_from(np.tile(point, (3, 1)), directions)
    result = fit(tracks, np.arange(3), np.zeros(3, int), np.ones(3), 1)
    np.testing.assert_allclose(result.position[0], point, atol=1e-6)
    np.testing.assert_allclose(result.track_chi2, 0, atol=1e-6)


def test_covariance_and_chi2_are_honest():
    rng = np.random.default_rng(5)
    vertices, per = 2000, 4
    point = np.array([0.4, 0.1, 0.2])
    n = vertices * per
    directions = rng.normal(0.5, 0.3, n), rng.normal(0.2, 0.3, n)
    tracks = tracks_from(np.tile(point, (n, 1)), directions, rng=rng)
    number = np.repeat(np.arange(vertices), per)
    result = fit(tracks, np.arange(n), number, np.ones(n), vertices)
    pulls = (result.position - point) / np.sqrt(np.einsum("vii->vi", result.covariance))
    assert pulls.std(axis=0) == pytest.approx(np.ones(3), abs=0.06)
    chi2 = np.bincount(number, result.track_chi2)
    assert chi2.mean() == pytest.approx(2 * per - 3, rel=0.05)


def test_two_perfect_tracks_have_ndof_of_the_real_file():
    assert 2 * 2 * adaptive_weight(np.zeros(1))[0] - 3 == pytest.approx(0.94, abs=0.03)


def test_finder_finds_two_vertices_and_leaves_prompt_tracks():
    rng = np.random.default_rng(11)
    first, second = np.array([0.5, 0.05, 0.2]), np.array([-0.3, 0.6, -0.4])
    points = np.concatenate([np.tile(first, (4, 1)), np.tile(second, (3, 1)), np.zeros((20, 3))])

    def around(p, n):
        eta = np.arcsinh(p[2] / np.hypot(p[0], p[1]))
        return rng.normal(eta, 0.12, n), rng.normal(np.arctan2(p[1], p[0]), 0.12, n)

    parts = [around(first, 4), around(second, 3), (rng.uniform(-2, 2, 20), rng.uniform(-3, 3, 20))]
    eta, phi = (np.concatenate([p[k] for p in parts]) for k in (0, 1))
    tracks = tracks_from(points, (eta, phi), rng=rng)
    found, member, vertex = find_vertices(tracks, np.full((1, 3, 3), 0.0) + np.eye(3) * 1e-6)
    assert len(found) == 2
    for point, rows in ((first, range(4)), (second, range(4, 7))):
        distance = np.linalg.norm(np.stack([found["x"], found["y"], found["z"]], 1) - point, axis=1)
        best = int(np.argmin(distance))
        assert distance[best] < 0.1
        assert set(member[vertex == best]) <= set(rows)
        assert found["ntracks"][best] >= len(rows) - 1
        assert found["dlenSig"][best] > 5
        assert found["pAngle"][best] > 2.9


def test_no_tracks_no_vertices():
    empty = Table(
        {k: np.zeros(0) for k in ("eta", "phi", "d0", "dz", "pt", "d0Err", "dzErr", "sig")}, np.zeros(4, int)
    )
    found, member, vertex = find_vertices(empty, np.zeros((3, 3, 3)))
    assert len(found) == len(member) == len(vertex) == 0
    assert found.num_events == 3


def test_flight_significance_along_the_flight():
    covariance = np.diag([0.01, 0.04, 0.09])[None] ** 2
    length, error = significance(np.array([[3.0, 0.0, 4.0]]), covariance)
    assert length[0] == pytest.approx(5.0)
    assert error[0] == pytest.approx(np.sqrt((0.6 * 0.01) ** 2 + (0.8 * 0.09) ** 2))
    length, error = significance(np.array([[3.0, 0.0, 4.0]]), covariance, transverse=True)
    assert (length[0], error[0]) == pytest.approx((3.0, 0.01))
