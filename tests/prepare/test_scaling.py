"""Moments: any partition gives the same numbers; placeholders lie where no attack reaches them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from pfnano_tag.prepare.defaults import FLOOR, MARGIN, DefaultCounts, count_defaults, scaled_default
from pfnano_tag.prepare.scaling import Moments, merged, moments_of


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=200),
    st.lists(st.integers(0, 200), max_size=6),
    st.floats(-1e5, 1e5),
)
def test_any_partition_merges_to_the_same_moments(numbers, cuts, shift):
    values = np.array(numbers, dtype=np.float32).astype(np.float64) + shift
    whole = moments_of(values)
    parts = merged(moments_of(part) for part in np.split(values, sorted(min(cut, len(values)) for cut in cuts)))
    assert parts.count == whole.count == len(values)
    assert (parts.low, parts.high) == (whole.low, whole.high) == (values.min(), values.max())
    size = np.abs(values).max() + 1e-300
    assert abs(parts.mean - whole.mean) <= 1e-12 * size
    assert abs(parts.m2 - whole.m2) <= 1e-12 * whole.m2 + 1e-24 * size**2 * len(values)


def test_equals_scikit_learn():
    values = np.random.default_rng(1).lognormal(0, 2, 5000).astype(np.float32)
    scaler = StandardScaler().fit(values.astype(np.float64)[:, None])
    found = moments_of(values)
    assert found.mean == pytest.approx(scaler.mean_[0], rel=1e-12)
    assert found.std == pytest.approx(scaler.scale_[0], rel=1e-12)


def test_nothing_and_constants_are_not_live():
    assert not Moments().live
    assert not moments_of(np.zeros(0, np.float32)).live
    assert not moments_of(np.full(1000, 0.1, np.float32)).live
    assert not moments_of(np.zeros(1000, np.float32)).live
    assert moments_of(np.array([0, 0, 0, 1e-3], np.float32)).live
    assert moments_of(np.array([1, 1, 1, 2], np.float32)).live


def test_round_trip_keeps_all_digits():
    found = moments_of(np.random.default_rng(2).normal(size=100))
    assert Moments.from_json(found.to_json()) == found


@pytest.mark.parametrize("low", [-1.0, -3.5, -40.0])
def test_placeholder_is_below_the_values_but_never_far(low):
    values = np.append(np.random.default_rng(3).uniform(-0.5, 2, 1000), low)
    found = moments_of(values)
    placeholder = scaled_default(found)
    lowest = (values.min() - found.mean) / found.std
    assert placeholder == pytest.approx(max(lowest - MARGIN, FLOOR))
    assert placeholder >= FLOOR
    assert MARGIN > 0.1  # the largest epsilon of the published scans stays inside the gap


def test_placeholder_of_a_dead_feature_is_zero():
    assert scaled_default(Moments()) == 0
    assert scaled_default(moments_of(np.ones(5))) == 0


def test_default_counts_add_up():
    one = count_defaults(np.array([True, False, True]), 1)
    assert one + DefaultCounts(1, 0, 0) == DefaultCounts(4, 2, 1)
    assert one.share == pytest.approx(2 / 3)
    assert DefaultCounts().share == 0
