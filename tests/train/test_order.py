"""The order of chunks and jets: exact, a function of the seed, and without bias."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pfnano_tag.train.decoding import FILES_AT_ONCE
from pfnano_tag.train.order import batches_of, chunk_order, release, seed_of


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=40)
@given(chunks=st.lists(st.integers(0, 5), max_size=30), seed=st.integers(0, 100))
def test_every_chunk_once_from_few_files_at_a_time(chunks, seed):
    order = chunk_order(chunks, generator(seed))
    assert sorted(order) == [(file, chunk) for file, count in enumerate(chunks) for chunk in range(count)]
    assert order == chunk_order(chunks, generator(seed))
    left = dict(enumerate(chunks))
    begun = set()
    for file, _ in order:
        begun.add(file)
        left[file] -= 1
        assert len([f for f in begun if left[f]]) <= FILES_AT_ONCE


def test_chunks_of_few_files_come_in_any_order_with_equal_probability():
    firsts = [chunk_order([3, 1], generator(seed))[0] for seed in range(4000)]
    counts = np.array([firsts.count(chunk) for chunk in ((0, 0), (0, 1), (0, 2), (1, 0))])
    assert (abs(counts - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75)).all()


@settings(deadline=None, max_examples=60)
@given(count=st.integers(0, 300), batch_size=st.integers(1, 40), last=st.booleans(), seed=st.integers(0, 9))
def test_a_jet_leaves_the_buffer_or_stays(count, batch_size, last, seed):
    if not last:
        count += 2 * batch_size
    leaving, staying = release(count, last, batch_size, generator(seed))
    assert sorted([*leaving, *staying]) == list(range(count))
    assert (np.diff(staying) > 0).all()
    if last:
        assert len(staying) == 0
    else:
        assert len(leaving) % batch_size == 0
        assert 0 < len(leaving) <= count / 2


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(0, 40), max_size=300), batch_size=st.integers(1, 9), buckets=st.booleans())
def test_batches_hold_every_jet_once(lengths, batch_size, buckets):
    table = np.array(lengths, dtype=np.int64)
    jets = np.random.default_rng(1).permutation(len(lengths))
    found = list(batches_of(jets, batch_size, table.__getitem__ if buckets else None))
    assert sorted(np.concatenate([*found, jets[:0]]).tolist()) == list(range(len(lengths)))
    assert [len(batch) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
    assert all(1 <= len(batch) <= batch_size for batch in found)
    if not buckets:
        assert np.array_equal(np.concatenate([*found, jets[:0]]), jets)


def test_batches_are_sorted_inside_and_random_among_themselves():
    """A batch holds the jets that it would hold unsorted: lengths decide on their order in it alone."""
    lengths = np.random.default_rng(0).integers(0, 50, 5000)
    jets = np.random.default_rng(1).permutation(5000)
    plain, found = (list(batches_of(jets, 128, one)) for one in (None, lengths.__getitem__))
    for sorted_, unsorted in zip(found, plain, strict=True):
        assert set(sorted_.tolist()) == set(unsorted.tolist())
        assert (np.diff(lengths[sorted_]) >= 0).all()
    means = [lengths[batch].mean() for batch in found[:-1]]
    assert np.std(means) < 1.5 * lengths.std() / np.sqrt(128)


def test_flavours_that_lie_together_in_a_file_are_mixed_over_batches():
    """Jets of one flavour fill the first half of the sample; the buffer holds a tenth of it."""
    chunks, jets, batch_size, size = [40], 50, 20, 200
    label = np.repeat([0, 1], 1000)
    random = generator(3)
    order = [chunk for _, chunk in chunk_order(chunks, random)]
    window, shares = np.empty(0, dtype=np.int64), []
    while order or len(window):
        while order and len(window) < size:
            window = np.concatenate([window, np.arange(jets) + jets * order.pop(0)])
        leaving, staying = release(len(window), not order, batch_size, random)
        shares += [label[window[batch]].mean() for batch in batches_of(leaving, batch_size, None)]
        window = window[staying]
    assert len(shares) == 100
    assert np.mean(shares) == pytest.approx(0.5)
    # 0.5 without shuffling, 0.11 for a perfect shuffle; the four or five chunks in the buffer are drawn: 0.25
    assert np.std(shares) < 0.3


def test_seeds_of_two_purposes_differ():
    seeds = {seed_of(1, "order", 1), seed_of(1, "order", 2), seed_of(1, "weights"), seed_of(2, "order", 1)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
