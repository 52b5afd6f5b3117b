"""The track-probability tagger in closed form, and its calibration on generated jets."""

import awkward as ak
import numpy as np
import pytest
import uproot

from pfnano_tag.generate.probability import MINIMUM_PROBABILITY, jet_probability, track_probability


def test_one_and_two_tracks():
    s = np.array([2.0, 1.0, 2.5, -3.0, np.nan])
    jet = np.array([0, 1, 1, 1, 1])
    p = track_probability(s[:3])
    product = p[1] * p[2]
    result = jet_probability(s, jet, 3)
    assert result[0] == pytest.approx(-np.log10(p[0]) / 4)
    assert result[1] == pytest.approx(-np.log10(product * (1 - np.log(product))) / 4)
    assert result[2] == 0


def test_many_tracks_follow_the_gamma_distribution():
    from scipy.stats import gamma

    s = np.linspace(0.1, 2.5, 12)
    minus_log = -np.log(np.maximum(track_probability(s), MINIMUM_PROBABILITY)).sum()
    expected = -np.log10(gamma(12).sf(minus_log)) / 4
    assert jet_probability(s, np.zeros(12, int), 1)[0] == pytest.approx(expected)


def test_probability_falls_from_one():
    p = track_probability(np.linspace(0, 30, 100))
    assert p[0] == pytest.approx(1.0)
    assert (np.diff(p) < 0).all()


def test_selected_negative_tracks_of_light_jets_are_uniform(generated_mc):
    with uproot.open(generated_mc) as stored:
        a = stored["Events"].arrays(filter_name=["JetPFCands_*", "PFCands_pt", "PFCands_d0", "Jet_hadronFlavour"])
    index, jet = a["JetPFCands_pFCandsIdx"], a["JetPFCands_jetIdx"]
    selected = (a["PFCands_pt"][index] > 1) & (abs(a["PFCands_d0"][index]) < 0.2)
    selected = selected & (a["JetPFCands_btagJetDistVal"] > -0.07) & (a["Jet_hadronFlavour"][jet] == 0)
    p = track_probability(
        ak.to_numpy(ak.flatten(a["JetPFCands_btagSip3dSig"][selected & (a["JetPFCands_btagSip3dSig"] < 0)]))
    )
    assert len(p) > 1500
    for level, tolerance in ((0.5, 0.08), (0.3, 0.06), (0.1, 0.035), (0.03, 0.015), (0.01, 0.008)):
        assert (p < level).mean() == pytest.approx(level, abs=tolerance)
