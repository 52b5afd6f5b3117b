import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from pfnano_tag.evaluate.auc import auc
from pfnano_tag.evaluate.roc import mistag_at, rank, roc


def brute_force_auc(score, signal, weight):
    total = won = 0.0
    for s, w in zip(score[signal], weight[signal], strict=True):
        for t, v in zip(score[~signal], weight[~signal], strict=True):
            total += w * v
            won += w * v * (1.0 if s > t else 0.5 if s == t else 0.0)
    return won / total


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_auc_with_ties_and_weights_equals_pair_counting(data):
    jets = data.draw(st.integers(2, 14))
    score = np.array(data.draw(st.lists(st.integers(-1, 3), min_size=jets, max_size=jets)), dtype=float)
    weight = np.array(data.draw(st.lists(st.floats(0.1, 5), min_size=jets, max_size=jets)))
    signal = np.arange(jets) < data.draw(st.integers(1, jets - 1))
    assert auc(score, signal, weight) == pytest.approx(brute_force_auc(score, signal, weight), abs=1e-12)


@pytest.mark.parametrize("digits", [1, 2, 12])
def test_auc_and_curve_equal_scikit_learn(digits):
    generator = np.random.default_rng(3)
    signal = generator.random(3000) < 0.2
    score = np.round(generator.normal(size=3000) + signal, digits)
    weight = generator.exponential(size=3000)
    assert auc(score, signal, weight) == pytest.approx(roc_auc_score(signal, score, sample_weight=weight), abs=1e-12)
    mistag, efficiency, _ = roc_curve(signal, score, sample_weight=weight, drop_intermediate=False)
    ours = rank(score, signal).curve(weight)
    np.testing.assert_allclose(ours[0], efficiency[1:], atol=1e-12)
    np.testing.assert_allclose(ours[1], mistag[1:], atol=1e-12)


def test_two_gaussians_have_the_known_area():
    generator = np.random.default_rng(5)
    signal = np.repeat([True, False], 40_000)
    score = generator.normal(size=80_000) + 1.5 * signal
    error = 0.002  # of the AUC with 40,000 jets on each side
    assert auc(score, signal) == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=4 * error)


def test_undefined_and_not_a_number_count_as_lowest():
    signal = np.array([True, True, False, False])
    assert auc(np.array([0.9, -1.0, 0.1, 0.2]), signal) == 0.5
    assert auc(np.array([0.9, np.nan, -1.0, 0.2]), signal) == 0.5


def test_nothing_to_compare_is_not_a_number():
    assert np.isnan(auc(np.array([0.1, 0.2]), np.array([True, True])))
    assert np.isnan(auc(np.array([]), np.array([], dtype=bool)))


def test_mistag_at_efficiency():
    # descending: s b s s b b  -> efficiency 1/3 at mistag 0; 2/3 and 1 at mistag 1/3
    ranking = rank(np.array([6.0, 5, 4, 3, 2, 1]), np.array([True, False, True, True, False, False]))
    curve = ranking.curve()
    np.testing.assert_allclose(mistag_at(np.array([1 / 3, 2 / 3, 1.0]), *curve), [0, 1 / 3, 1 / 3])
    # all in one tie: the diagonal
    tied = rank(np.zeros(6), np.array([True] * 3 + [False] * 3)).curve()
    np.testing.assert_allclose(mistag_at(np.array([0.0, 0.25, 1.0]), *tied), [0, 0.25, 1])


def test_roc_band_covers_the_binomial_spread():
    generator = np.random.default_rng(7)
    jets = 20_000
    signal = np.repeat([True, False], jets)
    score = np.where(signal, 1.0, generator.random(2 * jets))
    score[:jets] = generator.random(jets)  # no separation: mistag = efficiency
    weights = generator.poisson(1, size=(60, 2 * jets)).astype(np.uint8)
    drawn = roc(rank(score, signal), weights, np.array([0.1, 0.5]))
    # both the threshold (from the signal) and the mistag rate fluctuate binomially
    expected = np.sqrt(2 * drawn.efficiency_E * (1 - drawn.efficiency_E) / jets)
    np.testing.assert_allclose(drawn.error_E, expected, rtol=0.35)
    assert roc(rank(score, signal)).error_E is None
