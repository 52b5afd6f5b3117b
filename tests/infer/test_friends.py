"""The friend tree: aligned with Events, every jet in place, scores those of the networks."""

from __future__ import annotations

import json
import shutil

import awkward as ak
import numpy as np
import pytest
import torch
import uproot

from pfnano_tag.card.card import Card
from pfnano_tag.errors import CheckpointError, Incomplete, MissingBranch, OutputError
from pfnano_tag.infer import stage
from pfnano_tag.infer.bookkeeping import find_checkpoint, load_checkpoint
from pfnano_tag.infer.conversion import to_inputs
from pfnano_tag.infer.prediction import predict
from pfnano_tag.models.batch import call_all, collate
from pfnano_tag.nano.features import read_jets
from pfnano_tag.nano.reader import PFNanoFile
from tests.analyze.events_file import content, damage, write
from tests.analyze.networks import CLASSES, inputs, save

COLUMNS = {f"Jet_{model}_{node}" for model in ("a", "b") for node in (*CLASSES, "BvsL", "CvsB", "CvsL")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("study")
    for seed, name in enumerate("ab"):
        save(made, name, seed)
    return made


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("events") / "mc.root", content("mc", 3))


@pytest.fixture
def card(folder):
    return card_in(folder)


def card_in(folder, **resources):
    return Card.model_validate(
        {
            "study": {"name": "test", "folder": str(folder)},
            "datasets": [{"name": "other", "files": ["other.root"], "kind": "mc", "roles": ["train"]}],
            "models": {name: {"architecture": "deepsets"} for name in "ab"},
            "resources": {"chunk": 0.02, **resources},
        }
    )


def friends(path):
    with uproot.open(path) as source:
        tree = source["Friends"]
        return (
            tree.arrays(library="ak"),
            {b.name: b.typename for b in tree.branches},
            json.loads(str(source["provenance"])),
        )


@pytest.mark.parametrize("acceptance", [False, True])
def test_aligned_with_events(card, file, tmp_path, acceptance):
    stage.run(card, str(file), None, tmp_path / "f.root", acceptance)
    arrays, types, provenance = friends(tmp_path / "f.root")
    with uproot.open(file) as source:
        pt, eta = (source[f"Events/Jet_{name}"].array() for name in ("pt", "eta"))
    assert types["nJet"] == "uint32_t"
    assert set(types) == COLUMNS | {"nJet"}
    assert types["Jet_a_b"] == "float[]"
    assert arrays["nJet"].to_list() == [len(jets) for jets in pt]
    accepted = (pt >= 20) & (pt <= 1000) & (abs(eta) <= 2.5) if acceptance else np.isfinite(pt)
    flat = np.concatenate([np.asarray(x) for x in accepted])
    scores = {name: np.concatenate([np.asarray(x) for x in arrays[name]]) for name in COLUMNS}
    for name, values in scores.items():
        assert np.array_equal(values != -1, flat), name
    np.testing.assert_allclose(sum(scores[f"Jet_b_{node}"][flat] for node in CLASSES), 1, rtol=1e-5)
    assert set(provenance["models"]) == {"a", "b"}
    assert provenance["file"]["entries"] == 240


def test_scores_are_those_of_the_network(card, file, folder, tmp_path):
    stage.run(card, str(file), ["b:1"], tmp_path / "f.root")
    arrays, types, _ = friends(tmp_path / "f.root")
    assert "Jet_a_b" not in types
    tagger = load_checkpoint(find_checkpoint(folder / "models", "b"))
    spec = inputs()
    with PFNanoFile(file) as source:
        chunk = source.chunk(0, 240)
        pt, eta = chunk["Jet_pt"].values, chunk["Jet_eta"].values
        mask = (pt >= 20) & (pt <= 1000) & (np.abs(eta) <= 2.5)
        table = read_jets(chunk, spec.ids, mask, spec.caps, spec.candidate_pt)
    expected = predict(tagger, to_inputs(table, tagger.inputs), 10_000)
    found = np.concatenate([np.asarray(x) for x in arrays["Jet_b_c"]])
    np.testing.assert_allclose(found[mask], expected[:, 3], atol=1e-6)
    bvsl = np.concatenate([np.asarray(x) for x in arrays["Jet_b_BvsL"]])[mask]
    heavy, light = expected[:, :3].sum(axis=1), expected[:, 4:].sum(axis=1)
    np.testing.assert_allclose(bvsl, heavy / (heavy + light), atol=1e-6)


