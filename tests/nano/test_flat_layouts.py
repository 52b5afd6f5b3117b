"""Flat layouts against plain loops over jets: slots, truncation, tracks, mappings, damage."""

import awkward as ak
import numpy as np
import pytest
import uproot
from nano.flat_files import COUNTS, SLOTS, features, random_jets, write_deepjet, write_tree

from pfnano_tag.card.jets import Jets, JetTree
from pfnano_tag.errors import BadChunk, CardError, DataError, FileError, MissingBranch
from pfnano_tag.nano.features import has_vectors, read_jets
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.schema import FEATURES

IDS = [f.id for f in FEATURES.values() if f.flat in {n for g in SLOTS for n in features(g)}]
COUNTED = [f"jet/{name}" for name in COUNTS.values()]
EVENTS = [2, 0, 3, 1, 0, 4]
JETS = random_jets(3, sum(EVENTS))
CAPS = {"charged": 6, "neutral": 3, "sv": 4}


def check(table, jets, caps, stored=SLOTS):
    """Compare a table with the lists it was written from."""
    for group in caps:
        offsets = table.groups[group].offsets
        for row, jet in enumerate(jets):
            expected = jet[group][: min(caps[group], stored[group])]
            assert offsets[row + 1] - offsets[row] == len(expected)
            for place, constituent in enumerate(expected):
                at = offsets[row] + place
                for feature in (FEATURES[name] for name in IDS if FEATURES[name].group == group):
                    value = table.groups[group].columns[feature.name][at]
                    default = table.default_mask(feature.id)[at]
                    lacks = {
                        "track": group == "charged" and constituent["Cpfcan_chi2"] < 0,
                        "vertex": constituent.get(feature.flat) == 0,
                        "": False,
                    }[feature.needs]
                    assert default == lacks
                    bounded = np.clip(constituent[feature.flat], feature.low, feature.high)
                    assert value == np.float32(feature.default if lacks else bounded)
    for group, name in COUNTS.items():
        assert table.jet[name].tolist() == [len(jet[group]) for jet in jets]


def test_slots_of_events(tmp_path):
    write_deepjet(tmp_path / "flat.root", EVENTS, JETS)
    with PFNanoFile(tmp_path / "flat.root") as file:
        assert file.layout == "deepjet"
        assert not has_vectors(file.contents, "charged")
        chunk = file.chunk(0, 6)
        table = read_jets(chunk, [*COUNTED, *IDS], np.ones(len(JETS), bool), CAPS, 0.95)
        check(table, JETS, CAPS)
        assert table.event.tolist() == np.repeat(np.arange(6), EVENTS).tolist()
        assert not {"px", "energy"} & table.groups["charged"].columns.keys()
        mask = np.arange(len(JETS)) % 2 == 1
        some = read_jets(file.chunk(2, 6), [*COUNTED, *IDS], mask[2:], CAPS, 0.95)
        check(some, [jet for jet, kept in zip(JETS[2:], mask[2:], strict=True) if kept], CAPS)


def test_more_constituents_than_slots_are_refused_with_the_number(tmp_path):
    write_deepjet(tmp_path / "flat.root", EVENTS, JETS)
    with PFNanoFile(tmp_path / "flat.root") as file:
        chunk, mask = file.chunk(0, 6), np.ones(len(JETS), bool)
        with pytest.raises(DataError, match=r"holds 4 constituents of group sv .* want 5: set inputs.caps.sv=4"):
            read_jets(chunk, IDS, mask, {**CAPS, "sv": 5}, 0.95)
        with pytest.raises(DataError, match=r"selected with pT > 0.95 GeV .* want inputs.candidate_pt=0.5"):
            read_jets(chunk, IDS, mask, CAPS, 0.5)
        with pytest.raises(MissingBranch, match=r"layout deepjet.*\n.*Jet_DeepJet_sv_etarel_0 \(for sv/etarel\)"):
            read_jets(chunk, ["sv/etarel"], mask, CAPS, 0.95)


def test_a_tree_of_jets(tmp_path):
    write_tree(tmp_path / "jets.root", JETS, npv=np.full(len(JETS), 7, "f4"))
    with PFNanoFile(tmp_path / "jets.root") as file:
        assert (file.layout, file.kind, file.jet_type) == ("jets", "data", "unknown")
        table = read_jets(file.chunk(0, len(JETS)), [*COUNTED, *IDS, "jet/pt"], np.ones(len(JETS), bool), CAPS, 0.95)
        check(table, JETS, CAPS, stored=dict.fromkeys(SLOTS, 99))
        assert table.jet["pt"].tolist() == (30 + np.arange(len(JETS))).tolist()  # the corrected one
        mask = np.arange(len(JETS)) % 3 == 0
        some = read_jets(file.chunk(0, len(JETS)), [*COUNTED, *IDS], mask, CAPS, 0.95)
        check(some, [jet for jet, kept in zip(JETS, mask, strict=True) if kept], CAPS, dict.fromkeys(SLOTS, 99))
        assert some.row.tolist() == np.flatnonzero(mask).tolist()


