"""The same events in every layout and container: names, types and values."""

import json
import re

import awkward as ak
import numpy as np
import pytest
import uproot

from pfnano_tag.card import generate as section
from pfnano_tag.errors import UserError
from pfnano_tag.generate import __main__ as command
from pfnano_tag.generate.layouts import LAYOUTS
from pfnano_tag.generate.production import make_file, pool_for, read_summary
from pfnano_tag.generate.units import Unit

# cms-sw/cmssw, PhysicsTools/NanoAOD/python, at NanoAOD v15: jetsAK4_Puppi_cff, jetMC_cff, jetsAK8_cff, muons_cff,
# electrons_cff (types of indices and identification), genparticles_cff, vertices_cff, VertexTableProducer.cc;
# custom_btv_cff, btvMC_cff, JetConstituentTableProducer.cc, BTVMCFlavourTableProducer.cc (BTV). The rest are floats.
RUN_3 = {
    "uint8_t": "Jet_nConstituents Jet_chMultiplicity Jet_neMultiplicity Jet_nMuons Jet_nElectrons "
    "Jet_hadronFlavour SV_ntracks Electron_cutBased Muon_genPartFlav Electron_genPartFlav GenJet_hadronFlavour "
    "FatJet_nConstituents FatJet_hadronFlavour FatJet_nBHadrons FatJet_nCHadrons GenJetAK8_hadronFlavour PV_npvs "
    "PV_npvsGood",
    "int16_t": "Jet_muonIdx1 Jet_muonIdx2 Jet_electronIdx1 Jet_electronIdx2 Jet_partonFlavour Jet_genJetIdx "
    "Muon_jetIdx Electron_jetIdx Muon_genPartIdx Electron_genPartIdx GenPart_genPartIdxMother "
    "GenJet_partonFlavour FatJet_genJetAK8Idx FatJet_chMultiplicity FatJet_neMultiplicity GenJetAK8_partonFlavour",
    "uint16_t": "GenPart_statusFlags",
    "int32_t": "Jet_nBHadrons Jet_nCHadrons Jet_FlavSplit PFCands_charge PFCands_pdgId PFCands_pvAssocQuality "
    "PFCands_lostInnerHits PFCands_trkQuality JetPFCands_jetIdx JetPFCands_pFCandsIdx JetSVs_jetIdx JetSVs_sVIdx "
    "FatJetPFCands_jetIdx FatJetPFCands_pFCandsIdx FatJetSVs_jetIdx FatJetSVs_sVIdx Muon_charge Muon_pdgId "
    "Electron_charge Electron_pdgId GenPart_pdgId GenPart_status Pileup_nPU Jet_DeepCSV_jetNSelectedTracks "
    "Jet_DeepCSV_jetNSecondaryVertices Jet_DeepCSV_jetNTracksEtaRel Jet_DeepCSV_vertexNTracks nJet nFatJet "
    "nPFCands nJetPFCands nFatJetPFCands nJetSVs nFatJetSVs nSV nMuon nElectron nOtherPV nGenPart nGenJet "
    "nGenJetAK8 nGenCands nGenJetCands nGenFatJetCands GenCands_charge GenCands_pdgId GenCands_genPartMotherIdx "
    "GenJetCands_jetIdx GenJetCands_genCandsIdx GenFatJetCands_jetIdx GenFatJetCands_genCandsIdx",
    "bool": "PFCands_trkHighPurity Muon_looseId Muon_mediumId Muon_tightId Electron_mvaIso_WP80 Electron_mvaIso_WP90",
    "uint32_t": "run luminosityBlock",
    "uint64_t": "event",
}
RUN_3_ONLY = (
    "Rho_fixedGridRhoFastjetAll PuppiMET_pt PFMET_pt Electron_superclusterEta Jet_FlavSplit Jet_hfHEF Jet_hfEmEF "
    "JetPFCands_dxyFromPV JetPFCands_dzFromPV JetPFCands_dxyErrFromPV JetPFCands_dzErrFromPV "
    "JetPFCands_btagDecayLenVal PFCands_trkHighPurity PFCands_trkP PFCands_trkPt PFCands_trkEta PFCands_trkPhi "
    "GenPart_vx GenPart_vy GenPart_vz GenCands_pt GenCands_genPartMotherIdx GenJetCands_genCandsIdx"
)
NOT_IN_RUN_3 = (
    "fixedGridRhoFastjetAll MET_pt Electron_deltaEtaSC Electron_mvaFall17V2Iso_WP80 Jet_jetId Jet_puId "
    "FatJet_jetId L1PreFiringWeight_Nom Jet_DeepCSV_trackSip2dSig_0 Jet_DeepCSV_trackEtaRel_0"
)

