"""What a training says while it goes on: best epoch by any metric, times, event files."""

import json
import sys
from dataclasses import replace

import pytest
from synthetic import CLASSES, labelled_jets, specification

from pfnano_tag.card.evaluation import Evaluation
from pfnano_tag.card.training import Training
from pfnano_tag.errors import CheckpointError, Incomplete, MissingExtra
from pfnano_tag.infer.bookkeeping import find_checkpoint, load_checkpoint
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.recipe import Recipe
from pfnano_tag.train.record import clear
from pfnano_tag.train.tensorboard import summary_writer
from pfnano_tag.train.wrapper import Trainer


def recipe(folder, **settings):
    return Recipe(
        name="net",
        folder=folder,
        architecture="deepsets",
        arguments={"phi": [8], "rho": [8]},
        inputs=specification(),
        classes=CLASSES,
        settings=Training(**{"epochs": 4, "batch_size": 50, "schedule": "constant", **settings}),
        attack=None,
        seed=1,
        provenance={"card": "0" * 64},
    )


@pytest.fixture(scope="module")
def jets():
    return labelled_jets(180, seed=1), labelled_jets(90, seed=2)


def train(chosen, jets, resume=False, interruption=None):
    trainer = Trainer(chosen, Stream.of_jets(*jets))
    if resume:
        trainer.restore()
    trainer.run(interruption or Interruption())
    return trainer


def read(folder, name):
    return json.loads((folder / name).read_text())


class StopInEpochThree(Interruption):
    def __init__(self):
        self.left = 9

    @property
    def asked(self):
        self.left -= 1
        return self.left < 0


def test_best_epoch_by_a_metric_is_what_best_means(tmp_path, jets):
    trainer = train(recipe(tmp_path / "net", best="efficiency_BvsL_0.1", learning_rate=0.05, epochs=6), jets)
    values = [metrics["efficiency_BvsL_0.1"] for metrics in trainer.history]
    assert len(set(values)) > 1
    best = read(tmp_path / "net", "best.json")
    expected = values.index(max(values)) + 1
    assert best == {"epoch": expected, "metric": "efficiency_BvsL_0.1", "value": max(values)}
    assert load_checkpoint(find_checkpoint(tmp_path, "net:best")).epoch == expected


def test_the_metric_may_change_when_a_training_is_resumed(tmp_path, jets):
    chosen = recipe(tmp_path, learning_rate=0.1)
    history = train(chosen, jets).history
    train(replace(chosen, settings=chosen.settings.model_copy(update={"best": "auc_CvsL"})), jets, resume=True)
    aucs = [metrics["auc_CvsL"] for metrics in history]
    assert read(tmp_path, "best.json") == {
        "epoch": aucs.index(max(aucs)) + 1,
        "metric": "auc_CvsL",
        "value": max(aucs),
    }


def test_a_metric_that_earlier_epochs_do_not_have_can_not_choose_among_them(tmp_path, jets):
    chosen = recipe(tmp_path, epochs=2)
    train(chosen, jets)
    before = (tmp_path / "best.json").read_bytes()
    other = replace(chosen, evaluation=Evaluation(mistags=(0.05,)))
    train(other, jets, resume=True)
    other = replace(other, settings=chosen.settings.model_copy(update={"best": "efficiency_BvsL_0.05", "epochs": 3}))
    with pytest.raises(CheckpointError, match=r"by efficiency_BvsL_0.05: epoch 1 has .*BvsL.*\{0.1,0.01,0.001\}"):
        train(other, jets, resume=True)
    assert (tmp_path / "best.json").read_bytes() == before


def test_patience_follows_the_metric(tmp_path, jets):
    settings = {"epochs": 40, "learning_rate": 0.2, "patience": 3}
    trainer = train(recipe(tmp_path, best="auc_BvsL", **settings), jets)
    aucs = [metrics["auc_BvsL"] for metrics in trainer.history]
    assert trainer.epochs_done == aucs.index(max(aucs)) + 1 + 3 < 40


