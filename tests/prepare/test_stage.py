"""The scan as a whole: partitions, losses, refusals, and what `prepared.json` says."""

import json
import logging

import awkward as ak
import numpy as np
import pytest

from pfnano_tag.card.folder import prepared_path
from pfnano_tag.errors import CardError, DataError, FileError, Incomplete, MissingBranch, StudyError
from pfnano_tag.nano.containers import TreeContainer
from pfnano_tag.nano.features import read_jets
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.schema import features_of, transformed
from pfnano_tag.prepare import stage
from pfnano_tag.prepare.prepared import read_prepared
from pfnano_tag.prepare.sample import training_jets
from pfnano_tag.prepare.splitting import SPLITS
from tests.prepare.candidates_file import EVENTS, content, damage, write

IDS = features_of("constituents")
SMALL = 0.045  # MB: one cluster of 40 events per chunk


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """Drawing is a second per run; one test draws."""
    if "draws" not in request.keywords and "draw" not in request.node.name:
        monkeypatch.setattr("pfnano_tag.prepare.pictures.draw", lambda prepared, folder, text: [])


@pytest.fixture
def prepared(files, card_on):
    return stage.run(card_on(files))


def jets_by_event(card, prepared, splits=SPLITS):
    """(event id, row-independent content) of all jets, sorted."""
    parts = list(training_jets(card, prepared, splits))
    columns = [np.concatenate([p.event_id for p in parts]), np.concatenate([p.table.jet["pt"] for p in parts])]
    columns += [np.concatenate([getattr(p, name) for p in parts]) for name in ("label", "split")]
    order = np.lexsort(columns[::-1])
    return [column[order] for column in columns]


def test_scan_equals_a_plain_computation(files, card_on):
    card = card_on(files)
    prepared = stage.run(card)
    train = list(training_jets(card, prepared, ["train"]))
    assert len(train) == 2  # one chunk per file
    for feature in prepared.inputs.features:
        values = np.concatenate([p.table.column(feature.id)[~p.table.default_mask(feature.id)] for p in train])
        values = transformed(values, feature.transform).astype(np.float64)
        assert feature.live
        assert feature.mean == pytest.approx(values.mean(), rel=1e-10, abs=1e-12)
        assert feature.std == pytest.approx(values.std(), rel=1e-10)
    label = np.concatenate([p.label for p in train])
    assert np.bincount(label).tolist() == [prepared.total("train", name) for name in prepared.classes]
    assert prepared.weights.counts.sum() == len(label)


def test_sums_of_weights_count_all_events(files, prepared):
    total, entries = 0.0, 0
    for path in files:
        with PFNanoFile(path) as file:
            chunk = file.chunk(0, file.num_entries)
            total += chunk["genWeight"].astype(np.float64).sum()
            entries += file.num_entries
    assert sum(prepared.sumw["sample"].values()) == pytest.approx(total, rel=1e-12)
    assert sum(prepared.events["sample"].values()) == entries


def test_chunks_and_order_of_files_do_not_matter(files, card_on):
    whole = card_on(files, "whole")
    pieces = card_on(files[::-1], "pieces", resources={"chunk": SMALL})
    first, second = stage.run(whole), stage.run(pieces)
    assert len(second.files[0].chunks) > 3 == len(first.files[0].chunks) + 2
    assert first.jets == second.jets
    assert first.cutflow == second.cutflow
    assert first.defaults == second.defaults
    assert np.array_equal(first.weights.weights, second.weights.weights)
    for a, b in zip(first.inputs.features, second.inputs.features, strict=True):
        assert b.mean == pytest.approx(a.mean, rel=1e-12, abs=1e-12 * a.std)
        assert b.std == pytest.approx(a.std, rel=1e-12)
        assert b.default == pytest.approx(a.default, rel=1e-11)
    for split in SPLITS:
        assert second.sumw["sample"][split] == pytest.approx(first.sumw["sample"][split], rel=1e-12)
    for a, b in zip(jets_by_event(whole, first), jets_by_event(pieces, second), strict=True):
        assert np.array_equal(a, b)


