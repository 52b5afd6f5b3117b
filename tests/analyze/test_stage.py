"""The job as a whole: what it counts, that it loses at most a chunk, that it gives the same bits again."""

from __future__ import annotations

import shutil
import signal
import threading

import awkward as ak
import numpy as np
import pytest
import uproot

from pfnano_tag.analyze import filling, stage
from pfnano_tag.analyze.histogramming import logit
from pfnano_tag.analyze.job import make_job
from pfnano_tag.analyze.ledger import ledger_folder
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.errors import CardError, Incomplete
from pfnano_tag.evaluate.bootstrap import replica_weights
from pfnano_tag.infer import stage as infer_stage
from pfnano_tag.nano import baskets
from pfnano_tag.nano.reader import Chunk, PFNanoFile
from pfnano_tag.prepare.splitting import event_hash
from tests.analyze.events_file import content, damage, write

ALL = {"all": {"selection": "all_jets"}}


def contents(path):
    with JobResult(path) as result:
        arrays = {name: result.read(name) for name in result.variables}
        return {n: (c.values, c.variances) for n, c in arrays.items()}, result.sums, result.cutflows, result.info


def same_bits(first, second):
    a, b = contents(first), contents(second)
    assert a[0].keys() == b[0].keys()
    for name in a[0]:
        assert all(np.array_equal(x, y) for x, y in zip(a[0][name], b[0][name], strict=True)), name
    assert a[1] == b[1]
    for region, cutflow in a[2].items():
        assert np.array_equal(cutflow.weighted, b[2][region].weighted)


def rows(result, name, **wanted):
    categories = result.variables[name].categories
    return [i for i, c in enumerate(categories) if all(getattr(c, k) == v for k, v in wanted.items())]


def total(result, name, **wanted):
    return result.read(name).values[rows(result, name, **wanted)].sum(axis=0)


@pytest.fixture(scope="module")
def full(files, study, tmp_path_factory):
    """The job on simulation with two networks and one attack, in six chunks."""
    from pfnano_tag.card.card import Card
    from tests.analyze.conftest import REGIONS

    card = Card.model_validate(
        {
            "study": {"name": "test", "folder": str(study)},
            "datasets": [{"name": "mc", "files": ["f"], "kind": "mc", "cross_section": 2.0, "roles": ["analyze"]}],
            "models": {name: {"architecture": "deepsets"} for name in ("first", "second")},
            "regions": REGIONS,
            "histograms": {"variants": ["fgsm"]},
            "comparison": {"replicas": 4},
            "resources": {"chunk": 0.02},
        }
    )
    output = tmp_path_factory.mktemp("full") / "mc.root"
    stage.run(card, "mc", str(files["mc"]), output)
    return card, output


@pytest.fixture(scope="module")
def scores(full, files, tmp_path_factory):
    """Scores of the same jets from `infer`, flat, with weight and identity of their events."""
    card, _ = full
    friends = tmp_path_factory.mktemp("friends") / "f.root"
    infer_stage.run(card, str(files["mc"]), None, friends)
    with PFNanoFile(files["mc"]) as file, uproot.open(friends) as friend:
        job = make_job(card, "mc", file, None)
        chunk = file.chunk(0, file.num_entries)
        everything = np.ones(len(chunk["Jet_pt"].values), dtype=bool)
        kept = stage.clean(chunk, card.jets, np.ones(chunk.num_events), everything).kept
        event = np.repeat(np.arange(chunk.num_events), chunk["Jet_pt"].counts)[kept]
        flavour = stage.flavour_rows(chunk, card, job.dataset.kind)[kept]
        hashes = event_hash("mc", chunk["run"], chunk["luminosityBlock"], chunk["event"])[event]
        columns = {
            name: np.concatenate([np.asarray(x) for x in friend[f"Friends/Jet_{name}"].array()])[kept]
            for name in ("first_BvsL", "second_CvsL", "first_b")
        }
        return columns, chunk["genWeight"].astype(float)[event], flavour, hashes


