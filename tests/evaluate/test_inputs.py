import dataclasses

import numpy as np
import pytest

from pfnano_tag.errors import StudyError
from pfnano_tag.evaluate.inputs import InputSurvey
from pfnano_tag.evaluate.loss import read_history
from pfnano_tag.nano.jets import ConstituentTable, JetTable
from pfnano_tag.prepare.inputs import InputFeature

CLASSES = ("b", "c", "uds", "g")


def feature(identifier, transform="none", mean=0.0, std=1.0, live=True):
    name = identifier.partition("/")[2]
    return InputFeature(identifier, name, transform, mean, std, 0.0, False, False, live)


FEATURES = (feature("jet/pt", "log", 4, 0.5), feature("charged/trackDeltaR", mean=0.1, std=0.1), feature("jet/eta"))


def jets(count=400, seed=1):
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 4, count)
    offsets = np.append(0, np.cumsum(counts))
    pt = generator.exponential(60, count).astype(np.float32) + 20
    near = generator.uniform(0, 0.5, offsets[-1]).astype(np.float32)
    near[offsets[:-1][counts > 0]] = (0.3 - np.log(pt[counts > 0]) / 30).astype(np.float32)  # shrinks with pt
    table = JetTable(
        {"pt": pt, "eta": np.full(count, 0.5, np.float32)},
        {"charged": ConstituentTable({"trackDeltaR": near}, offsets)},
        np.arange(count),
        np.arange(count),
        {"charged/trackDeltaR": generator.random(offsets[-1]) < 0.2},
    )
    return table, generator.integers(0, 4, count)


def test_histograms_equal_numpy_with_flow_in_the_edge_bins():
    table, label = jets()
    survey = InputSurvey(FEATURES, CLASSES)
    survey.add(table, label)
    for identifier, of_jet in (
        ("jet/pt", label),
        ("charged/trackDeltaR", np.repeat(label, table.groups["charged"].counts)),
    ):
        real = ~table.default_mask(identifier)
        edges = survey.edges(identifier)
        values = np.clip(table.column(identifier), edges[0], edges[-1])
        for flavour in range(4):
            expected = np.histogram(values[real & (of_jet == flavour)], edges)[0]
            # a value on an edge may fall to either side of it
            assert np.abs(survey.seen[identifier].counts_K[flavour] - expected).sum() <= 2
    seen = survey.seen["charged/trackDeltaR"]
    assert seen.values + seen.placeholders == table.groups["charged"].offsets[-1]
    assert seen.placeholders == table.default["charged/trackDeltaR"].sum()
    assert seen.total / seen.values == pytest.approx(table.column("charged/trackDeltaR")[real].mean(), rel=1e-5)


def test_chunks_add_up():
    table, label = jets()
    whole, parts = InputSurvey(FEATURES, CLASSES), InputSurvey(FEATURES, CLASSES)
    whole.add(table, label)
    for start, stop in ((0, 150), (150, 150), (150, 400)):
        parts.add(table.select(np.arange(start, stop)), label[start:stop])
    for identifier in whole.seen:
        np.testing.assert_array_equal(whole.seen[identifier].counts_K, parts.seen[identifier].counts_K)
        assert whole.seen[identifier].high == parts.seen[identifier].high
    np.testing.assert_allclose(whole.correlations(), parts.correlations(), atol=1e-9)


def test_correlations_are_of_leading_constituents_without_placeholders():
    table, label = jets()
    survey = InputSurvey(FEATURES, CLASSES)
    survey.add(table, label)
    found = survey.correlations()
    charged = table.groups["charged"]
    there = charged.counts > 0
    first = charged.offsets[:-1][there]
    usable = ~table.default["charged/trackDeltaR"][first]
    expected = np.corrcoef(np.log1p(table.jet["pt"][there][usable]), charged.columns["trackDeltaR"][first][usable])
    assert found[0, 1] == pytest.approx(expected[0, 1], abs=1e-6)
    assert found[0, 1] < -0.99
    np.testing.assert_allclose(np.diag(found)[:2], 1)
    assert np.isnan(found[2]).all()  # eta is constant here
    np.testing.assert_array_equal(found, found.T)


def test_dead_feature_has_no_correlation():
    table, label = jets()
    survey = InputSurvey((*FEATURES[:1], dataclasses.replace(FEATURES[1], live=False)), CLASSES)
    survey.add(table, label)
    assert np.isnan(survey.correlations()[0, 1])


def test_history(tmp_path):
    assert read_history(tmp_path) == {}
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"epoch": 1, "training_loss": 2.0, "auc_BvsL": null}\n{"epoch": 2, "training_loss": 1.5}\n')
    assert read_history(tmp_path) == {"epoch": [1, 2], "training_loss": [2.0, 1.5], "auc_BvsL": [None, None]}
    for broken in ('{"epoch": 1', "[1, 2]"):
        metrics.write_text(broken)
        with pytest.raises(StudyError, match="metrics.jsonl"):
            read_history(tmp_path)