def test_jets_of_chunks_are_counted_and_another_size_of_chunks_is_another_plan(files, card_on):
    card = card_on(files)
    stage.run(card)
    prepared = stage.run(card_on(files, resources={"chunk": SMALL}))
    assert prepared.files == read_prepared(prepared_path(card), card).files
    assert all(len(record.jets) == len(record.chunks) > 3 for record in prepared.files)
    parts = training_jets(card, prepared, SPLITS)
    found = [tuple(np.count_nonzero(part.split == i) for i in range(3)) for part in parts]
    assert found == [counts for record in prepared.files for counts in record.jets]
    assert len({counts for record in prepared.files for counts in record.jets}) > 3


def test_listing_order_of_files_does_not_matter_to_the_last_bit(files, card_on):
    first, second = stage.run(card_on(files, "forward")), stage.run(card_on(files[::-1], "backward"))
    assert first.inputs == second.inputs
    assert first.sumw == second.sumw
    assert first.files == second.files  # training reads the files in this order
    assert np.array_equal(first.weights.weights, second.weights.weights)


def test_partial_results_merge_to_the_last_bit(files, card_on):
    together, apart = card_on(files, "together"), card_on(files, "apart")
    stage.run(together)
    for path in files[::-1]:
        stage.run_partial(apart, [str(path)])
    assert not prepared_path(apart).exists()
    stage.run_merge(apart)
    contents = [json.loads(prepared_path(card).read_text()) for card in (together, apart)]
    assert contents[0] == contents[1]


def test_merge_without_a_file_is_incomplete(files, card_on):
    card = card_on(files)
    with pytest.raises(FileError, match="no partial result to merge"):
        stage.run_merge(card)
    stage.run_partial(card, [str(files[1])])
    with pytest.raises(Incomplete, match="sample_1.root: no partial result"):
        stage.run_merge(card)
    prepared = read_prepared(prepared_path(card), card)
    assert not prepared.complete
    assert sum(prepared.events["sample"].values()) == EVENTS


def test_a_second_run_reads_nothing_again(files, card_on, monkeypatch):
    card = card_on(files)
    first = stage.run(card).to_json()
    monkeypatch.setattr(stage, "scan_file", lambda *_: pytest.fail("read again"))
    assert stage.run(card).to_json() == first


def test_other_settings_or_another_file_are_read_again(files, card_on, tmp_path):
    path = write(tmp_path / "changing.root", content(1))
    before = stage.run(card_on([path]))
    heavier = stage.run(card_on([path], reweighting={"correct": "none"}))
    assert heavier.sections["reweighting"] != before.sections["reweighting"]
    assert set(heavier.weights.weights.flat) <= {0, 1}
    write(path, content(2))
    assert stage.run(card_on([path])).jets != before.jets


def test_a_damaged_basket_loses_its_chunk_alone_and_a_mended_file_goes_on(files, card_on, tmp_path):
    path = write(tmp_path / "damaged.root", content(3))
    sound = path.read_bytes()
    damage(path, "Jet_pt", 2)
    card = card_on([files[0], path], resources={"chunk": SMALL})
    with pytest.raises(Incomplete, match=r"damaged.root: entries 80 to 120"):
        stage.run(card)
    prepared = read_prepared(prepared_path(card), card)
    assert sum(prepared.events["sample"].values()) == 2 * EVENTS - 40
    (record,) = (record for record in prepared.files if record.path == str(path))
    assert (80, 120) not in record.chunks
    assert len(record.chunks) == 5
    assert sum(len(part) for part in training_jets(card, prepared, SPLITS)) == sum(prepared.total(s) for s in SPLITS)
    path.write_bytes(sound)
    assert sum(stage.run(card).events["sample"].values()) == 2 * EVENTS


