"""Features from first principles against what the real file stores: tracks, DeepCSV's leading tracks, vertices."""

import json

import numpy as np
import pytest

from benchmarks.agreement import agreements, compare, main

REAL = "pfnano_qcd_mc_2017UL_10ev.root"
LIMITS = {  # feature: values at least, median, 99 %, share of equal signs
    "charged/trackEtaRel": (780, 3.5e-4, 6e-3, 1),
    "charged/trackPParRatio": (780, 2.5e-4, 1e-3, 1),
    "charged/trackSip3dVal": (700, 3.5e-4, 0.15, 0.998),
    "charged/trackSip3dSig": (500, 0.08, 10, 0.998),  # the file's uncertainty of the primary vertex is not stored
    "charged/trackJetDistVal": (780, 1.6e-3, 0.4, 1),  # the tail: tracks nearly parallel to the jet
    "sv/phirel (signed)": (30, 0.02, 3, 1),  # a difference of rounded angles
    "sv/deltaR + 0.5": (30, 0.01, 0.05, 1),
    "sv/enratio (corrected jet)": (30, 5e-4, 1.5e-3, 1),
    "charged/trackDeltaR": (150, 2e-3, 0.08, 1),
    "charged/trackPtRel": (150, 2e-3, 0.08, 1),
    "charged/trackSip2dSig": (150, 0.02, 0.2, 0.99),
}


def test_the_real_file(shared_data):
    found = {row.feature: row for row in agreements(shared_data / REAL)}
    assert found.keys() == LIMITS.keys()
    for name, (count, median, tail, sign) in LIMITS.items():
        row = found[name]
        assert row.count >= count, row
        assert row.median < median, row
        assert row.tail < tail, row
        assert row.same_sign >= sign, row


def test_quantiles_of_a_known_difference():
    stored = np.array([1.0, -2.0, 4.0, 0.0, np.nan])
    row = compare("a", "b", np.array([1.1, -2.2, -4.0, 5.0, 1.0]), stored)
    assert row.count == 3  # neither what is not a number nor what nothing can be relative to
    assert np.isclose(row.median, 0.1)
    assert np.isclose(row.same_sign, 2 / 3)
    assert compare("a", "b", stored[3:], stored[3:]).count == 0


def test_prints_a_table_and_json(shared_data, capsys):
    assert main([str(shared_data / REAL)]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    features = json.loads(last)["features"]
    assert len(table) == 2 + len(features) == 2 + len(LIMITS)
    assert all(f["feature"] in line for f, line in zip(features, table[2:], strict=True))


@pytest.mark.parametrize("name", ["nano_dy_mc_40ev.root", "missing.root"])
def test_files_without_candidates_are_named(shared_data, capsys, name):
    assert main([str(shared_data / name)]) == 2
    assert name in capsys.readouterr().err