# cms-jet/PFNano: plugins/DeepJetTableProducer.cc
DEEPJET = {
    "Cpfcan": "BtagPf_trackEtaRel BtagPf_trackPtRel BtagPf_trackPPar BtagPf_trackDeltaR BtagPf_trackPParRatio "
    "BtagPf_trackSip2dVal BtagPf_trackSip2dSig BtagPf_trackSip3dVal BtagPf_trackSip3dSig BtagPf_trackJetDistVal "
    "ptrel drminsv VTX_ass puppiw chi2 quality",
    "Npfcan": "ptrel deltaR isGamma HadFrac drminsv puppiw",
    "sv": "mass pt ntracks chi2 normchi2 dxy dxysig d3d d3dsig costhetasvpv deltaR enratio",
}
SLOTS = {"Cpfcan": 25, "Npfcan": 25, "sv": 4}

# CMSDeepFlavour/DeepNTuples: DeepNtuplizer/src/ntuple_{JetInfo,pfCands,SV,bTagVars}.cc; AlexDeMoor/DeepTuples (px..e)
NTUPLE = {
    "uint32_t": "jet_no isB isGBB isBB isLeptonicB isLeptonicB_C isC isGCC isCC isUD isS isG isPU isUndefined "
    "n_Cpfcand n_Npfcand n_sv",
    "float": "npv rho ntrueInt gen_pt Delta_gen_pt jet_hflav jet_pflav jet_pt jet_corr_pt jet_eta jet_phi "
    "jet_mass jet_energy nCpfcand nNpfcand nsv trackJetPt TagVarCSV_jetNSecondaryVertices "
    "TagVarCSV_trackSumJetEtRatio TagVarCSV_trackSumJetDeltaR TagVarCSV_vertexCategory "
    "TagVarCSV_trackSip2dValAboveCharm TagVarCSV_trackSip2dSigAboveCharm TagVarCSV_trackSip3dValAboveCharm "
    "TagVarCSV_trackSip3dSigAboveCharm TagVarCSV_jetNSelectedTracks TagVarCSV_jetNTracksEtaRel",
    "float[]": "Cpfcan_pt Cpfcan_eta Cpfcan_phi Cpfcan_px Cpfcan_py Cpfcan_pz Cpfcan_e Cpfcan_ptrel Cpfcan_erel "
    "Cpfcan_etarel Cpfcan_phirel Cpfcan_deltaR Cpfcan_puppiw Cpfcan_drminsv Cpfcan_VTX_ass Cpfcan_chi2 "
    "Cpfcan_quality Cpfcan_charge Cpfcan_isMu Cpfcan_isEl Cpfcan_BtagPf_trackEtaRel Cpfcan_BtagPf_trackPtRel "
    "Cpfcan_BtagPf_trackPPar Cpfcan_BtagPf_trackDeltaR Cpfcan_BtagPf_trackPtRatio Cpfcan_BtagPf_trackPParRatio "
    "Cpfcan_BtagPf_trackSip2dVal Cpfcan_BtagPf_trackSip2dSig Cpfcan_BtagPf_trackSip3dVal "
    "Cpfcan_BtagPf_trackSip3dSig Cpfcan_BtagPf_trackJetDistVal Npfcan_pt Npfcan_eta Npfcan_phi Npfcan_px "
    "Npfcan_py Npfcan_pz Npfcan_e Npfcan_ptrel Npfcan_erel Npfcan_etarel Npfcan_phirel Npfcan_deltaR "
    "Npfcan_puppiw Npfcan_drminsv Npfcan_isGamma Npfcan_HadFrac sv_pt sv_eta sv_phi sv_px sv_py sv_pz sv_e "
    "sv_mass sv_etarel sv_phirel sv_deltaR sv_ntracks sv_chi2 sv_ndf sv_normchi2 sv_dxy sv_dxysig sv_d3d "
    "sv_d3dsig sv_costhetasvpv sv_enratio",
}
OURS = {"run_no": "uint32_t", "lumi_no": "uint32_t", "event_no": "uint64_t", "genWeight": "float"}


