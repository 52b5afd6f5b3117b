"""Order inside lists by packed integers against sorting tuples."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfnano_tag.nano import ordering

numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e3, 1e3, width=32), st.sampled_from([np.nan, np.inf]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), numbers, numbers), max_size=40))
def test_order_equals_sorting_tuples(rows):
    rows.sort(key=lambda row: row[0])
    lists = np.array([row[0] for row in rows], dtype=np.int64)
    first, second = (np.array([row[i] for row in rows], dtype=np.float64) for i in (1, 2))
    found = ordering.order_in_lists(lists, 5, first, lambda chosen: [first[chosen], second[chosen]])

    def key(i):
        return (lists[i], *(x if math.isfinite(x) else math.inf for x in (first[i], second[i])), i)

    assert found.tolist() == sorted(range(len(rows)), key=key)


def test_exact_keys_settle_what_single_precision_can_not_tell_apart():
    keys = np.array([1 + 1e-12, 1.0, 1 - 1e-12, -0.0, 0.0])
    order = ordering.order_in_lists(np.zeros(5, dtype=np.int64), 1, keys, lambda rows: [keys[rows]])
    assert order.tolist() == [3, 4, 2, 1, 0]


def test_only_equal_rows_are_asked_for():
    keys = np.array([3.0, 1.0, 2.0, 1.0])

    def exact(rows):
        assert rows.tolist() == [1, 3]
        return [np.array([5.0, 4.0])]

    assert ordering.order_in_lists(np.zeros(4, dtype=np.int64), 1, keys, exact).tolist() == [3, 1, 2, 0]


def test_more_lists_and_rows_than_the_key_has_room_for():
    """Numbers of lists and rows leave few bits of the key: the exact keys do the rest."""
    rng = np.random.default_rng(0)
    lists = np.sort(rng.integers(0, 1 << 40, 1000))
    lists[:600] = 17
    lists.sort()
    keys = rng.normal(size=1000)
    order = ordering.order_in_lists(lists, 1 << 60, keys, lambda rows: [keys[rows]])
    assert order.tolist() == np.lexsort([keys, lists]).tolist()


def test_integers_rise_with_floats():
    values = np.array([-np.float32(3e38), -2.0, -1e-40, 0.0, 1e-40, 1.0, 3e38], dtype=np.float32)
    assert (np.diff(ordering.rising_integers(values).astype(np.int64)) > 0).all()
    assert np.ptp(ordering.rising_integers(np.array([np.nan, np.inf, -np.inf]))) == 0


@pytest.mark.parametrize("size", [0, 1])
def test_nothing_to_sort(size):
    order = ordering.order_in_lists(np.zeros(size, dtype=np.int64), 3, np.zeros(size), lambda rows: [])
    assert order.tolist() == list(range(size))
