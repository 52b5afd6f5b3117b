"""Resampling: jets in the wanted proportions, an epoch of fixed length, the same draws whoever reads."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import CLASSES, labelled_jets

from pfnano_tag.card.resampling import Resampling
from pfnano_tag.card.reweighting import Reweighting
from pfnano_tag.errors import CardError, StudyError
from pfnano_tag.prepare.reweighting import WeightTables, count_jets, weight_tables
from pfnano_tag.train.dataloader import LabelledInputs, Stream
from pfnano_tag.train.resampling import Population, drawing_of, effective_size
from pfnano_tag.train.weight_lookup import weight_column

WITH, WITHOUT = "with_replacement", "without_replacement"
WAYS = list(itertools.product((WITH, WITHOUT), ("weights", "balanced")))


def population(*sorts, classes=2):
    label, weight, count = (np.array(column) for column in zip(*sorts, strict=True))
    return Population(label, weight.astype(float), count, classes)


TWO = population((0, 1.0, 100), (1, 0.5, 200), (1, 0.0, 50))
"""100 jets of weight 1, 200 of weight 0.5, 50 of weight 0."""


def of(drawing):
    """Expected copies, weight in the loss, and target of each sort."""
    label, weight = drawing.population.label_N, drawing.population.weight_N
    return [function(label, weight) for function in (drawing.expected, drawing.loss_weight, drawing.target)]


def test_rejection_keeps_jets_by_their_weight_and_leaves_none_in_the_loss():
    drawing = drawing_of(Resampling(), TWO)
    expected, rest, _ = of(drawing)
    assert drawing.jets == 200  # 100 x 1 + 200 x 0.5
    assert expected.tolist() == pytest.approx([1, 0.5, 0])
    assert rest.tolist() == pytest.approx([1, 1, 1])
    assert drawing.effective_size() == pytest.approx(200)


def test_more_jets_than_rejection_gives_leave_the_rest_as_weights():
    drawing = drawing_of(Resampling(jets=250), TWO)
    expected, rest, _ = of(drawing)
    assert expected.tolist() == pytest.approx([1, 0.75, 0])  # c = (250 - 100) / (200 x 0.5) = 1.5
    assert rest[:2].tolist() == pytest.approx([1.5, 1])
    # sum k v = 100 x 1.5 + 150 = 300, sum k v^2 = 100 x 2.25 + 150 = 375
    assert drawing.effective_size() == pytest.approx(300**2 / 375)


def test_copies():
    drawing = drawing_of(Resampling(mode=WITH), TWO)
    expected, rest, _ = of(drawing)
    assert drawing.jets == 300  # those with a weight
    assert expected.tolist() == pytest.approx([1.5, 0.75, 0])
    assert rest.tolist() == pytest.approx([1, 1, 1])
    # copies count as one jet: sum of mu + mu^2
    assert drawing.effective_size() == pytest.approx(300**2 / (100 * (1.5 + 1.5**2) + 200 * (0.75 + 0.75**2)))


def test_balanced_classes_keep_their_weights_relative_to_their_mean():
    sample = population((0, 1.0, 100), (1, 2.0, 200), (1, 4.0, 200), (1, 0.0, 7), classes=3)
    drawing = drawing_of(Resampling(target="balanced"), sample)
    expected, rest, target = of(drawing)
    assert drawing.jets == 200
    assert expected.tolist() == pytest.approx([1, 0.25, 0.25, 0])
    assert rest[:3].tolist() == pytest.approx([1, 2 / 3, 4 / 3])
    assert target.tolist() == pytest.approx(
        [2.5, 0.625 * 2 / 3, 0.625 * 4 / 3, 0]
    )  # 500 / (2 x 100), 500 / (2 x 400)
    by_class = sample.per_class(sample.count_N * target)
    assert by_class.tolist() == pytest.approx([250, 250, 0])


@settings(max_examples=60)
@given(
    sorts=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.01, 0.3, 1.0, 1.7, 25.0]), st.integers(1, 500)),
        min_size=2,
        max_size=9,
    ),
    share=st.floats(0.01, 1.0),
    way=st.sampled_from(WAYS),
)
def test_expected_copies_times_weight_in_the_loss_are_the_target(sorts, share, way):
    sample = population(*sorts, classes=3)
    total = int(sample.drawable_N.sum())
    jets = max(1, int(share * total))
    try:
        drawing = drawing_of(Resampling(mode=way[0], target=way[1], jets=jets), sample)
    except CardError:
        assert total == 0 or jets == total
        return
    expected, rest, target = of(drawing)
    assert sample.count_N @ expected == pytest.approx(jets)
    product = expected * rest
    assert product == pytest.approx(target * (sample.count_N @ product) / (sample.count_N @ target), rel=1e-5)
    assert (expected[sample.weight_N == 0] == 0).all()
    assert drawing.effective_size() <= jets * (1 + 1e-6)


def test_effective_sample_size():
    weight = np.random.default_rng(1).exponential(size=500)
    assert effective_size(weight, np.ones(500, dtype=int)) == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    assert effective_size(np.array([2.0]), np.array([37])) == pytest.approx(37)


@pytest.mark.parametrize(("mode", "target"), WAYS)
def test_draws_of_many_epochs_have_the_expected_number_of_each_jet(mode, target):
    rng = np.random.default_rng(3)
    label, weight = rng.integers(0, 3, 400), rng.choice([0, 0.2, 1.0, 3.0], 400)
    drawing = drawing_of(Resampling(mode=mode, target=target, jets=150), Population.of_jets(label, weight, 3))
    expected, trials = drawing.expected(label, weight), 400
    copies = np.array(
        [np.bincount(drawing.draw(5, epoch)(0, (2, 1), label, weight), minlength=400) for epoch in range(trials)]
    )
    spread = expected if mode == WITH else expected * (1 - expected)
    assert (abs(copies.mean(0) - expected) <= 5 * np.sqrt(spread / trials)).all()
    assert (copies[:, weight == 0] == 0).all()
    totals = copies.sum(1)
    assert abs(totals.mean() - 150) < 5 * np.sqrt(spread.sum() / trials)
    assert totals.var() == pytest.approx(spread.sum(), rel=0.4)
    assert mode == WITH or copies.max() == 1
    if target == "balanced":
        by_class = np.array([copies[:, label == one].sum() for one in range(3)])
        assert (abs(by_class - 50 * trials) < 5 * np.sqrt(50 * trials)).all()


@pytest.mark.parametrize("mode", [WITH, WITHOUT])
def test_drawn_jets_have_the_shape_and_the_classes_of_the_reweighting(mode):
    """Three classes, rare and frequent, falling and rising in pT: all come out as often, with their mean shape."""
    rng = np.random.default_rng(8)
    label = rng.choice(3, 6000, p=[0.1, 0.3, 0.6])
    pt = 20 + 180 * rng.beta(np.array([1, 2, 3])[label], np.array([3, 1, 2])[label])
    eta = rng.uniform(-2.5, 2.5, 6000)
    binning = Reweighting(pt_edges=(20, 60, 110, 150, 200), eta_edges=(-2.5, 0, 2.5), cap_quantile=1)
    counts = count_jets(label, 3, pt, eta, binning)
    tables = weight_tables(counts, ("b", "c", "g"), binning)
    weight = weight_column(tables, label, pt, eta)
    drawing = drawing_of(Resampling(mode=mode), Population.of_tables(tables))
    drawn = np.concatenate([drawing.draw(1, epoch)(0, (0, 0), label, weight) for epoch in range(40)])
    found = count_jets(label[drawn], 3, pt[drawn], eta[drawn], binning)
    shapes = counts / counts.sum(axis=(1, 2), keepdims=True)
    expected = len(drawn) / 3 * shapes.mean(axis=0)
    assert (abs(found - expected) < 5 * np.sqrt(expected)).all()
    assert (abs(found.sum(axis=(1, 2)) - len(drawn) / 3) < 5 * np.sqrt(len(drawn) / 3)).all()
    assert len(drawn) == pytest.approx(40 * drawing.jets, abs=5 * np.sqrt(40 * drawing.jets))


def test_passes_over_the_same_chunk_never_draw_a_jet_twice_and_in_the_end_all():
    weight = np.random.default_rng(4).uniform(0.05, 1, 300)
    weight[:20] = 0
    label = np.zeros(300, dtype=int)
    draw = drawing_of(Resampling(), Population.of_jets(label, weight, 1)).draw(1, 1)
    passes = [draw(lap, (0, 0), label, weight) for lap in range(30)]
    assert np.array_equal(np.sort(np.concatenate(passes)), np.arange(20, 300))
    assert not np.array_equal(passes[0], draw(0, (0, 1), label, weight))


def numbered(count, seed=0):
    """Jets that carry their number as a feature; weights from 0 to 2.5."""
    jets = labelled_jets(count, seed)
    jets.inputs.jet_JF[:, 0] = torch.arange(count)
    weight = (jets.weight - 0.6).clamp(min=0) * (1 + (jets.label == 2) * 2)
    return LabelledInputs(jets.inputs, jets.label, weight)


def epoch_of(sample, number=1, start=0, buffer=1000, buckets=False, **way):
    loader = Stream.of_jets(sample, labelled_jets(5)).loader(16, buffer, buckets, 3, False, Resampling(**way))
    return loader, list(loader.epoch(number, start))


@pytest.mark.parametrize(("mode", "target"), WAYS)
@pytest.mark.parametrize("buffer", [1000, 64])
def test_an_epoch_has_its_number_of_jets_whatever_is_drawn(mode, target, buffer):
    jets = numbered(400)
    for number in range(1, 9):  # of which about half draw too few and go on, half too many
        loader, batches = epoch_of(jets, number, buffer=buffer, mode=mode, target=target, jets=150)
        assert [len(batch) for batch in batches] == [16] * 9 + [6]
        assert len(loader) == 10
        assert loader.jets == 150
        seen = torch.cat([batch.jet_BF[:, 0] for batch in batches]).long()
        assert (jets.weight[seen] > 0).all()
        assert torch.equal(torch.cat([batch.label_B for batch in batches]), jets.label[seen])
        rest = loader.drawing.loss_weight(jets.label[seen].numpy(), jets.weight[seen].numpy())
        assert np.array_equal(torch.cat([batch.weight_B for batch in batches]).numpy(), rest)
        assert mode == WITH or len(set(seen.tolist())) == 150


def test_every_epoch_draws_anew_and_an_epoch_always_the_same():
    jets = numbered(400)
    first, again, second = (
        torch.cat([batch.jet_BF[:, 0] for batch in epoch_of(jets, number, jets=100)[1]]) for number in (1, 1, 2)
    )
    assert torch.equal(first, again)
    both = set(first.tolist()) & set(second.tolist())
    assert 0 < len(both) < 90


@pytest.mark.parametrize(("mode", "buckets"), [(WITH, True), (WITHOUT, False)])
def test_the_rest_of_an_epoch_is_the_same_from_any_batch(mode, buckets):
    jets = numbered(400)
    _, whole = epoch_of(jets, buffer=64, buckets=buckets, mode=mode, jets=200)
    _, rest = epoch_of(jets, start=7, buffer=64, buckets=buckets, mode=mode, jets=200)
    assert len(rest) == len(whole) - 7
    assert all(torch.equal(one.jet_BF, other.jet_BF) for one, other in zip(rest, whole[7:], strict=True))
    assert all(torch.equal(one.weight_B, other.weight_B) for one, other in zip(rest, whole[7:], strict=True))


def test_sorted_batches_hold_the_jets_that_were_drawn():
    jets = numbered(600)
    plain, bucketed = (epoch_of(jets, buckets=buckets, mode=WITH, jets=320)[1] for buckets in (False, True))
    numbers = [sorted(torch.cat([batch.jet_BF[:, 0] for batch in batches]).tolist()) for batches in (plain, bucketed)]
    assert numbers[0] == numbers[1]
    for batch in bucketed:
        assert (torch.stack([group.mask_BN.sum(1) for group in batch.groups.values()]).sum(0).diff() >= 0).all()


def test_a_class_that_is_missing():
    jets = numbered(300)
    jets = LabelledInputs(jets.inputs, jets.label, jets.weight * (jets.label != 5))
    loader, batches = epoch_of(jets, target="balanced", jets=100)
    numbers = np.bincount(torch.cat([batch.label_B for batch in batches]).numpy(), minlength=6)
    assert numbers[5] == 0
    assert (abs(numbers[:5] - 20) < 5 * np.sqrt(20)).all()
    text = loader.drawing.in_words(CLASSES)
    assert "100 jets per epoch (b 20, bb 20, lepb 20, c 20, uds 20, g 0), 100 different ones of 300" in text
    assert "the rest as weights in the loss" in text


def test_validation_has_the_weights_of_the_target():
    jets = numbered(300)
    stream = Stream.of_jets(jets, jets)
    balanced = stream.loader(16, 100, False, 3, False, Resampling(target="balanced", jets=100))
    (pool,) = balanced.alike(stream.validation(1000))
    sums = [float(pool.weight[pool.label == one].sum()) for one in range(6)]
    assert sums == pytest.approx([sums[0]] * 6)
    (same,) = stream.loader(16, 100, False, 3, False, Resampling(jets=100)).alike(stream.validation(1000))
    assert torch.equal(same.weight, jets.weight)
    (plain,) = stream.loader(16, 100, False, 3).alike(stream.validation(1000))
    assert torch.equal(plain.weight, jets.weight)


def test_tables_of_the_study_say_what_there_is():
    counts = np.array([[[10, 0]], [[30, 40]]])
    weights = np.array([[[3.0, 0.0]], [[1.0, 0.5]]])
    drawing = drawing_of(Resampling(), Population.of_tables(WeightTables((20, 1000), (-2, 0, 2), weights, counts)))
    assert drawing.jets == 10 + 10 + 6  # weights over 3: 10 x 1 + 30 / 3 + 40 / 6 = 26.7
    text = drawing.in_words(("b", "g"))
    assert text.startswith(
        "resampling without replacement, by weight: 26 jets per epoch (b 10, g 16), 26 different ones"
    )
    assert "of 80, no weights in the loss; effective sample size 26 per epoch, " in text
    assert text.endswith(f"{(30 + 30 + 20) ** 2 / (90 + 30 + 10):.0f} of all jets with their weights in the loss")


@pytest.mark.parametrize(
    ("way", "sample", "words"),
    [
        ({"jets": 301}, TWO, r"resampling \(model net\): jets: found 301, but 300 training jets have a weight"),
        ({"jets": 300}, TWO, "has no effect: all 300 jets"),
        ({}, population((0, 1.0, 5), (1, 1.0, 7)), "has no effect: all 12 jets"),
        ({"target": "balanced"}, population((0, 1.0, 5), (1, 3.0, 5)), "has no effect: all 10 jets"),
        ({}, population((0, 0.0, 5)), "no training jet has a weight"),
    ],
)
def test_what_can_not_be_drawn_is_refused(way, sample, words):
    with pytest.raises(CardError, match=words):
        drawing_of(Resampling(**way), sample, "net")


def test_files_without_the_jets_that_were_counted():
    jets = numbered(100)
    stream = Stream.of_jets(LabelledInputs(jets.inputs, jets.label, torch.zeros(100)), jets)
    stream.population = population((0, 1.0, 100), (1, 0.5, 200), classes=6)
    loader = stream.loader(16, 100, False, 3, False, Resampling(jets=50))
    with pytest.raises(StudyError, match="of 50 jets per epoch 0 could be drawn from the files"):
        list(loader.epoch(1))
