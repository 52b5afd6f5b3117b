"""Distances: closed forms, peers, p-values and errors against toys."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from pfnano_tag.compare.agreement import Sample, difference, equal_yield_starts
from pfnano_tag.compare.distances import (
    NAMES,
    distances,
    earth_mover,
    jensen_shannon,
    kolmogorov_smirnov,
    seed_of,
)

TRUTH = np.array([40, 60, 80, 50, 30, 90, 10, 5.0])


def sample(values, variances=None, replicas=None):
    values = np.asarray(values, dtype=float)
    return Sample(values, values.copy() if variances is None else np.asarray(variances, dtype=float), replicas)


def test_two_bins():
    p, q = np.array([0.75, 0.25]), np.array([0.25, 0.75])
    assert kolmogorov_smirnov(p, q) == pytest.approx(0.5)
    assert earth_mover(p, q, 10.0) == pytest.approx(5.0)  # half of everything moves by one bin of 10
    assert jensen_shannon(p, q) == pytest.approx(0.75 * np.log2(1.5) + 0.25 * np.log2(0.5))
    apart = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert kolmogorov_smirnov(*apart) == 1
    assert jensen_shannon(*apart) == 1


def test_the_earth_mover_counts_how_far_and_the_others_do_not():
    here, near, far = np.eye(5)[0], np.eye(5)[1], np.eye(5)[4]
    assert earth_mover(here, near, 2.0) == pytest.approx(2.0)
    assert earth_mover(here, far, 2.0) == pytest.approx(8.0)
    assert kolmogorov_smirnov(here, near) == kolmogorov_smirnov(here, far) == 1


def test_all_agree_with_scipy():
    random = np.random.default_rng(1)
    data, simulation = random.uniform(1, 9, 20), random.uniform(1, 9, 20)
    found = distances(sample(data), sample(simulation), np.arange(20), 0.5)
    p, q = data / data.sum(), simulation / simulation.sum()
    middle = np.arange(20) * 0.5
    assert found["earth_mover"].reduced.value == pytest.approx(stats.wasserstein_distance(middle, middle, p, q))
    assert found["jensen_shannon"].reduced.value == pytest.approx(jensenshannon(p, q, 2) ** 2)
    brute = max(abs(p[:i].sum() - q[:i].sum()) for i in range(21))
    assert found["ks"].reduced.value == pytest.approx(brute)


def test_yields_do_not_count_and_the_same_shape_has_no_distance():
    found = distances(sample(TRUTH), sample(TRUTH * 7), np.arange(8), 1.0, toys=50)
    assert found.keys() == set(NAMES)
    for one in found.values():
        assert one.reduced.value == pytest.approx(0, abs=1e-12)
        assert one.p == pytest.approx(1)


def test_what_can_not_be_measured_is_not_there():
    assert distances(sample(np.zeros(8)), sample(TRUTH), np.arange(8), 1.0, toys=5) == {}
    few = distances(sample(TRUTH), sample(TRUTH), np.zeros(1, dtype=np.int64), 1.0)
    assert few.keys() == {"ks", "earth_mover"}
    assert few["ks"].p is None
    assert few["ks"].reduced.error is None


def test_what_may_be_nothing_has_no_shape():
    nothing = sample([30, -40, 20, -5, 0, 0, 0, 0], np.full(8, 100.0))  # 5 +- 28
    something = sample([300, -40, 20, -5, 0, 0, 0, 0], np.full(8, 100.0))
    assert distances(nothing, sample(TRUTH), np.arange(8), 1.0, toys=5) == {}
    assert distances(sample(TRUTH), nothing, np.arange(8), 1.0, toys=5) == {}
    assert distances(something, sample(TRUTH), np.arange(8), 1.0, toys=5).keys() == set(NAMES)
    assert distances(sample([1, 0, 0, 0, 0, 0, 0, 1]), sample(TRUTH), np.arange(8), 1.0).keys() == set(NAMES)


def test_toys_are_the_same_for_the_same_subject_only():
    data, simulation = sample(np.roll(TRUTH, 1)), sample(TRUTH * 2, TRUTH * 3)

    def p_of(seed, subject):
        found = distances(data, simulation, np.arange(8), 1.0, 300, seed_of(seed, subject))
        return [found[name].p for name in NAMES]

    near = sample(TRUTH + np.sqrt(TRUTH) * np.array([1, -1, 1, -1, 1, -1, 1, -1]))
    assert p_of(1, "a/b/c/d") == p_of(1, "a/b/c/d")
    data = near
    assert p_of(1, "a/b/c/d") != p_of(2, "a/b/c/d")
    assert p_of(1, "a/b/c/d") != p_of(1, "a/b/c/e")
    assert all(0 < p <= 1 for p in p_of(1, "x"))


@pytest.mark.parametrize("weight", [0.05, 1.0, 2.0])
def test_p_values_of_toys_are_uniform(weight):
    """Also where simulation has as few effective entries as data, or fewer."""
    random = np.random.default_rng(5)
    fine = np.repeat(TRUTH / 5, 5)
    p = {name: [] for name in NAMES}
    for i in range(600):
        entries = random.poisson(fine / weight)
        simulation = sample(entries * weight, entries * weight**2)
        data = sample(random.poisson(fine * 1.7))
        starts = equal_yield_starts(simulation, 12)
        for name, one in distances(data, simulation, starts, 1.0, 99, i).items():
            p[name].append(one.p)
    for name, values in p.items():
        assert np.mean(values) == pytest.approx(0.5, abs=0.05), name
        assert np.mean(np.array(values) <= 0.05) == pytest.approx(0.05, abs=0.03), name
        assert stats.kstest(values, "uniform").pvalue > 1e-4, name


def test_p_values_of_weighted_data_are_not_too_small():
    random = np.random.default_rng(6)
    opposite, same = np.array([90, 160, 240, 110, 80.0]), np.array([30, 70, 100, 50, 30.0])
    simulation = sample(opposite - same, np.zeros(5))
    p = []
    for i in range(600):
        plus, minus = random.poisson(opposite), random.poisson(same)
        found = distances(sample(plus - minus, plus + minus), simulation, np.arange(5), 1.0, 99, i)
        p.append(found["ks"].p)
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_a_shift_is_found():
    edges = np.linspace(-3, 3, 61)
    random = np.random.default_rng(2)
    data, _ = np.histogram(random.normal(0.2, 1, 3000), edges)
    simulation, _ = np.histogram(random.normal(0, 1, 30000), edges)
    found = distances(sample(data), sample(simulation), np.arange(0, 60, 5), 0.1, 200)
    assert all(one.p < 0.01 for one in found.values())
    assert found["earth_mover"].reduced.value == pytest.approx(0.2, abs=0.06)  # everything moves by the shift


def filled(random, shift, entries, edges):
    score = random.normal(shift, 1, entries)
    cells = np.digitize(score, edges)
    replicas = np.array(
        [np.bincount(cells, row, len(edges) + 1) for row in random.poisson(1.0, (40, entries)).astype(float)]
    )
    return sample(np.bincount(cells, minlength=len(edges) + 1), replicas=replicas)


@pytest.mark.parametrize(("shift", "largest"), [(0.3, 1.25), (0.0, 1.5)])
def test_bootstrap_errors_are_the_spread_of_independent_experiments(shift, largest):
    edges = np.linspace(-3, 3, 31)
    random = np.random.default_rng(11)
    values, errors = ({name: [] for name in NAMES} for _ in range(2))
    for _ in range(120):
        data, simulation = filled(random, shift, 1000, edges), filled(random, 0.0, 3000, edges)
        for name, one in distances(data, simulation, equal_yield_starts(simulation, 10), 0.2).items():
            values[name].append(one.reduced.value)
            errors[name].append(one.reduced.error)
    for name in NAMES:
        ratio = np.sqrt(np.mean(np.square(errors[name]))) / np.std(values[name])
        assert 0.8 < ratio < largest, (name, ratio)


def test_a_model_never_differs_from_itself():
    random = np.random.default_rng(3)
    one = distances(filled(random, 0.1, 500, np.arange(5)), filled(random, 0, 500, np.arange(5)), np.arange(6), 1.0)
    for distance in one.values():
        between = difference(distance.reduced, distance.reduced)
        assert between.value == between.error == 0
