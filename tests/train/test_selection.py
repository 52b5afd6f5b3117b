"""The ranking of trained models, from hand-made results."""

import json
import subprocess
import sys

import pytest
from synthetic import CLASSES, features, specification

from pfnano_tag.card import read_card
from pfnano_tag.card.folder import model_folder
from pfnano_tag.card.output import write_json
from pfnano_tag.errors import CardError, StudyError
from pfnano_tag.infer.bookkeeping import find_checkpoint, load_checkpoint, save_checkpoint
from pfnano_tag.models.registry import build
from pfnano_tag.train.selection import as_table, known_of, select

CARD = """
study: {{name: synthetic, folder: {folder}}}
datasets: [{{name: mc, files: [nowhere.root], kind: mc, roles: [train]}}]
models:
  one: {{architecture: deepsets, arguments: {{phi: [4], rho: [4]}}}}
  two: {{architecture: deepsets, arguments: {{phi: [4], rho: [4]}}}}
  three: {{architecture: deepsets, arguments: {{phi: [4], rho: [4]}}}}
  later: {{architecture: deepsets}}
"""
METRICS = {
    "one": [{"auc_BvsL": 0.8, "validation_loss": 1.0}, {"auc_BvsL": 0.99, "validation_loss": 2.0}],
    "two": [{"auc_BvsL": 0.9, "validation_loss": 1.5}],
    "three": [{"auc_BvsL": None, "validation_loss": 1.0, "learning_rate": 1e-3}],
}


@pytest.fixture
def study(tmp_path):
    """Three trained models; the best epoch of `one` is its first."""
    path = tmp_path / "card.yaml"
    path.write_text(CARD.format(folder=tmp_path / "out"))
    card = read_card(str(path))
    arguments = {"phi": [4], "rho": [4]}
    for name, epochs in METRICS.items():
        folder = model_folder(card, name)
        for epoch, metrics in enumerate(epochs, 1):
            module = build("deepsets", arguments, features(), len(CLASSES))
            training = {"metrics": {"epoch": epoch, **metrics}}
            save_checkpoint(folder, name, epoch, module, specification(), CLASSES, "deepsets", arguments, training)
        write_json(folder / "best.json", {"epoch": 1, "metric": "validation_loss", "value": 1.0})
    return card


def hashes(card):
    return {name: load_checkpoint(find_checkpoint(card, name)).hash for name in METRICS}


def write_results(card, stage, models, **more):
    write_json(card.folder / stage / "results.json", {"models": models, **more})


def evaluated(value, error):
    points = [{"mistag": 0.01, "efficiency": value / 2, "error": None}]
    return {"auc": {"BvsL": [value, error]}, "working_points": {"BvsL": points}, "loss": 1.0, "accuracy": 0.5}


def ranking(selection):
    return [(entry["model"], entry["value"]) for entry in selection["ranking"]]


def test_metrics_are_those_of_the_best_epoch(study):
    selection = select(study, "auc_BvsL")
    assert ranking(selection) == [("two", 0.9), ("one", 0.8), ("three", None)]
    assert selection["better"] == "higher"
    assert selection["missing"] == ["later is not trained"]
    assert json.loads((study.folder / "models" / "selection.json").read_text()) == selection
    assert {entry["model"]: entry["hash"] for entry in selection["ranking"]} == hashes(study)


def test_lowest_loss_wins_and_equals_stand_in_the_order_of_the_card(study):
    selection = select(study, "validation_loss")
    assert ranking(selection) == [("one", 1.0), ("three", 1.0), ("two", 1.5)]
    assert ranking(select(study, "validation_loss", ["three", "one", "two"]))[0] == ("three", 1.0)
    assert [name for name, _ in ranking(select(study, "validation_loss", ["two"]))] == ["two"]


def test_the_test_split_with_errors_and_without_another_training(study):
    known = hashes(study)
    models = {
        "one": {**evaluated(0.7, 0.01), "hash": known["one"]},
        "two": {**evaluated(0.95, 0.02), "hash": "of an earlier training"},
        "three": {**evaluated(0.75, None), "hash": known["three"]},
    }
    write_results(study, "evaluation", models)
    selection = select(study, "evaluation.auc.BvsL")
    assert ranking(selection) == [("three", 0.75), ("one", 0.7), ("two", None)]
    assert [entry["error"] for entry in selection["ranking"]] == [None, 0.01, None]
    assert (
        "evaluation/results.json does not know the best epoch of two (run `evaluate` again)" in selection["missing"]
    )
    assert ranking(select(study, "evaluation.efficiency.BvsL.0.01"))[0] == ("three", 0.375)
    assert select(study, "evaluation.loss")["better"] == "lower"
    rows = as_table(selection).splitlines()
    assert rows[0].split() == ["model", "epoch", "evaluation.auc.BvsL"]
    assert rows[1].split() == ["1", "three", "1", "0.7500"]
    assert rows[2].split() == ["2", "one", "1", "0.7000", "±", "0.0100"]
    assert rows[3].split() == ["-", "two", "1", "not", "known"]


