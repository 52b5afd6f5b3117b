"""The training loop: determinism, resuming, stopping, and what adversarial training is for."""

import errno
import json
import os
import signal
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from synthetic import CLASSES, labelled_jets, specification

from pfnano_tag.attack.registry import make
from pfnano_tag.card.attacks import Attack
from pfnano_tag.card.training import Training
from pfnano_tag.errors import CheckpointError, DataError, Incomplete, OutputError
from pfnano_tag.infer.bookkeeping import epochs_of, find_checkpoint, load_checkpoint
from pfnano_tag.infer.prediction import predict
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.interruption import STOPPING, Interruption
from pfnano_tag.train.recipe import Recipe
from pfnano_tag.train.record import clear, is_resumable, is_trained
from pfnano_tag.train.wrapper import Trainer
from tests.train.stopping import StopAfter

ARGUMENTS = {
    "mlp": {"hidden": [8]},
    "deepjet": {"charged": [8], "charged_lstm": 8, "dense": [8]},
    "deepsets": {"phi": [8], "rho": [8], "dropout": 0.2},
    "particle_transformer": {"embed": [8], "pair": [8], "heads": 2, "blocks": 1, "class_blocks": 1, "dropout": 0.1},
}


def recipe(folder, architecture="deepsets", attack=None, seed=1, **settings):
    return Recipe(
        name="net",
        folder=folder,
        architecture=architecture,
        arguments=ARGUMENTS[architecture],
        inputs=specification(),
        classes=CLASSES,
        settings=Training(**{"epochs": 4, "batch_size": 50, **settings}),
        attack=attack,
        seed=seed,
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


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".pt"}


def weights(folder):
    return {name: content for name, content in files(folder).items() if name.endswith((".safetensors", ".jsonl"))}


PGD = Attack(kind="pgd", epsilon=0.1, steps=2)
PARTLY = {"attack_every": 2, "attack_fraction": 0.4}
ALL_OPTIONS = {
    "optimizer": "radam",
    "betas": (0.95, 0.999),
    "lookahead": {"steps": 3},  # four batches in an epoch: the slow weights don't move at its end
    "ema_decay": 0.7,
    "schedule": "flat_then_decay",
    "label_smoothing": 0.1,
} | PARTLY


@pytest.mark.parametrize(
    ("architecture", "attack", "settings"),
    [
        *((name, None, {}) for name in sorted(ARGUMENTS)),
        ("deepsets", PGD, {}),
        ("deepsets", None, {"lookahead": {"steps": 3}}),
        ("deepsets", None, {"resampling": {"mode": "with_replacement"}}),
        ("deepsets", None, {"optimizer": "muon", "lookahead": {"steps": 3}}),
        ("particle_transformer", None, {"resampling": {"target": "balanced", "jets": 170}}),
        ("deepjet", None, {"ema_decay": 0.9}),  # has running statistics
        ("deepsets", PGD, {"attack_after": 2, "loss": "focal", "focal_alpha": {"b": 2.0}} | PARTLY),
        ("deepsets", Attack(kind="noise"), {"attack_after": 1, "attack_loss": "kl"} | PARTLY),
        ("particle_transformer", PGD, {"attack_loss": "kl", "attack_kl_weight": 2.0} | ALL_OPTIONS),
    ],
)
def test_two_and_two_epochs_are_four_bit_for_bit(tmp_path, jets, architecture, attack, settings):
    """The second training is stopped in the middle of its third epoch, and goes on."""
    whole, parts = (recipe(tmp_path / name, architecture, attack, **settings) for name in ("whole", "parts"))
    train(whole, jets)
    with pytest.raises(Incomplete, match="epoch 3, behind batch 2 of 4: stopped; go on with --resume"):
        train(parts, jets, interruption=StopAfter(2 * 4 + 1))
    assert epochs_of(parts.folder) == [1, 2]
    torch.rand(100)  # whatever ran in between does not matter
    train(parts, jets, resume=True)
    assert weights(whole.folder) == weights(parts.folder)
    state = [torch.load(r.folder / "resume.pt", weights_only=True) for r in (whole, parts)]
    assert torch.equal(state[0]["random"]["cpu"], state[1]["random"]["cpu"])