def test_plan_has_one_chunk_per_cluster(full, files):
    with JobResult(full[1]) as result:
        assert result.sums["chunks"] == 6
        assert result.sums["entries"] == result.sums["entries_used"] == 240


def test_discriminants_are_those_of_infer(full, scores):
    columns, weight, flavour, _ = scores
    with JobResult(full[1]) as result:
        for model, name in (("first", "BvsL"), ("second", "CvsL")):
            for row, label in enumerate(result.info["flavours"]):
                mine = flavour == row
                x = columns[f"{model}_{name}"][mine]
                expected = np.histogram(x, np.linspace(0, 1, 51), weights=weight[mine])[0]
                found = total(result, name, region="all", model=model, variant="nominal", flavour=label)
                np.testing.assert_allclose(found[1:-1], expected, atol=1e-9)


def test_fine_bins_and_replicas(full, scores):
    columns, weight, _, hashes = scores
    x, edges = logit(columns["first_BvsL"]), np.linspace(-12, 12, 481)
    wanted = {"region": "all", "model": "first", "variant": "nominal"}
    counts = replica_weights(hashes, 4)
    with JobResult(full[1]) as result:
        found = total(result, "agreement_BvsL", **wanted, replica=-1)
        # a score within rounding of an edge may change bins: compare the shape in steps of eight bins
        expected = np.histogram(x, edges, weights=weight)[0]
        np.testing.assert_allclose(found[1:-1].sum(), expected.sum())
        assert np.abs(found[1:-1] - expected).sum() < 4 * np.abs(weight).max()
        for replica in range(4):
            found = total(result, "agreement_BvsL", **wanted, replica=replica, flavour="all")
            np.testing.assert_allclose(found.sum(), (weight * counts[replica]).sum())


def test_entries_are_the_jets_that_pass(full, scores):
    _, weight, _, _ = scores
    with JobResult(full[1]) as result:
        for name in ("jet_pt", "jet_eta", "stored_Jet_btagDeepFlavB", "input_jet_eta", "output_c"):
            wanted = {"region": "all", "variant": "nominal"} | ({"model": "first"} if name == "output_c" else {})
            np.testing.assert_allclose(total(result, name, **wanted).sum(), weight.sum(), err_msg=name)
        cutflow = result.cutflows["dy_mumu"]
        per_event = total(result, "dilepton_mass", region="dy_mumu").sum()
        np.testing.assert_allclose(per_event, cutflow.weighted[-1])
        np.testing.assert_allclose(total(result, "num_jets", region="dy_mumu").sum(), cutflow.weighted[-1])
        np.testing.assert_allclose(total(result, "jet_pt", region="dy_mumu").sum(), cutflow.weighted[-1])


def test_undefined_scores_are_in_the_underflow(full, files):
    with JobResult(full[1]) as result:
        found = total(result, "stored_Jet_btagDeepFlavB", region="all")
    assert found[0] > 0
    assert found[-1] == 0


def test_attack_moves_inputs_but_not_protected_ones(full):
    with JobResult(full[1]) as result:
        names = result.variables
        assert not rows(result, "input_charged_puppiw", variant="fgsm")
        assert rows(result, "input_charged_trackSip3dSig", variant="fgsm", model="second")
        nominal = total(result, "input_sv_mass", region="all", model="none")
        attacked = total(result, "input_sv_mass", region="all", model="first", variant="fgsm")
        np.testing.assert_allclose(attacked.sum(), nominal.sum())
        assert not np.array_equal(attacked, nominal)
        before = total(result, "BvsL", region="all", model="first", variant="nominal")
        after = total(result, "BvsL", region="all", model="first", variant="fgsm")
        assert np.abs(after - before).sum() > 0
        assert "output_bb" in names


def test_sums_of_weights(full, files):
    with uproot.open(files["mc"]) as file:
        weight = file["Events/genWeight"].array(library="np").astype(float)
    with JobResult(full[1]) as result:
        assert result.sums["runs_sumw"] == 500
        assert result.sums["runs_count"] == 480
        assert result.sums["sumw_entries"] == pytest.approx(weight.sum())
        assert result.sums["sumw_effective"] == pytest.approx(500)