def branches_of(path, tree="Events"):
    with uproot.open(path) as file:
        return {b.name: b.typename for b in file[tree].branches}


def arrays_of(path, tree="Events", names=None):
    with uproot.open(path) as file:
        return file[tree].arrays(names)


def flat(array):
    return ak.to_numpy(ak.flatten(array))


def test_candidates_with_fat_jets_have_the_types_of_the_real_file(write, shared_data):
    real = branches_of(shared_data / "pfnano_qcd_mc_2017UL_10ev.root")
    own = branches_of(write("candidates", fat_jets=True))
    assert set(own) <= set(real)
    assert {k: (v, real[k]) for k, v in own.items() if v != real[k]} == {}
    assert {"FatJet_genJetAK8Idx", "FatJetPFCands_pFCandsIdx", "FatJetSVs_sVIdx", "GenJetAK8_pt"} <= set(own)
    assert not {k for k in branches_of(write("candidates")) if "Fat" in k or "AK8" in k}


def test_titles_are_those_of_the_real_file(write, shared_data):
    with uproot.open(shared_data / "pfnano_qcd_mc_2017UL_10ev.root") as real:
        for layout in ("candidates", "deepjet"):
            with uproot.open(write(layout, fat_jets=layout == "candidates")) as ours:
                titles = LAYOUTS[layout].titles
                found = {name: ours["Events"][name].title for name in titles if name in ours["Events"]}
                assert found == {name: real["Events"][name].title for name in found}
                assert "nJet" in found
                assert ours["Events"]["Jet_pt"].title == "Jet_pt[nJet]/F"
    with uproot.open(write("btvnano")) as ours:
        assert "slimmedJetsPuppi" in ours["Events"]["nJet"].title


def test_run_3_types(write):
    found = branches_of(write("btvnano", fat_jets=True))
    expected = {name: dtype for dtype, names in RUN_3.items() for name in names.split()}
    for name, dtype in found.items():
        plain = dtype.removesuffix("[]")
        wanted = "bool" if name.startswith(("HLT_", "Flag_")) else expected.pop(name, "float")
        assert plain == wanted, name
    assert expected == {}
    assert set(RUN_3_ONLY.split()) <= set(found)
    assert not set(NOT_IN_RUN_3.split()) & set(found)


def test_run_3_values_are_those_of_the_legacy_layout(write):
    legacy, run3 = (arrays_of(write(name, fat_jets=True)) for name in ("candidates", "btvnano"))
    for name in set(legacy.fields) & set(run3.fields):
        values = [ak.to_numpy(ak.flatten(events[name], axis=None)).astype(np.float64) for events in (legacy, run3)]
        np.testing.assert_array_equal(*values, err_msg=name)
    same = {"fixedGridRhoFastjetAll": "Rho_fixedGridRhoFastjetAll", "MET_pt": "PuppiMET_pt", "MET_phi": "PFMET_phi"}
    for old, new in (same | {"Electron_mvaFall17V2Iso_WP80": "Electron_mvaIso_WP80"}).items():
        assert ak.all(legacy[old] == run3[new])
    position = legacy["Electron_eta"] + legacy["Electron_deltaEtaSC"]
    np.testing.assert_allclose(flat(run3["Electron_superclusterEta"]), flat(position), atol=3e-3)
    for jets, links in (("Jet", "JetPFCands"), ("FatJet", "FatJetPFCands")):
        index = run3[f"{links}_pFCandsIdx"]
        for ours, theirs in (("dxyFromPV", "d0"), ("dzFromPV", "dz")):
            assert ak.all(run3[f"{links}_{ours}"] == run3[f"PFCands_{theirs}"][index])
        track = run3["PFCands_d0Err"][index] > 0
        added = (run3[f"{links}_dxyErrFromPV"] - run3["PFCands_d0Err"][index])[track]
        assert ak.all(added >= 0)
        assert ak.mean(added > 0) > 0.9
        assert ak.all((run3[f"{links}_dxyErrFromPV"] == -1)[~track])
        assert ak.all((run3[f"{links}_btagDecayLenVal"] > 0)[track])
        numbers = [flat(run3[f"{jets}_{kind}Multiplicity"]).astype(int) for kind in ("ch", "ne")]
        assert np.array_equal(sum(numbers), flat(run3[f"{jets}_nConstituents"]).astype(int))
        forward = np.abs(flat(run3[f"{jets}_eta"])) > 3.5
        assert not (flat(run3[f"{jets}_hfHEF"]) + flat(run3[f"{jets}_hfEmEF"]))[
            np.abs(flat(run3[f"{jets}_eta"])) < 2
        ].any()
        if forward.any():
            total = flat(run3[f"{jets}_hfHEF"]) + flat(run3[f"{jets}_hfEmEF"])
            assert total[forward].mean() > 0.9
    track = run3["PFCands_d0Err"] > 0
    assert ak.all((run3["PFCands_trkPt"] == run3["PFCands_pt"])[track])
    assert ak.all((run3["PFCands_trkPt"] == -1)[~track])
    assert ak.all(run3["PFCands_trkHighPurity"] == (run3["PFCands_trkQuality"] == 5))