def test_padded_branches_need_their_number(tmp_path):
    write_tree(tmp_path / "jets.root", JETS, padded=True)
    everything = np.ones(len(JETS), bool)
    with PFNanoFile(tmp_path / "jets.root") as file:
        table = read_jets(file.chunk(0, len(JETS)), [*COUNTED, *IDS], everything, CAPS, 0.95)
        check(table, JETS, CAPS)
    nameless = Jets(tree=JetTree(branches={"charged/n": None}))
    wanted = r"Cpfcan_BtagPf_trackEtaRel has a fixed length; name .* jets.tree.branches: charged/n"
    with PFNanoFile(tmp_path / "jets.root", nameless) as file, pytest.raises(MissingBranch, match=wanted):
        read_jets(file.chunk(0, len(JETS)), IDS, everything, CAPS, 0.95)


@pytest.mark.parametrize("number", ["Npfcan_ptrel", "lists"])
def test_a_number_of_constituents_that_is_a_list_is_a_bad_chunk(tmp_path, number):
    lists = ak.unflatten(np.ones(2 * len(JETS), "f4"), np.full(len(JETS), 2))
    write_tree(tmp_path / "jets.root", JETS, padded=True, lists=lists)
    jets = Jets(tree=JetTree(branches={"neutral/n": number}))
    with PFNanoFile(tmp_path / "jets.root", jets) as file:
        chunk = file.chunk(0, len(JETS))
        with pytest.raises(BadChunk, match=rf"{number} holds lists, expected one number of constituents per jet"):
            read_jets(chunk, ["neutral/ptrel"], np.ones(len(JETS), bool), CAPS, 0.95)


def test_names_by_the_card(tmp_path):
    write_tree(tmp_path / "jets.root", JETS, my_pt=np.full(len(JETS), 50, "f4"))
    jets = Jets(tree=JetTree(name="tree", branches={"Jet_pt": "my_pt", "jet/pt": "my_pt", "charged/ptrel": None}))
    with PFNanoFile(tmp_path / "jets.root", jets) as file:
        chunk, mask = file.chunk(0, len(JETS)), np.ones(len(JETS), bool)
        assert (chunk["Jet_pt"].values == 50).all()
        assert chunk["Jet_pt"].counts.tolist() == [1] * len(JETS)
        assert (read_jets(chunk, ["jet/pt"], mask, CAPS, 0.95).jet["pt"] == 50).all()
        with pytest.raises(MissingBranch, match=r"charged/ptrel.*\n.*name their branches in jets.tree.branches"):
            read_jets(chunk, ["charged/ptrel"], mask, CAPS, 0.95)
    with pytest.raises(FileError, match=r"no tree 'Events' or 'other' \(jets.tree.name\) in this file; it has: tree"):
        PFNanoFile(tmp_path / "jets.root", Jets(tree=JetTree(name="other")))


def test_branches_of_different_lengths_are_a_bad_chunk(tmp_path):
    broken = [{group: list(some) for group, some in jet.items()} for jet in JETS]
    write_tree(tmp_path / "jets.root", broken)
    import awkward as ak
    import uproot

    with uproot.open(tmp_path / "jets.root") as file:
        data = {
            name: file["tree"][name].array()
            for name in file["tree"].keys(recursive=False)
            if not name.startswith("n")
        }
    data["Cpfcan_ptrel"] = ak.concatenate([data["Cpfcan_ptrel"][:1, :0], data["Cpfcan_ptrel"][1:]])
    data["Cpfcan_ptrel"] = ak.concatenate([data["Cpfcan_ptrel"], data["Cpfcan_ptrel"][:, :1]], axis=1)
    with uproot.recreate(tmp_path / "bad.root") as file:
        file["tree"] = data
    with PFNanoFile(tmp_path / "bad.root") as file, pytest.raises(BadChunk, match="have different lengths"):
        read_jets(file.chunk(0, len(JETS)), IDS, np.ones(len(JETS), bool), CAPS, 0.95)


def test_negative_numbers_are_a_bad_chunk(tmp_path):
    write_deepjet(tmp_path / "flat.root", EVENTS, JETS)
    with PFNanoFile(tmp_path / "flat.root") as file:
        chunk = file.chunk(0, 6)
        chunk["Jet_DeepJet_nCpfcand"].values[3] = -2
        with pytest.raises(BadChunk, match="Jet_DeepJet_nCpfcand is -2 for a jet"):
            read_jets(chunk, IDS, np.ones(len(JETS), bool), CAPS, 0.95)


def test_several_values_for_one_jet_are_a_bad_chunk(tmp_path):
    write_tree(tmp_path / "jets.root", JETS, npv=np.ones((len(JETS), 3), "f4"))
    with PFNanoFile(tmp_path / "jets.root") as file, pytest.raises(BadChunk, match="npv has 3 values per entry"):
        read_jets(file.chunk(0, len(JETS)), ["jet/npv"], np.ones(len(JETS), bool), CAPS, 0.95)


def test_a_mapping_of_an_unknown_feature_is_refused(tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        file["tree"] = {"jet_corr_pt": np.ones(3, np.float32)}
    jets = Jets(tree=JetTree(branches={"charged/ptrell": "x"}))
    with pytest.raises(CardError, match=r"'charged/ptrell'.*nearest: charged/ptrel"):
        PFNanoFile(tmp_path / "a.root", jets)
