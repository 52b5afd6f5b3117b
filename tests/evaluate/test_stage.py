"""The command on the small generated study: what it writes, and that the numbers are those of the test split."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pfnano_tag.card import read_card
from pfnano_tag.card.folder import prepared_path
from pfnano_tag.errors import CheckpointError, StudyError
from pfnano_tag.evaluate import stage
from pfnano_tag.evaluate.discriminants import compared
from pfnano_tag.evaluate.scores import collect, joined, load_taggers
from pfnano_tag.infer.bookkeeping import find_checkpoint
from pfnano_tag.infer.discriminants import discriminant
from pfnano_tag.prepare.prepared import read_prepared
from pfnano_tag.prepare.sample import training_jets


def card_in(small_study, folder, *overrides):
    shutil.copytree(small_study / "study", folder)
    return read_card(
        small_study / "card.yaml",
        [f"study.folder={folder}", "evaluation.discriminants=[BvsL]", "evaluation.replicas=20", *overrides],
    )


@pytest.fixture(scope="module")
def evaluated(small_study, tmp_path_factory):
    card = card_in(small_study, tmp_path_factory.mktemp("evaluate") / "study")
    return card, stage.run(card)


def test_auc_is_scikit_learns_of_the_test_split(evaluated):
    card, results = evaluated
    prepared = read_prepared(prepared_path(card), card)
    taggers = load_taggers(card, None, prepared.classes)
    scores = collect(card, prepared, taggers)
    assert len(scores) == prepared.total("test")
    chosen, signal = compared("BvsL", scores.label_J, scores.classes)
    value = discriminant("BvsL", scores.probabilities["small"], scores.classes)
    found, error = results["models"]["small"]["auc"]["BvsL"]
    assert found == pytest.approx(roc_auc_score(signal[chosen], value[chosen]), abs=1e-12)
    assert 0 < error < 0.1
    assert results["jets"] == {name: int((scores.label_J == i).sum()) for i, name in enumerate(scores.classes)}


def test_no_training_jet_is_evaluated(evaluated):
    card, _ = evaluated
    prepared = read_prepared(prepared_path(card), card)
    training = np.concatenate([jets.event_id for jets in training_jets(card, prepared, ("train", "validation"))])
    scores = collect(card, prepared, load_taggers(card, None, prepared.classes))
    assert not np.isin(scores.event_id_J, training).any()


def test_stored_tagger_stands_beside_ours(evaluated):
    _, results = evaluated
    value, error = results["stored"]["JetProbability"]["auc"]["BvsL"]
    ours = results["models"]["small"]["auc"]["BvsL"][0]
    assert value > 0.6
    difference, of_both = results["differences"]["JetProbability - small"]["BvsL"]
    assert difference == value - ours
    assert of_both > 0
    assert error > 0


def test_files_and_json(evaluated):
    card, results = evaluated
    folder = stage.folder_of(card)
    assert json.loads((folder / "results.json").read_text()) == results
    names = {path.name for path in folder.glob("*.png")}
    assert {"roc_BvsL.png", "shape_small_BvsL.png", "confusion_small.png", "correlations.png"} <= names
    kinds = ("loss", "accuracy", "auc", "efficiency", "learning_rate")
    assert {f"training_{kind}.png" for kind in kinds} <= names
    assert {"inputs_jet.png", "inputs_charged.png", "inputs_neutral.png", "inputs_sv.png"} <= names
    assert {"efficiency_pt_BvsL.png", "mistag_pt_BvsL.png"} <= names
    properties = json.loads((folder / "properties.json").read_text())["small"]["inputs"]
    pt = next(row for row in properties if row["name"] == "jet/pt")
    assert pt["unit"] == "GeV"
    assert card.jets.pt[0] <= pt["range"][0] < pt["range"][1] <= card.jets.pt[1]
    assert "| jet/pt | GeV |" in (folder / "properties.md").read_text()
    points = results["models"]["small"]["working_points"]["BvsL"]
    assert [point["mistag"] for point in points] == list(card.evaluation.mistags)
    assert all(point["reached"] <= point["mistag"] for point in points)


def test_epoch_by_number_and_dry_run(evaluated):
    card, _ = evaluated
    before = sorted(stage.folder_of(card).iterdir())
    text = stage.plan(card, ["small:best", "small:1"])
    assert "small_1 (epoch 1)" in text
    assert sorted(stage.folder_of(card).iterdir()) == before


def test_bad_requests(evaluated, small_study, tmp_path):
    card, _ = evaluated
    with pytest.raises(CheckpointError, match="small"):
        stage.run(card, ["smal"])
    with pytest.raises(CheckpointError, match="called 'small'"):
        stage.run(card, ["small", "small:best"])
    path = str(find_checkpoint(card, "small"))
    with pytest.raises(CheckpointError, match="classes"):
        load_taggers(card, [path], ("b", "c"))
    unprepared = read_card(small_study / "card.yaml", [f"study.folder={tmp_path / 'new'}"])
    with pytest.raises(StudyError, match=r"prepared\.json"):
        stage.run(unprepared)


def test_score_stored_in_some_files_only_is_left_out(evaluated, caplog):
    card, _ = evaluated
    prepared = read_prepared(prepared_path(card), card)
    scores = collect(card, prepared, load_taggers(card, None, prepared.classes), ("Jet_Proba", "Jet_btagDeepB"))
    assert set(scores.stored) == {"Jet_Proba"}
    without = dataclasses.replace(scores, stored={})
    assert joined([scores, without]).stored == {}
    assert "Jet_Proba is stored in some files only" in caplog.text


@pytest.mark.parametrize("command", ["evaluate", "attack"])
def test_help_imports_nothing_heavy(command):
    code = (
        f"import sys; from pfnano_tag.{command}.__main__ import parser; parser().format_help(); "
        "print([m for m in ('torch', 'uproot', 'awkward', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
