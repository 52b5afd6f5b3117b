"""Bounds, placeholders, transforms."""

import numpy as np
import pytest

from pfnano_tag.nano.bounds import bounded
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
