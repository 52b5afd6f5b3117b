import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from pfnano_tag.evaluate.confusion import accuracy, confusion
from pfnano_tag.evaluate.efficiency import passing_share, working_point
from pfnano_tag.evaluate.roc import rank

NONE = np.empty((0, 0), dtype=np.uint8)


def test_working_point_of_uniform_scores():
    background = (np.arange(1000) + 0.5) / 1000
    signal = np.sqrt(background)  # density 2x: efficiency above t is 1 - t^2
    score = np.concatenate([signal, background])
    is_signal = np.repeat([True, False], 1000)
    weights = np.random.default_rng(1).poisson(1, size=(80, 2000)).astype(np.uint8)
    point = working_point(rank(score, is_signal), 0.1, weights)
    assert point.reached <= 0.1
    assert point.background_jets == 100
    assert (background >= point.threshold).mean() == pytest.approx(0.1)
    assert point.efficiency == pytest.approx((signal >= point.threshold).mean())
    assert point.efficiency == pytest.approx(1 - 0.9**2, abs=0.002)
    # signal binomial, and the threshold's spread (background binomial) times the signal density 2t
    expected = np.sqrt(0.19 * 0.81 / 1000 + (2 * 0.9) ** 2 * 0.09 / 1000)
    assert point.error == pytest.approx(expected, rel=0.3)


def test_working_point_never_lets_more_through_than_asked_for_with_ties():
    score = np.array([3.0, 3, 2, 2, 1, 1, 1, 0])
    signal = np.array([True, True, True, False, False, True, False, False])
    point = working_point(rank(score, signal), 0.49, NONE)
    assert (point.threshold, point.reached, point.efficiency) == (2.0, 0.25, 0.75)
    assert point.error is None


def test_unreachable_working_point_has_no_threshold():
    point = working_point(rank(np.array([1.0, 1.0]), np.array([True, False])), 0.01, NONE)
    assert point.threshold is None
    assert (point.efficiency, point.reached, point.background_jets) == (0, 0, 0)


def test_passing_share_and_its_error():
    generator = np.random.default_rng(2)
    pt = np.repeat([25.0, 60.0], 5000)
    passes = generator.random(10_000) < np.where(pt < 30, 0.2, 0.6)
    weights = generator.poisson(1, size=(100, 10_000)).astype(np.uint8)
    share, error = passing_share(pt, passes, np.array([20.0, 30, 50, 100]), weights)
    assert share[0] == passes[:5000].mean()
    assert np.isnan(share[1])
    assert share[2] == passes[5000:].mean()
    np.testing.assert_allclose(error[[0, 2]], np.sqrt(share[[0, 2]] * (1 - share[[0, 2]]) / 5000), rtol=0.25)
    # values outside the bins are left out
    assert passing_share(np.array([5.0, 25.0]), np.array([True, False]), np.array([20.0, 30.0]), NONE)[0] == 0


def test_confusion_equals_scikit_learn():
    generator = np.random.default_rng(3)
    nodes, label = generator.random((500, 4)), generator.integers(0, 4, 500)
    expected = confusion_matrix(label, nodes.argmax(1), normalize="true")
    np.testing.assert_allclose(confusion(nodes, label), expected)
    assert accuracy(nodes, label) == pytest.approx((nodes.argmax(1) == label).mean())
    absent = confusion(nodes[label > 0], label[label > 0])
    assert np.isnan(absent[0]).all()
    np.testing.assert_allclose(absent[1:].sum(axis=1), 1)