def test_regressions_are_columns_of_their_own(file, tmp_path):
    hidden = {"target": "jet/pt_ratio", "hidden": [4]}
    tasks = {
        "response": hidden | {"kind": "regression"},
        "b_response": hidden | {"kind": "gaussian", "flavours": ["b"]},
        "origin": {"kind": "constituents", "target": "charged/origin", "hidden": [4]},
    }
    sizes = {"embed": [8], "width": 8, "heads": 2, "layers": 1, "out": 8, "head": [8]}
    save(tmp_path, "m", 1, architecture="multitask", arguments=sizes | {"tasks": tasks})
    stage.run(card_in(tmp_path), str(file), ["m"], tmp_path / "f.root")
    arrays, types, _ = friends(tmp_path / "f.root")
    numbers = ("response", "b_response", "b_response_sigma")
    assert {name for name in types if name.startswith("Jet_m")} == {
        *(f"Jet_m_{node}" for node in (*CLASSES, "BvsL", "CvsB", "CvsL", *numbers))
    }
    tagger = load_checkpoint(find_checkpoint(tmp_path / "models", "m"))
    with PFNanoFile(file) as source:
        chunk = source.chunk(0, 240)
        mask = np.isfinite(chunk["Jet_pt"].values)
        table = read_jets(chunk, inputs().ids, mask, inputs().caps, inputs().candidate_pt)
    flat = to_inputs(table, tagger.inputs)
    jets = torch.arange(len(flat))
    with torch.inference_mode():
        outputs = call_all(tagger.module, collate(flat, jets))
    expected = (outputs["response"][:, 0], outputs["b_response"][:, 0], outputs["b_response"][:, 1].exp().sqrt())
    for name, values in zip(numbers, expected, strict=True):
        found = np.concatenate([np.asarray(x) for x in arrays[f"Jet_m_{name}"]])
        np.testing.assert_allclose(found[mask], values.numpy(), atol=1e-5)
        assert (found[~mask] == -1).all()
    np.testing.assert_allclose(
        np.concatenate([np.asarray(x) for x in arrays["Jet_m_b"]])[mask], predict(tagger, flat)[:, 0], atol=1e-6
    )


def test_a_task_named_as_a_discriminant_is_refused(file, tmp_path):
    tasks = {"BvsL": {"kind": "regression", "target": "jet/pt_ratio"}}
    save(tmp_path, "m", 1, architecture="multitask", arguments={"width": 8, "heads": 2, "tasks": tasks})
    with pytest.raises(CheckpointError, match="model 'm' would have two columns BvsL: give its task another name"):
        stage.run(card_in(tmp_path), str(file), ["m"], tmp_path / "f.root")
    assert not (tmp_path / "f.root").exists()


def test_independent_of_chunks_and_batches(card, folder, file, tmp_path):
    stage.run(card, str(file), None, tmp_path / "many.root")
    stage.run(card_in(folder, chunk=100.0, batch_size=3), str(file), None, tmp_path / "one.root")
    many, one = friends(tmp_path / "many.root")[0], friends(tmp_path / "one.root")[0]
    for name in COLUMNS:
        difference = np.concatenate([np.asarray(x) for x in many[name] - one[name]])
        assert np.abs(difference).max() < 1e-6


