"""Weights: closed forms, and a brute-force twin over jets."""

import itertools

import numpy as np
import pytest

from pfnano_tag.card.reweighting import Reweighting
from pfnano_tag.prepare.reweighting import WeightTables, bin_of, count_jets, lookup, weight_tables

CLASSES = ("b", "c", "uds", "g")
PT, ETA = (20.0, 40.0, 80.0, 200.0), (-2.5, 0.0, 2.5)


def settings(**options):
    return Reweighting(pt_edges=PT, eta_edges=ETA, **{"cap_quantile": 1.0, **options})


@pytest.fixture
def jets():
    rng = np.random.default_rng(11)
    label = rng.choice(4, 4000, p=[0.1, 0.05, 0.25, 0.6])
    pt = np.clip(rng.exponential(20 * (1 + label)) + 20, 20, 199).astype(np.float32)
    return label, pt, rng.uniform(-2.5, 2.5, 4000).astype(np.float32)


def tables_of(jets, **options):
    card = settings(**options)
    return weight_tables(count_jets(jets[0], len(CLASSES), *jets[1:], card), CLASSES, card)


def weighted(tables):
    return tables.counts * tables.weights


def shape(histograms):
    return histograms / histograms.sum(axis=(1, 2), keepdims=True)


def test_counts_equal_a_loop(jets):
    counts = count_jets(jets[0], 4, *jets[1:], settings())
    looped = np.zeros_like(counts)
    for label, pt, eta in zip(*jets, strict=True):
        for p, e in itertools.product(range(3), range(2)):
            looped[label, p, e] += PT[p] <= pt < PT[p + 1] and ETA[e] <= eta < ETA[e + 1]
    assert np.array_equal(counts, looped)
    assert counts.sum() == 4000


def test_bins_include_the_last_edge_only_there():
    values = np.array([20, 39.99, 40, 200, 200.01, 19.99, np.nan, -np.inf])
    assert bin_of(values, PT).tolist() == [0, 0, 1, 2, -1, -1, -1, -1]


@pytest.mark.parametrize("target", ["average", "flat", "reference"])
def test_both_gives_equal_shapes_and_equal_yields(jets, target):
    tables = tables_of(jets, target=target, reference="c")
    found = weighted(tables)
    assert np.allclose(found, found[0])
    before = shape(tables.counts.astype(float))
    wanted = {"average": before.mean(axis=0), "flat": np.full((3, 2), 1 / 6), "reference": before[1]}[target]
    assert np.allclose(shape(found), wanted)


def test_kinematics_keeps_the_yields(jets):
    tables = tables_of(jets, correct="kinematics")
    assert np.allclose(shape(weighted(tables)), shape(weighted(tables))[0])
    assert np.allclose(weighted(tables).sum(axis=(1, 2)), tables.counts.sum(axis=(1, 2)))


def test_balance_keeps_the_shapes(jets):
    tables = tables_of(jets, correct="balance")
    assert np.allclose(shape(weighted(tables)), shape(tables.counts))
    assert np.allclose(weighted(tables).sum(axis=(1, 2)), 1000)


def test_none_changes_nothing(jets):
    assert np.array_equal(tables_of(jets, correct="none").weights, np.ones((4, 3, 2)))


def test_jet_by_jet_twin_of_the_default(jets):
    tables = tables_of(jets)
    label, pt, eta = jets
    cell = [tuple(np.flatnonzero([low <= x < high for low, high in itertools.pairwise(edges)])[0] for x, edges in
            ((pt[j], PT), (eta[j], ETA))) for j in range(300)]  # fmt: skip
    share = [[(tables.counts[k][c] / tables.counts[k].sum()) for k in range(4)] for c in cell]
    twin = [np.mean(s) / s[k] * 4000 / (4 * tables.counts[k].sum()) for s, k in zip(share, label[:300], strict=True)]
    assert np.allclose(lookup(tables, label[:300], pt[:300], eta[:300]), twin)
    assert lookup(tables, label, pt, eta).mean() == pytest.approx(1)


@pytest.mark.parametrize("correct", ["kinematics", "balance", "both", "none"])
@pytest.mark.parametrize("target", ["average", "flat", "reference"])
def test_empty_bins_have_no_weight_and_cost_no_yield(correct, target):
    counts = np.array([[[10, 0], [5, 5]], [[1, 1], [0, 2]], [[100, 50], [25, 0]]])
    card = Reweighting(
        pt_edges=(20, 40, 80), eta_edges=(-1, 0, 1), correct=correct, target=target, reference="b", cap_quantile=1
    )
    tables = weight_tables(counts, ("b", "c", "uds"), card)
    assert np.isfinite(tables.weights).all()
    assert (tables.weights[counts == 0] == 0).all()
    assert (counts * tables.weights).sum() == pytest.approx(counts.sum())
    yields = (counts * tables.weights).sum(axis=(1, 2))
    wanted = counts.sum() / 3 if correct in ("both", "balance") else counts.sum(axis=(1, 2))
    assert np.allclose(yields, wanted)


def test_cap_is_a_quantile_of_each_class(jets):
    label, pt, eta = jets
    free, capped = tables_of(jets), tables_of(jets, cap_quantile=0.9)
    for k in range(4):
        mine = label == k
        weights = lookup(free, label[mine], pt[mine], eta[mine])
        cap = np.quantile(weights, 0.9, method="inverted_cdf")
        expected = np.minimum(weights, cap)
        expected *= 1000 / expected.sum()  # the yield is given back
        assert np.allclose(lookup(capped, label[mine], pt[mine], eta[mine]), expected)


def test_rare_class_keeps_its_balance_under_the_default_cap():
    rng = np.random.default_rng(5)
    label = (rng.random(20000) < 0.003).astype(int)
    card = Reweighting()
    pt, eta = rng.exponential(40, 20000) + 20, rng.uniform(-2.5, 2.5, 20000)
    tables = weight_tables(count_jets(label, 2, pt, eta, card), ("uds", "b"), card)
    weights = lookup(tables, label, pt, eta)
    assert weights[label == 1].sum() == pytest.approx(weights[label == 0].sum())


def test_outside_the_bins_there_is_no_weight(jets):
    tables = tables_of(jets)
    assert lookup(tables, np.array([0, 1]), np.array([500.0, 30.0]), np.array([0.0, -3.0])).tolist() == [0, 0]


def test_merged_reference_means_b(jets):
    card = settings(target="reference", reference="bb")
    counts = count_jets(jets[0], 4, *jets[1:], card)
    tables = weight_tables(counts, CLASSES, card)
    assert np.allclose(shape(weighted(tables))[3], shape(counts)[0])


def test_round_trip(jets):
    tables = tables_of(jets)
    again = WeightTables.from_json(tables.to_json())
    assert again.pt_edges == tables.pt_edges
    assert np.array_equal(again.weights, tables.weights)
    with pytest.raises(ValueError, match="don't fit"):
        WeightTables.from_json({**tables.to_json(), "pt_edges": [1, 2]})
