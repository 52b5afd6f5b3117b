"""Generated files: names, types, links, sums and identities."""

import json
from itertools import pairwise

import awkward as ak
import numpy as np
import pytest
import uproot

COUNTERS = "Jet PFCands JetPFCands JetSVs SV Muon Electron OtherPV GenPart GenJet"


@pytest.fixture(scope="module")
def events(generated_mc):
    with uproot.open(generated_mc) as stored:
        yield stored["Events"].arrays()


def flat(array):
    return ak.to_numpy(ak.flatten(array))


def test_types_are_those_of_the_real_file(generated_mc, shared_data):
    with uproot.open(generated_mc) as ours, uproot.open(shared_data / "pfnano_qcd_mc_2017UL_10ev.root") as real:
        theirs = {b.name: (str(b.interpretation), b.typename) for b in real["Events"].branches}
        own = {b.name: (str(b.interpretation), b.typename) for b in ours["Events"].branches}
        runs = {b.name: b.typename for b in real["Runs"].branches}
        for branch in ours["Runs"].branches:
            assert runs[branch.name] == branch.typename
    assert set(own) <= set(theirs)
    assert {k: (v, theirs[k]) for k, v in own.items() if v != theirs[k]} == {}
    deepcsv = [k for k in theirs if k.startswith("Jet_DeepCSV_")]
    assert len(deepcsv) == 65
    assert set(deepcsv) <= set(own)


def test_counters_are_unsigned_and_agree(generated_mc, events):
    with uproot.open(generated_mc) as stored:
        for name in COUNTERS.split():
            branch = stored["Events"][f"n{name}"]
            assert branch.interpretation.numpy_dtype == np.dtype("uint32")
            members = [b.name for b in stored["Events"].branches if b.name.startswith(f"{name}_")]
            for member in members:
                if member.count("_") == 1:
                    assert ak.all(ak.num(events[member]) == events[f"n{name}"])


def test_constituents_sum_to_raw_jets(events):
    index, jet = events["JetPFCands_pFCandsIdx"], events["JetPFCands_jetIdx"]
    pt, phi, eta, mass = (events[f"PFCands_{k}"][index] for k in ("pt", "phi", "eta", "mass"))
    offsets = np.append(0, np.cumsum(ak.to_numpy(ak.num(events["Jet_pt"]))))
    row = flat(jet + offsets[:-1])
    px, py = (np.bincount(row, flat(v), offsets[-1]) for v in (pt * np.cos(phi), pt * np.sin(phi)))
    pz = np.bincount(row, flat(pt * np.sinh(eta)), offsets[-1])
    energy = np.bincount(row, flat(np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)), offsets[-1])
    raw = 1.0 - flat(events["Jet_rawFactor"])
    np.testing.assert_allclose(np.hypot(px, py), flat(events["Jet_pt"]) * raw, rtol=3e-3)
    np.testing.assert_allclose(np.arcsinh(pz / np.hypot(px, py)), flat(events["Jet_eta"]), atol=3e-3)
    jet_energy = raw * np.hypot(flat(events["Jet_pt"] * np.cosh(events["Jet_eta"])), flat(events["Jet_mass"]))
    np.testing.assert_allclose(energy, jet_energy, rtol=5e-3)
    assert np.array_equal(np.bincount(row, minlength=offsets[-1]), flat(events["Jet_nConstituents"]))


def test_links_are_sorted_in_bounds_and_true(events):
    jet, index = events["JetPFCands_jetIdx"], events["JetPFCands_pFCandsIdx"]
    assert ak.all((jet >= 0) & (jet < events["nJet"]))
    assert ak.all((index >= 0) & (index < events["nPFCands"]))
    key = jet * 100000 + index
    assert ak.all(key[:, 1:] > key[:, :-1])
    assert ak.all(events["JetPFCands_pt"] == events["PFCands_pt"][index])
    assert ak.all(ak.num(index) == ak.num(events["PFCands_pt"]))  # no candidate is in two jets
    has_track = events["PFCands_d0Err"][index] > 0
    assert ak.all((events["JetPFCands_btagEtaRel"] != 0) == has_track)
    assert ak.all(events["JetPFCands_btagJetDistVal"] <= 0)
    broken = flat(np.isnan(events["JetPFCands_btagSip3dSig"]))
    assert 0 < broken.mean() < 0.005