def test_deepjet_names_and_types(write):
    found = branches_of(write("deepjet"))
    pattern = re.compile(r"Jet_DeepJet_(Cpfcan|Npfcan|sv)_(.+)_(\d+)$")
    matched = {m.groups(): found[m.group()] for m in map(pattern.match, found) if m}
    expected = {
        (group, name, str(slot)): "int32_t[]" if name in ("VTX_ass", "quality", "isGamma") else "float[]"
        for group, names in DEEPJET.items()
        for name in names.split()
        for slot in range(SLOTS[group])
    }
    assert matched == expected
    assert len(expected) == 16 * 25 + 6 * 25 + 12 * 4
    others = {name for name in found if "DeepJet_" in name and not pattern.match(name)}
    assert others == {f"Jet_DeepJet_{name}" for name in ("nCpfcand", "nNpfcand", "nsv", "npv")}
    assert {found[name] for name in [*others, "Jet_FlavSplit"]} == {"int32_t[]"}
    legacy = branches_of(write("candidates"))
    plain = {
        k: v for k, v in legacy.items() if not k.removeprefix("n").startswith(("PFCands", "JetPFCands", "JetSVs"))
    }
    new = {"Jet_FlavSplit"} | others | {m.group() for m in map(pattern.match, found) if m}
    assert {k: v for k, v in found.items() if k not in new} == plain


def test_ntuple_names_and_types(write):
    expected = {name: dtype for dtype, names in NTUPLE.items() for name in names.split()} | OURS
    assert branches_of(write("jets"), "tree") == expected
    with uproot.open(write("jets")) as file:
        assert {key.split(";")[0] for key in file.keys()} == {"tree", "tag"}  # noqa: SIM118 (not a dict)


def test_same_jets_in_the_same_order(write):
    legacy = arrays_of(write("candidates"), names=["event", "Jet_pt", "Jet_eta", "Jet_phi", "Jet_rawFactor"])
    for layout in ("btvnano", "deepjet"):
        other = arrays_of(write(layout), names=legacy.fields)
        assert all(ak.all(other[name] == legacy[name]) for name in legacy.fields)
    jets = arrays_of(write("jets"), "tree")
    event = flat(ak.broadcast_arrays(legacy["event"], legacy["Jet_pt"])[0])
    assert np.array_equal(jets["event_no"].to_numpy(), event)
    assert np.array_equal(jets["jet_no"].to_numpy(), flat(ak.local_index(legacy["Jet_pt"])))
    for ours, theirs in (("jet_corr_pt", "Jet_pt"), ("jet_eta", "Jet_eta"), ("jet_phi", "Jet_phi")):
        np.testing.assert_allclose(jets[ours].to_numpy(), flat(legacy[theirs]), rtol=6e-4, atol=1e-6)
    raw = flat(legacy["Jet_pt"] * (1 - legacy["Jet_rawFactor"]))
    np.testing.assert_allclose(jets["jet_pt"].to_numpy(), raw, rtol=2e-3)