def test_onnx_runtime_gives_the_same_scores(card, folder, file, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    stage.run(card, str(file), None, tmp_path / "torch.root")
    stage.run(card_in(folder, backend="onnx"), str(file), None, tmp_path / "onnx.root")
    (by_torch, _, said), (by_onnx, _, says) = friends(tmp_path / "torch.root"), friends(tmp_path / "onnx.root")
    assert (said["backend"], says["backend"]) == ("torch", "onnx")
    for name in COLUMNS:
        difference = np.concatenate([np.asarray(x) for x in by_torch[name] - by_onnx[name]])
        assert 0 <= np.abs(difference).max() < 1e-5, name


def test_broken_chunk_keeps_the_alignment(card, file, tmp_path):
    path = shutil.copy(file, tmp_path / "broken.root")
    damage(path, "PFCands_dz", 1)
    with pytest.raises(Incomplete, match="1 of 6 chunks have no scores"):
        stage.run(card, str(path), ["a"], tmp_path / "f.root")
    arrays, _, provenance = friends(tmp_path / "f.root")
    with uproot.open(file) as source:
        pt = source["Events/Jet_pt"].array()
    assert arrays["nJet"].to_list() == [len(jets) for jets in pt]
    assert set(np.concatenate([np.asarray(x) for x in arrays["Jet_a_b"][40:80]])) == {-1.0}
    assert [(lost["start"], lost["stop"]) for lost in provenance["lost"]] == [(40, 80)]


def test_empty_file(card, tmp_path):
    empty = {name: value[:0] for name, value in content("mc", 1, 5).items()}
    stage.run(card, str(write(tmp_path / "e.root", empty)), None, tmp_path / "f.root")
    arrays, types, _ = friends(tmp_path / "f.root")
    assert len(arrays) == 0
    assert set(types) == COLUMNS | {"nJet"}


def test_real_file(card, shared_data, tmp_path):
    stage.run(card, str(shared_data / "pfnano_qcd_mc_2017UL_10ev.root"), None, tmp_path / "f.root")
    arrays, _, _ = friends(tmp_path / "f.root")
    assert len(arrays) == 10
    assert int(np.sum(arrays["nJet"])) == 64
    scores = np.concatenate([np.asarray(x) for x in arrays["Jet_a_BvsL"]])
    assert len(scores) == 64
    assert np.isfinite(scores).all()


def test_refusals_write_nothing(card, file, shared_data, tmp_path):
    before = file.read_bytes()
    with pytest.raises(OutputError, match="also an input"):
        stage.run(card, str(file), None, file)
    other = tmp_path / "other.root"
    shutil.copy(file, other)
    with pytest.raises(OutputError, match="holds a tree 'Events'"):
        stage.run(card, str(file), None, other)
    assert file.read_bytes() == before == other.read_bytes()
    other.unlink()
    with pytest.raises(CheckpointError, match="no network to apply"):
        stage.run(card, str(file), [], tmp_path / "f.root")
    with pytest.raises(MissingBranch, match="PFCands_trkChi2"):
        stage.run(card, str(shared_data / "nano_dy_mc_40ev.root"), None, tmp_path / "f.root")
    assert not list(tmp_path.iterdir())
    assert "240 events in 6 chunks" in stage.describe(card, str(file), None)


def test_inputs_that_are_not_finite_are_counted_and_said(card, tmp_path, caplog):
    branches = content("mc", 3)
    flat = ak.to_numpy(ak.flatten(branches["JetPFCands_btagSip3dSig"])).copy()
    flat[::7] = np.nan
    branches["JetPFCands_btagSip3dSig"] = ak.unflatten(flat, ak.num(branches["JetPFCands_btagSip3dSig"]))
    stage.run(card, str(write(tmp_path / "nan.root", branches)), None, tmp_path / "f.root")
    assert "not finite and became placeholders" in caplog.text
    arrays, _, _ = friends(tmp_path / "f.root")
    assert all(np.isfinite(ak.to_numpy(ak.flatten(arrays[name]))).all() for name in COLUMNS)