def test_more_epochs_than_first_asked_for(tmp_path, jets):
    settings = {"schedule": "constant"}
    train(recipe(tmp_path / "whole", **settings), jets)
    train(recipe(tmp_path / "parts", epochs=2, **settings), jets)
    train(recipe(tmp_path / "parts", **settings), jets, resume=True)
    assert weights(tmp_path / "whole") == weights(tmp_path / "parts")


def test_a_kill_between_two_files_costs_at_most_an_epoch(tmp_path, jets):
    whole, killed = recipe(tmp_path / "whole"), recipe(tmp_path / "killed", epochs=2, schedule="constant")
    whole = replace(whole, settings=whole.settings.model_copy(update={"schedule": "constant"}))
    train(whole, jets)
    train(killed, jets)
    state = (killed.folder / "resume.pt").read_bytes()
    three = replace(killed, settings=killed.settings.model_copy(update={"epochs": 3}))
    train(three, jets, resume=True)
    (killed.folder / "resume.pt").write_bytes(state)  # epoch 3 has its checkpoint, but not yet its state
    train(replace(killed, settings=whole.settings), jets, resume=True)
    assert weights(whole.folder) == weights(killed.folder)
    lines = (killed.folder / "metrics.jsonl").read_text().splitlines()
    (killed.folder / "metrics.jsonl").write_text("\n".join(lines[:-1]))  # epoch 4 has its state, but no metrics
    train(replace(killed, settings=whole.settings), jets, resume=True)
    assert weights(whole.folder) == weights(killed.folder)


def test_same_seed_same_weights_and_another_seed_others(tmp_path, jets):
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        train(recipe(tmp_path / name, seed=seed, epochs=2), jets)
    assert weights(tmp_path / "one") == weights(tmp_path / "two")
    assert weights(tmp_path / "one") != weights(tmp_path / "three")


def test_a_training_learns_and_writes_down_what_it_knows(tmp_path, jets):
    chosen = recipe(tmp_path, epochs=6, learning_rate=0.02)
    train(chosen, jets)
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [m["epoch"] for m in metrics] == [1, 2, 3, 4, 5, 6]
    assert metrics[-1]["validation_loss"] < metrics[0]["validation_loss"]
    assert metrics[-1]["auc_BvsL"] > 0.75
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["value"] == min(m["validation_loss"] for m in metrics)
    tagger = load_checkpoint(find_checkpoint(tmp_path.parent, f"{tmp_path.name}:best"))
    assert tagger.epoch == best["epoch"]
    assert tagger.training["metrics"] == metrics[best["epoch"] - 1]
    assert tagger.training["card"] == "0" * 64
    assert tagger.training["settings"]["learning_rate"] == 0.02


def test_validation_loss_has_the_weights_and_the_whole_split(tmp_path, jets):
    trainer = train(recipe(tmp_path, epochs=1), jets)
    p = torch.from_numpy(predict(load_checkpoint(tmp_path / "epoch_0001.json"), jets[1].inputs)).double()
    log_p = p.gather(1, jets[1].label[:, None]).log().squeeze(1)
    weight = jets[1].weight.double()
    expected = float(-(weight * log_p).sum() / weight.sum())
    assert trainer.history[0]["validation_loss"] == pytest.approx(expected, rel=1e-5)
    accuracy = float((p.argmax(1) == jets[1].label).double().mean())
    assert trainer.history[0]["validation_accuracy"] == pytest.approx(accuracy)


def test_patience(tmp_path, jets):
    trainer = train(recipe(tmp_path, epochs=30, learning_rate=0.2, patience=2), jets)
    best = json.loads((tmp_path / "best.json").read_text())["epoch"]
    assert trainer.epochs_done == best + 2 < 30