def test_flat_slots_are_the_ntuple_cut_and_padded(write):
    """Two layouts of the same inputs: `deepjet` in slots with 10 bits, `jets` as lists in full precision."""
    slots = arrays_of(write("deepjet"), names=[b for b in branches_of(write("deepjet")) if b.startswith("Jet_")])
    lists = arrays_of(write("jets"), "tree")
    for group, names in DEEPJET.items():
        for name in names.split():
            rows = ak.fill_none(ak.pad_none(lists[f"{group}_{name}"], SLOTS[group], clip=True), 0)
            found = np.stack([flat(slots[f"Jet_DeepJet_{group}_{name}_{k}"]) for k in range(SLOTS[group])], axis=1)
            np.testing.assert_allclose(found, ak.to_numpy(rows), rtol=5e-4, atol=1e-30, err_msg=name)
    counts = {"nCpfcand": "Cpfcan_pt", "nNpfcand": "Npfcan_pt", "nsv": "sv_pt"}
    for name, column in counts.items():
        number = ak.to_numpy(ak.num(lists[column]))
        assert np.array_equal(flat(slots[f"Jet_DeepJet_{name}"]), number)
        assert np.array_equal(lists[name].to_numpy(), number)
    assert np.array_equal(flat(slots["Jet_DeepJet_npv"]), lists["npv"].to_numpy())
    for name in ("vertexCategory", "trackSip3dSigAboveCharm", "jetNTracksEtaRel"):
        np.testing.assert_allclose(
            flat(slots[f"Jet_DeepCSV_{name}"]), lists[f"TagVarCSV_{name}"].to_numpy(), rtol=5e-4
        )


def test_flags_are_the_flavour_codes(write):
    codes = flat(arrays_of(write("deepjet"), names=["Jet_FlavSplit"])["Jet_FlavSplit"])
    assert np.array_equal(codes, flat(arrays_of(write("btvnano"), names=["Jet_FlavSplit"])["Jet_FlavSplit"]))
    jets = arrays_of(write("jets"), "tree")
    flags = ["G", "UD", "S", "C", "CC", "GCC", "B", "BB", "GBB", "LeptonicB", "LeptonicB_C", "PU", "Undefined"]
    numbers = [0, 1, 2, 400, 410, 411, 500, 510, 511, 520, 521, 999, 1000]
    matrix = np.stack([jets[f"is{name}"].to_numpy() for name in flags], axis=1)
    assert (matrix.sum(axis=1) == 1).all()
    assert np.array_equal(matrix @ np.array(numbers), codes)
    assert np.array_equal(np.isin(codes, (999, 1000)) | (jets["gen_pt"].to_numpy() > 0), np.ones(len(codes), bool))
    np.testing.assert_allclose(
        jets["Delta_gen_pt"].to_numpy(),
        np.where(jets["gen_pt"] > 0, jets["gen_pt"] - jets["jet_pt"], 0),
        rtol=1e-5,
        atol=1e-4,
    )


def test_labels_are_the_same_in_every_layout(write):
    """From neutrinos, hadron counts and partons (`candidates`), from codes, and from flags."""
    from pfnano_tag.nano.reader import PFNanoFile
    from pfnano_tag.prepare.labeling import truth_of

    flavours = {}
    for layout in LAYOUTS:
        with PFNanoFile(write(layout)) as file:
            flavours[layout] = truth_of(file.chunk(0, file.num_entries)).flavour
    plain = flavours.pop("candidates")
    assert set(plain.tolist()) == {-1, 0, 1, 2, 3, 4, 5}
    for found in flavours.values():
        np.testing.assert_array_equal(found, flavours["btvnano"])
    # a neutrino from a tau that a heavy hadron decayed to: its mother is no hadron, but one is among its ancestors
    different = plain != flavours["btvnano"]
    assert different.mean() < 0.005
    assert set(zip(plain[different].tolist(), flavours["btvnano"][different].tolist(), strict=True)) <= {(2, 0)}