def test_vertex_links(events):
    index, jet = events["JetSVs_sVIdx"], events["JetSVs_jetIdx"]
    assert ak.all((index >= -1) & (index < ak.values_astype(events["nSV"], np.int64)))
    assert ak.any(index == -1)
    assert ak.all(events["SV_dlenSig"] > 2.99)
    linked = index >= 0
    row, owner = index[linked], jet[linked]
    d_eta = events["SV_eta"][row] - events["Jet_eta"][owner]
    d_phi = (events["SV_phi"][row] - events["Jet_phi"][owner] + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(
        flat(events["JetSVs_deltaR"][linked]), flat(np.sqrt(d_eta**2 + d_phi**2)) - 0.5, atol=4e-3
    )
    assert ak.all((events["JetSVs_deltaR"] >= -0.5) & (events["JetSVs_deltaR"] <= -0.0999))
    np.testing.assert_allclose(
        flat(events["JetSVs_ptrel"][linked]), flat(events["SV_pt"][row] / events["Jet_pt"][owner]), rtol=3e-3
    )
    np.testing.assert_allclose(flat(events["JetSVs_normchi2"][linked]), flat(events["SV_chi2"][row]), rtol=3e-3)
    np.testing.assert_allclose(
        flat(events["JetSVs_costhetasvpv"][linked]), -np.cos(flat(events["SV_pAngle"][row])), atol=2e-3
    )
    same = jet[:, 1:] == jet[:, :-1]
    assert ak.all(events["JetSVs_dxysig"][:, 1:][same] <= events["JetSVs_dxysig"][:, :-1][same])


def test_track_defaults_and_resolution(events):
    track = events["PFCands_d0Err"] > 0
    for name in ("d0", "dz", "d0Err", "dzErr", "trkChi2", "vtxChi2", "lostInnerHits"):
        assert ak.all(events[f"PFCands_{name}"][~track] == -1)
    assert ak.all(events["PFCands_trkQuality"][~track] == 0)
    charged = events["PFCands_charge"] != 0
    assert ak.all(charged[track])
    assert not ak.any(track & (events["PFCands_pt"] < 0.499))
    central = track & (abs(events["PFCands_eta"]) < 1)
    # medians of the real file (GENERATOR 1), um
    for low, high, d0, dz in ((0.9, 1.1, 67, 74), (2.3, 2.7, 37, 46), (6, 8, 21, 27), (25, 35, 11.5, 20.5)):
        chosen = central & (events["PFCands_pt"] > low) & (events["PFCands_pt"] < high)
        assert np.median(flat(events["PFCands_d0Err"][chosen])) * 1e4 == pytest.approx(d0, rel=0.15)
        assert np.median(flat(events["PFCands_dzErr"][chosen])) * 1e4 == pytest.approx(dz, rel=0.15)


def test_energy_correction_closes(events):
    matched = (events["Jet_genJetIdx"] >= 0) & (events["Jet_muEF"] + events["Jet_chEmEF"] < 0.5)
    gen = events["GenJet_pt"][events["Jet_genJetIdx"][matched]]
    ratio, gen = flat(events["Jet_pt"][matched] / gen), flat(gen)
    for low, high in ((20, 30), (30, 60), (60, 120)):
        assert 0.96 < np.median(ratio[(gen > low) & (gen < high)]) < 1.04


def test_gen_particles_give_leptonic_b(events):
    mother = events["GenPart_genPartIdxMother"]
    assert ak.all((mother >= -1) & (mother < ak.local_index(mother)))
    pdg = abs(events["GenPart_pdgId"])
    neutrino = ((pdg == 12) | (pdg == 14)) & (mother >= 0)
    parents = flat(pdg[mother[neutrino]])
    b_hadrons = ((parents // 100) % 10 == 5) | ((parents // 1000) % 10 == 5)
    assert b_hadrons.sum() > 100  # 800 b hadrons, 20 % of them decay to e or mu
    b_jets = events["Jet_hadronFlavour"] == 5
    assert ak.all((events["Jet_nBHadrons"] > 0) == b_jets)
    assert ak.all(events["Jet_nCHadrons"][events["Jet_hadronFlavour"] == 4] > 0)
    light = events["Jet_hadronFlavour"] == 0
    assert ak.all(abs(events["Jet_partonFlavour"][b_jets]) == 5)
    assert not ak.any((abs(events["Jet_partonFlavour"][light]) == 4) | (abs(events["Jet_partonFlavour"][light]) == 5))


def test_flavours_look_different(events):
    good = (events["Jet_pt"] > 30) & (abs(events["Jet_eta"]) < 2.4)
    offsets = np.append(0, np.cumsum(ak.to_numpy(ak.num(events["Jet_pt"]))))
    linked = events["JetSVs_d3dsig"] > 3
    with_vertex = np.isin(np.arange(offsets[-1]), flat(events["JetSVs_jetIdx"][linked] + offsets[:-1][:, None]))
    flavour, good = flat(events["Jet_hadronFlavour"]), flat(good)
    share = {f: with_vertex[good & (flavour == f)].mean() for f in (0, 4, 5)}
    assert share[5] > 0.60
    assert 0.10 < share[4] < 0.50
    assert share[0] < 0.09
    proba = flat(events["Jet_Proba"])
    assert np.median(proba[good & (flavour == 5)]) > 3 * np.median(proba[good & (flavour == 0)])


def test_deepcsv_is_consistent(events):
    number = flat(events["Jet_DeepCSV_jetNSelectedTracks"])
    for k in range(6):
        filled = flat(events[f"Jet_DeepCSV_trackSip2dSig_{k}"]) != -999
        assert np.array_equal(filled, number > k)
    above = flat(events["Jet_DeepCSV_trackSip3dValAboveCharm"])
    assert np.array_equal(above == -999, number == 0)
    assert (above == -1).any()
    category = flat(events["Jet_DeepCSV_vertexCategory"])
    assert set(np.unique(category)) == {-999, 0, 1, 2}
    assert np.array_equal(category == 0, flat(events["Jet_DeepCSV_jetNSecondaryVertices"]) > 0)
    assert np.array_equal(flat(events["Jet_DeepCSV_flightDistance2dVal"]) != -999, category == 0)
    assert np.array_equal(flat(events["Jet_DeepCSV_vertexNTracks"]) > 0, (category == 0) | (category == 1))
    significance = [flat(events[f"Jet_DeepCSV_trackSip2dSig_{k}"]) for k in range(6)]
    for first, second in pairwise(significance):
        assert (first >= second).all()


def test_identities_and_sums(generated_mc, generated_data):
    for path, mode in ((generated_mc, "mc"), (generated_data, "data")):
        with uproot.open(path) as stored:
            events = stored["Events"].arrays(["run", "luminosityBlock", "event"], library="np")
            ids = np.stack([events[k].astype(np.int64) for k in ("run", "luminosityBlock", "event")], axis=1)
            assert len(np.unique(ids, axis=0)) == len(ids)
            lumis = stored["LuminosityBlocks"].arrays(library="np")
            pairs = np.stack([lumis["run"], lumis["luminosityBlock"]], axis=1)
            assert np.array_equal(np.unique(ids[:, :2], axis=0), pairs)
            runs = stored["Runs"].arrays(library="np")
            provenance = json.loads(str(stored["tag"]))
            if mode == "mc":
                weights = stored["Events"]["genWeight"].array(library="np").astype(np.float64)
                assert runs["genEventCount"].sum() == len(ids)
                assert runs["genEventSumw"].sum() == pytest.approx(weights.sum(), rel=1e-9)
                assert runs["genEventSumw2"].sum() == pytest.approx((weights**2).sum(), rel=1e-9)
            else:
                assert list(runs) == ["run"]
                assert set(events["run"]) <= {297047, 299329, 302030, 304911}
        assert provenance["num_events"] == len(ids)
        assert provenance["cross_section_pb"] > 0


def test_data_have_no_truth(generated_mc, generated_data):
    with uproot.open(generated_mc) as mc, uproot.open(generated_data) as data:
        extra = set(mc["Events"].keys()) - set(data["Events"].keys())
        assert set(data["Events"].keys()) < set(mc["Events"].keys())
        truth = (
            "Gen",
            "nGen",
            "genWeight",
            "Pileup",
            "L1PreFiring",
            "Jet_gen",
            "Jet_hadron",
            "Jet_parton",
            "Jet_nB",
            "Jet_nC",
            "Muon_gen",
            "Electron_gen",
        )
        assert all(name.startswith(truth) for name in extra)
        assert not any(name.startswith(truth) for name in data["Events"].keys() if name != "Jet_nConstituents")  # noqa: SIM118


def test_z_to_mumu_is_reconstructed(generated_data):
    with uproot.open(generated_data) as stored:
        events = stored["Events"].arrays(["Muon_pt", "Muon_eta", "Muon_phi", "Muon_charge", "Muon_pfRelIso04_all"])
    good = events[ak.num(events["Muon_pt"]) >= 2]
    pt, eta, phi = (good[f"Muon_{k}"] for k in ("pt", "eta", "phi"))
    angles = np.cosh(eta[:, 0] - eta[:, 1]) - np.cos(phi[:, 0] - phi[:, 1])
    mass = ak.to_numpy(np.sqrt(2 * pt[:, 0] * pt[:, 1] * angles))
    assert len(mass) > 20
    assert np.median(mass) == pytest.approx(91, abs=2)
    assert np.mean(good["Muon_charge"][:, 0] != good["Muon_charge"][:, 1]) > 0.95
    assert ak.mean(good["Muon_pfRelIso04_all"] < 0.15) > 0.8
