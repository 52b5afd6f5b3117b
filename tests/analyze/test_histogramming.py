"""Filling against brute force, and bootstrap replicas."""

from __future__ import annotations

import numpy as np
import pytest

from pfnano_tag.analyze.histogramming import Histograms, bin_of, logit
from pfnano_tag.analyze.result import Category, Variable
from pfnano_tag.evaluate.bootstrap import replica_weights


def variable(kind="kinematics", flavours=("b", "g"), replicas=0, bins=10, low=0.0, high=1.0):
    categories = []
    for region in ("one", "two"):
        categories += [Category(region, f) for f in flavours]
        categories += [Category(region, "all", replica=r) for r in range(replicas)]
    return Variable("x", kind, "x", "x", "", bins, low, high, tuple(categories))


def test_fill_is_a_weighted_histogram_with_flow():
    rng = np.random.default_rng(1)
    x, weight, flavour = rng.normal(0.5, 0.6, 5000), rng.normal(1, 1, 5000), rng.integers(0, 2, 5000)
    histograms = Histograms({"x": variable()})
    histograms.fill("x", ("two", "none", "nominal"), x, {"nominal": weight}, flavour)
    values, variances = histograms.contents()["x"][1].values, histograms.contents()["x"][1].variances
    edges = [-np.inf, *np.linspace(0, 1, 11), np.inf]
    for row, which in ((2, 0), (3, 1)):
        mine = flavour == which
        np.testing.assert_allclose(values[row], np.histogram(x[mine], edges, weights=weight[mine])[0], atol=1e-9)
        np.testing.assert_allclose(variances[row], np.histogram(x[mine], edges, weights=weight[mine] ** 2)[0])
    assert not values[:2].any()


def test_a_score_of_one_is_in_the_last_bin_and_undefined_below_the_first():
    x = np.array([-1.0, 0.0, 0.05, 1.0, np.nan, 1.5])
    assert bin_of(variable("discriminant"), x).tolist() == [0, 1, 1, 10, 0, 11]
    assert bin_of(variable("kinematics"), x).tolist() == [0, 1, 1, 11, 0, 11]


def test_infinite_logits_are_in_the_flow():
    assert bin_of(variable(low=-12.0, high=12.0), logit(np.array([0.0, 0.5, 1.0]))).tolist() == [0, 6, 11]


def test_sparse_parts_add_up_to_the_whole():
    rng = np.random.default_rng(2)
    x, weight, flavour = rng.random(100), rng.random(100), rng.integers(0, 2, 100)
    whole, total = Histograms({"x": variable()}), Histograms({"x": variable()})
    whole.fill("x", ("one", "none", "nominal"), x, {"nominal": weight}, flavour)
    for part in (slice(0, 30), slice(30, 100)):
        piece = Histograms({"x": variable()})
        piece.fill("x", ("one", "none", "nominal"), x[part], {"nominal": weight[part]}, flavour[part])
        total.add(piece.sparse())
    np.testing.assert_allclose(total.contents()["x"][1].values, whole.contents()["x"][1].values, rtol=1e-14)


def test_replicas_are_events_counted_as_often_as_drawn():
    rng = np.random.default_rng(3)
    x, weight = rng.random(300), rng.random(300)
    counts = replica_weights(rng.integers(0, 2**63, 300).astype(np.uint64), 7).T
    histograms = Histograms({"x": variable(replicas=7)})
    histograms.fill_replicas("x", ("two", "none", "nominal"), x, weight, counts, 2)
    content = histograms.contents()["x"][1]
    for replica in range(7):
        repeated = np.repeat(np.arange(300), counts[:, replica])
        expected, _ = np.histogram(x[repeated], np.linspace(0, 1, 11), weights=weight[repeated])
        np.testing.assert_allclose(content.values[9 + 2 + replica, 1:-1], expected, rtol=1e-12)


def test_the_spread_of_replicas_is_the_statistical_error():
    rng = np.random.default_rng(4)
    hashes = rng.integers(0, 2**63, 2000).astype(np.uint64)
    weight = rng.uniform(0.5, 1.5, 2000)
    totals = (replica_weights(hashes, 400) * weight).sum(axis=1)
    assert totals.std() == pytest.approx(np.sqrt((weight**2).sum()), rel=0.1)
