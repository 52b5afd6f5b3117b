"""Systematic shifts: sources, closed forms, and the chi2 with their covariance."""

import numpy as np
import pytest
from scipy import stats

from pfnano_tag.compare.agreement import Sample, agreement
from pfnano_tag.compare.shifts import Source, band_of, shifts_of, sources_of


def sample(values, variances):
    return Sample(np.asarray(values, dtype=float), np.asarray(variances, dtype=float))


def test_pairs_are_one_source_and_others_stand_alone():
    found = sources_of(["nominal", "jes_up", "tracks", "jes_down", "pileup_down", "nominal", "ip_up"])
    assert found == (
        Source("jes", "jes_up", "jes_down"),
        Source("tracks", "tracks"),
        Source("pileup_down", "pileup_down"),
        Source("ip_up", "ip_up"),
    )
    assert sources_of(["nominal"]) == ()


def test_shifts_and_band():
    values = {
        "nominal": np.array([10.0, 20]),
        "a_up": np.array([13.0, 19]),
        "a_down": np.array([9.0, 23]),
        "b": np.array([6.0, 20]),
    }
    shifts = shifts_of(values)
    np.testing.assert_allclose(shifts, [[2, -2], [-4, 0]])
    np.testing.assert_allclose(band_of(shifts), [np.sqrt(20), 2])
    assert shifts_of({"nominal": np.ones(3)}).shape == (0, 3)


def test_chi2_of_two_bins_with_one_source():
    data, simulation = sample([12, 30], [12, 30]), sample([10, 25], [2.0, 3.0])
    shift = np.array([[1.0, 4.0]])
    covariance = np.diag([10 + 2, 25 + 3.0]) + np.outer(shift[0], shift[0])
    residual = np.array([2.0, 5.0])
    found = agreement(data, simulation, np.array([0, 1]), False, shift)
    assert found.chi2 == pytest.approx(residual @ np.linalg.solve(covariance, residual), rel=1e-12)
    assert found.ndf == 2
    none = agreement(data, simulation, np.array([0, 1]), False, np.zeros((0, 2)))
    assert none.chi2 == pytest.approx(agreement(data, simulation, np.array([0, 1]), False).chi2, rel=1e-12)


def test_a_source_is_a_nuisance_parameter():
    """The chi2 with the covariance is the minimum over the strength of the source, constrained to 0 +- 1."""
    data, simulation = sample([12, 30, 60], [12, 30, 60]), sample([10, 25, 70], [4.0, 6.0, 9.0])
    shift = np.array([3.0, 2.0, -6.0])
    found = agreement(data, simulation, np.arange(3), False, shift[None])
    variances = simulation.values + simulation.variances
    strength = np.linspace(-5, 5, 200001)[:, None]
    pulls = (data.values - simulation.values - strength * shift) ** 2 / variances
    assert found.chi2 == pytest.approx((pulls.sum(axis=1) + strength[:, 0] ** 2).min(), rel=1e-7)


def test_shifts_are_merged_as_bins_are():
    data, simulation = sample([5, 7, 30], [5, 7, 30]), sample([4, 6, 25], [1, 1, 3.0])
    merged = agreement(data, simulation, np.array([0, 2]), True, np.array([[1.0, 2.0, -3.0]]))
    direct = agreement(
        sample([12, 30], [12, 30]), sample([10, 25], [2, 3.0]), np.arange(2), True, np.array([[3.0, -3.0]])
    )
    assert merged.chi2 == pytest.approx(direct.chi2, rel=1e-12)


@pytest.mark.parametrize("to_data", [False, True])
def test_p_values_of_shifted_toys_are_uniform(to_data):
    random = np.random.default_rng(5)
    truth = np.array([40, 60, 80, 50, 30, 90.0]) * 10
    shift = truth * np.linspace(-0.15, 0.15, 6)
    if to_data:
        shift -= truth * shift.sum() / truth.sum()
    p, without = [], []
    for _ in range(2000):
        simulation = sample(truth, np.zeros(6))
        data = random.poisson(truth + random.normal() * shift).astype(float)
        scaled = shift[None] * (data.sum() / truth.sum() if to_data else 1.0)
        p.append(agreement(sample(data, data), simulation, np.arange(6), to_data, scaled).p)
        without.append(agreement(sample(data, data), simulation, np.arange(6), to_data).p)
    assert np.mean(p) == pytest.approx(0.5, abs=0.03)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.02)
    assert stats.kstest(without, "uniform").pvalue < 1e-10