def test_robustness_at_a_strength(study):
    def attacked(*values):
        return {"auc": {"BvsL": [[value, 0.01] for value in values]}}

    models = {
        name: {
            "hash": digest,
            "attacks": {"fgsm": {"white_box": attacked(0.9, value), "common_sample": attacked(0, 1)}},
        }
        for (name, digest), value in zip(hashes(study).items(), (0.6, 0.5, 0.8), strict=True)
    }
    write_results(study, "attacks", models, attacks={"fgsm": {"strengths": [0.0, 0.05]}})
    assert ranking(select(study, "attacks.fgsm.0.05.BvsL")) == [("three", 0.8), ("one", 0.6), ("two", 0.5)]
    assert ranking(select(study, "attacks.fgsm.0.BvsL"))[0] == ("one", 0.9)
    assert ranking(select(study, "attacks.fgsm.0.05.BvsL.common_sample"))[0] == ("one", 1)


def agreement(chi2, ndf, error):
    return {"chi2": chi2, "ndf": ndf, "bootstrap": None if error is None else {"error": error}}


def test_agreement_is_the_mean_of_what_all_models_have(study):
    entries = {
        "dy/BvsL/one/nominal": agreement(20.0, 10, 0.2),
        "dy/BvsL/two/nominal": agreement(30.0, 10, 0.4),
        "dy/BvsL/three/nominal": agreement(10.0, 10, None),
        "all/BvsL/one/nominal": agreement(40.0, 10, 0.6),
        "all/BvsL/two/nominal": agreement(10.0, 10, 0.6),
        "all/BvsL/three/nominal": agreement(50.0, 10, 0.6),
        "dy/CvsL/one/nominal": agreement(60.0, 10, 0.1),
        "dy/CvsL/two/nominal": agreement(0.0, 10, 0.1),
        "dy/CvsL/three/nominal": {"chi2": None, "ndf": None, "bootstrap": None},
        "dy/BvsL/one/fgsm": agreement(900.0, 10, 0.1),
        "dy/jet_pt/none/nominal": agreement(900.0, 10, None),
    }
    write_results(study, "comparison", {name: {"hash": digest} for name, digest in hashes(study).items()}, **entries)
    selection = select(study, "comparison.chi2ndf.BvsL")
    assert ranking(selection) == [("two", 2.0), ("one", 3.0), ("three", 3.0)]
    assert selection["better"] == "lower"
    assert [entry["error"] for entry in selection["ranking"]] == [0.5, pytest.approx(0.4), None]
    assert ranking(select(study, "comparison.chi2ndf.BvsL.dy")) == [("three", 1.0), ("one", 2.0), ("two", 3.0)]
    assert ranking(select(study, "comparison.chi2ndf.CvsL.dy")) == [("two", 0.0), ("one", 6.0), ("three", None)]
    assert ranking(select(study, "comparison.chi2ndf.mean")) == ranking(selection)
    with pytest.raises(StudyError, match=r"nearest: comparison\.chi2ndf"):
        select(study, "comparison.chi2ndf.CvsL")


SCAN = """
study: {{name: synthetic, folder: {folder}}}
datasets: [{{name: mc, files: [nowhere.root], kind: mc, roles: [train]}}]
models:
  net:
    architecture: deepsets
    arguments: {{rho: [4]}}
    scan: {{grid: {{training.learning_rate: [1e-3, 1e-2], arguments.phi: [[4], [8]], training.epochs: [2]}}}}
"""


