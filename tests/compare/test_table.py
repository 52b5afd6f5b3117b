"""The final table and its sentences: numbers of earlier commands, and nothing that is not there."""

import json

import numpy as np
import pytest

from pfnano_tag.compare.agreement import Agreement, Reduced
from pfnano_tag.compare.table import final_table, markdown
from pfnano_tag.compare.verdicts import Subject, agreement_sentences, differences, overall, simulation_sentence
from pfnano_tag.errors import StudyError

RESULTS = {
    "study": "small",
    "normalisation": "data",
    "luminosity": 2.0,
    "short": [],
    "completeness": {"words": "3 of 3 files"},
    "models": {"good": {"hash": "g1"}, "bad": {"hash": "b1"}},
    "agreement": {"a": {"chi2": 1.0}},
}
EVALUATION = {
    "models": {
        "good": {"hash": "g1", "auc": {"BvsL": [0.98, 0.001], "CvsL": [0.85, 0.002]}},
        "bad": {"hash": "b1", "auc": {"BvsL": [0.97, 0.001], "CvsL": [0.851, 0.002]}},
    },
    "differences": {"bad - good": {"BvsL": [-0.01, 0.0005], "CvsL": [0.001, 0.002]}},
}
ATTACKS = {
    "attacks": {
        "fgsm": {"kind": "fgsm", "strengths": [0.0, 0.01, 0.1]},
        "noise": {"kind": "noise", "strengths": [0.0, 0.1]},
    },
    "models": {
        "good": {
            "hash": "g1",
            "attacks": {"fgsm": {"white_box": {"auc": {"BvsL": [[0.98, 0.1], [0.95, 0.002], [0.7, 0.003]]}}}},
        },
        "bad": {"hash": "b1", "attacks": {}},
    },
}


def reduced(value, spread=0.1, seed=1):
    random = np.random.default_rng(seed)
    return Reduced(value, value + random.normal(0, spread, 200), np.zeros(200))


def found(**values):
    """Agreements of BvsL in region dy, by model."""
    return {
        Subject("dy", "BvsL", model, "nominal"): None
        if value is None
        else Agreement(value * 10, 10, 0.5, np.arange(10), reduced(value, seed=i))
        for i, (model, value) in enumerate(values.items())
    }


def written(study, **changed):
    for folder, content in (("evaluation", EVALUATION), ("attacks", ATTACKS)):
        (study.folder / folder).mkdir(exist_ok=True)
        (study.folder / folder / "results.json").write_text(json.dumps(content))
    return final_table(study.card(), found(bad=3.0, good=1.2), {**RESULTS, **changed})


def cells_of(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return header, {row[0]: row[1:] for row in rows}


def test_table_has_a_column_per_model_and_the_numbers_of_earlier_commands(study):
    text = written(study)
    header, cells = cells_of(text)
    assert header == ["", "good", "bad"]  # the card's order
    assert cells["AUC BvsL"] == ["0.9800 ± 0.0010", "0.9700 ± 0.0010"]
    assert cells["AUC BvsL, fgsm 0.01"] == ["0.9500 ± 0.0020", "–"]  # bad was not attacked
    assert cells["AUC BvsL, fgsm 0.1"][0] == "0.7000 ± 0.0030"
    assert cells["chi2/ndf BvsL"][0].startswith("1.20 ± 0.")
    assert not [title for title in cells if "noise" in title]
    assert "is not there" not in text
    assert "left out" not in text


def test_several_regions_share_one_table_of_simulation(study):
    written(study)
    two = found(bad=3.0, good=1.2)
    two |= {Subject("ttbar", *subject[1:]): one for subject, one in two.items()}
    text = final_table(study.card(), two, RESULTS)
    assert text.count("| AUC BvsL  ") == 1
    assert text.index("## All regions") < text.index("| AUC BvsL") < text.index("## Region dy")
    assert text.count("| chi2/ndf BvsL ") == 2


def test_results_of_another_training_are_left_out_and_named(study):
    text = written(study, models={"good": {"hash": "g2"}, "bad": {"hash": "b1"}})
    _, cells = cells_of(text)
    assert cells["AUC BvsL"] == ["–", "0.9700 ± 0.0010"]
    assert "AUC BvsL, fgsm 0.1" not in cells
    assert "evaluation/results.json is of another training of good" in text
    assert "attacks/results.json is of another training of good" in text


def test_what_is_missing_is_said(study):
    text = final_table(study.card(), found(good=1.2, bad=None), {**RESULTS, "short": ["dy: 1 of 3 files missing"]})
    assert "AUC" not in text.split("- chi2/ndf")[0]
    assert text.splitlines()[2:5] == [
        "**Incomplete**, merged: 3 of 3 files",
        "",
        "- INCOMPLETE: dy: 1 of 3 files missing",
    ]
    assert final_table(study.card(), found(good=1.2), RESULTS).splitlines()[2] == "Merged: 3 of 3 files"
    assert "evaluation/results.json is not there" in text
    assert "attacks/results.json is not there" in text


def test_a_damaged_result_is_named(study):
    (study.folder / "evaluation").mkdir()
    (study.folder / "evaluation" / "results.json").write_text("{")
    with pytest.raises(StudyError, match=r"evaluation/results\.json"):
        final_table(study.card(), found(good=1.0), RESULTS)


def test_simulation_sentence_calls_only_significant_differences():
    text = simulation_sentence(EVALUATION, ["good", "bad"])
    assert "BvsL: good is highest, better than bad (by 0.0100 +- 0.0005)" in text
    assert "CvsL: bad is highest, not significantly different from good (by 0.0010 +- 0.0020)" in text


def test_agreement_sentence_calls_only_significant_differences():
    (text,) = agreement_sentences(found(good=1.2, bad=3.0, similar=1.3))
    assert text.startswith("Region dy: good has the lowest mean")
    assert "agrees better with data than bad (difference 1.80" in text
    assert "no significant difference from similar" in text
    (alone,) = agreement_sentences(found(good=1.2))
    assert "no other model" in alone


def test_differences_of_all_pairs_and_of_the_mean():
    agreements = found(good=1.0, bad=2.0)
    agreements |= {Subject("dy", "CvsL", *s[2:]): one for s, one in agreements.items()}
    both = differences(agreements)
    assert both.keys() == {"dy/BvsL/nominal", "dy/CvsL/nominal", "dy/mean/nominal"}
    assert both["dy/mean/nominal"]["good - bad"]["difference"] == pytest.approx(-1.0)
    assert both["dy/mean/nominal"]["good - bad"]["better"] == "good"


def test_a_discriminant_that_one_model_lacks_does_not_enter_the_mean():
    agreements = found(good=1.0, bad=2.0) | {
        Subject("dy", "CvsL", "good", "nominal"): Agreement(50.0, 10, 0.5, np.arange(10), reduced(5.0)),
        Subject("dy", "CvsL", "bad", "nominal"): None,
    }
    assert overall(agreements)["dy", "nominal"]["good"].value == 1.0


def test_markdown_is_aligned():
    lines = markdown(["a", "long title"], [["model", "1"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