@pytest.mark.parametrize("layout", ["candidates", "btvnano", "jets"])
def test_rntuple_holds_the_same(write, layout):
    tree = LAYOUTS[layout].tree
    fat = LAYOUTS[layout].fat_jets
    with uproot.open(write(layout, fat_jets=fat)) as first, uproot.open(write(layout, "rntuple", fat)) as second:
        assert {k: v.replace("ROOT::RNTuple", "TTree") for k, v in second.classnames().items()} == first.classnames()
        assert set(second[tree].keys()) == set(first[tree].keys())
        ours, theirs = first[tree].arrays(), second[tree].arrays()
        for name in ours.fields:
            left, right = (ak.to_numpy(ak.flatten(events[name], axis=None)) for events in (ours, theirs))
            assert left.dtype == right.dtype, name
            np.testing.assert_array_equal(left, right, err_msg=name)
            if ours[name].ndim == 2:
                assert ak.all(ak.num(ours[name]) == ak.num(theirs[name]))
        if tree == "Events":
            assert second["Runs"].arrays().tolist() == first["Runs"].arrays().tolist()
            assert second["LuminosityBlocks"].arrays().tolist() == first["LuminosityBlocks"].arrays().tolist()
        assert json.loads(str(second["tag"])) == {"generator": "pfnano_tag"}
        assert second[tree].num_entries == first[tree].num_entries


def test_the_layout_does_not_change_the_events(tmp_path):
    """Files made one by one with the same seed, not from one chunk."""
    pool = pool_for("mc", 5, 50)
    made = {}
    for layout in ("candidates", "jets"):
        made[layout] = make_file(Unit("dy", 25, 5, layout=layout), tmp_path / f"{layout}.root", pool)
    fat = make_file(Unit("dy", 25, 5, fat_jets=True), tmp_path / "fat.root", pool)
    assert len({summary["num_jets"] for summary in [*made.values(), fat]}) == 1
    files = [tmp_path / "candidates.root", tmp_path / "fat.root"]
    plain, fat_jets = (arrays_of(path, names=["Jet_eta", "Jet_Proba", "JetPFCands_btagSip3dVal"]) for path in files)
    assert all(ak.all(plain[name] == fat_jets[name]) for name in plain.fields)
    jets = arrays_of(tmp_path / "jets.root", "tree", ["jet_eta"])
    np.testing.assert_allclose(jets["jet_eta"].to_numpy(), flat(plain["Jet_eta"]), rtol=2e-4)
    assert read_summary(tmp_path / "jets.root") == made["jets"]


def test_data_have_no_truth_in_any_layout():
    truth = re.compile(
        r"^n?Gen|genWeight|^Pileup|L1PreFiring|gen(Jet|Part)|[hH]adronFlavour|partonFlavour|[BC]Hadrons"
    )
    truth = re.compile(f"{truth.pattern}|FlavSplit|^gen_|Delta_gen|^is[A-Z]|_[hp]flav|ntrueInt")
    for layout in LAYOUTS.values():
        names = {}
        for mode in ("mc", "data"):
            types = layout.types(mode, layout.fat_jets)
            names[mode] = set(types.scalars) | {f"{c}_{f}" for c, fields in types.collections.items() for f in fields}
        assert names["data"] < names["mc"]
        assert all(truth.search(name) for name in names["mc"] - names["data"])
        assert not [name for name in names["data"] if truth.search(name)]


def test_card_and_generator_know_the_same_layouts():
    assert set(section.LAYOUTS) == set(LAYOUTS)
    assert command._LAYOUTS == section.LAYOUTS
    assert command._CONTAINERS == section.CONTAINERS
    assert set(section.WITH_CANDIDATES) == {name for name, layout in LAYOUTS.items() if layout.fat_jets}


def test_what_a_layout_cannot_hold_is_refused(tmp_path, capsys):
    with pytest.raises(UserError, match="AK8 jets need layout candidates or btvnano"):
        Unit("dy", 5, 1, layout="jets", fat_jets=True).check()
    with pytest.raises(UserError, match="layout is 'flat', expected candidates or"):
        Unit("dy", 5, 1, layout="flat").check()
    with pytest.raises(ValueError, match="all candidates need layout"):
        section.Generate(layout="deepjet", candidates="all")
    out = tmp_path / "x.root"
    assert command.main(["--process", "dy", "--layout", "deepjet", "--fat-jets", "-o", str(out)]) == 2
    assert "layout deepjet has no candidates" in capsys.readouterr().err
    assert not out.exists()


def test_layout_by_command_line(tmp_path, capsys):
    out = tmp_path / "one.root"
    arguments = ["--process", "dy", "--layout", "btvnano", "--container", "rntuple", "--fat-jets", "--dry-run"]
    assert command.main([*arguments, "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("layout='btvnano'", "container='rntuple'", "fat_jets=True"))
