"""Names of metrics, and the best epoch: ties, unknown values, both directions."""

import math

import pytest

from pfnano_tag.card.evaluation import Evaluation
from pfnano_tag.errors import CardError, StudyError
from pfnano_tag.evaluate.epochs import axis_label, draw_courses
from pfnano_tag.evaluate.loss import Course, read_course
from pfnano_tag.evaluate.metrics import best_of, check_metric, grouped, kind_of, metric_names


def epochs(metric, *values):
    return [{"epoch": i, metric: value} for i, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("validation_loss", (3.0, 1.0, 2.0), 2),
        ("auc_BvsL", (0.5, 0.9, 0.7), 2),
        ("efficiency_BvsL_0.01", (0.0, 0.2, 0.4), 3),
        ("validation_accuracy", (0.9, 0.2, 0.4), 1),
        ("training_loss", (2.0, 1.0, 1.0), 2),
        ("auc_BvsL", (0.7, 0.9, 0.9), 2),
        ("auc_BvsL", (None, 0.1, 0.3), 3),
        ("auc_BvsL", (math.nan, 0.0, None), 2),
        ("validation_loss", (math.nan, math.inf, 5.0), 3),
        ("validation_loss", (None, None), 1),
    ],
)
def test_best_epoch(metric, values, best):
    assert best_of(epochs(metric, *values), metric)["epoch"] == best


def test_an_epoch_without_the_metric_is_never_better():
    assert best_of([{"epoch": 1}, {"epoch": 2, "auc_BvsL": 0.1}], "auc_BvsL")["epoch"] == 2


def test_the_classes_decide_which_discriminants_there_are():
    evaluation = Evaluation(discriminants=("BvsL", "CvsB", "QvsG"), mistags=(0.1, 0.001))
    losses = ("validation_loss", "training_loss", "validation_accuracy")
    assert metric_names(evaluation, ("b", "g")) == (
        *losses,
        "auc_BvsL",
        "efficiency_BvsL_0.1",
        "efficiency_BvsL_0.001",
    )
    assert "auc_QvsG" in metric_names(evaluation, ("uds", "g"))
    assert metric_names(evaluation, ("b",)) == losses


def test_unknown_metric_is_refused_with_the_known_ones():
    known = metric_names(Evaluation(), ("b", "c", "uds"))
    check_metric("training.best", "auc_CvsL", known)
    with pytest.raises(
        CardError, match=r"training.best: found 'auc_bvsl', .*nearest: auc_BvsL.*auc_\{BvsL,CvsB,CvsL\}"
    ):
        check_metric("training.best", "auc_bvsl", known)
    for never in ("epoch", "learning_rate", "efficiency_BvsL_0.5"):
        with pytest.raises(CardError):
            check_metric("training.best", never, known)


def test_names_are_grouped_and_none_is_lost():
    assert grouped(["validation_loss", "auc_BvsL", "auc_CvsL", "efficiency_BvsL_0.1", "efficiency_BvsL_1e-05"]) == [
        "validation_loss",
        "auc_{BvsL,CvsL}",
        "efficiency_BvsL_{0.1,1e-05}",
    ]
    assert grouped(["attacks.pgd2.0.1.BvsL", "attacks.fgsm.0.1.BvsL"]) == [
        "attacks.pgd2.0.1.BvsL",
        "attacks.fgsm.0.1.BvsL",
    ]


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("epoch", None),
        ("training_loss", "loss"),
        ("validation_accuracy", "accuracy"),
        ("auc_BvsL", "auc"),
        ("efficiency_BvsL_0.01", "efficiency"),
        ("learning_rate", "learning_rate"),
        ("wall_seconds", None),
    ],
)
def test_kinds(metric, kind):
    assert kind_of(metric) == kind


def test_axis_says_what_passes_and_what_is_rejected():
    assert axis_label("efficiency_CvsB_0.001") == "CvsB: c efficiency at 0.1 % b"
    assert axis_label("auc_QvsG") == "AUC QvsG"


def test_course_of_a_training(tmp_path):
    assert read_course(tmp_path) == Course({}, None, None)
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "auc_BvsL": 0.5}\n')
    (tmp_path / "best.json").write_text('{"epoch": 1, "metric": "auc_BvsL", "value": 0.5}')
    assert read_course(tmp_path) == Course({"epoch": [1], "auc_BvsL": [0.5]}, 1, "auc_BvsL")
    for broken in ("{", "[1]"):
        (tmp_path / "best.json").write_text(broken)
        with pytest.raises(StudyError, match=r"best\.json"):
            read_course(tmp_path)


def test_pages_of_trainings_of_different_lengths_and_metrics(tmp_path):
    courses = {
        "long": Course(
            {"epoch": [1, 2, 3], "training_loss": [2, 1, 0.5], "auc_BvsL": [None, None, 0.9]}, 3, "auc_BvsL"
        ),
        "short": Course({"epoch": [1], "training_loss": [2.0]}, 1, "training_loss"),
        "unknown": Course({"epoch": [1], "learning_rate": [None]}, None, None),
        "from_elsewhere": Course({}, None, None),
    }
    draw_courses(tmp_path, "a sample", courses)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["training_auc.png", "training_learning_rate.png", "training_loss.png"]
