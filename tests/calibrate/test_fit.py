"""The fit of scale factors: closed forms, a twin in loops, pulls, and what can't be fitted."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

pytest.importorskip("iminuit", reason="the extra `fit` is not installed")

from pfnano_tag.calibrate.fit import Counts, FitFailed, Model, Priors, fit
from pfnano_tag.errors import MissingExtra

PRIORS = Priors(0.2, 0.3)
YIELDS = np.array([[4000.0, 300, 700], [200, 2500, 1200], [60, 400, 6000]])
EFFICIENCIES, FACTORS = np.array([0.7, 0.2, 0.05]), np.array([0.95, 1.1, 1.3])
WEIGHT = 0.25


def toy(random, ratio=0.2, weight=WEIGHT):
    """Simulation, and data whose efficiencies are those of simulation times the true factors."""
    passing, failing = (random.poisson(YIELDS * share / weight) for share in (EFFICIENCIES, 1 - EFFICIENCIES))
    values = np.stack([failing, passing], axis=-1) * weight
    ratios = np.where(np.eye(3, dtype=bool), 1.0, random.normal(1, ratio, (3, 3)))
    true = EFFICIENCIES * FACTORS
    data = random.poisson((1.1 * YIELDS * ratios)[:, :, None] * np.stack([1 - true, true], axis=-1)).sum(axis=1)
    data = data.astype(float)
    return Counts(data, data, values, values * weight, np.array([False, True]), (0, 1, 2))


def pure(sf, jets=1e6):
    """Three pure regions, simulation without errors."""
    passing = jets * EFFICIENCIES
    values = np.zeros((3, 3, 2))
    data = np.zeros((3, 2))
    for place in range(3):
        values[place, place] = jets - passing[place], passing[place]
        data[place] = jets - sf[place] * passing[place], sf[place] * passing[place]
    return Counts(data, data, values, np.zeros_like(values), np.array([False, True]), (0, 1, 2))


def test_pure_regions_give_the_ratio_of_efficiencies_with_a_binomial_error():
    found = fit(pure(FACTORS), PRIORS)
    np.testing.assert_allclose(found.sf_F, FACTORS, rtol=1e-4)
    true = EFFICIENCIES * FACTORS
    expected = np.sqrt(true * (1 - true) / 1e6) / EFFICIENCIES
    np.testing.assert_allclose(np.sqrt(np.diag(found.covariance_FF)), expected, rtol=0.01)


def test_expected_yields_are_conserved_and_pass_as_often_as_they_should():
    counts = toy(np.random.default_rng(1))
    model = Model(counts, PRIORS)
    parameters = model.start.copy()
    parameters[:3] = FACTORS
    before, after = model.expected(model.start), model.expected(parameters)
    np.testing.assert_allclose(after.sum(axis=2), before.sum(axis=2), rtol=1e-12)
    np.testing.assert_allclose(after[..., 1], before[..., 1] * FACTORS, rtol=1e-12)


def test_the_statistics_is_its_text_in_loops():
    random = np.random.default_rng(2)
    counts = toy(random)
    model = Model(counts, PRIORS)
    parameters = model.start * random.uniform(0.9, 1.1, len(model.start))
    squares = model.relative_squares(model.start)
    sf, norm, ratio = model.split(parameters)
    total = 0.0
    for region in range(3):
        for place in range(2):
            s = 0.0
            for flavour in range(3):
                failing, passing = counts.values_RFX[region, flavour]
                moved = passing * sf[flavour] if place else failing + (1 - sf[flavour]) * passing
                s += norm[region] * ratio[region, flavour] * moved
            n, d = counts.data_RX[region, place], math.sqrt(squares[region, place])

            def of_beta(beta, s=s, n=n, d=d):
                return 2 * (beta * s - n + n * math.log(n / (beta * s))) + ((beta - 1) / d) ** 2

            total += minimize_scalar(of_beta, bounds=(0.5, 1.5), method="bounded", options={"xatol": 1e-10}).fun
    total += sum(((ratio[r, f] - 1) / 0.2) ** 2 for r in range(3) for f in range(3) if r != f)
    assert model.statistics(parameters) == pytest.approx(total, rel=1e-6)


def test_pulls_are_normal():
    random = np.random.default_rng(3)
    pulls = []
    for _ in range(80):
        found = fit(toy(random), PRIORS)
        pulls.append((found.sf_F - FACTORS) / np.sqrt(np.diag(found.covariance_FF)))
    error = 1 / math.sqrt(len(pulls))
    assert np.abs(np.mean(pulls, axis=0)).max() < 3.5 * error
    assert np.abs(np.std(pulls, axis=0) - 1).max() < 3.5 * error / math.sqrt(2)


def test_little_simulation_makes_a_larger_error():
    random = np.random.default_rng(4)
    counts = toy(random)
    few = replace(counts, variances_RFX=counts.variances_RFX * 100)
    errors = [np.sqrt(np.diag(fit(one, PRIORS).covariance_FF)) for one in (counts, few)]
    assert (errors[1] > 1.5 * errors[0]).all()


def test_weighted_data_have_the_error_of_their_weights():
    counts = pure(FACTORS, 1e5)
    weighted = replace(counts, data_variances_RX=4 * counts.data_RX)
    errors = [np.sqrt(np.diag(fit(one, PRIORS).covariance_FF)) for one in (counts, weighted)]
    np.testing.assert_allclose(errors[1], 2 * errors[0], rtol=0.02)
    np.testing.assert_allclose(fit(weighted, PRIORS).sf_F, FACTORS, rtol=1e-3)


def test_negative_differences_of_same_sign_are_no_obstacle():
    counts = toy(np.random.default_rng(5))
    values, variances = counts.values_RFX.copy(), counts.variances_RFX.copy()
    data, squares = counts.data_RX.copy(), counts.data_RX.copy()
    values[1, 0] = -20, 10
    data[1] -= counts.values_RFX[1, 0] * 1.1
    squares[1] += 500
    found = fit(replace(counts, data_RX=data, data_variances_RX=squares, values_RFX=values), PRIORS)
    assert np.abs((found.sf_F - FACTORS) / np.sqrt(np.diag(found.covariance_FF))).max() < 3.5
    assert (variances >= 0).all()


def test_a_flavour_without_region_keeps_its_prior():
    counts = toy(np.random.default_rng(6))
    two = Counts(
        counts.data_RX[[0, 2]],
        counts.data_variances_RX[[0, 2]],
        counts.values_RFX[[0, 2]],
        counts.variances_RFX[[0, 2]],
        counts.passing_X,
        (0, 2),
    )
    found = fit(two, PRIORS)
    assert found.sf_F[1] == pytest.approx(1, abs=0.1)
    assert math.sqrt(found.covariance_FF[1, 1]) == pytest.approx(0.3, rel=0.1)
    narrow = fit(two, Priors(0.2, 0.01))
    assert narrow.covariance_FF[2, 2] < found.covariance_FF[2, 2]


def test_free_compositions_come_from_the_templates():
    random = np.random.default_rng(7)
    shapes = np.array([[1, 2, 5, 1, 3, 9], [4, 5, 2, 3, 3, 1], [9, 3, 1, 6, 2, 1.0]])
    shapes[:, :3] *= ((1 - EFFICIENCIES) / shapes[:, :3].sum(axis=1))[:, None]
    shapes[:, 3:] *= (EFFICIENCIES / shapes[:, 3:].sum(axis=1))[:, None]
    values = 20 * YIELDS[:, :, None] * shapes
    true = np.where(np.arange(6) > 2, FACTORS[:, None], ((1 - FACTORS * EFFICIENCIES) / (1 - EFFICIENCIES))[:, None])
    ratios = np.array([[1, 1.6, 0.5], [0.5, 1, 1.4], [2.0, 0.6, 1]])
    data = random.poisson((values * true * ratios[:, :, None]).sum(axis=1)).astype(float)
    counts = Counts(data, data, values, np.zeros_like(values), np.arange(6) > 2, (0, 1, 2))
    found = fit(counts, Priors(None, 0.3))
    assert found.ndf == 18 - 12
    assert found.chi2 < 25
    assert np.abs((found.sf_F - FACTORS) / np.sqrt(np.diag(found.covariance_FF))).max() < 3.5
    np.testing.assert_allclose(found.ratio_RF[0], ratios[0], rtol=0.3)


def test_more_parameters_than_bins():
    with pytest.raises(FitFailed, match="12 parameters for 6 bins and priors"):
        fit(toy(np.random.default_rng(8)), Priors(None, 0.3))


def test_flavours_that_look_alike_are_not_told_apart():
    shape = np.array([5.0, 3, 1, 1])
    values = np.broadcast_to(1000 * YIELDS[:, :, None] / 6000 * shape, (3, 3, 4)).copy()
    data = np.round(values.sum(axis=1))
    counts = Counts(data, data, values, np.zeros_like(values), np.arange(4) > 1, (0, 1, 2))
    with pytest.raises(FitFailed, match="did not converge|can't be told apart|limit"):
        fit(counts, Priors(None, 0.3))


def test_data_with_fewer_jets_than_the_rest_explains():
    counts = toy(np.random.default_rng(9))
    data = counts.data_RX.copy()
    data[2, 1] = 1.0
    with pytest.raises(FitFailed, match=r"at the limit sf_light = 0: data have fewer jets than the rest explains"):
        fit(replace(counts, data_RX=data, data_variances_RX=data), Priors(0.01, 0.3))


def test_without_iminuit(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "iminuit", None)
    with pytest.raises(MissingExtra, match=r"pip install 'pfnano_tag\[fit\]'"):
        fit(toy(np.random.default_rng(1)), PRIORS)


def test_a_flavour_that_data_lack_is_left_out():
    random = np.random.default_rng(7)
    shapes = np.array([[1, 2, 5, 1, 3, 9], [4, 5, 2, 3, 3, 1], [9, 3, 1, 6, 2, 1.0]])
    shapes[:, :3] *= ((1 - EFFICIENCIES) / shapes[:, :3].sum(axis=1))[:, None]
    shapes[:, 3:] *= (EFFICIENCIES / shapes[:, 3:].sum(axis=1))[:, None]
    values = 20 * YIELDS[:, :, None] * shapes
    ratios = np.ones((3, 3))
    ratios[2, 0] = -0.5  # pulls the parameter beyond its limit
    data = random.poisson((values * ratios[:, :, None]).sum(axis=1)).astype(float)
    found = fit(Counts(data, data, values, np.zeros_like(values), np.arange(6) > 2, (0, 1, 2)), Priors(None, 0.3))
    assert found.ratio_RF[2, 0] == 0
    np.testing.assert_allclose(found.sf_F[:2], 1, atol=0.05)
