"""Benchmarks: what they count, compare and print; never how fast anything is."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch
import uproot

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is no part of the package that is installed

from benchmarks import (  # noqa: E402
    attack,
    datamc,
    inputs,
    loader,
    measuring,
    memory,
    merging,
    multitask,
    origins,
    peers,
    printing,
    quality,
    read,
    repeating,
    results,
    submit,
    watching,
    worker,
)
from benchmarks.measuring import Different, Missing, Side, SideFailed, Stopwatch  # noqa: E402
from benchmarks.sides.datamc import without_masses  # noqa: E402
from benchmarks.sides.digests import digest  # noqa: E402
from benchmarks.sides.projections import largest_difference, project, save  # noqa: E402
from benchmarks.sides.salt_names import name_in_salt  # noqa: E402
from pfnano_tag.models.particle_transformer import (  # noqa: E402
    ParticleTransformer,
    ParticleTransformerConfig,
)

NAMES = ("read", "loader", "memory", "attack", "training", "datamc", "worker")
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.sh"))


def burn_in_child(seconds):
    code = f"import time\nwhile time.process_time() < {seconds}: pass"
    subprocess.run([sys.executable, "-c", code], check=True)


# measuring


def test_ratio_is_that_of_medians_and_above_one_where_ours_is_faster():
    ours = [{"cpu": 1.0}, {"cpu": 9.0}, {"cpu": 2.0}]
    theirs = [{"cpu": 8.0}, {"cpu": 8.0}, {"cpu": 0.1}]
    assert measuring.ratio_of(ours, theirs) == 4.0
    assert measuring.ratio_of(theirs, ours) == 0.25


def test_summary():
    runs = [
        {"cpu": 1.0, "wall": 5.0},
        {"cpu": 3.0, "wall": 5.0},
        {"cpu": 2.0, "wall": 7.0},
        {"cpu": 2.0, "wall": 9.0},
    ]
    assert measuring.summary(runs, 100) == {"cpu_seconds": 2.0, "jets_per_second": 50, "runs": 4, "spread": 1.0}
    assert measuring.summary(runs, 12, "wall")["wall_seconds"] == 6.0


def test_sides_take_turns_in_alternating_order(monkeypatch):
    order = []
    monkeypatch.setattr(measuring, "run_side", lambda side: order.append(side.name) or {"cpu": len(order)})
    results = measuring.interleaved([Side("a", "x"), Side("b", "x")], 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [run["cpu"] for run in results["a"]] == [1, 4, 5]


def test_stopwatch_counts_children_and_only_while_it_runs():
    watch = Stopwatch()
    burn_in_child(0.3)
    with watch:
        assert watch.running
        burn_in_child(0.2)
    seen = watch.cpu
    burn_in_child(0.3)
    assert seen >= 0.2
    assert watch.seconds["cpu"] == seen
    with pytest.raises(RuntimeError, match="without a start"):
        watch.stop()


def test_every_side_has_the_same_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("XRD_REQUESTTIMEOUT", "1")
    environment = measuring.environment()
    assert environment["OMP_NUM_THREADS"] == environment["NUMBA_NUM_THREADS"] == "1"
    assert environment["PYTHONPATH"] == str(ROOT)
    assert "XRD_REQUESTTIMEOUT" not in environment


def test_a_side_that_fails_is_named_with_its_words(tmp_path):
    options = {"file": str(tmp_path / "none.root"), "do": "read"}
    with pytest.raises(SideFailed, match=r"side 'limit' ended with exit code 1:(.|\n)*none\.root"):
        measuring.run_side(Side("limit", "uproot_alone", options))
    with pytest.raises(SideFailed, match="exit code 0"):
        measuring.run_side(Side("silent", "digests"))


# printing


def outcome(name, ratio=2.5):
    more = {"peak": printing.part(0.5, "ours over the budget", {"megabytes": 750}, {"megabytes": 1500})}
    ours, other = {"jets_per_second": 2500}, {"jets_per_second": 1000}
    return printing.Outcome(name, ratio, "ours over theirs", ours, other, {"jets": 3}, more, {"peer": "1.0"})


def test_the_last_line_is_one_json_object(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["read", "--quick"])
    quick = []
    assert printing.command("read", "words", lambda asked: quick.append(asked) or outcome("read")) == 0
    assert quick == [True]
    *table, last = capsys.readouterr().out.splitlines()
    content = json.loads(last)
    assert list(content) == ["name", "ratio", "ratio_is", "ours", "other", "work", "versions", "machine", "more"]
    assert content["name"] == "read"
    assert content["ratio"] == 2.5
    assert content["versions"].keys() >= {"python", "uproot", "pfnano_tag", "peer"}
    assert content["machine"].keys() == {"processor", "cores", "memory_gb", "load"}
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert cells[0] == ["benchmark", "ratio", "ours", "other", "ratio of"]
    assert cells[2] == ["read", "2.5", "2,500 jets/s", "1,000 jets/s", "ours over theirs"]
    assert cells[3] == ["read: peak", "0.5", "750 MB", "1,500 MB", "ours over the budget"]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_input_is_one_line_with_the_command_that_makes_it(name, tmp_path):
    environment = {**os.environ, inputs.FOLDER: str(tmp_path)}
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: input {tmp_path}")
    assert re.search(r"make it with: bash benchmarks/inputs\.sh \w+$", line)
    assert not done.stdout


def test_a_missing_peer_is_one_line_with_the_command_that_makes_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(peers, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["loader"])
    (tmp_path / "weaver" / "bin").mkdir(parents=True)  # an installation that was broken off
    assert printing.command("loader", "words", lambda quick: peers.python_of("weaver")) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("make it with: bash benchmarks/peers.sh weaver")
    (tmp_path / "weaver" / "complete").touch()
    assert peers.python_of("weaver") == tmp_path / "weaver" / "bin" / "python"


# inputs


def test_an_input_from_another_specification_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv(inputs.FOLDER, str(tmp_path))
    (tmp_path / "candidates.root").touch()
    with pytest.raises(Missing):
        inputs.path_of("candidates")
    (tmp_path / "candidates.json").write_text(json.dumps(inputs._specification("candidates")))
    assert inputs.path_of("candidates") == tmp_path / "candidates.root"
    monkeypatch.setattr(inputs, "SEED", inputs.SEED + 1)
    with pytest.raises(Missing):
        inputs.path_of("candidates")


def test_the_inputs_of_the_benchmarks_are_made():
    used = {case.input for case in (*read.FULL, *read.QUICK)} | {*memory.FULL.inputs, *memory.QUICK.inputs}
    used |= {worker.INPUT, attack.FULL.input, attack.QUICK.input, quality.FULL.input, quality.QUICK.input}
    used |= {
        file for scale in (datamc.FULL, datamc.QUICK) for file in (scale.deepsets, scale.transformer, scale.lzma)
    }
    assert used | {"jets_30k", "jets_200k"} == inputs.INPUTS.keys()
    for scale in (memory.FULL, memory.QUICK):
        entries = [inputs.INPUTS[name].entries for name in scale.inputs]
        assert entries == [entries[0], 4 * entries[0], 16 * entries[0]]


def test_histograms_of_the_two_jobs_must_be_alike():
    mine = {"BvsL": [0, 500.0, 480.0, 20.0, 0], "jet_pt": [0, 600.0, 400.0, 0, 0]}
    datamc.check_same(mine, mine)
    # a score of one: in the last bin here, in the overflow there
    datamc.check_same(mine, {**mine, "BvsL": [0, 500.0, 480.0, 0, 20.0]})
    datamc.check_same(mine, {**mine, "jet_pt": [0, 599.5, 400.5, 0, 0]})
    for other in ([0, 598.0, 402.0, 0, 0], [0, 600.0, 380.0, 0, 20.0]):
        with pytest.raises(Different, match="jet_pt"):
            datamc.check_same(mine, {**mine, "jet_pt": other})
    with pytest.raises(Different, match="on one side only"):
        datamc.check_same(mine, {"jet_pt": mine["jet_pt"]})


def test_networks_that_are_compared_do_not_see_the_rounding_of_four_vectors():
    """Two tracks and a photon, once more with the last bit of each four-vector moved; ln m2 follows, all else not."""
    torch.manual_seed(1)
    module = ParticleTransformer(ParticleTransformerConfig({"jet": 0, "charged": 3}, 6, jet_inputs=False)).eval()
    x, mask = {"charged": torch.randn(1, 3, 3)}, {"charged": torch.ones(1, 3, dtype=torch.bool)}
    momenta = torch.tensor([[80.0, 30, 60], [3, -4, 0.5], [12, 5, 9]])
    vectors = torch.cat([momenta, momenta.square().sum(1, keepdim=True).sqrt()], dim=1)
    moved = vectors.clone()
    moved[:, 3] = torch.nextafter(vectors[:, 3], torch.tensor(torch.inf))

    def difference():
        with torch.inference_mode():
            first, second = (module(torch.zeros(1, 0), x, mask, {"charged": v[None]}) for v in (vectors, moved))
        return float((first - second).abs().max())

    assert difference() > 1e-3
    without_masses(module)
    assert difference() < 1e-5


def test_memory_of_whole_processes_against_their_limit():
    def seen(megabytes):
        result = {"high_water": megabytes * 1e6, "imports": 400e6, "jets": 5}
        return watching.Watched(300.0, 350.0, 1, result)

    found = memory.whole("analyze", [seen(600), seen(900), seen(800)], memory.FULL)
    assert found["ratio"] == 0.75
    assert found["ours"]["by_size"] == {"1x": 600, "4x": 900, "16x": 800}
    assert found["ours"]["imports"] == 400
    assert "three DeepSets" in found["ratio_is"]
    assert "1x 600, 4x 900, 16x 800" in found["ratio_is"]
    alone = memory.whole("analyze_transformer_all", [seen(500)], memory.FULL)
    assert alone["ratio"] == 0.25
    with pytest.raises(ValueError, match="zip"):
        memory.whole("analyze", [seen(600)], memory.FULL)


@pytest.fixture
def small_file(tmp_path):
    """Return a file of five events with jets, as NanoAOD has them."""
    path = tmp_path / "small.root"
    pt = ak.Array([[30.0, 25.0], [], [50.0], [60.0, 40.0, 20.0], [35.0]])
    event = np.array([7, 9, 4, 12, 1], dtype=np.uint64)
    jets = ak.zip({"pt": ak.values_astype(pt, np.float32), "nBHadrons": ak.values_astype(pt > 30, np.uint8)})
    with uproot.recreate(path) as file:
        file.mktree(
            "Events",
            {"event": np.uint64, "Jet": ak.type(jets).content},
            counter_name=lambda name: f"n{name}",
            field_name=lambda outer, inner: f"{outer}_{inner}" if outer else inner,
        )
        file["Events"].extend({"event": event, "Jet": jets})
        file.mktree("Runs", {"genEventSumw": np.float64}).extend({"genEventSumw": np.array([5.0])})
    return path


@pytest.mark.parametrize("container", ["ttree", "rntuple"])
def test_a_repeated_file_has_the_same_content_and_other_event_numbers(small_file, tmp_path, container):
    output = tmp_path / "large.root"
    repeating.repeat(small_file, output, 12, 5, "LZMA 1", container)
    with uproot.open(small_file) as file:
        pt = file["Events/Jet_pt"].array().to_list()
    with uproot.open(output) as file:
        assert file.file.compression == uproot.LZMA(1)
        events = file["Events"]
        assert (events.num_entries, file["Runs"].num_entries) == (12, 1)
        assert events["Jet_pt"].array().to_list() == [*pt, *pt, *pt[:2]]
        assert events["Jet_nBHadrons"].array().type.content.content.primitive == "uint8"
        numbers = events["event"].array().to_list()
        assert numbers == [7, 9, 4, 12, 1, 20, 22, 17, 25, 14, 33, 35]
        if container == "ttree":
            assert events["nJet"].typename == "uint32_t"
            assert [events["Jet_pt"].basket_entry_start_stop(i) for i in range(3)] == [(0, 5), (5, 10), (10, 12)]


def test_jets_that_no_training_takes_are_left_out():
    columns = {
        "jet_corr_pt": [19.9, 20.0, 30.0, 30.0, 30.0, 1000.5],
        "jet_eta": [0.0, -2.5, 2.6, 1.0, 1.0, 0.0],
        "isPU": [0, 0, 0, 1, 0, 0],
        "isUndefined": [0, 0, 0, 0, 0, 0],
    }
    kept = repeating.fit_to_train_on({name: ak.Array(values) for name, values in columns.items()})
    assert kept.tolist() == [False, True, False, False, True, False]


# comparing


def test_digests_differ_for_other_values_and_another_order():
    values = np.array([1.0, 2.0, np.nan, np.inf])
    assert digest(values) == digest(np.array([1, 2, 0, 0]))
    assert digest(values) != digest(values[[1, 0, 2, 3]])
    assert digest(values) != digest(values[:3])
    with pytest.raises(Different, match="1 branches differ between the sides, such as b"):
        read.check_same({"a": [[1, 2, 3]], "b": [[1, 2, 3]]}, {"a": [[1, 2, 3]], "b": [[1, 2, 4]]})


def test_both_sides_read_the_same_and_shares_make_the_whole(generated_mc):
    asked = {"file": str(generated_mc), "chunk_bytes": 5e5}
    described = measuring.run_side(Side("nano", "nano", {**asked, "do": "describe"}))
    assert len(described["plan"]) > 1
    same = {"file": str(generated_mc), **{key: described[key] for key in ("tree", "branches", "plan")}}
    limit = measuring.run_side(Side("uproot", "uproot_alone", {**same, "do": "describe"}))
    read.check_same(described["digests"], limit["digests"])
    with uproot.open(generated_mc) as file:
        jets = int(file["Events/nJet"].array(library="np").sum())
    alone = measuring.run_side(Side("one", "nano", {**asked, "do": "read"}))
    shared = measuring.run_side(Side("two", "nano", {**asked, "do": "processes", "processes": 2}))
    assert alone["jets"] == shared["jets"] == jets
    assert shared["cpu"] / 2 <= shared["busier"] <= shared["cpu"]


def test_projections_find_a_jet_that_differs_in_any_order(tmp_path):
    generator = np.random.default_rng(3)
    scales = {"label": 1.0, "charged/ptrel": 1.0, "charged/px": 100.0}
    jets = {name: generator.normal(size=1000) for name in scales} | {"unused": np.zeros(1000)}

    def written(name, columns):
        save([project(columns, scales)], tmp_path / f"{name}.npy")
        return tmp_path / f"{name}.npy"

    first = written("first", jets)
    order = generator.permutation(1000)
    rounded = {name: values[order].astype(np.float32) for name, values in jets.items()}
    assert largest_difference(first, written("rounded", rounded)) < 1e-6
    moved = {**jets, "charged/px": jets["charged/px"] + 10 * (np.arange(1000) == 500)}
    assert largest_difference(first, written("moved", moved)) > 1e-3
    doubled = {name: values[np.minimum(np.arange(1000), 998)] for name, values in jets.items()}
    assert largest_difference(first, written("doubled", doubled)) > 1e-3
    fewer = {name: values[1:] for name, values in jets.items()}
    assert largest_difference(first, written("fewer", fewer)) == np.inf


PREPARED = {
    "classes": {"b": ["isB"], "bb": ["isBB", "isGBB"]},
    "tree": "tree",
    "groups": {
        "jet": {
            "cap": None,
            "vectors": ["jet/px"] * 4,
            "features": [
                {"id": "jet/eta", "branch": "jet_eta", "log": None, "mean": 0.5, "std": 2.0, "complete": True}
            ],
        },
        "sv": {
            "cap": 5,
            "vectors": ["sv_px", "sv_py", "sv_pz", "sv_e"],
            "features": [
                {"id": "sv/pt", "branch": "sv_pt", "log": 1.0, "mean": 3.0, "std": 0.5, "complete": True},
                {"id": "sv/dxy", "branch": "sv_dxy", "log": None, "mean": 0.0, "std": 1.0, "complete": False},
            ],
        },
    },
}


def test_weaver_gets_the_same_inputs():
    config = loader.weaver_config(PREPARED)
    jet, vertices = config["inputs"]["jet"], config["inputs"]["sv"]
    assert (jet["length"], jet["vars"]) == (None, [["jet_eta", 0.5, 0.5, -1e30, 1e30, 0.0]])
    assert vertices["length"] == 5
    name, mean, scale, *_ = vertices["vars"][0]
    assert (mean, scale) == (3.0, 2.0)
    assert eval(config["new_variables"][name], {"np": np, "sv_pt": np.array([-1.0])}) == -np.log(2.0)
    assert config["inputs"]["sv_vectors"]["vars"][3] == ["sv_e", None]
    flags = {"isB": np.array([0, 1, 0]), "isBB": np.array([0, 0, 1]), "isGBB": np.array([1, 0, 0])}
    labels = [eval(config["new_variables"][name], dict(flags)) for name in config["labels"]["value"]]
    assert np.argmax(np.stack(labels, axis=1), axis=1).tolist() == [1, 0, 1]
    branches = ["jet_eta", "sv_pt", "sv_dxy", "sv_px", "sv_py", "sv_pz", "sv_e", "isB", "isBB", "isGBB"]
    assert loader.branches_of(PREPARED) == branches


def test_what_can_be_a_placeholder_is_not_compared():
    ours, theirs = loader.compared_columns(PREPARED)
    assert list(ours) == ["label", "jet/eta", "sv/pt", "sv/px", "sv/py", "sv/pz", "sv/energy"]
    assert list(theirs)[1:4] == ["jet/jet_eta", "sv/sv_pt_log", "sv_vectors/sv_px"]
    assert list(ours.values()) == list(theirs.values())


def test_an_input_says_what_sample_it_was_made_from():
    assert inputs._specification("candidates")["sample"] == {"events": 6000, "seed": 21}
    quality_sample = inputs._specification("quality")
    assert quality_sample["sample"]["events"] == quality_sample["entries"]  # no event twice


# several tasks, against Salt


def test_names_of_weights_in_salt():
    assert name_in_salt("embed.charged.first.weight") == "init_nets.0.net.net.0.weight"
    assert name_in_salt("embed.charged.rest.1.bias") == "init_nets.0.net.net.2.bias"
    assert name_in_salt("blocks.3.project_in.weight") == "encoder.layers.3.attn.fn.in_proj_weight"
    assert name_in_salt("blocks.0.feed.linear_out.bias") == "encoder.layers.0.dense.fn.out_proj.bias"
    assert name_in_salt("heads.flavour.hidden.4.weight") == "tasks.0.net.net.4.weight"
    assert name_in_salt("heads.flavour.out.weight") == "tasks.0.net.net.6.weight"
    assert name_in_salt("heads.vertex.rest.5.weight") == "tasks.2.net.net.6.weight"
    assert name_in_salt("registers") == "encoder.registers"
    assert name_in_salt("norm.weight") is None
    assert name_in_salt("blocks.1.norm_feed.bias") is None
    with pytest.raises(ValueError, match="unheard_of"):
        name_in_salt("unheard_of.weight")


def test_a_pair_of_tracks_is_compared_with_the_mean_of_both_orders(tmp_path):
    counts = np.array([3, 1, 2])
    i, j = multitask.pairs_in_salts_order(counts)
    assert i.tolist() == [0, 0, 1, 1, 2, 2, 4, 5]
    assert j.tolist() == [1, 2, 0, 2, 0, 1, 5, 4]
    logits = {"flavour": np.zeros((3, 4)), "origin": np.zeros((6, 6))}
    np.savez(tmp_path / "jets.npz", counts=counts, x=np.zeros((6, 2)))
    np.savez(tmp_path / "salt.npz", vertex=10.0 * i + j, **logits)
    pairs = np.array([[0, 0, 1, 4], [1, 2, 2, 5]])
    mine = 5.5 * pairs.sum(axis=0)  # (10 i + j + 10 j + i) / 2
    np.savez(tmp_path / "ours.npz", vertex=mine, vertex_pairs=pairs, **logits)
    files = [tmp_path / f"{name}.npz" for name in ("ours", "salt", "jets")]
    assert multitask.largest_difference(*files) == 0
    np.savez(tmp_path / "ours.npz", vertex=mine + 0.25 * np.eye(4)[2], vertex_pairs=pairs, **logits)
    assert multitask.largest_difference(*files) == 0.25
    np.savez(tmp_path / "ours.npz", vertex=mine[:3], vertex_pairs=pairs[:, :3], **logits)
    with pytest.raises(Different, match="3 pairs of tracks, expected half of Salt's 8"):
        multitask.largest_difference(*files)


# quality


def trained(bvsl, sums=(1.0, 2.0), parameters=100):
    return {"auc": {"BvsL": bvsl, "CvsB": 0.8, "CvsL": 0.7}, "cpu": 2.0, "sums": list(sums), "parameters": parameters}


def test_auc_of_the_worst_discriminant_comes_first_with_its_spread():
    results = {"ours": [trained(0.90), trained(0.91)], "weaver": [trained(0.92), trained(0.93)]}
    found = {"jets": {}, "mean": 12.0, "classes": [], "wanted": {}, "check": {}}
    result = quality.outcome(results, found)
    assert "BvsL" in result.ratio_is
    assert result.ratio == pytest.approx(0.075 / 0.095)
    assert result.work["worst"] == pytest.approx({"difference": -0.02, "spread": 0.01, "holds": False})
    assert result.more["CvsB"]["ratio"] == pytest.approx(1)
    assert [cell.strip() for cell in printing.table(result).splitlines()[2].split("|")][3:5] == [
        "AUC 0.9050",
        "AUC 0.9250",
    ]


def test_trainings_of_other_jets_or_of_networks_of_another_size_are_not_compared():
    quality.check_same([trained(0.9), trained(0.8)])
    with pytest.raises(Different, match="different jets"):
        quality.check_same([trained(0.9), trained(0.8, sums=(1.0, 2.1))])
    with pytest.raises(Different, match="100, 101 parameters"):
        quality.check_same([trained(0.9), trained(0.8, parameters=101)])


# watching


def test_memory_of_a_process_counts_its_descendants():
    megabytes = 60
    hold = f"import sys; kept = b'x' * {megabytes * 10**6}; print('ready', flush=True); sys.stdin.read()"
    start = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {hold!r}]).returncode)"
    with subprocess.Popen(
        [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        memory_used, number = watching.tree_memory(process.pid)
        process.stdin.close()
    assert number == 2
    assert memory_used > megabytes
    assert watching.tree_memory(process.pid) == (0.0, 0)


class Holding(Side):
    """A side that holds memory for a while."""

    def command(self):
        work = "kept = b'x' * 80_000_000; time.sleep(1)"
        code = f"import sys, time; print('ready', flush=True); sys.stdin.readline(); {work}; print('{{\"jets\": 3}}')"
        return [sys.executable, "-c", code]


def test_watched_memory_is_above_what_was_there_before_the_work():
    seen = watching.watch(Holding("holding", "none"))
    assert 70 < seen.above < 100  # shared pages of the interpreter count less, the more processes have them
    assert (seen.processes, seen.result) == (1, {"jets": 3})


# scripts and documents


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script(path):
    assert subprocess.run(["bash", "-n", str(path)], timeout=60).returncode == 0
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n#")
    assert "\nset -euo pipefail\n" in text
    assert os.access(path, os.X_OK)


def test_an_unknown_peer_is_named():
    command = ["bash", str(ROOT / "benchmarks" / "peers.sh"), "nobody"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no peer 'nobody'")


def test_the_document_names_every_benchmark():
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert all(f"python -m benchmarks.{name}" in text for name in NAMES)
    named = set(re.findall(r"python -m benchmarks\.(\w+)", text)) - {"NAME"}
    assert all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in named)


# results


def test_the_large_job_output_is_as_asked_and_a_difference_is_seen():
    made = results.contents()
    assert len(made) == 20
    for place, count in (("region", 3), ("model", 3), ("variant", 4), ("systematic", 1 + 5), ("replica", 1 + 50)):
        categories = made["agreement_BvsL"][0].categories
        assert len({getattr(category, place) for category in categories}) == count
    found = {name: content for name, (_, content) in made.items()}
    results.check(made, found)
    name = next(iter(found))
    other = {**found, name: replace(found[name], values=found[name].values + 1)}
    with pytest.raises(Different, match=f"variable {name} is not read as it was written"):
        results.check(made, other)


def test_seconds_are_printed_as_such():
    assert printing.figure({"cpu_seconds": 0.9, "runs": 5}) == "0.9 s"


# merging


def test_merged_outputs_are_those_that_were_written(monkeypatch, tmp_path):
    monkeypatch.setattr(merging, "VARIABLES", 2)
    monkeypatch.setattr(merging, "CATEGORIES", 5)
    assert len(set(merging.categories())) == 5
    expected = merging.write_outputs(tmp_path / "outputs", 11)
    options = {"dataset": merging.DATASET, "outputs": str(tmp_path / "outputs"), "processes": 1, "kept": ""}
    seen = {name: watching.watch(Side(name, "merging", {**options, "count": 11})) for name in ("first", "second")}
    merging.check_same(seen, expected)
    assert seen["first"].result["files"] == 11
    assert not list(tmp_path.glob("kept"))
    with pytest.raises(Different, match="variable_1: the merged sum is"):
        merging.check_same(seen, {**expected, "variable_1": 1.0})
    other = replace(seen["second"], result={**seen["second"].result, "digest": "other"})
    with pytest.raises(Different, match="the histograms of first and second differ"):
        merging.check_same({**seen, "second": other}, expected)


# origins


def test_tracks_of_the_vertex_fit_match_in_a_real_file(shared_data, capsys):
    assert origins.main([str(shared_data / "pfnano_qcd_mc_2017UL_10ev.root")]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["candidates"] == 600
    assert found["fitted_matched"] > 0.99
    assert found["matched"] > 0.7  # the rest: mostly far from the primary vertex
    assert found["origins"] == {}
    assert origins.main([str(shared_data / "nano_dy_mc_40ev.root")]) == 2
    assert "GenJetCands_jetIdx" in capsys.readouterr().err


def test_origins_of_a_generated_file(generated_layouts, capsys):
    assert origins.main([str(generated_layouts("btvnano"))]) == 0
    printed = capsys.readouterr().out.splitlines()
    found = json.loads(printed[-1])
    assert [line.split()[0] for line in printed[3:-1]] == list(found["origins"])
    for jets in ("b jets", "c jets", "light jets"):
        assert sum(shares[jets] for shares in found["origins"].values()) == pytest.approx(1)


# submit


def test_many_jobs_are_checked_by_what_is_said_of_them(tmp_path):
    found = submit.runs_of(tmp_path, 40)
    assert list(found) == ["jobs", "collect", "status", "retry"]
    assert all(run.cpu > 0 and run.memory > 10 for run in found.values())
    counts = {"done": 32, "incomplete": 2, "lost": 2, "running": 2, "idle": 2}
    submit.check(tmp_path, counts, found)
    with pytest.raises(Different, match="status says"):
        submit.check(tmp_path, counts | {"done": 31}, found)
    next((tmp_path / "study" / "analysis" / "dy").glob("*.root")).unlink()
    with pytest.raises(Different, match="33 results were collected"):
        submit.check(tmp_path, counts, found)


def test_limits_of_fewer_jobs_are_in_proportion():
    by_size = {size: {"status": submit.Run("", 4.0, 9.0, 60.0)} for size in (500, 2000)}
    entry = submit._part("status", by_size)
    assert (entry["ratio"], entry["other"]) == (2.0, {"cpu_seconds": 2.0})