@pytest.fixture
def scan(tmp_path):
    """Three of four trainings of a scan, one of them with another learning rate than the card has now."""
    path = tmp_path / "card.yaml"
    path.write_text(SCAN.format(folder=tmp_path / "out"))
    card = read_card(str(path))
    for number, name in enumerate(list(card.models)[:3]):
        arguments, rate = card.models[name].arguments, 0.5 if number == 1 else card.training_of(name).learning_rate
        module = build("deepsets", arguments, features(), len(CLASSES))
        training = {"metrics": {"epoch": 1, "auc_BvsL": number / 10}, "settings": {"learning_rate": rate}}
        folder = model_folder(card, name)
        save_checkpoint(folder, name, 1, module, specification(), CLASSES, "deepsets", arguments, training)
        write_json(folder / "best.json", {"epoch": 1, "metric": "auc_BvsL", "value": 0.0})
    return card


def test_scanned_values_and_other_metrics_stand_beside_the_ranking(scan):
    names = [
        "net_phi4_epochs2_lr1em3",
        "net_phi4_epochs2_lr0p01",
        "net_phi8_epochs2_lr1em3",
        "net_phi8_epochs2_lr0p01",
    ]
    assert list(scan.models) == names
    attacked = {"white_box": {"auc": {"BvsL": [[0.9, 0.01]]}}, "common_sample": {"auc": {}}}
    tagger = load_checkpoint(find_checkpoint(scan, names[0]))
    results = {names[0]: {"hash": tagger.hash, "attacks": {"fgsm": attacked}}}
    write_results(scan, "attacks", results, attacks={"fgsm": {"strengths": [0.05]}})
    selection = select(scan, ["auc_BvsL", "attacks.fgsm.0.05.BvsL"], ["net"])
    assert ranking(selection) == [(names[2], 0.2), (names[1], 0.1), (names[0], 0.0)]
    best = selection["ranking"][0]["scanned"]
    assert best == {"arguments.phi": [8], "training.epochs": 2, "training.learning_rate": 1e-3}
    assert selection["ranking"][1]["scanned"]["training.learning_rate"] == 0.5
    assert [entry["beside"]["attacks.fgsm.0.05.BvsL"]["value"] for entry in selection["ranking"]] == [None, None, 0.9]
    assert f"{names[3]} is not trained" in selection["missing"]
    notes = " ".join(selection["missing"])
    assert f"{names[1]} was trained with training.learning_rate 0.5, unlike the card's" in notes
    assert "does not know the best epoch of" in notes
    rows = as_table(selection).splitlines()
    assert rows[0].split()[3:] == ["attacks.fgsm.0.05.BvsL", *best]
    assert rows[3].split() == ["3", names[0], "1", "0.0000", "0.9000", "±", "0.0100", "[4]", "2", "0.001"]
    assert "ranked by auc_BvsL: higher is better; of the others: higher" in rows[4]
    with pytest.raises(StudyError, match=r"'auc_BvsX' is not known"):
        select(scan, ["auc_BvsL", "auc_BvsX"])


def test_a_metric_that_is_not_there_is_refused_with_what_is(study):
    with pytest.raises(StudyError, match=r"'auc_BvL' .*nearest: auc_BvsL(.|\n)*validation_loss"):
        select(study, "auc_BvL")
    with pytest.raises(StudyError, match=r"evaluation/results\.json is not there \(run `evaluate`\)"):
        select(study, "evaluation.auc.BvsL")
    with pytest.raises(StudyError, match="learning_rate"):
        select(study, "learning_rate")
    assert not (study.folder / "models" / "selection.json").exists()
    with pytest.raises(CardError, match="no model 'ones'"):
        select(study, "auc_BvsL", ["ones"])
    with pytest.raises(StudyError, match="none of later is trained"):
        select(study, "auc_BvsL", ["later"])


def test_damaged_results_are_named(study):
    write_results(study, "evaluation", {"one": {"hash": hashes(study)["one"]}})
    with pytest.raises(StudyError, match=r"evaluation/results\.json: can't be read"):
        known_of(study)
    (study.folder / "evaluation" / "results.json").write_text("{")
    with pytest.raises(StudyError, match=r"evaluation/results\.json: can't be read"):
        known_of(study)


def test_command(study):
    card = study.folder.parent / "card.yaml"
    command = [sys.executable, "-m", "pfnano_tag.train", str(card), "--select", "auc_BvsL"]
    done = subprocess.run([*command, "--dry-run"], capture_output=True, text=True)
    assert done.returncode == 0
    assert [line.split()[1] for line in done.stdout.splitlines()[1:4]] == ["two", "one", "three"]
    assert not (study.folder / "models" / "selection.json").exists()
    refused = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "not allowed with" in refused.stderr
