"""Canonical names: AK8 collections, later NanoAOD, plain trees of jets."""

import numpy as np
import pytest
from nano.flat_files import random_jets, write_tree

from pfnano_tag.card.jets import Jets, JetTree
from pfnano_tag.errors import BadChunk, MissingBranch
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.jet_id import BRANCHES
from pfnano_tag.nano.names import event_names
from pfnano_tag.nano.reader import PFNanoFile

AK4 = frozenset({"nJet", "Jet_pt", "JetPFCands_jetIdx", "nJetPFCands", "JetSVs_pt", "GenJet_pt", "PFCands_pt"})
AK8 = frozenset(
    {
        "nFatJet",
        "FatJet_pt",
        "FatJetPFCands_jetIdx",
        "nFatJetPFCands",
        "FatJetSVs_pt",
        "GenJetAK8_pt",
        "FatJet_genJetAK8Idx",
    }
)


def stored(names):
    return {name: branch.stored for name, branch in names.items()}


def test_fat_jets_stand_in_the_place_of_jets():
    names = stored(event_names(AK4 | AK8 | {"Muon_jetIdx", "run", "Jet_btagDeepB"}, "FatJet"))
    assert names == {
        "nJet": ("nFatJet",),
        "Jet_pt": ("FatJet_pt",),
        "JetPFCands_jetIdx": ("FatJetPFCands_jetIdx",),
        "nJetPFCands": ("nFatJetPFCands",),
        "JetSVs_pt": ("FatJetSVs_pt",),
        "GenJet_pt": ("GenJetAK8_pt",),
        "Jet_genJetAK8Idx": ("FatJet_genJetAK8Idx",),
        "Jet_genJetIdx": ("FatJet_genJetAK8Idx",),
        "PFCands_pt": ("PFCands_pt",),
        "run": ("run",),
    }


def test_jets_keep_their_names():
    assert stored(event_names(AK4 | AK8, "Jet")) == {name: (name,) for name in AK4 | AK8}


def test_names_of_later_productions():
    names = event_names(frozenset({"Rho_fixedGridRhoFastjetAll", *BRANCHES}), "Jet")
    assert names["fixedGridRhoFastjetAll"].stored == ("Rho_fixedGridRhoFastjetAll",)
    assert names["Jet_jetId"].stored == BRANCHES
    assert "Jet_jetId" not in event_names(frozenset(BRANCHES[1:]), "Jet")
    assert event_names(frozenset({"Jet_jetId", *BRANCHES}), "Jet")["Jet_jetId"].make is None


def test_real_file_has_fat_jets(shared_data):
    path = shared_data / "pfnano_qcd_mc_2017UL_10ev.root"
    with PFNanoFile(path) as ak4, PFNanoFile(path, Jets(collection="FatJet")) as ak8:
        assert (ak4.jet_type, ak8.jet_type, ak8.layout) == ("CHS", "AK8", "candidates")
        assert len(ak4.chunk(0, 10)["Jet_pt"].values) == 64
        assert len(ak8.chunk(0, 10)["Jet_pt"].values) == len(ak4.chunk(0, 10)["FatJet_pt"].values)
        assert ak8.stored("Jet_pt") == "FatJet_pt"


CODES = {
    "isB": 500,
    "isBB": 510,
    "isGBB": 510,
    "isLeptonicB": 520,
    "isLeptonicB_C": 520,
    "isUndefined": 1000,
    "isC": 400,
    "isCC": 400,
    "isGCC": 400,
    "isUD": 1,
    "isS": 1,
    "isG": 0,
    "isPU": 1000,
}
"""DeepNTuples' flags, and the code of `Jet_FlavSplit` that stands for their class."""


def write(path, **flags):
    n = len(next(iter(flags.values())))
    write_tree(path, random_jets(1, n), **{name: np.array(values, "i4") for name, values in flags.items()})


def test_labels_of_a_tree_of_jets(tmp_path):
    path = tmp_path / "jets.root"
    write(path, **{flag: [flag == one for one in CODES] for flag in CODES})
    with PFNanoFile(path) as file:
        assert file.kind == "mc"
        assert file.chunk(0, 13)["Jet_FlavSplit"].values.tolist() == [*CODES.values()]
        assert file.chunk(2, 5)["Jet_FlavSplit"].values.tolist() == [510, 520, 520]