def test_one_broken_file_among_many_is_lost_but_a_single_one_is_refused(files, card_on, tmp_path):
    broken = tmp_path / "broken.root"
    broken.write_bytes(b"root but not really" * 100)
    card = card_on([files[0], broken])
    with pytest.raises(Incomplete, match="broken.root"):
        stage.run(card)
    assert [len(r.chunks) for r in read_prepared(prepared_path(card), card).files] == [1, 0]
    alone = card_on([broken], "alone")
    with pytest.raises(FileError, match="broken.root"):
        stage.run(alone)
    useless = write(tmp_path / "useless.root", content(6) | {"event": np.zeros(len(content(6)["event"]), np.float32)})
    with pytest.raises(DataError, match=r"no training jets .*could not be read, the first: .*event holds float32"):
        stage.run(card_on([useless], "useless"))
    assert not prepared_path(alone).exists()


def test_a_file_without_events_is_complete(files, card_on, tmp_path):
    empty = write(tmp_path / "empty.root", {name: value[:0] for name, value in content(1, 10).items()})
    prepared = stage.run(card_on([files[0], empty]))
    assert prepared.complete
    (record,) = (one for one in prepared.files if one.path == str(empty))  # their order is no listing order
    assert record.entries == 0
    assert sum(prepared.events["sample"].values()) == EVENTS


def test_non_finite_inputs_and_weights_are_counted(files, card_on, tmp_path):
    branches = content(5)
    counts = ak.num(branches["JetPFCands_btagSip3dSig"])
    flat = ak.to_numpy(ak.flatten(branches["JetPFCands_btagSip3dSig"])).copy()
    flat[::7] = np.nan
    branches["JetPFCands_btagSip3dSig"] = ak.unflatten(flat, counts)
    branches["genWeight"][[3, 50]] = [np.nan, np.inf]
    path = write(tmp_path / "nan.root", branches)
    card = card_on([path])
    prepared = stage.run(card)
    assert prepared.weightless == {"sample": 2}
    assert sum(prepared.events["sample"].values()) == EVENTS - 2
    assert np.isfinite(list(prepared.sumw["sample"].values())).all()
    counted = prepared.defaults["charged/trackSip3dSig"]
    assert 0 < counted.non_finite < counted.placeholders < counted.entries
    assert counted.placeholders == counted.non_finite + prepared.defaults["charged/trackSip3dVal"].placeholders
    assert prepared.defaults["charged/ptrel"].non_finite == 0
    for part in training_jets(card, prepared):
        assert np.isfinite(part.weight).all()
        assert all(np.isfinite(part.table.column(name)).all() for name in IDS)


def test_classes_that_a_file_can_not_tell_merge_everywhere(files, card_on, tmp_path, caplog):
    plain = {name: value for name, value in content(6).items() if name != "Jet_nBHadrons" and "GenPart" not in name}
    card = card_on([files[0], write(tmp_path / "plain.root", plain)])
    with caplog.at_level(logging.WARNING):
        prepared = stage.run(card)
    assert prepared.classes == ("b", "c", "uds", "g")
    assert set(prepared.merged) == {"bb", "lepb"}
    assert "class bb merges into b" in caplog.text
    assert prepared.weights.weights.shape[0] == 4
    labels = np.concatenate([part.label for part in training_jets(card, prepared, ["train"])])
    assert np.bincount(labels).tolist() == [prepared.total("train", name) for name in prepared.classes]


def test_jets_that_do_not_tell_their_type_are_not_mixed_with_jets_that_do(files, card_on, tmp_path):
    told = content(6) | {"Jet_puId": content(6)["Jet_hadronFlavour"]}  # only CHS jets have it
    paths = [files[0], write(tmp_path / "chs.root", told)]
    with pytest.raises(DataError, match=r"different jet types: CHS .*chs.root\), unknown .*jets.mix=\[types\]"):
        stage.run(card_on(paths))
    assert stage.run(card_on(paths, jets={"mix": ["types"]})).complete


