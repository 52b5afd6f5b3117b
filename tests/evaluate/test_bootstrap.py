import numpy as np
import pytest

from pfnano_tag.evaluate.auc import auc, auc_with_replicas, differences
from pfnano_tag.evaluate.bootstrap import error_of, replica_weights
from pfnano_tag.evaluate.roc import rank
from pfnano_tag.prepare.splitting import event_hash, split_of


def hashes(events, dataset="qcd"):
    return event_hash(dataset, np.ones(events, np.int64), np.ones(events, np.int64), np.arange(events))


def test_weights_are_poisson_of_mean_one_and_independent():
    weights = replica_weights(hashes(20_000), 8)
    assert weights.mean() == pytest.approx(1, abs=0.01)
    assert weights.var() == pytest.approx(1, abs=0.02)
    for value, share in enumerate([0.36788, 0.36788, 0.18394, 0.06131]):
        assert (weights == value).mean() == pytest.approx(share, abs=0.005)
    correlation = np.corrcoef(weights)
    assert np.abs(correlation - np.eye(8)).max() < 0.035


def test_weights_do_not_know_the_split():
    ids = hashes(60_000)
    test = split_of(ids, (0.72, 0.08, 0.20)) == 2
    weights = replica_weights(ids[test], 10)
    np.testing.assert_allclose(weights.mean(axis=1), 1, atol=0.045)


def test_weights_belong_to_the_event():
    ids = hashes(500)
    jets = np.random.default_rng(1).permutation(np.repeat(np.arange(500), 3))
    weights = replica_weights(ids, 5)
    np.testing.assert_array_equal(replica_weights(ids[jets], 5), weights[:, jets])
    np.testing.assert_array_equal(replica_weights(ids, 3), weights[:3])


def test_replicas_equal_repeating_jets():
    generator = np.random.default_rng(2)
    ids = np.repeat(hashes(150), 2)
    signal = generator.random(300) < 0.4
    score = np.round(generator.normal(size=300) + signal, 1)
    weights = replica_weights(ids, 6)
    ours = auc_with_replicas(rank(score, signal), weights)
    for weight, value in zip(weights, ours.replicas_R, strict=True):
        copies = np.repeat(np.arange(300), weight)  # the literal bootstrap: a jet drawn twice stands there twice
        assert value == pytest.approx(auc(score[copies], signal[copies]), abs=1e-12)


def test_error_is_that_of_independent_samples_also_with_correlated_jets():
    """Jets of an event have the same score here, so an error that treats them as independent is half as large."""

    def sample(seed):
        generator = np.random.default_rng(seed)
        signal = np.repeat(generator.random(1000) < 0.5, 4)
        return np.repeat(generator.normal(size=1000), 4) + 0.8 * signal, signal

    spread = np.std([auc(*sample(seed)) for seed in range(200)], ddof=1)
    score, signal = sample(1000)
    by_event = auc_with_replicas(rank(score, signal), replica_weights(np.repeat(hashes(1000), 4), 200))
    by_jet = auc_with_replicas(rank(score, signal), replica_weights(hashes(4000), 200))
    assert by_event.error == pytest.approx(spread, rel=0.25)
    assert by_jet.error == pytest.approx(spread / 2, rel=0.25)


def test_difference_of_like_models_has_a_small_error():
    generator = np.random.default_rng(4)
    signal = generator.random(4000) < 0.5
    score = generator.normal(size=4000) + signal
    weights = replica_weights(hashes(4000), 50)
    models = {
        name: {"BvsL": auc_with_replicas(rank(values, signal), weights)}
        for name, values in {"a": score, "b": score + 0.01 * generator.normal(size=4000), "same": score}.items()
    }
    found = differences(models)
    assert set(found) == {"a - b", "a - same", "b - same"}
    assert found["a - same"]["BvsL"] == [0, 0]
    value, error = found["a - b"]["BvsL"]
    assert value == models["a"]["BvsL"].value - models["b"]["BvsL"].value
    assert 0 < error < models["a"]["BvsL"].error / 5


def test_no_error_without_replicas():
    assert error_of(np.array([])) is None
    assert error_of(np.array([1.0, np.nan])) is None
    none = auc_with_replicas(rank(np.array([1.0, 0.0]), np.array([True, False])), replica_weights(hashes(2), 0))
    assert none.value == 1
    assert none.error is None
