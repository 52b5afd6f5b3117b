"""chi2 closed forms, p-values and errors against toys, equal-yield bins."""

import numpy as np
import pytest
from scipy import stats

from pfnano_tag.compare.agreement import (
    LEAST_EXPECTED,
    Reduced,
    Sample,
    agreement,
    corrected_error,
    difference,
    equal_yield_starts,
    mean_of,
    populated_starts,
)


def sample(values, variances=None, replicas=None):
    values = np.asarray(values, dtype=float)
    return Sample(values, values.copy() if variances is None else np.asarray(variances, dtype=float), replicas)


def test_chi2_of_fixed_normalisation_is_pearsons_with_both_statistics():
    data, simulation = sample([12, 30]), sample([10, 25], [2.0, 3.0])
    result = agreement(data, simulation, np.array([0, 1]), to_data=False)
    expected = (12 - 10) ** 2 / (10 + 2) + (30 - 25) ** 2 / (25 + 3)
    assert result.chi2 == pytest.approx(expected, rel=1e-12)
    assert result.ndf == 2
    assert result.p == pytest.approx(stats.chi2.sf(expected, 2), rel=1e-12)


def test_chi2_normalised_to_data_is_the_minimum_over_the_scale():
    data, simulation = sample([12, 30, 60]), sample([20, 50, 70], [4.0, 6.0, 9.0])
    result = agreement(data, simulation, np.array([0, 1, 2]), to_data=True)
    k0 = 102 / 140
    variances = k0 * simulation.values + k0**2 * simulation.variances
    scales = np.linspace(0.5, 1, 200001)[:, None]
    brute = (((data.values - scales * simulation.values) ** 2 / variances).sum(axis=1)).min()
    assert result.chi2 == pytest.approx(brute, rel=1e-7)
    assert result.ndf == 2


def test_normalised_to_data_does_not_see_the_yield():
    data = sample([12, 30, 60, 20])
    exact = agreement(data, sample(data.values * 7), np.arange(4), to_data=True)
    assert exact.chi2 == pytest.approx(0, abs=1e-12)
    assert exact.p == pytest.approx(1)
    assert agreement(data, sample(data.values * 7), np.arange(4), to_data=False).chi2 > 100


@pytest.mark.parametrize("to_data", [False, True])
def test_p_values_of_subtracted_data_are_uniform(to_data):
    random = np.random.default_rng(6)
    opposite, same = np.array([90, 160, 240, 110, 80.0]), np.array([30, 70, 100, 50, 30.0])
    simulation = sample(opposite - same, np.zeros(5))
    p = []
    for _ in range(2000):
        plus, minus = random.poisson(opposite), random.poisson(same)
        data = sample(plus - minus, plus + minus)
        p.append(agreement(data, simulation, np.arange(5), to_data).p)
    # the variance per count is the same in all bins only about: not flat to the last per cent
    assert np.mean(p) == pytest.approx(0.5, abs=0.04)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.025)


def test_subtracted_data_without_a_yield_agree_with_what_they_come_from():
    """Of 200 pairs a bin hardly anything is left, often less than nothing."""
    random = np.random.default_rng(1)
    expected = np.array([10.0, 15, 20, 15, 10])
    simulation, found = sample(expected, np.zeros(5)), []
    for _ in range(1000):
        plus, minus = random.poisson(expected + 200), random.poisson(np.full(5, 200))
        found.append(agreement(sample(plus - minus, plus + minus), simulation, np.arange(5), False).chi2)
    assert np.mean(found) == pytest.approx(5, rel=0.15)
    assert np.max(found) < 60


@pytest.mark.parametrize("to_data", [False, True])
def test_p_values_of_toys_are_uniform(to_data):
    random = np.random.default_rng(5)
    truth = np.array([40, 60, 80, 50, 30, 90.0])
    weight = 0.25
    p = []
    for _ in range(3000):
        entries = random.poisson(truth / weight)
        simulation = sample(entries * weight, entries * weight**2)
        data = sample(random.poisson(truth * (1.7 if to_data else 1.0)))
        p.append(agreement(data, simulation, np.arange(6), to_data).p)
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def toy(random, shift, correlated, entries, edges):
    """Two models' scores of the same jets, filled with replicas that share the events' weights."""
    score = random.normal(shift, 1, entries)
    other = score * np.sqrt(1 - correlated**2) + random.normal(0, correlated, entries)
    poisson = random.poisson(1.0, (40, entries))
    filled = []
    for values in (score, other):
        cells = np.digitize(values, edges)
        plain = np.bincount(cells, minlength=len(edges) + 1).astype(float)
        replicas = np.array([np.bincount(cells, row, len(edges) + 1) for row in poisson])
        filled.append(sample(plain, replicas=replicas))
    return filled


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_bootstrap_error_of_a_difference_is_the_spread_of_independent_experiments(shift):
    edges = np.linspace(-3, 3, 61)
    random = np.random.default_rng(11)
    values, errors, single_values, single_errors = [], [], [], []
    for _ in range(150):
        data = toy(random, shift, 0.6, 1500, edges)
        simulation = [one.scaled(0.5) for one in toy(random, 0.0, 0.6, 3000, edges)]
        results = []
        for d, s in zip(data, simulation, strict=True):
            results.append(agreement(d, s, equal_yield_starts(s, 20), to_data=True))
        both = difference(*(result.reduced for result in results))
        values.append(both.value)
        errors.append(both.error)
        single_values.append(results[0].reduced.value)
        single_errors.append(results[0].reduced.error)
    # The floor of the error makes it a little too large where there is no disagreement; never clearly too small.
    assert 0.85 < np.sqrt(np.mean(np.square(errors))) / np.std(values) < 1.4
    assert 0.85 < np.sqrt(np.mean(np.square(single_errors))) / np.std(single_values) < 1.4
    if shift == 0.0:  # no difference: few claims of one
        assert np.mean(np.abs(np.array(values)) > 2 * np.array(errors)) < 0.12


