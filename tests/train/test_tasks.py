"""Training of a network with several tasks: parts of batches, resuming, and what is written down of each epoch."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import uproot
from sklearn.metrics import roc_auc_score
from synthetic import CLASSES, TASKS, features, labelled_jets, specification, with_targets

from pfnano_tag.card.attacks import Attack
from pfnano_tag.card.card import Card
from pfnano_tag.card.training import Training
from pfnano_tag.errors import CardError
from pfnano_tag.evaluate.metrics import kind_of, lower_is_better, metric_names
from pfnano_tag.evaluate.tasks import TaskScores, task_metric_names
from pfnano_tag.infer import stage as infer
from pfnano_tag.infer.bookkeeping import find_checkpoint, load_checkpoint
from pfnano_tag.models.batch import call_all, collate
from pfnano_tag.models.batch_tasks import entries_of
from pfnano_tag.models.registry import build
from pfnano_tag.nano.targets import ORIGINS
from pfnano_tag.prepare import pictures
from pfnano_tag.prepare import stage as prepare
from pfnano_tag.train import stage
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.objective import Objective, make_loss
from pfnano_tag.train.recipe import Recipe
from pfnano_tag.train.target_check import check_task_names
from pfnano_tag.train.validation import validate
from pfnano_tag.train.wrapper import Trainer

SMALL = {"embed": [8], "width": 8, "layers": 1, "heads": 2, "out": 8, "head": [8]}
UNWEIGHTED = {name: {key: value for key, value in task.items() if key != "weight"} for name, task in TASKS.items()}
WITHOUT_GAUSSIAN = {name: task for name, task in UNWEIGHTED.items() if name != "b_response"}
FGSM = Attack(kind="fgsm", epsilon=0.1)


def arguments(weights="fixed"):
    tasks = {"fixed": TASKS, "learned": UNWEIGHTED, "gls": WITHOUT_GAUSSIAN}[weights]
    return SMALL | {"tasks": tasks, "task_weights": weights}


def gradients(limit, weights="fixed", distortion=None, weighted=True, **settings):
    torch.manual_seed(1)
    module = build("multitask", arguments(weights), features(), len(CLASSES), CLASSES).double()
    jets = with_targets(labelled_jets(40, seed=3))
    batch = collate(jets.inputs, torch.arange(40), jets.label, jets.weight if weighted else None, jets.targets)
    groups = {name: replace(g, x_BNF=g.x_BNF.double()) for name, g in batch.groups.items()}
    weight = batch.weight_B.double() if weighted else None
    batch = replace(batch, jet_BF=batch.jet_BF.double(), groups=groups, weight_B=weight)
    chosen = Training(constituents_at_once=limit, **settings)
    objective = Objective(make_loss(chosen, CLASSES), chosen, distortion, specification(), 1)
    loss = objective.gradient(module.train(), batch, 1, 0)
    return float(loss), {name: p.grad for name, p in module.named_parameters()}


@pytest.mark.parametrize(
    ("distortion", "settings"),
    [(None, {}), (FGSM, {"attack": "fgsm"}), (FGSM, {"attack": "fgsm", "attack_loss": "kl"})],
)
@pytest.mark.parametrize("weights", ["fixed", "learned"])
@pytest.mark.parametrize("weighted", [True, False])
def test_parts_add_up_to_the_batch_for_every_task(distortion, settings, weights, weighted):
    whole, expected = gradients(None, weights, distortion, weighted, **settings)
    for limit in (1, 60):
        loss, found = gradients(limit, weights, distortion, weighted, **settings)
        assert loss == pytest.approx(whole, rel=1e-6)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-9)


def test_a_geometric_mean_is_finite_in_parts_without_labels():
    """It is no sum: parts give the mean of their own."""
    assert gradients(None, "gls")[0] > 0
    for limit in (1, 60):
        loss, found = gradients(limit, "gls")
        assert 0 < loss < math.inf
        assert all(gradient.isfinite().all() for gradient in found.values())


def test_the_attack_raises_the_loss_of_the_flavour_and_all_tasks_see_it():
    nominal, _ = gradients(None)
    attacked, found = gradients(None, distortion=FGSM, attack="fgsm")
    assert attacked > nominal
    assert all(gradient.abs().sum() > 0 for name, gradient in found.items() if name.startswith("heads."))


def recipe(folder, weights="fixed", **settings):
    return Recipe(
        name="net",
        folder=folder,
        architecture="multitask",
        arguments=arguments(weights),
        inputs=specification(),
        classes=CLASSES,
        settings=Training(**{"epochs": 4, "batch_size": 50, "learning_rate": 0.03, **settings}),
        attack=None,
        seed=1,
        provenance={"card": "0" * 64},
    )


@pytest.fixture(scope="module")
def jets():
    return with_targets(labelled_jets(180, seed=1), 1), with_targets(labelled_jets(90, seed=2), 2)


def train(chosen, jets, resume=False):
    trainer = Trainer(chosen, Stream.of_jets(*jets))
    if resume:
        trainer.restore()
    trainer.run(Interruption())
    return trainer


def test_two_and_two_epochs_are_four_and_the_checkpoint_knows_its_tasks(tmp_path, jets):
    train(recipe(tmp_path / "four", "learned"), jets)
    train(recipe(tmp_path / "two", "learned", epochs=2, schedule="constant"), jets)
    for name, epochs in (("a", 4), ("b", 2)):
        train(recipe(tmp_path / name, "learned", epochs=epochs, schedule="constant"), jets)
    train(recipe(tmp_path / "b", "learned", schedule="constant"), jets, resume=True)
    for path in (tmp_path / "a").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()
    tagger = load_checkpoint(find_checkpoint(tmp_path, "a:last"))
    assert tagger.module.tasks == build("multitask", arguments("learned"), features(), 6, CLASSES).tasks
    assert tagger.module.combine.log_variance.abs().min() > 0


@pytest.mark.parametrize("weights", ["fixed", "gls"])
def test_every_task_learns_and_is_written_down(tmp_path, jets, weights):
    trainer = train(recipe(tmp_path, weights, epochs=24, learning_rate=0.01, best="resolution_response"), jets)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    first, last = lines[0], lines[-1]
    tasks = trainer.module.tasks
    named = [*metric_names(trainer.recipe.evaluation, CLASSES), *task_metric_names(tasks)]
    assert set(named) == set(last) - {"epoch", "learning_rate"}
    for name in tasks:
        assert last[f"validation_{name}_loss"] < first[f"validation_{name}_loss"], name
    assert last["validation_origin_accuracy"] > first["validation_origin_accuracy"] + 0.05
    assert last["auc_vertexing"] > 0.7
    assert last["resolution_response"] < first["resolution_response"]
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["value"] == min(line["resolution_response"] for line in lines)
    if weights == "fixed":
        total = last["validation_flavour_loss"]
        total += sum(task.weight * last[f"validation_{name}_loss"] for name, task in tasks.items())
        assert last["validation_loss"] == pytest.approx(total, rel=1e-5)
    else:
        losses = [last[f"validation_{name}_loss"] for name in ("flavour", *tasks)]
        assert last["validation_loss"] == pytest.approx(np.prod(losses) ** (1 / len(losses)), rel=1e-5)


def test_figures_against_plain_formulas():
    torch.manual_seed(3)
    module = build("multitask", arguments(), features(), 6, CLASSES).eval()
    jets = with_targets(labelled_jets(60, seed=5))
    batch = collate(jets.inputs, torch.arange(60), jets.label, jets.weight, jets.targets)
    with torch.no_grad():  # some pairs on each side of zero
        module.heads["vertexing"].rest[-1].bias -= call_all(module, batch)["vertexing"].mean()
        outputs, entries = call_all(module, batch), entries_of(module, batch)
    loss = make_loss(Training(), CLASSES)
    found = validate(module, [jets], CLASSES, loss, 7, recipe(None).evaluation, True)
    for name, of_task in entries.items():
        weight = jets.weight[of_task.jet_E].double()
        losses = module.tasks[name].losses(outputs[name], of_task)
        assert found[f"validation_{name}_loss"] == pytest.approx(
            float((weight * losses).sum() / weight.sum()), rel=1e-5
        )
    right = outputs["origin"][entries["origin"].rows_E].argmax(1) == entries["origin"].target_E
    assert found["validation_origin_accuracy"] == pytest.approx(float(right.double().mean()))
    for index, name in enumerate(ORIGINS):
        own = right[entries["origin"].target_E == index]
        expected = None if not len(own) else pytest.approx(float(own.double().mean()))
        assert found[f"validation_origin_{name}_accuracy"] == expected
    score = outputs["vertexing"][entries["vertexing"].rows_E].double().sigmoid().numpy()
    same = entries["vertexing"].target_E.numpy()
    assert found["auc_vertexing"] == pytest.approx(roc_auc_score(same, score), abs=0.01)  # ties of bins
    assert found["pair_efficiency_vertexing"] == pytest.approx((score[same] > 0.5).mean())
    assert found["pair_purity_vertexing"] == pytest.approx(same[score > 0.5].mean())
    known = jets.targets["jet/pt_ratio"].isfinite()
    error = outputs["response"][known, 0].double() - jets.targets["jet/pt_ratio"][known].double()
    low, high = np.quantile(error.numpy(), [0.1585, 0.8415])
    assert found["resolution_response"] == pytest.approx((high - low) / 2)
    again = validate(module, [jets], CLASSES, loss, 60, recipe(None).evaluation, False)
    assert again["resolution_response"] == pytest.approx(found["resolution_response"], rel=1e-5)
    assert again["validation_origin_loss"] != pytest.approx(found["validation_origin_loss"], rel=1e-4)


def test_metrics_without_labels_are_not_known():
    module = build("multitask", arguments(), features(), 6, CLASSES).eval()
    metrics = TaskScores(module.tasks).metrics()
    assert set(metrics.values()) == {None}
    assert {"validation_flavour_loss", *metrics} == set(task_metric_names(module.tasks))
    assert task_metric_names({}) == ()


EDGES = {"kind": "edges", "target": "charged/vertex"}
ORIGIN = {"kind": "constituents", "target": "charged/origin"}
PT_RATIO = {"kind": "regression", "target": "jet/pt_ratio"}


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ({"BvsL": EDGES}, "found BvsL, of which two metrics would be called auc_BvsL"),
        ({"a": ORIGIN, "a_from_b": ORIGIN}, "two metrics would be called validation_a_from_b_accuracy"),
        ({"CvsL": PT_RATIO}, "two columns of infer would be called CvsL"),
        ({"r": PT_RATIO | {"kind": "gaussian"}, "r_sigma": PT_RATIO}, "two columns of infer would be called r_sigma"),
    ],
)
def test_tasks_whose_metrics_or_columns_would_have_one_name_are_refused(tasks, words):
    network = build("multitask", SMALL | {"tasks": tasks}, features(), 6, CLASSES)
    with pytest.raises(CardError, match=rf"models\.gn2\.arguments\.tasks: .*{words}; give the task another name"):
        check_task_names("gn2", network, CLASSES)


@pytest.mark.parametrize(
    ("metric", "kind", "lower"),
    [
        ("validation_origin_loss", "loss", True),
        ("validation_origin_from_b_accuracy", "accuracy", False),
        ("auc_vertexing", "auc", False),
        ("pair_purity_vertexing", "pair", False),
        ("resolution_response", "resolution", True),
        ("auc_vertex_loss", "auc", False),
        ("resolution_best_accuracy", "resolution", True),
    ],
)
def test_kinds_of_metrics(metric, kind, lower):
    assert kind_of(metric) == kind
    assert lower_is_better(metric) is lower


def card_on(folder, file):
    return Card.model_validate(
        {
            "study": {"name": "tasks", "folder": folder},
            "datasets": [{"name": "mc", "files": [str(file)], "kind": "mc", "roles": ["train"]}],
            "models": {"gn2": {"architecture": "multitask", "arguments": SMALL | {"tasks": TASKS}}},
            "training": {"epochs": 3, "batch_size": 64, "learning_rate": 0.01, "best": "auc_vertexing"},
        }
    )


def test_from_files_to_regressions_in_a_friend_tree(tmp_path, generated_layouts, monkeypatch):
    monkeypatch.setattr(pictures, "draw", lambda *arguments: [])  # plots of preparations, which take the most time
    file = generated_layouts("btvnano")
    card = card_on(tmp_path / "study", file)
    prepare.run(card)
    stage.run(card)
    lines = [json.loads(line) for line in (tmp_path / "study/models/gn2/metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(line[f"validation_{name}_loss"]) for line in lines for name in ("flavour", *TASKS))
    assert max(line["validation_origin_accuracy"] for line in lines) > 0.3
    assert lines[-1]["auc_vertexing"] > 0.5
    best = json.loads((tmp_path / "study/models/gn2/best.json").read_text())
    assert best["value"] == max(line["auc_vertexing"] for line in lines)
    infer.run(card, str(file), ["gn2"], tmp_path / "friends.root")
    with uproot.open(tmp_path / "friends.root") as friends:
        ratio = friends["Friends"]["Jet_gn2_response"].array(library="np")
    assert np.isfinite(np.concatenate(ratio)).all()