def test_continued_job_gives_the_same_bits(full, files, tmp_path, monkeypatch):
    card, whole = full
    output = tmp_path / "mc.root"
    real, calls = stage.process_chunk, []

    def killed(job, card, chunk, vetoed):
        calls.append(chunk.start)
        if len(calls) == 4:
            raise SystemExit(137)
        return real(job, card, chunk, vetoed)

    monkeypatch.setattr(stage, "process_chunk", killed)
    with pytest.raises(SystemExit):
        stage.run(card, "mc", str(files["mc"]), output)
    assert not output.exists()
    assert len(list(ledger_folder(output).glob("chunk_*"))) == 3
    calls.clear()
    larger = card.resources.model_copy(update={"chunk": 1.0})  # changes nothing once the plan is fixed
    stage.run(card.model_copy(update={"resources": larger}), "mc", str(files["mc"]), output)
    assert calls == [120, 160, 200]
    same_bits(output, whole)


def test_complete_job_is_not_done_again_but_a_changed_one_is(full, files, tmp_path, monkeypatch):
    card, whole = full
    output = tmp_path / "mc.root"
    shutil.copy(whole, output)
    shutil.copytree(ledger_folder(whole), ledger_folder(output))
    done = []
    real = stage.process_chunk
    monkeypatch.setattr(stage, "process_chunk", lambda *a: done.append(1) or real(*a))
    stage.run(card, "mc", str(files["mc"]), output)
    assert not done
    stage.run(card, "mc", str(files["mc"]), output, ["first"])
    assert len(done) == 6
    with JobResult(output) as result:
        assert list(result.info["models"]) == ["first"]
    output.unlink()
    stage.run(card, "mc", str(files["mc"]), output, ["first"])
    assert len(done) == 12


