"""The table of nominal against attacked inputs: differences with errors, and AUCs that are there."""

import json

import numpy as np
import pytest
from compare.conftest import Study, fill

from pfnano_tag.compare.agreement import Agreement, Reduced, corrected_error
from pfnano_tag.compare.attacked import HEADER, auc_of, nominal_against_attacked, rows_of_region
from pfnano_tag.compare.stage import run
from pfnano_tag.compare.verdicts import Subject

EVALUATION = {"models": {"good": {"hash": "good", "auc": {"BvsL": [0.98, 0.001]}}}}
ATTACKS = {
    "attacks": {"fgsm": {"kind": "fgsm", "strengths": [0.0, 0.01, 0.1]}},
    "models": {
        "good": {
            "hash": "good",
            "attacks": {"fgsm": {"white_box": {"auc": {"BvsL": [[0.98, 0.1], [0.95, 0.002], [0.7, 0.003]]}}}},
        },
    },
}


def found(value, seed):
    random = np.random.default_rng(seed)
    reduced = Reduced(value, value + random.normal(0, 0.1, 100), np.full(100, 0.5))
    return Agreement(value * 10, 10, 0.5, np.arange(10), reduced)


AGREEMENTS = {
    Subject("dy", variable, model, variant): found(value + (variant != "nominal"), seed)
    for seed, (variable, model, variant, value) in enumerate(
        (variable, model, variant, value)
        for variable, value in (("BvsL", 1.0), ("CvsL", 3.0))
        for model in ("good", "bad")
        for variant in ("fgsm", "nominal")
    )
}


def test_differences_are_between_variants_of_one_network_and_have_errors():
    table = nominal_against_attacked(AGREEMENTS, {}, EVALUATION, ATTACKS, {"fgsm": 0.01})
    entry = table["dy"]["BvsL"]["good"]
    assert list(entry) == ["nominal", "fgsm"]
    assert entry["nominal"]["minus_nominal"] is None
    assert entry["fgsm"]["minus_nominal"]["difference"] == pytest.approx(1.0)
    first, second = (AGREEMENTS["dy", "BvsL", "good", v].reduced for v in ("fgsm", "nominal"))
    error = corrected_error(first.values_R - second.values_R, first.noise_R - second.noise_R)
    assert entry["fgsm"]["minus_nominal"]["error"] == pytest.approx(error)
    assert table["dy"]["mean"]["bad"]["nominal"]["chi2ndf"][0] == pytest.approx(2.0)
    assert table["dy"]["mean"]["bad"]["fgsm"]["minus_nominal"]["difference"] == pytest.approx(1.0)


def test_aucs_are_those_of_the_cards_strength_or_not_there():
    nominal, attacked = (Subject("dy", "BvsL", "good", variant) for variant in ("nominal", "fgsm"))
    assert auc_of(EVALUATION, ATTACKS, {"fgsm": 0.01}, nominal) == [0.98, 0.001]
    assert auc_of(EVALUATION, ATTACKS, {"fgsm": 0.1}, attacked) == [0.7, 0.003]
    assert auc_of(EVALUATION, ATTACKS, {"fgsm": 0.02}, attacked) is None  # was not scanned
    assert auc_of(EVALUATION, None, {"fgsm": 0.01}, attacked) is None
    assert auc_of(None, ATTACKS, {"fgsm": 0.01}, nominal) is None
    assert auc_of(EVALUATION, ATTACKS, {"fgsm": 0.01}, Subject("dy", "BvsL", "bad", "fgsm")) is None


def test_without_variants_there_is_no_table():
    nominal = {subject: one for subject, one in AGREEMENTS.items() if subject.variant == "nominal"}
    assert nominal_against_attacked(nominal, {}, EVALUATION, ATTACKS, {}) == {}


def test_rows():
    few = {**AGREEMENTS, Subject("dy", "BvsL", "bad", "fgsm"): None}
    table = nominal_against_attacked(few, {}, EVALUATION, ATTACKS, {"fgsm": 0.01})
    rows = {tuple(row[:3]): row[3:] for row in rows_of_region(table["dy"])}
    assert all(len(row) == len(HEADER) for row in rows_of_region(table["dy"]))
    assert rows["BvsL", "good", "fgsm"][0] == "0.9500 ± 0.0020"
    assert rows["BvsL", "good", "fgsm"][2].startswith("+1.00 ± 0.1")
    assert rows["BvsL", "good", "fgsm"][2].endswith("sigma)")
    assert rows["BvsL", "bad", "fgsm"] == ["–", "–", "–", "–"]
    assert rows["CvsL", "bad", "nominal"][:2] == ["–", rows["CvsL", "bad", "nominal"][1]]
    assert rows["BvsL", "good", "nominal"][2] == "–"


def test_the_comparison_writes_it(tmp_path, monkeypatch):
    monkeypatch.setattr("pfnano_tag.compare.stage.draw", lambda shown: shown.path)
    monkeypatch.setattr("pfnano_tag.compare.stage.draw_page", lambda *arguments: arguments[-1])
    folder = tmp_path / "small"
    folder.mkdir()
    study = fill(Study(folder), variants=("fgsm",))
    for name, content in (("evaluation", EVALUATION), ("attacks", ATTACKS)):
        (folder / name).mkdir()
        (folder / name / "results.json").write_text(json.dumps({"differences": {}, **content}))
    results = run(study.card("histograms.variants=[fgsm]", "attacks={fgsm: {kind: fgsm, epsilon: 0.1}}"), workers=1)
    entry = results["nominal_against_attacked"]["dy"]["BvsL"]["good"]["fgsm"]
    assert entry["auc"] == [0.7, 0.003]
    assert entry["chi2ndf"][0] == pytest.approx(
        results["agreement"]["dy/BvsL/good/fgsm"]["chi2"] / results["agreement"]["dy/BvsL/good/fgsm"]["ndf"]
    )
    assert entry["ks"][1] > 0
    text = (folder / "comparison" / "table.md").read_text()
    assert "### Nominal against attacked inputs, region dy" in text
    assert "| BvsL         | good  | fgsm    | 0.7000 ± 0.0030 |" in text