def test_labels_by_value(tmp_path):
    path = tmp_path / "jets.root"
    write(path, flavour=[5, 4, 0, 21, 99])
    labels = {"b": ("flavour=5",), "c": ("flavour=4",), "uds": ("flavour=0",), "g": ("flavour=21",)}
    with PFNanoFile(path, Jets(tree=JetTree(labels=labels))) as file:
        assert file.chunk(0, 5)["Jet_FlavSplit"].values.tolist() == [500, 400, 1, 0, 1000]


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (
            JetTree(labels={"b": ("isB",), "bb": ("isBb",)}),
            r"jets.root: jets.tree.labels.bb: .* 'isBb'; nearest: isBB",
        ),
        (JetTree(branches={"genWeight": "weigth"}), r"jets.tree.branches.genWeight: .* 'weigth'; nearest: weight"),
    ],
)
def test_flags_and_weights_that_the_card_names_are_not_left_out_silently(tmp_path, tree, words):
    path = tmp_path / "jets.root"
    write_tree(path, random_jets(1, 3), isB=np.array([1, 0, 0]), isBB=np.array([0, 1, 0]), weight=np.ones(3))
    with pytest.raises(MissingBranch, match=words):
        PFNanoFile(path, Jets(tree=tree))
    with PFNanoFile(path, Jets(tree=JetTree(branches={"genWeight": "weight"}))) as file:
        assert file.chunk(0, 3)["genWeight"].tolist() == [1, 1, 1]


def test_data_need_no_flags_and_no_weight(tmp_path):
    path = tmp_path / "jets.root"
    write_tree(path, random_jets(1, 3))
    tree = JetTree(labels={"b": ("is_b",)}, branches={"genWeight": "weight"})
    with PFNanoFile(path, Jets(tree=tree)) as file:
        assert file.kind == "data"


def test_the_jets_kinematics_as_inputs_are_those_of_the_cuts(tmp_path):
    path = tmp_path / "jets.root"
    write_tree(path, random_jets(1, 3), pt=np.array([31, 32, 33], "f4"))
    for branches, expected in (({"Jet_pt": "pt"}, "pt"), ({"Jet_pt": "pt", "jet/pt": "jet_eta"}, "jet_eta")):
        with PFNanoFile(path, Jets(tree=JetTree(branches=branches))) as file:
            assert file.stored("Jet_pt") == "pt"
            assert file.stored("jet/pt") == expected


def test_two_flavours_of_one_jet_are_a_bad_chunk(tmp_path):
    path = tmp_path / "jets.root"
    write(path, isB=[1, 0, 1], isC=[0, 1, 1])
    with PFNanoFile(path) as file, pytest.raises(BadChunk, match=r"the jet in entry 2 has flags of several flavour"):
        file.chunk(1, 3)["Jet_FlavSplit"]


def test_identity_by_position_is_the_same_for_any_chunk(tmp_path):
    path = tmp_path / "jets.root"
    write(path, isB=[1, 0, 1, 0, 0])
    with PFNanoFile(path) as file:
        assert not {"run", "event"} & file.branches
    with PFNanoFile(path, Jets(tree=JetTree(position_identifies=True))) as file:
        assert file.chunk(0, 5)["event"].tolist() == [0, 1, 2, 3, 4]
        assert file.chunk(3, 5)["event"].tolist() == [3, 4]
        assert len(set(file.chunk(0, 5)["run"].tolist())) == 1
        assert file.chunk(0, 5)["genWeight"].tolist() == [1] * 5


@pytest.mark.parametrize(
    ("name", "tree"),
    [("Jet_FlavSplit", JetTree(labels={"b": ("n_sv", "sv_pt")})), ("Jet_pt", JetTree(branches={"Jet_pt": "sv_pt"}))],
)
def test_a_list_where_a_jet_has_one_value_is_a_bad_chunk(tmp_path, name, tree):
    """As a flag it would make every jet a b jet."""
    path = tmp_path / "jets.root"
    write(path, isB=[1, 0, 1])
    with PFNanoFile(path, Jets(tree=tree)) as file, pytest.raises(BadChunk, match=r"sv_pt holds lists, expected one"):
        file.chunk(0, 3)[name]


def test_several_values_where_an_event_has_one_are_a_bad_chunk(tmp_path):
    write_tree(tmp_path / "jets.root", random_jets(1, 3), run_no=np.ones((3, 2), "i4"))
    with PFNanoFile(tmp_path / "jets.root") as file, pytest.raises(BadChunk, match="run_no holds 2 values per event"):
        file.chunk(0, 3)["run"]


def test_jet_identification_of_branches_that_differ_is_an_error():
    make = event_names(frozenset(BRANCHES), "Jet")["Jet_jetId"].make
    arrays = {name: Jagged(np.full(3, 0.5), np.array([0, 1, 3])) for name in BRANCHES}
    assert make(arrays, 0, 2).offsets.tolist() == [0, 1, 3]
    arrays["Jet_muEF"] = Jagged(np.full(3, 0.5), np.array([0, 2, 3]))
    with pytest.raises(ValueError, match="Jet_muEF has other numbers of jets than Jet_eta"):
        make(arrays, 0, 2)
    arrays["Jet_muEF"] = np.full(2, 0.5)
    with pytest.raises(ValueError, match="Jet_muEF has one value per event"):
        make(arrays, 0, 2)