def test_other_chunks_and_batches_count_the_same(full, files, tmp_path):
    card, whole = full
    resources = card.resources.model_copy(update={"chunk": 100.0, "batch_size": 7})
    stage.run(card.model_copy(update={"resources": resources}), "mc", str(files["mc"]), tmp_path / "one.root")
    one, many = contents(tmp_path / "one.root"), contents(whole)
    assert one[1]["chunks"] == 1
    for name in ("sumw_entries", "sumw_used", "sumw_effective"):
        assert one[1][name] == pytest.approx(many[1][name], rel=1e-12)
    for name in one[0]:
        if not name.startswith(("input_", "agreement_", "output_", "BvsL", "CvsB", "CvsL")):
            np.testing.assert_allclose(one[0][name][0], many[0][name][0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(one[0][name][0].sum(), many[0][name][0].sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("models", [(), ("first",), ("first", "second")])
def test_each_basket_is_read_once(files, card_with, tmp_path, monkeypatch, models):
    reads = []
    real = baskets._fetched

    def counted(branch, index, fetch):
        reads.append((branch.name, index))
        return real(branch, index, fetch)

    monkeypatch.setattr(baskets, "_fetched", counted)
    card = card_with(histograms={"variants": ["fgsm", "noise"]}, regions=ALL)
    with PFNanoFile(files["mc"]) as file:
        job = make_job(card, "mc", file, models)
        used = {*job.event_branches, *job.jet_branches}
    with uproot.open(files["mc"]) as raw:
        wanted = {(name, index) for name in used for index in range(raw["Events"][name].num_baskets)}
        counters = {f"n{name.split('_')[0]}" for name in used}
        others = set(raw["Events"].keys()) - used - counters
    reads.clear()
    stage.run(card, "mc", str(files["mc"]), tmp_path / "h.root", models)
    assert wanted <= set(reads)
    assert len(reads) == len(set(reads))
    assert not others & {name for name, _ in reads}


def test_candidates_are_not_read_without_a_selected_jet(files, card_with, tmp_path, monkeypatch):
    card = card_with(regions={"none": {"selection": "dy", "mass": [500.0, 501.0]}})
    read, load = set(), Chunk.load
    monkeypatch.setattr(Chunk, "load", lambda chunk, names: (read.update(names), load(chunk, names))[1])
    stage.run(card, "mc", str(files["mc"]), tmp_path / "h.root")
    assert "GenPart_pdgId" in read  # events that only one cut takes away have a flavour
    assert not any(name.startswith(("PFCands", "JetPFCands", "SV", "JetSVs")) for name in read)
    with JobResult(tmp_path / "h.root") as result:
        assert result.cutflows["none"].raw[-1] == 0
        assert result.sums["entries_used"] == 240


def test_broken_basket_loses_its_chunk_and_a_rerun_tries_again(files, card_with, tmp_path):
    path = shutil.copy(files["mc"], tmp_path / "broken.root")
    damage(path, "PFCands_d0", 2)
    output = tmp_path / "h.root"
    with pytest.raises(Incomplete, match=r"1 of 6 chunks are lost.*entries 80 to 120"):
        stage.run(card_with(), "mc", str(path), output)
    with uproot.open(files["mc"]) as file:
        weight = file["Events/genWeight"].array(library="np").astype(float)
    with JobResult(output) as result:
        assert not result.complete
        assert [(e["start"], e["stop"]) for e in result.info["lost"]] == [(80, 120)]
        assert result.sums["chunks_lost"] == 1
        assert result.sums["sumw_entries"] == pytest.approx(weight.sum())
        fraction = np.delete(weight, np.s_[80:120]).sum() / weight.sum()
        assert result.sums["sumw_effective"] == pytest.approx(500 * fraction)
    shutil.copy(files["mc"], path)  # the same file (UUID and size), readable now
    stage.run(card_with(), "mc", str(path), output)
    stage.run(card_with(), "mc", str(files["mc"]), tmp_path / "whole.root")
    same_bits(output, tmp_path / "whole.root")


def test_unreadable_weights_of_a_lost_chunk_count_as_their_share(files, card_with, tmp_path):
    path = shutil.copy(files["mc"], tmp_path / "broken.root")
    damage(path, "genWeight", 0)
    with pytest.raises(Incomplete):
        stage.run(card_with(), "mc", str(path), tmp_path / "h.root", [])
    with JobResult(tmp_path / "h.root") as result:
        assert result.sums["sumw_effective"] == pytest.approx(500 * 200 / 240)


def test_a_section_with_a_lost_chunk_is_dropped_whole(files, card_with, tmp_path):
    """Sections have 50 events, chunks 40: losing 80 to 120 takes section 2 (50 to 100) and 3 (100 to 150)."""
    path = shutil.copy(files["data"], tmp_path / "broken.root")
    damage(path, "Muon_pt", 2)
    with pytest.raises(Incomplete):
        stage.run(card_with(), "data", str(path), tmp_path / "h.root", [])
    with JobResult(tmp_path / "h.root") as result:
        assert result.info["lumis"] == {"1": [1, 4, 5]}
        assert result.info["dropped_lumis"] == {"1": [2, 3]}
        assert not result.info["unknown_lumis"]
        assert result.sums["entries_used"] == 50 + 90
        assert result.cutflows["all"].raw[0] == 140


def test_sections_of_an_unreadable_chunk_are_taken_from_its_neighbours(files, card_with, tmp_path):
    path = shutil.copy(files["data"], tmp_path / "broken.root")
    damage(path, "luminosityBlock", 2)
    with pytest.raises(Incomplete):
        stage.run(card_with(), "data", str(path), tmp_path / "h.root", [])
    with JobResult(tmp_path / "h.root") as result:
        assert result.info["unknown_lumis"]
        assert result.info["lumis"] == {"1": [1, 4, 5]}


def test_out_of_memory_halves_the_batch(full, files, tmp_path, monkeypatch):
    card, _ = full
    real, batches = stage.process_chunk, []

    def small(job, card, chunk, vetoed):
        batches.append(card.resources.batch_size)
        if card.resources.batch_size > 100:
            raise MemoryError
        return real(job, card, chunk, vetoed)

    monkeypatch.setattr(stage, "process_chunk", small)
    stage.run(card, "mc", str(files["mc"]), tmp_path / "h.root")
    assert batches[:4] == [512, 256, 128, 64]
    with JobResult(tmp_path / "h.root") as result:
        assert result.complete


def test_chunk_that_never_fits_is_lost_and_named(full, files, tmp_path, monkeypatch):
    card, _ = full
    real = stage.process_chunk

    def hungry(job, card, chunk, vetoed):
        if chunk.start == 40:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(job, card, chunk, vetoed)

    monkeypatch.setattr(stage, "process_chunk", hungry)
    with pytest.raises(Incomplete, match=r"entries 40 to 80 \(events 1:1:41 to 1:2:80\): out of memory.*entry 40"):
        stage.run(card, "mc", str(files["mc"]), tmp_path / "h.root", [])


def test_sigterm_keeps_finished_chunks(full, files, tmp_path, monkeypatch):
    """It comes in the middle of reading, where damage is handled: it must not be taken for damage."""
    card, whole = full
    output = tmp_path / "h.root"
    real = baskets._fetched

    def terminated(branch, index, fetch):
        if len(list(ledger_folder(output).glob("chunk_*"))) == 2:
            signal.raise_signal(signal.SIGTERM)
        return real(branch, index, fetch)

    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(baskets, "_fetched", terminated)
        with pytest.raises(Incomplete, match="SIGTERM"):
            stage.run(card, "mc", str(files["mc"]), output)
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(list(ledger_folder(output).glob("chunk_*"))) == 2
    assert not output.exists()
    stage.run(card, "mc", str(files["mc"]), output)
    same_bits(output, whole)


def test_leftovers_of_a_killed_job_are_swept(full, files, tmp_path):
    card, _ = full
    folder = ledger_folder(tmp_path / "h.root")
    folder.mkdir()
    left = [tmp_path / ".h.root.abc.tmp.root", folder / ".chunk_00001.npz.xyz.tmp.npz"]
    kept = tmp_path / ".other.root.abc.tmp.root"
    for path in (*left, kept):
        path.touch()
    stage.run(card, "mc", str(files["mc"]), tmp_path / "h.root", [])
    assert kept.exists()
    assert not any(path.exists() for path in left)


def test_values_that_are_not_finite_are_dropped_and_counted(card_with, tmp_path):
    branches = content("mc", 1, 60)
    pt = np.array(ak.flatten(branches["Jet_pt"]))
    pt[:3] = np.nan
    d0 = np.array(ak.flatten(branches["PFCands_dzErr"]))
    d0[:] = np.nan
    branches["Jet_pt"] = ak.unflatten(pt, ak.num(branches["Jet_pt"]))
    branches["PFCands_dzErr"] = ak.unflatten(d0, ak.num(branches["PFCands_dzErr"]))
    path = write(tmp_path / "nan.root", {k: v for k, v in branches.items() if k != "JetPFCands_btagSip3dSig"})
    stage.run(card_with(), "mc", str(path), tmp_path / "h.root")
    with JobResult(tmp_path / "h.root") as result:
        assert result.sums["jets_not_finite"] == 3
        assert result.sums["inputs_not_finite"] > 0
        assert all(np.isfinite(result.read(name).values).all() for name in result.variables)


def test_training_datasets_enter_with_their_test_split(files, card_with, tmp_path):
    trained = {"name": "mc", "files": ["f"], "kind": "mc", "cross_section": 2.0}
    card = card_with(datasets=[trained])
    stage.run(card, "mc", str(files["mc"]), tmp_path / "with.root", ["first"])
    stage.run(card, "mc", str(files["mc"]), tmp_path / "without.root", [])
    with JobResult(tmp_path / "with.root") as result, JobResult(tmp_path / "without.root") as everything:
        assert result.info["split"] == "test"
        assert everything.info["split"] == "all"
        assert 0 < result.sums["entries_used"] < 100
        share = result.sums["sumw_used"] / result.sums["sumw_entries"]
        assert result.sums["sumw_effective"] == pytest.approx(500 * share)
        assert everything.sums["sumw_effective"] == pytest.approx(500)


def test_settings_agree_between_datasets_and_differ_between_models(files, card_with, tmp_path):
    card = card_with()
    for name, models in (("mc", ["first"]), ("data", ["first"])):
        stage.run(card, name, str(files[name]), tmp_path / f"{name}.root", models)
    stage.run(card, "mc", str(files["mc"]), tmp_path / "other.root", ["second"])
    settings = [contents(tmp_path / f"{name}.root")[3]["settings"] for name in ("mc", "data", "other")]
    assert settings[0] == settings[1] != settings[2]


def test_zero_events_are_complete_and_their_sums_count(card_with, tmp_path):
    empty = {name: value[:0] for name, value in content("mc", 1, 5).items()}
    path = write(tmp_path / "empty.root", empty, runs=(1000, 1234.5))
    stage.run(card_with(), "mc", str(path), tmp_path / "h.root")
    with JobResult(tmp_path / "h.root") as result:
        assert result.complete
        assert result.sums["entries"] == 0
        assert result.sums["sumw_effective"] == 1234.5
        assert not result.read("BvsL").values.any()


def test_events_without_jets(card_with, tmp_path):
    branches = content("mc", 1, 30)
    for name in branches:
        if name.startswith(("Jet_", "JetPFCands_", "JetSVs_", "PFCands_", "SV_")):
            branches[name] = branches[name][:, :0]
    path = write(tmp_path / "none.root", branches)
    stage.run(card_with(), "mc", str(path), tmp_path / "h.root")
    with JobResult(tmp_path / "h.root") as result:
        assert result.complete
        assert result.sums["entries_used"] == 30
        assert result.cutflows["all"].raw.tolist() == [30, 0]


def test_dry_run_writes_nothing(full, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = stage.describe(full[0], "mc", str(files["mc"]))
    assert "240 events in 6 chunks" in text
    assert "PFCands_d0" in text
    assert not list(tmp_path.iterdir())


def test_inputs_that_no_network_has_are_an_error(files, card_with, tmp_path):
    card = card_with(histograms={"inputs": ["neutral/HadFrac"]})
    with pytest.raises(CardError, match="neutral/HadFrac"):
        stage.run(card, "mc", str(files["mc"]), tmp_path / "h.root")


def test_real_file_with_all_jets(card_with, shared_data, tmp_path):
    path = shared_data / "pfnano_qcd_mc_2017UL_10ev.root"
    stage.run(card_with(regions=ALL), "mc", str(path), tmp_path / "h.root")
    with uproot.open(path) as file:
        pt, eta = (np.concatenate([np.asarray(x) for x in file[f"Events/Jet_{n}"].array()]) for n in ("pt", "eta"))
    in_range = int(((pt >= 20) & (pt <= 1000) & (np.abs(eta) <= 2.5)).sum())
    with JobResult(tmp_path / "h.root") as result:
        jets = total(result, "jet_pt").sum()
        assert 0 < jets <= in_range  # generator weights of this file are 1; jets near leptons are dropped
        for name in ("BvsL", "CvsL", "output_g", "stored_Jet_btagDeepFlavCvL", "stored_Jet_Proba"):
            wanted = {"model": "first"} if result.variables[name].kind != "stored" else {}
            assert total(result, name, **wanted).sum() == pytest.approx(jets)


def test_networks_with_the_same_inputs_share_their_conversion(files, card_with, tmp_path, monkeypatch):
    made, convert = [], filling.to_inputs
    monkeypatch.setattr(filling, "to_inputs", lambda *a: (made.append(a), convert(*a))[1])
    stage.run(card_with(regions=ALL), "mc", str(files["mc"]), tmp_path / "h.root")
    assert len(made) == 6  # once per chunk, for two networks