def test_a_model_never_differs_from_itself():
    random = np.random.default_rng(3)
    replicas = random.poisson(20.0, (30, 4)).astype(float)
    data = sample([20, 22, 18, 20], replicas=replicas)
    one = agreement(data, sample([20, 20, 20, 20], replicas=replicas[::-1]), np.arange(4), to_data=False)
    same = difference(one.reduced, one.reduced)
    assert same.value == 0
    assert same.error == 0
    assert same.significance == 0
    assert same.better is None


def test_a_clear_difference_is_called_and_names_the_better_one():
    random = np.random.default_rng(3)
    truth = np.full(10, 500.0)
    bad = truth * np.linspace(0.7, 1.3, 10)
    data_values = random.poisson(truth).astype(float)
    data = sample(data_values, replicas=random.poisson(data_values, (50, 10)).astype(float))
    good_mc = sample(truth, np.zeros(10), np.tile(truth, (50, 1)))
    bad_mc = sample(bad, np.zeros(10), np.tile(bad, (50, 1)))
    first = agreement(data, bad_mc, np.arange(10), to_data=True)
    second = agreement(data, good_mc, np.arange(10), to_data=True)
    found = difference(first.reduced, second.reduced)
    assert found.better == "second"
    assert difference(second.reduced, first.reduced).better == "first"
    assert found.value == pytest.approx(first.reduced.value - second.reduced.value)


def test_corrected_error_takes_the_second_fluctuation_out():
    random = np.random.default_rng(8)
    observed = random.normal(0, 1, 20000)  # many bins: the sample's own fluctuation
    fluctuation = random.normal(0, 1, (400, 20000))
    chi2 = ((observed + fluctuation) ** 2).sum(axis=1)
    noise = (fluctuation**2).sum(axis=1)
    assert chi2.std() > 1.5 * np.sqrt(2 * 20000)  # what the plain bootstrap would say
    assert corrected_error(chi2, noise) == pytest.approx(np.sqrt(2 * 20000), rel=0.15)


def test_equal_yield_bins_hold_equal_yields():
    simulation = sample(np.full(300, 10.0))
    starts = equal_yield_starts(simulation, 30)
    assert len(starts) == 30
    np.testing.assert_allclose(np.add.reduceat(simulation.values, starts), 100.0)
    assert starts[0] == 0


def test_equal_yield_bins_are_fewer_where_statistics_do_not_allow():
    assert len(equal_yield_starts(sample(np.full(300, 0.2)), 30)) in (10, 11, 12)  # 60 expected counts, 5 in each
    assert len(equal_yield_starts(sample(np.full(300, 0.01)), 30)) == 0
    assert len(equal_yield_starts(sample(np.zeros(300)), 30)) == 0
    scaled = equal_yield_starts(sample(np.full(300, 2.0), np.full(300, 0.01)), 30, scale=0.1)
    assert len(scaled) in (10, 11, 12)


def test_equal_yield_bins_ask_for_effective_simulated_entries():
    few = sample(np.full(300, 10.0), np.full(300, 10.0 * 60))  # weight 60: 50 effective entries
    starts = equal_yield_starts(few, 30)
    merged = few.merged(starts)
    assert 2 <= len(starts) <= 10
    assert np.all(merged.values**2 / merged.variances >= LEAST_EXPECTED)


def test_a_spike_does_not_make_empty_bins():
    values = np.full(300, 0.1)
    values[17] = 1000.0
    starts = equal_yield_starts(sample(values), 30)
    assert len(starts) in (2, 3)
    assert np.all(np.add.reduceat(values, starts) >= LEAST_EXPECTED - 4)


def test_populated_bins_cover_everything_once():
    random = np.random.default_rng(1)
    simulation = sample(random.exponential(3.0, 60))
    starts = populated_starts(simulation)
    merged = np.add.reduceat(simulation.values, starts)
    assert merged.sum() == pytest.approx(simulation.values.sum())
    assert np.all(merged >= LEAST_EXPECTED)
    assert len(populated_starts(sample([1.0, 2.0, 1.0]))) == 0


def test_merging_replicas_and_scaling():
    replicas = np.arange(12.0).reshape(2, 6)
    one = sample([1, 2, 3, 4, 5, 6], replicas=replicas).merged(np.array([0, 2, 5])).scaled(2.0)
    np.testing.assert_allclose(one.values, [6, 24, 12])
    np.testing.assert_allclose(one.variances, [12, 48, 24])
    np.testing.assert_allclose(one.replicas_RF, [[2, 18, 10], [26, 54, 22]])


def test_mean_of_discriminants_keeps_replicas_together():
    first = Reduced(1.0, np.array([1.0, 3.0]), np.array([0.5, 0.5]))
    second = Reduced(3.0, np.array([5.0, 3.0]), np.array([0.5, 1.5]))
    mean = mean_of([first, second])
    assert mean.value == 2.0
    np.testing.assert_allclose(mean.values_R, [3.0, 3.0])
    np.testing.assert_allclose(mean.noise_R, [0.5, 1.0])
    assert mean_of([first, Reduced(2.0)]).error is None
