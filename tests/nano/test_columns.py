"""Idioms on flat content plus offsets against brute-force twins."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pfnano_tag.nano import columns

counts_strategy = st.lists(st.integers(0, 5), min_size=0, max_size=12)


@given(counts_strategy)
def test_offsets_rows_and_ranks(counts):
    offsets = columns.offsets_of(np.array(counts, dtype=np.int64))
    assert list(np.diff(offsets)) == counts
    assert list(columns.list_of_row(offsets)) == [i for i, n in enumerate(counts) for _ in range(n)]
    assert list(columns.rank_in_list(offsets)) == [k for n in counts for k in range(n)]


@given(counts_strategy, st.data())
def test_rows_of_lists(counts, data):
    offsets = columns.offsets_of(np.array(counts, dtype=np.int64))
    size = len(counts)
    lists = data.draw(st.lists(st.integers(0, size - 1), max_size=8)) if size else []
    rows, new = columns.rows_of_lists(offsets, np.array(lists, dtype=np.int64))
    expected = [list(range(offsets[i], offsets[i + 1])) for i in lists]
    assert list(rows) == [row for one in expected for row in one]
    assert list(np.diff(new)) == [len(one) for one in expected]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8))
def test_pairs_within(counts):
    left = columns.offsets_of(np.array([a for a, _ in counts], dtype=np.int64))
    right = columns.offsets_of(np.array([b for _, b in counts], dtype=np.int64))
    first, second, offsets = columns.pairs_within(left, right)
    expected = [
        (a, b) for i in range(len(counts)) for a in range(left[i], left[i + 1]) for b in range(right[i], right[i + 1])
    ]
    assert list(zip(first, second, strict=True)) == expected
    assert offsets[-1] == len(expected)


@given(st.floats(-3.2, 3.2), st.floats(-3.2, 3.2))
def test_delta_phi(a, b):
    difference = columns.delta_phi(np.array([a]), np.array([b]))[0]
    assert -np.pi <= difference < np.pi
    assert np.isclose(np.cos(difference), np.cos(a - b), atol=1e-12)
    assert np.isclose(np.sin(difference), np.sin(a - b), atol=1e-12)


@given(st.integers(-6, 6), st.integers(-40, 40))
def test_wrapped_next_to_multiples_of_pi(turns, steps):
    """Rounding never leaves [-pi, pi), on whichever side of its ends an angle lies."""
    angle = turns * np.pi
    for _ in range(abs(steps)):
        angle = np.nextafter(angle, np.inf * np.sign(steps))
    result = columns.wrapped(np.array([angle]))[0]
    assert -np.pi <= result < np.pi
    assert np.isclose(np.sin(result), np.sin(angle), atol=1e-13)


@given(st.floats(-np.pi, np.nextafter(np.pi, 0)))
def test_wrapped_leaves_what_is_in_range(angle):
    assert columns.wrapped(np.array([angle]))[0] == angle


def test_wrapped_keeps_single_precision_and_nan():
    result = columns.wrapped(np.array([4.0, np.nan], dtype=np.float32))
    assert result.dtype == np.float32
    assert np.isclose(result[0], 4 - 2 * np.pi)
    assert np.isnan(result[1])


@given(counts_strategy, st.integers(1, 9))
def test_blocks_are_whole_lists_of_about_so_many_rows(counts, rows):
    offsets = columns.offsets_of(np.array(counts, dtype=np.int64))
    blocks = columns.blocks(offsets, rows)
    assert [i for first, last in blocks for i in range(first, last)] == list(range(len(counts)))
    for first, last in blocks:
        assert offsets[last] - offsets[first] < rows + max(counts)


@given(st.lists(st.tuples(st.integers(-3, 6), st.integers(0, 5)), max_size=8))
def test_outside_lists(pairs):
    index, counts = (np.array([pair[i] for pair in pairs], dtype=np.int64) for i in (0, 1))
    found = columns.outside_lists(index, counts)
    expected = [i for i, (row, count) in enumerate(pairs) if not 0 <= row < count]
    assert (found is None) == (not expected)
    assert expected == [] or found.tolist() == expected
