"""Bounds, placeholders, transforms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfnano_tag.nano.bounds import HUGE, bounded, four_vector
from pfnano_tag.nano.schema import FEATURES, INPUT_SETS, features_of, transformed, transformed_back


def test_non_finite_becomes_replacement_and_counts_as_default():
    feature = FEATURES["sv/normchi2"]
    result = bounded(np.array([1.0, np.nan, np.inf, 1e33, 5e3]), feature)
    assert result.values.tolist() == [1, 1000, 1000, 1000, 1000]
    assert result.default.tolist() == [False, True, True, True, False]
    assert result.non_finite == 3


def test_absent_values_are_defaults_whatever_the_file_holds():
    feature = FEATURES["charged/trackSip3dSig"]
    result = bounded(np.array([np.nan, 7.0, -3.0]), feature, absent=np.array([True, True, False]))
    assert result.values.tolist() == [0, 0, -1]
    assert result.default.tolist() == [True, True, False]
    assert result.non_finite == 0


def test_stored_placeholders_of_deepcsv_variables():
    above = bounded(np.array([-999.0, -1.0, 0.02]), FEATURES["jet/trackSip2dValAboveCharm"])
    assert above.default.tolist() == [True, True, False]
    ratio = bounded(np.array([-999.0, 0.5]), FEATURES["jet/trackSumJetEtRatio"])
    assert ratio.default.tolist() == [True, False]
    assert bounded(np.array([250.0]), FEATURES["jet/jetNSelectedTracks"]).values.tolist() == [100]


@pytest.mark.parametrize("transform", ["none", "log", "log100"])
def test_transforms_invert_and_keep_order(transform):
    x = np.array([-50.0, -1.0, -1e-3, 0.0, 1e-3, 2.0, 1e4])
    y = transformed(x, transform)
    assert np.all(np.diff(y) > 0)
    assert np.allclose(transformed_back(y, transform), x, rtol=1e-12)


def test_input_sets_name_known_features_once():
    for name in INPUT_SETS:
        ids = features_of(name)
        assert set(ids) <= FEATURES.keys()
        assert len(set(ids)) == len(ids)
    assert [len(v) for v in INPUT_SETS["constituents"].values()] == [6, 16, 7, 14]
    assert [len(v) for v in INPUT_SETS["deepjet"].values()] == [15, 16, 6, 12]


def test_integers_are_protected():
    assert all(feature.protected for feature in FEATURES.values() if feature.integer)
    assert FEATURES["charged/puppiw"].protected
    assert FEATURES["charged/chi2"].protected


values_strategy = st.one_of(
    st.floats(-1e5, 1e5, width=32), st.sampled_from([np.nan, np.inf, -np.inf, 2e32, -2e32, -999.0, -1.0, 0.0])
)


@settings(deadline=None)
@given(
    st.sampled_from(sorted(FEATURES)),
    st.lists(st.tuples(values_strategy, st.booleans()), max_size=6),
    st.booleans(),
)
def test_bounds_and_placeholders_against_plain_python(name, rows, with_absent):
    feature = FEATURES[name]
    values = np.array([value for value, _ in rows], dtype=np.float32)
    absent = np.array([there for _, there in rows], dtype=bool) if with_absent else None
    result = bounded(values.copy(), feature, absent)
    broken = 0
    for i, value in enumerate(values.tolist()):
        missing = with_absent and rows[i][1]
        no_number = not (math.isfinite(value) and abs(value) <= HUGE)
        stored = bool(feature.read) and feature.read[0].startswith("Jet_DeepCSV_") and (
            value <= -998 or (value == -1 and (name.endswith("AboveCharm") or name == "jet/jetNTracksEtaRel"))
        )  # fmt: skip
        if no_number and not missing:
            broken += 1
            expected = feature.replacement
        elif missing or stored:
            expected = feature.default
        else:
            low = -math.inf if feature.low is None else feature.low
            high = math.inf if feature.high is None else feature.high
            expected = min(max(value, low), high)
        assert result.values[i] == np.float32(expected)
        assert result.default[i] == (missing or no_number or stored)
    assert result.non_finite == broken
    assert result.values.dtype == np.float32
    assert result.default.dtype == bool
    if with_absent:
        assert absent.tolist() == [there for _, there in rows]  # the caller's mask stays


def test_a_broken_four_vector_is_zero_as_a_whole():
    rows = np.array(
        [[1, 2, 3, 4], [np.nan, 0, 0, 1], [0, np.inf, 0, np.inf], [0, 0, 0, 2e6], [0, 0, 1, np.nan]], dtype=np.float32
    )
    found = four_vector(*rows.T)
    assert np.array_equal(np.stack(list(found.values())).T, np.concatenate([rows[:1], np.zeros((4, 4))]))
    assert all(values.dtype == np.float32 for values in four_vector(*rows.T.astype(np.float64)).values())