def test_missing_neutrinos_are_noticed(card_on, tmp_path, caplog):
    branches = content(6)
    branches["GenPart_status"] = branches["GenPart_status"] * 0 + 2
    prepared = stage.run(card_on([write(tmp_path / "pruned.root", branches)]))
    assert set(prepared.merged) == {"lepb"}
    assert "no neutrino" in prepared.merged["lepb"]


def test_a_class_without_jets_is_named(card_on, tmp_path):
    branches = content(6)
    branches["Jet_nBHadrons"] = branches["Jet_nBHadrons"] * 0 + (branches["Jet_hadronFlavour"] == 5)
    path = write(tmp_path / "no_bb.root", branches)
    card = card_on([path])
    with pytest.raises(DataError, match=r"no training jets of class bb \(.*labels.classes=\[b, lepb, c, uds, g\]"):
        stage.run(card)
    assert not prepared_path(card).exists()
    # the folder is not bound to a card that came to nothing: the advice works in place
    mended = card_on([path], labels={"classes": ["b", "lepb", "c", "uds", "g"]})
    assert stage.run(mended).classes == ("b", "lepb", "c", "uds", "g")


def test_missing_features_are_named_unless_droppable(files, card_on, tmp_path):
    with pytest.raises(MissingBranch, match="neutral/HadFrac"):
        stage.run(card_on(files, "refused", inputs={"set": "deepjet"}))
    without = {name: value for name, value in content(1).items() if name != "PV_npvs"}
    path = write(tmp_path / "without.root", without)
    with pytest.raises(MissingBranch, match=r"PV_npvs \(for jet/npv\)"):
        stage.run(card_on([path], "refused2"))
    prepared = stage.run(card_on([path], inputs={"droppable": ["jet/npv"]}))
    (npv,) = [f for f in prepared.inputs.features if f.id == "jet/npv"]
    assert (npv.live, npv.mean, npv.std, npv.default) == (False, 0, 1, 0)
    assert prepared.defaults["jet/npv"].share == 1
    assert "jet/npv" not in prepared.inputs.needed


def test_unknown_droppable_feature_is_refused(files, card_on):
    with pytest.raises(CardError, match="'neutral/hadfrac' is no feature .*nearest: neutral/HadFrac"):
        stage.run(card_on(files, inputs={"droppable": ["neutral/hadfrac"]}))


def test_data_in_simulation_is_refused(shared_data, card_on):
    with pytest.raises(DataError, match=r"nano_dimuon_data_40ev.root.*dataset 'sample' is simulation"):
        stage.run(card_on([shared_data / "nano_dimuon_data_40ev.root"]))


def test_real_file_without_candidates_is_refused(shared_data, card_on):
    with pytest.raises(MissingBranch, match="JetPFCands_jetIdx"):
        stage.run(card_on([shared_data / "nano_dy_mc_40ev.root"]))


def test_real_file_says_which_flavours_it_lacks(shared_data, card_on):
    with pytest.raises(DataError, match="no training jets of class b, bb, lepb"):
        stage.run(card_on([shared_data / "pfnano_qcd_mc_2017UL_10ev.root"]))


def test_the_same_file_twice_is_refused(files, card_on, tmp_path):
    copy = tmp_path / "copy.root"
    copy.write_bytes(files[0].read_bytes())
    with pytest.raises(DataError, match="are the same file"):
        stage.run(card_on([files[0], copy]))
    datasets = [{"name": n, "files": str(files[0]), "kind": "mc", "roles": ["train"]} for n in ("one", "two")]
    with pytest.raises(CardError, match="stands in both 'one' and 'two'"):
        stage.run(card_on([], "two", datasets=datasets))


def test_partial_of_a_foreign_file_is_refused(files, card_on):
    with pytest.raises(CardError, match="not a file of a dataset"):
        stage.run_partial(card_on(files), ["other.root"])


def test_a_folder_of_another_card_is_refused(files, card_on):
    stage.run(card_on(files))
    with pytest.raises(StudyError, match="section jets differs"):
        stage.run(card_on(files, jets={"pt": [30, 1000]}))