def test_loss_that_is_not_finite_stops_with_epoch_and_batch(tmp_path, jets):
    broken = replace(jets[0], weight=jets[0].weight.clone())
    broken.weight[77] = float("nan")
    loader = Stream.of_jets(broken, jets[1]).loader(50, 1000, False, 1)
    batch = next(i for i, b in enumerate(loader.epoch(1), 1) if b.weight_B.isnan().any())
    with pytest.raises(DataError, match=rf"loss nan in epoch 1, batch {batch} of 4"):
        train(recipe(tmp_path / "weight"), (broken, jets[1]))
    assert [path.name for path in (tmp_path / "weight").iterdir()] == ["failed_batch.safetensors"]
    with pytest.raises(DataError, match="lower training.learning_rate"):
        train(recipe(tmp_path / "rate", learning_rate=1e30, gradient_clip=None, schedule="constant"), jets)
    spoiled = labelled_jets(60)
    spoiled.inputs.jet_JF[5, 0] = float("inf")
    with pytest.raises(DataError, match="inputs are not all finite"):
        train(recipe(tmp_path / "input"), (spoiled, jets[1]))


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_ends_the_training_behind_a_batch_from_where_it_goes_on(tmp_path, jets, number):
    whole, parts = recipe(tmp_path / "whole", epochs=1), recipe(tmp_path / "parts", epochs=1)
    train(whole, jets)
    before = signal.getsignal(number)
    with Interruption() as interruption:
        os.kill(os.getpid(), number)
        with pytest.raises(Incomplete, match="epoch 1, behind batch 1 of 4: stopped; go on with --resume"):
            train(parts, jets, interruption=interruption)
    assert signal.getsignal(number) is before
    assert is_trained(parts.folder)  # has no epoch yet, but is not to be thrown away without a word
    assert not epochs_of(parts.folder)
    train(parts, jets, resume=True)
    assert weights(whole.folder) == weights(parts.folder)


def test_stops_again_and_again(tmp_path, jets):
    """After every batch of two epochs, the last ones of an epoch included."""
    whole, parts = (
        recipe(tmp_path / "whole", epochs=2, ema_decay=0.5),
        recipe(tmp_path / "parts", epochs=2, ema_decay=0.5),
    )
    train(whole, jets)
    begun = False
    for _ in range(8):
        with pytest.raises(Incomplete):
            train(parts, jets, resume=begun, interruption=StopAfter(0))
        begun = True
    train(parts, jets, resume=True)
    assert weights(whole.folder) == weights(parts.folder)


def test_a_disk_that_is_full_when_a_training_stops_leaves_the_place_before(tmp_path, jets, monkeypatch):
    whole, parts = recipe(tmp_path / "whole", epochs=2), recipe(tmp_path / "parts", epochs=2)
    train(whole, jets)
    with pytest.raises(Incomplete):
        train(parts, jets, interruption=StopAfter(1))

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        train(parts, jets, resume=True, interruption=StopAfter(0))
    monkeypatch.undo()
    train(parts, jets, resume=True)
    assert weights(whole.folder) == weights(parts.folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 0.1}, "settings"),
        ({"seed": 9}, "seed"),
        ({"attack": Attack(kind="fgsm")}, "attack"),
        ({"architecture": "particle_transformer"}, "architecture, arguments"),
    ],
)
def test_another_recipe_is_not_resumed(tmp_path, jets, change, words):
    train(recipe(tmp_path, epochs=1), jets)
    with pytest.raises(CheckpointError, match=f"the card's {words} differ"):
        Trainer(recipe(tmp_path, **change), Stream.of_jets(*jets)).restore()


def test_damaged_state_is_refused(tmp_path, jets):
    chosen = recipe(tmp_path, epochs=1)
    trainer = train(chosen, jets)
    path = tmp_path / "resume.pt"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"damaged, so .* can't be resumed \(RuntimeError: .*use --overwrite"):
        trainer.restore()
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"damaged, .*\(EOFError: .*use --overwrite"):
        trainer.restore()
    path.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        trainer.restore()


@pytest.mark.parametrize("change", [{"weights": {}}, {"optimizer": {}}, {"position": None}])
def test_a_state_that_lacks_something_is_refused_in_one_line(tmp_path, jets, change):
    trainer = train(recipe(tmp_path, epochs=1), jets)
    path = tmp_path / "resume.pt"
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(CheckpointError, match=r"resume\.pt: .*use --overwrite$") as refusal:
        trainer.restore()
    assert "\n" not in str(refusal.value)


