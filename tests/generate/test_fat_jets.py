"""AK8 jets: sums, links, vertices, truth, and that they leave the AK4 jets alone."""

import awkward as ak
import numpy as np
import pytest
import uproot


@pytest.fixture(scope="module")
def events(write):
    with uproot.open(write("candidates", fat_jets=True)) as file:
        yield file["Events"].arrays()


def flat(array):
    return ak.to_numpy(ak.flatten(array))


def test_constituents_sum_to_raw_jets(events):
    assert ak.sum(events["nFatJet"]) > 50
    index, jet = events["FatJetPFCands_pFCandsIdx"], events["FatJetPFCands_jetIdx"]
    pt, phi, eta = (events[f"PFCands_{k}"][index] for k in ("pt", "phi", "eta"))
    offsets = np.append(0, np.cumsum(ak.to_numpy(ak.num(events["FatJet_pt"]))))
    row = flat(jet + offsets[:-1])
    px, py = (np.bincount(row, flat(v), offsets[-1]) for v in (pt * np.cos(phi), pt * np.sin(phi)))
    raw = flat(events["FatJet_pt"] * (1.0 - events["FatJet_rawFactor"]))
    np.testing.assert_allclose(np.hypot(px, py), raw, rtol=3e-3)
    pz = np.bincount(row, flat(pt * np.sinh(eta)), offsets[-1])
    np.testing.assert_allclose(np.arcsinh(pz / np.hypot(px, py)), flat(events["FatJet_eta"]), atol=3e-3)
    assert ak.min(events["FatJet_pt"]) > 169.9
    assert ak.min(events["GenJetAK8_pt"]) > 99.9


def test_links(events):
    jet, index = events["FatJetPFCands_jetIdx"], events["FatJetPFCands_pFCandsIdx"]
    assert ak.all((jet >= 0) & (jet < events["nFatJet"]))
    assert ak.all((index >= 0) & (index < events["nPFCands"]))
    key = jet * 100000 + index
    assert ak.all(key[:, 1:] > key[:, :-1])
    assert ak.all(events["FatJetPFCands_pt"] == events["PFCands_pt"][index])
    # the direction that the track variables refer to is the AK8 jet's
    track = events["PFCands_d0Err"][index] > 0
    owner = jet[track]
    p = [events[f"PFCands_{k}"][index[track]] for k in ("eta", "phi")]
    axis = [events[f"FatJet_{k}"][owner] for k in ("eta", "phi")]
    cosine = (np.cos(p[1] - axis[1]) + np.sinh(p[0]) * np.sinh(axis[0])) / (np.cosh(p[0]) * np.cosh(axis[0]))
    np.testing.assert_allclose(flat(events["FatJetPFCands_btagPParRatio"][track]), flat(cosine), atol=2e-3)
    distance = np.hypot(p[0] - axis[0], (p[1] - axis[1] + np.pi) % (2 * np.pi) - np.pi)
    assert 0.7 < ak.max(distance) < 1.1


def test_vertices_within_the_larger_radius(events):
    jet, index = events["FatJetSVs_jetIdx"], events["FatJetSVs_sVIdx"]
    linked = index >= 0
    d_eta = events["SV_eta"][index[linked]] - events["FatJet_eta"][jet[linked]]
    d_phi = events["SV_phi"][index[linked]] - events["FatJet_phi"][jet[linked]]
    distance = flat(np.hypot(d_eta, (d_phi + np.pi) % (2 * np.pi) - np.pi))
    assert 0.4 < distance.max() < 0.802
    # cms-sw/cmssw, JetConstituentTableProducer.cc: the distance less 0.5, never above zero
    expected = np.minimum(distance - 0.5, 0.0)
    np.testing.assert_allclose(flat(events["FatJetSVs_deltaR"][linked]), expected, atol=4e-3)


def test_truth(events):
    index = events["FatJet_genJetAK8Idx"]
    matched = index >= 0
    assert ak.mean(matched) > 0.95
    ratio = flat(events["FatJet_pt"][matched] / events["GenJetAK8_pt"][index[matched]])
    assert 0.96 < np.median(ratio) < 1.04
    b, c = events["FatJet_nBHadrons"] > 0, events["FatJet_nCHadrons"] > 0
    assert ak.all((events["FatJet_hadronFlavour"] == 5) == b)
    assert ak.all((events["FatJet_hadronFlavour"] == 4) == (c & ~b))
    assert ak.mean(b) > 0.3  # top quarks


def test_candidates_of_both_sizes_are_stored_once(events):
    ak4, ak8 = (events[f"{name}PFCands_pFCandsIdx"] for name in ("Jet", "FatJet"))
    for k in range(20):
        stored = range(int(events["nPFCands"][k]))
        assert set(stored) == set(ak4[k].to_list()) | set(ak8[k].to_list())
