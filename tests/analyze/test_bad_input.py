"""Bad input through the command line: exit code 2, one clear message, nothing written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import uproot

from pfnano_tag.analyze.__main__ import parser, run
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.card.command import main_of
from tests.analyze import correction_files
from tests.analyze.events_file import content, damage, write
from tests.analyze.networks import save


@pytest.fixture
def command(tmp_path, monkeypatch, capsys, study):
    """Run `analyze` in an empty folder; return exit code and standard error."""
    card = tmp_path / "card.yaml"
    models = tmp_path / "study" / "models"
    shutil.copytree(study / "models", models)
    content = {
        "study": {"name": "test", "folder": str(tmp_path / "study")},
        "datasets": [
            {"name": "mc", "files": ["f"], "kind": "mc", "cross_section": 1.0, "roles": ["analyze"]},
            {"name": "data", "files": ["f"], "kind": "data", "luminosity": 1.0, "roles": ["analyze"]},
            {"name": "training", "files": ["f"], "kind": "mc", "roles": ["train"]},
        ],
        "models": {"first": {"architecture": "deepsets"}},
        "regions": {"dy": {"selection": "dy"}},
        "comparison": {"replicas": 2},
    }
    card.write_text(json.dumps(content))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def call(*options, dataset="mc"):
        monkeypatch.setattr(sys, "argv", ["analyze", str(card), "--dataset", dataset, *map(str, options)])
        with pytest.raises(SystemExit) as end:
            main_of(parser(), run)
        error = capsys.readouterr().err
        if end.value.code == 2:
            assert not list(work.iterdir()), "nothing may be written"
        return end.value.code, error

    return call


def refused(result, *words):
    code, error = result
    assert code == 2
    messages = [line for line in error.splitlines() if line.startswith("error:")]
    assert len(messages) == 1
    assert "Traceback" not in error
    for word in words:
        assert word in error
    return error


def test_missing_file(command):
    refused(command("--file", "nowhere.root", "-o", "h.root"), "nowhere.root: no such file")


def test_not_a_root_file(command, tmp_path):
    path = tmp_path / "text.root"
    path.write_text("not ROOT at all" * 100)
    refused(command("--file", path, "-o", "h.root"), "text.root", "can't be opened as a ROOT file")


def test_no_events_tree(command, tmp_path):
    path = tmp_path / "other.root"
    with uproot.recreate(path) as file:
        file.mktree("Other", {"x": "f4"}).extend({"x": np.zeros(3, "f4")})
    refused(command("--file", path, "-o", "h.root"), "no tree 'Events'", "Other")


def test_truncated_file(command, files, tmp_path):
    path = tmp_path / "cut.root"
    path.write_bytes(files["mc"].read_bytes()[:2000])
    refused(command("--file", path, "-o", "h.root"), "cut.root", "truncated")


def test_data_in_a_simulation_dataset_and_the_reverse(command, files):
    refused(command("--file", files["data"], "-o", "h.root"), "is data", "'mc'", "kind mc")
    refused(command("--file", files["mc"], "-o", "h.root", dataset="data"), "is simulation", "'data'", "kind data")


def test_output_equal_to_input(command, files):
    before = files["mc"].read_bytes()
    refused(command("--file", files["mc"], "-o", files["mc"]), "the output is also an input")
    refused(command("--file", files["mc"], "-o", files["data"]), "holds a tree 'Events'")
    assert files["mc"].read_bytes() == before


def test_folder_of_another_card(command, files, tmp_path):
    (tmp_path / "study" / "study.json").write_text(json.dumps({"sections": {"jets": "of another card"}}))
    refused(command("--file", files["mc"], "-o", "h.root"), "belongs to another card", "jets")


def test_two_files_of_one_name_do_not_share_the_default_output(command, files, tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        shutil.copy(files["mc"], tmp_path / folder / "n.root")
    listed = json.dumps([str(tmp_path / folder / "n.root") for folder in "ab"])
    override = ("-s", f"datasets.0.files={listed}")
    refused(command("--file", tmp_path / "b" / "n.root", *override), "a/n.root and", "would share the output")
    assert not (tmp_path / "study" / "analysis").exists()


def test_no_such_dataset_and_one_not_to_be_analysed(command, files):
    refused(command("--file", files["mc"], dataset="mx"), "no dataset 'mx'", "nearest: mc")
    refused(command("--file", files["mc"], dataset="training"), "add `analyze`")


def test_no_such_model_or_epoch(command, files):
    refused(command("--file", files["mc"], "--model", "firts"), "no trained model 'firts'", "first")
    refused(command("--file", files["mc"], "--model", "first:7"), "no epoch 7")
    refused(command("--file", files["mc"], "--model", "first:1", "--model", "first:best"), "asked for twice: first_1")


def test_checkpoint_of_another_input_set(command, files, tmp_path):
    save(tmp_path / "study", "globals", 1, "deepjet")
    error = refused(command("--file", files["mc"], "--model", "globals"), "inputs of globals", "HadFrac")
    assert error.count("Jet_DeepCSV_") >= 9


def test_network_on_a_file_without_candidates(command, shared_data):
    path = shared_data / "nano_dy_mc_40ev.root"
    error = refused(command("--file", path), "inputs of first", "PFCands_d0Err", "JetSVs_enration", "nearest")
    assert len([line for line in error.splitlines() if line.startswith("  ")]) > 25
    code, _ = command("--file", path, "--no-models", "-o", "h.root")
    assert code == 0
    with JobResult("h.root") as result:
        assert {"stored_Jet_btagDeepFlavB", "stored_Jet_btagCSVV2"} <= result.variables.keys()
        assert not any(variable.kind == "input" for variable in result.variables.values())


def test_all_missing_branches_at_once(command, tmp_path):
    branches = content("mc", 1, 20)
    for name in ("Muon_tightId", "Jet_jetId", "PFCands_dz", "Flag_goodVertices"):
        del branches[name]
    path = write(tmp_path / "few.root", branches)
    refused(command("--file", path), "Muon_tightId", "Jet_jetId", "PFCands_dz", "Flag_goodVertices")


def test_missing_weight_branch_and_lumi_mask(command, files):
    refused(command("--file", files["mc"], "-s", "weights.branches=[genWeigth]"), "genWeigth; nearest: genWeight")
    refused(
        command("--file", files["data"], "-s", "datasets.1.lumi_mask=none.json", dataset="data"),
        "none.json",
        "lumi mask",
    )


@pytest.mark.parametrize("text", ["{not json", '{"1": [[9, 2]]}', "[[1, 2]]"])
def test_a_golden_json_of_another_form(command, files, tmp_path, text):
    path = tmp_path / "golden.json"
    path.write_text(text)
    error = refused(command("--file", files["data"], "-s", f"datasets.1.lumi_mask={path}", dataset="data"))
    assert f'{path}: not a lumi mask, expected {{"run": [[first, last], ...]}}' in error


CORRECTION = "{kind: correctionlib, file: FILE, correction: muon_id, inputs: {pt: Muon_pt, abseta: abs(Muon_eta)}, "
CORRECTION += "variation: {input: scale_factors, up: systup}}"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("", "", ("10 <= pt < 60", "entry ", "outside: clamp")),
        ("muon_id", "muon_iso", ("no correction 'muon_iso'", "nearest: muon_id")),
        ("pt: Muon_pt, ", "", ("'pt' (real) is missing",)),
        ("systup", "up", ("no scale_factors 'up'", "nearest: systup")),
        ("abs(Muon_eta)", "abs(Muon_eat)", ("weights.factors.muon needs branches", "Muon_eat; nearest: Muon_eta")),
        ("abs(Muon_eta)", "abs(Jet_eta)", ("objects of two collections",)),
        ("FILE", "none.json", ("weights.factors.muon", "none.json", "no such file")),
        ("FILE", "FILE.cut", ("FILE.cut", "not a file of correctionlib", "JSON parse error")),
    ],
)
def test_corrections_that_do_not_do(command, files, tmp_path, old, new, words):
    pytest.importorskip("correctionlib")
    path = correction_files.write(tmp_path / "sf.json")
    (tmp_path / "sf.json.cut").write_bytes(path.read_bytes()[:200])
    factor = (CORRECTION.replace(old, new) if old else CORRECTION).replace("FILE", str(path))
    result = command("--file", files["mc"], "-o", "h.root", "-s", f"weights.factors.muon={factor}")
    refused(result, *(word.replace("FILE", str(path)) for word in words))


def test_corrections_without_correctionlib(command, files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "correctionlib.highlevel", None)
    factor = CORRECTION.replace("FILE", str(correction_files.write(tmp_path / "sf.json")))
    refused(command("--file", files["mc"], "-s", f"weights.factors.muon={factor}"), "pip install 'pfnano_tag[cms]'")


def test_all_problems_of_all_corrections_at_once(command, files, tmp_path):
    pytest.importorskip("correctionlib")
    path = correction_files.write(tmp_path / "sf.json")
    one = CORRECTION.replace("FILE", str(path)).replace("systup", "up").replace("pt: Muon_pt, ", "")
    pileup = "{kind: pileup, data: {file: d.root}, simulation: {file: m.root}}"
    overrides = ("-s", f"weights.factors.muon={one}", "-s", f"weights.factors.pu={pileup}")
    error = refused(command("--file", files["mc"], *overrides))
    for word in (
        "factors.muon.inputs: 'pt'",
        "factors.muon.variation.up",
        "pu.data: d.root",
        "pu.simulation: m.root",
    ):
        assert word in error


def test_one_problem_of_a_trigger_path_of_a_primary_dataset(command, files):
    override = ("-s", "datasets.1.triggers=[HLT_IsoMu72]")
    error = refused(command("--file", files["data"], *override, dataset="data"), "HLT_IsoMu72; nearest: HLT_IsoMu27")
    assert "dataset data (triggers, vetoes)" in error


def test_a_region_that_selects_nothing_is_said(command, files, caplog):
    code, _ = command("--file", files["mc"], "-o", "h.root", "-s", "regions.dy.mass=[1, 2]", "--no-models")
    assert code == 0
    assert "region dy selects nothing: no event passes 'mass'" in caplog.text
    with JobResult("h.root") as result:
        assert result.cutflows["dy"].emptied_by == "mass"


def test_an_output_that_can_not_be_written(command, files, tmp_path):
    (tmp_path / "file").write_text("")
    refused(command("--file", files["mc"], "-o", tmp_path / "file" / "h.root"), "h.root", "Not a directory")
    refused(command("--file", files["mc"], "-o", tmp_path), "is a folder; name the file to write")


def test_a_full_disk_keeps_what_is_done(command, files, tmp_path, monkeypatch):
    place = tmp_path / "out"
    written = []

    def sync(descriptor):
        written.append(descriptor)
        if len(written) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", sync)
    options = ("--file", files["mc"], "-o", place / "h.root", "-s", "resources.chunk=0.02")
    refused(command(*options), "No space left on device", "can't be written")
    done = len(list(place.glob("h.root.ledger/chunk_*.npz")))
    assert 0 < done < 6
    assert not list(place.glob("*.root"))
    assert not list(place.rglob("*.tmp*"))
    monkeypatch.undo()


def test_two_models_of_one_name(command, files, tmp_path):
    card = tmp_path / "card.yaml"
    text = card.read_text()
    twice = text.replace('"models": {', '"models": {"first": {"architecture": "mlp"}, ')
    assert twice != text
    card.write_text(twice)
    refused(command("--file", files["mc"]), "duplicate key", "first")


def test_nan_weights_are_dropped_counted_and_said(command, tmp_path, caplog):
    branches = content("mc", 1, 40)
    weight = np.array(branches["genWeight"])
    weight[:5] = np.nan
    path = write(tmp_path / "nan.root", {**branches, "genWeight": weight})
    assert command("--file", path, "-o", "h.root")[0] == 0
    assert "dropped for a weight that is not finite: 5" in caplog.text
    with JobResult("h.root") as result:
        assert result.sums["entries_bad_weight"] == 5
        assert all(np.isfinite(result.read(name).values).all() for name in result.variables)


def test_lost_chunk_ends_with_75(command, files, tmp_path):
    path = shutil.copy(files["mc"], tmp_path / "broken.root")
    damage(path, "Muon_pt", 1)
    code, error = command("--file", path, "-o", "h.root", "-s", "resources.chunk=0.02")
    assert code == 75
    assert "incomplete: h.root: 1 of 6 chunks are lost" in error
    code, _ = command("--file", files["mc"], "-o", "h.root", "-s", "resources.chunk=0.02")
    assert code == 0


@pytest.mark.parametrize("name", ["analyze", "infer"])
def test_help_imports_nothing_heavy(name):
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['{name}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('pfnano_tag.{name}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'torch', 'uproot', 'awkward', 'matplotlib', 'scipy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