def test_a_stop_while_validating_keeps_the_epoch_that_was_trained(tmp_path, jets, monkeypatch):
    """Jets that are read anew for each validation can be stopped there."""
    whole, parts = recipe(tmp_path / "whole", ema_decay=0.9), recipe(tmp_path / "parts", ema_decay=0.9)
    train(whole, jets)
    read = Stream.validation

    def stopped(stream, size):
        yield from read(stream, size)
        raise Incomplete("stopped while reading jets; go on with --resume")

    for _ in range(2):  # the second attempt has nothing left to train in this epoch
        monkeypatch.setattr(Stream, "validation", stopped)
        with pytest.raises(Incomplete, match="epoch 1, behind batch 4 of 4: stopped while reading jets"):
            train(parts, jets, resume=is_trained(parts.folder))
        assert not epochs_of(parts.folder)
    monkeypatch.setattr(Stream, "validation", read)
    train(parts, jets, resume=True)
    assert weights(whole.folder) == weights(parts.folder)


def test_jets_that_were_prepared_anew_are_refused_within_an_epoch_and_told_behind_one(tmp_path, jets, caplog):
    before, after = (replace(recipe(tmp_path), provenance={"jets_hash": name}) for name in ("before", "after"))
    for batches in (2, 6):
        with pytest.raises(Incomplete):
            train(before, jets, resume=is_trained(tmp_path), interruption=StopAfter(batches))
        with pytest.raises(
            CheckpointError, match="files, chunks or weights were others.*prepare as before, or start"
        ):
            train(after, jets, resume=True)
        clear(tmp_path)
    train(replace(before, settings=before.settings.model_copy(update={"epochs": 1})), jets)
    assert not caplog.text
    train(after, jets, resume=True)
    assert "model net goes on with other files, chunks or weights" in caplog.text


def test_a_kill_in_front_of_the_first_state_begins_again(tmp_path, jets):
    train(recipe(tmp_path, epochs=1), jets)
    assert is_resumable(tmp_path)
    for name in ("best.json", "metrics.jsonl", "timing.json"):
        (tmp_path / name).unlink()
    assert is_resumable(tmp_path)
    (tmp_path / "resume.pt").unlink()  # the first checkpoint was written, and nothing behind it
    assert is_trained(tmp_path)
    assert not is_resumable(tmp_path)


def fragile_jets(count, seed):
    """Two classes: a jet feature that is right in nine of ten jets and far apart, and many constituents that
    tell the class together but by less than the attack moves them (Tsipras et al., arXiv:1805.12152)."""
    jets = labelled_jets(count, seed, separation=0.0)
    generator = torch.Generator().manual_seed(seed)
    sign = 1 - 2 * torch.randint(0, 2, (count,), generator=generator).float()
    right = 1 - 2 * (torch.rand(count, generator=generator) < 0.1).float()
    jets.inputs.jet_JF[:, 1] = 2 * sign * right
    charged = jets.inputs.groups["charged"]
    charged.x_NF[:] = 0.15 * sign.repeat_interleave(charged.counts)[:, None] + 0.1 * charged.x_NF
    for group in jets.inputs.groups.values():
        group.default_NF[:] = False
    return replace(jets, label=torch.where(sign > 0, 0, 4))


def test_adversarial_training_makes_a_network_less_vulnerable(tmp_path):
    """Means of four trainings of each kind: what a single nominal one relies on is chance."""
    jets = fragile_jets(1500, seed=5), fragile_jets(900, seed=6)
    attack = Attack(kind="fgsm", epsilon=0.3)
    settings = {"epochs": 16, "learning_rate": 0.01, "batch_size": 100}
    wrong = {}
    for kind, seed in product(("nominal", "hard"), range(1, 5)):
        chosen = recipe(tmp_path / f"{kind}{seed}", attack=attack if kind == "hard" else None, seed=seed, **settings)
        train(replace(chosen, arguments={"phi": [8], "rho": [8]}), jets)
        tagger = load_checkpoint(find_checkpoint(tmp_path, f"{chosen.folder.name}:last"))
        for name, distort in (("clean", None), ("fgsm", make(attack, tagger.inputs))):
            p = predict(tagger, jets[1].inputs, attack=distort, label=jets[1].label)
            wrong.setdefault((kind, name), []).append(float((p.argmax(1) != jets[1].label.numpy()).mean()))
    mean = {key: sum(shares) / len(shares) for key, shares in wrong.items()}
    assert mean["nominal", "clean"] < 0.02
    assert mean["nominal", "fgsm"] > 0.08
    assert mean["hard", "clean"] < 0.04
    assert mean["hard", "fgsm"] < 0.04
