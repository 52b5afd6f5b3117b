"""What a training that fails leaves: the batch with the cause, and all that was whole before."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from synthetic import CLASSES, labelled_jets, specification

from pfnano_tag.card.training import Training
from pfnano_tag.errors import DataError, OutputError
from pfnano_tag.infer.bookkeeping import epochs_of, load_checkpoint
from pfnano_tag.train import failure
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.recipe import Recipe
from pfnano_tag.train.record import clear
from pfnano_tag.train.wrapper import Trainer


@pytest.fixture(scope="module")
def jets():
    return labelled_jets(180, seed=1), labelled_jets(60, seed=2)


def trainer(folder, jets, **settings):
    chosen = Training(**{"epochs": 4, "batch_size": 50, "schedule": "constant", "ema_decay": 0.8, **settings})
    arguments = {"phi": [8], "rho": [8]}
    inputs = specification()
    recipe = Recipe("net", folder, "deepsets", arguments, inputs, CLASSES, chosen, None, 1, {"card": "0" * 64})
    return Trainer(recipe, Stream.of_jets(*jets))


def contents(folder):
    """All files but the times that epochs took."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "timing.json"}


def test_the_batch_is_kept_as_the_loader_gave_it(tmp_path, jets):
    broken = replace(jets[0], weight=jets[0].weight.clone())
    broken.weight[77] = float("nan")
    failing = trainer(tmp_path, (broken, jets[1]))
    number, batch = next((i, b) for i, b in enumerate(failing.loader.epoch(1), 1) if b.weight_B.isnan().any())
    words = rf"batch {number} of 4; its weights are not all finite.* the batch is in .*failed_batch\.safetensors; 0 "
    with pytest.raises(DataError, match=words):
        failing.run(Interruption())
    with safe_open(tmp_path / failure.FAILED_BATCH, "pt") as file:
        names = file.keys()
        kept = {name: file.get_tensor(name) for name in names}
        assert file.metadata()["problem"] == f"loss nan in epoch 1, batch {number} of 4"
    expected = failure.tensors_of(batch)
    assert set(kept) == set(expected) >= {"jet/x", "charged/x", "charged/mask", "sv/vectors", "label", "weight"}
    for name, values in expected.items():
        assert torch.equal(kept[name].nan_to_num(-7), values.nan_to_num(-7)), name
    trainer(tmp_path, jets, epochs=1).run(Interruption())
    assert not (tmp_path / failure.FAILED_BATCH).exists()  # it was that of the last training


def test_overwriting_a_training_removes_the_batch(tmp_path):
    (tmp_path / failure.FAILED_BATCH).write_bytes(b"")
    clear(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_batch_that_can_not_be_kept_does_not_hide_the_cause(tmp_path, jets, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spoiled = labelled_jets(60)
    spoiled.inputs.jet_JF[5, 0] = float("inf")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"inputs are not all finite.*could not be kept \(.*No space left on device"):
        trainer(tmp_path, (spoiled, jets[1])).run(Interruption())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["epoch_0003.safetensors", "epoch_0003.json", "resume.pt", "metrics.jsonl"])
def test_a_full_disk_leaves_what_was_whole_and_the_training_goes_on(tmp_path, jets, monkeypatch, name):
    """The disk is full when the third epoch writes one of its files; half of it had been written."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer(whole, jets).run(Interruption())
    trainer(parts, jets, epochs=2).run(Interruption())
    before = contents(parts)
    failing = trainer(parts, jets)
    failing.restore()
    for method in ("write_bytes", "write_text"):
        write = getattr(Path, method)

        def full(path, content, *rest, write=write, **options):
            if path.name.startswith(f".{name}."):
                write(path, content[: len(content) // 2], *rest, **options)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(path, content, *rest, **options)

        monkeypatch.setattr(Path, method, full)
    with pytest.raises(OutputError, match=rf"{name}: can't be written: No space left .* was there before is kept"):
        failing.run(Interruption())
    monkeypatch.undo()
    left = contents(parts)
    overwritten = {"resume.pt"} if name == "metrics.jsonl" else set()
    assert all(left[file] == content for file, content in before.items() if file not in overwritten)
    assert not [file for file in left if file.startswith(".")]
    for epoch in epochs_of(parts):
        load_checkpoint(parts / f"epoch_{epoch:04d}.json")
    again = trainer(parts, jets)
    again.restore()
    again.run(Interruption())
    kept = {file: content for file, content in contents(parts).items() if not file.endswith(".pt")}
    assert kept == {file: content for file, content in contents(whole).items() if not file.endswith(".pt")}