def test_learning_rate_is_that_of_the_last_step(tmp_path, jets):
    history = train(recipe(tmp_path, schedule="one_cycle", learning_rate=0.01), jets).history
    rates = [metrics["learning_rate"] for metrics in history]
    assert rates[-1] == pytest.approx(0.01 / 25e4)
    assert rates[0] > rates[1] > rates[2]


def test_times_stand_apart_from_metrics(tmp_path, jets):
    trainer = train(recipe(tmp_path, epochs=2), jets)
    timings = read(tmp_path, "timing.json")
    assert [timing["epoch"] for timing in timings] == [1, 2]
    assert all(timing["wall_seconds"] > 0 and timing["jets_per_second"] > 0 for timing in timings)
    assert not {"wall_seconds", "cpu_seconds", "jets_per_second"} & trainer.history[0].keys()
    (tmp_path / "timing.json").write_text("damaged")
    train(recipe(tmp_path, epochs=3), jets, resume=True)
    assert [timing["epoch"] for timing in read(tmp_path, "timing.json")] == [3]


def test_a_checkpoint_from_before_a_key_was_there_is_resumed(tmp_path, jets):
    train(recipe(tmp_path, epochs=1), jets)
    path = tmp_path / "epoch_0001.json"
    content = json.loads(path.read_text())
    del content["training"]["settings"]["validation_weights"]
    path.write_text(json.dumps(content))
    assert train(recipe(tmp_path, epochs=2), jets, resume=True).epochs_done == 2


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path, jets):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r"pip install 'pfnano_tag\[log\]'"):
        summary_writer()
    with pytest.raises(MissingExtra, match=r"training\.tensorboard"):
        train(recipe(tmp_path / "net", tensorboard=True), jets)
    assert not (tmp_path / "net").exists()


def scalars(folder):
    """Content of event files: tag -> list of (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def expected_of(history, metric):
    return [(metrics["epoch"], pytest.approx(metrics[metric], rel=1e-6)) for metrics in history]


def test_event_files_hold_the_metrics_each_epoch_once(tmp_path, jets):
    pytest.importorskip("tensorboard")
    chosen = recipe(tmp_path / "parts", tensorboard=True)
    plain = recipe(tmp_path / "whole")
    whole = train(plain, jets)
    with pytest.raises(Incomplete):
        train(chosen, jets, interruption=StopInEpochThree())
    state = {p.name: p.read_bytes() for p in chosen.folder.iterdir() if p.name in ("resume.pt", "metrics.jsonl")}
    three = replace(chosen, settings=chosen.settings.model_copy(update={"epochs": 3}))
    train(three, jets, resume=True)
    for name, content in state.items():  # as if killed in epoch 3, behind the event: it is trained once more
        (chosen.folder / name).write_bytes(content)
    trainer = train(chosen, jets, resume=True)
    assert trainer.history == whole.history
    found = scalars(chosen.folder)
    for metric, tag in (
        ("validation_loss", "loss/validation_loss"),
        ("auc_BvsL", "auc/auc_BvsL"),
        ("efficiency_CvsL_0.01", "efficiency/efficiency_CvsL_0.01"),
        ("learning_rate", "learning_rate/learning_rate"),
    ):
        assert found[tag] == expected_of(whole.history, metric)
    assert [step for step, _ in found["timing/jets_per_second"]] == [1, 2, 3, 4]
    clear(chosen.folder)
    assert not list(chosen.folder.iterdir())


def test_event_files_that_are_asked_for_late_hold_the_earlier_epochs(tmp_path, jets):
    pytest.importorskip("tensorboard")
    train(recipe(tmp_path, epochs=2), jets)
    trainer = train(recipe(tmp_path, epochs=3, tensorboard=True), jets, resume=True)
    assert scalars(tmp_path)["loss/training_loss"] == expected_of(trainer.history, "training_loss")