def test_plan_writes_nothing(files, card_on):
    card = card_on(files, resources={"chunk": SMALL})
    text = stage.plan(card)
    assert f"{EVENTS} events in 6 chunks" in text
    assert "memory: about" in text
    assert "JetPFCands_btagSip3dSig" in text
    assert not card.folder.exists()


def test_each_branch_is_read_once(files, card_on, monkeypatch):
    reads = []
    original = TreeContainer.arrays

    def spy(self, names, start, stop):
        if self.name == "Events":
            reads.append((start, tuple(names)))
        return original(self, names, start, stop)

    monkeypatch.setattr(TreeContainer, "arrays", spy)
    stage.run(card_on(files[:1], resources={"chunk": SMALL}))
    assert len(reads) == 12  # per chunk: what chooses jets, then what their features need
    by_chunk = {start: [name for at, names in reads if at == start for name in names] for start, _ in reads}
    assert len(by_chunk) == 6
    assert all(len(names) == len(set(names)) for names in by_chunk.values())
    assert not any("PFCands_pt" in names for _, names in reads[::2])


def test_candidates_of_chunks_without_a_jet_are_not_read(files, card_on, monkeypatch):
    reads = []
    original = TreeContainer.arrays

    def spy(self, names, start, stop):
        reads.extend(names)
        return original(self, names, start, stop)

    monkeypatch.setattr(TreeContainer, "arrays", spy)
    with pytest.raises(DataError, match="no training jets"):
        stage.run(card_on(files[:1], jets={"pt": [999, 1000]}))
    assert "Jet_pt" in reads
    assert not [name for name in reads if name.startswith(("PFCands", "JetPFCands", "JetSVs"))]


def test_draws_four_pictures(files, card_on):
    card = card_on(files)
    stage.run(card)
    pictures = sorted(path.name for path in (card.folder / "prepared").glob("*.png"))
    assert pictures == ["eta_after.png", "eta_before.png", "pt_after.png", "pt_before.png"]


def test_training_refuses_a_file_that_changed(files, card_on, tmp_path):
    path = write(tmp_path / "swapped.root", content(1))
    card = card_on([path])
    prepared = stage.run(card)
    write(path, content(1))
    with pytest.raises(StudyError, match="not the file that was prepared"):
        list(training_jets(card, prepared))


def test_training_reads_only_the_splits_and_features_asked_for(files, card_on):
    card = card_on(files)
    prepared = stage.run(card)
    for split, name in enumerate(SPLITS):
        parts = list(training_jets(card, prepared, [name], ["jet/pt"]))
        assert all((part.split == split).all() and list(part.table.jet) == ["pt"] for part in parts)
        assert sum(map(len, parts)) == prepared.total(name)
    with pytest.raises(ValueError, match="no such split"):
        next(training_jets(card, prepared, ["training"]))


def test_event_ids_are_shared_by_the_jets_of_an_event_alone(files, card_on):
    card = card_on(files[:1])
    (part,) = training_jets(card, stage.run(card), SPLITS)
    assert len(np.unique(part.event_id)) == len(np.unique(part.table.event)) < len(part)
    assert len(np.unique(np.stack([part.event_id, part.table.event.astype(np.uint64)]), axis=1).T) == len(
        np.unique(part.event_id)
    )


def test_table_is_the_one_of_nano(files, card_on):
    card = card_on(files[:1])
    (part,) = training_jets(card, stage.run(card), ["test"])
    with PFNanoFile(files[0]) as file:
        chunk = file.chunk(0, file.num_entries)
        mask = np.zeros(len(chunk["Jet_pt"].values), dtype=bool)
        mask[part.table.row] = True
        again = read_jets(chunk, IDS, mask, card.inputs.caps.model_dump(), 0.95)
    assert all(np.array_equal(part.table.column(name), again.column(name)) for name in IDS)
