"""The range test of the learning rate: closed forms, where it ends, and that it touches no training."""

import json
import math

import pytest
import torch
from synthetic import CLASSES, labelled_jets, specification

from pfnano_tag.card.training import Training
from pfnano_tag.errors import DataError, Incomplete
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.rate_finder import BATCHES, EXPLODED, HIGHEST, LOWEST, RateScan, rate_of, scan, write
from pfnano_tag.train.recipe import Recipe
from pfnano_tag.train.wrapper import Trainer
from tests.train.stopping import StopAfter


def trainer(folder, jets=None, norm=True, **settings):
    chosen = Training(**{"epochs": 2, "batch_size": 50, **settings})
    jets = labelled_jets(180, seed=1) if jets is None else jets
    arguments, inputs = {"phi": [8], "rho": [8], "norm": norm}, specification()
    recipe = Recipe("net", folder, "deepsets", arguments, inputs, CLASSES, chosen, None, 1, {"card": "0" * 64})
    return Trainer(recipe, Stream.of_jets(jets, labelled_jets(60, seed=2)))


def test_rates_rise_exponentially():
    assert rate_of(0) == pytest.approx(LOWEST)
    assert rate_of(BATCHES - 1) == pytest.approx(HIGHEST)
    steps = {round(math.log(rate_of(n + 1) / rate_of(n)), 10) for n in range(BATCHES - 1)}
    assert len(steps) == 1


def test_smoothed_loss_and_suggestion_in_closed_form():
    """Weights 0.9^(n-i), normalised: a constant stays itself from the first batch on."""
    assert RateScan([1e-3] * 4, [2.0] * 4).smoothed == pytest.approx([2.0] * 4)
    found = RateScan([1e-4, 1e-3, 1e-2, 1e-1], [2.0, 1.0, 0.5, 4.0])
    weights = [0.9 ** (3 - i) for i in range(4)]
    mean = sum(w * x for w, x in zip(weights, found.losses, strict=True)) / sum(weights)
    assert found.smoothed[-1] == pytest.approx(mean)
    assert found.suggestion == pytest.approx(1e-3)
    assert RateScan([1e-4, 1e-3], [1.0, 2.0]).suggestion is None


def test_the_rate_of_a_batch_is_that_of_its_step(tmp_path, monkeypatch):
    """With plain gradient descent each step is the rate times the gradient."""
    testing = trainer(tmp_path, gradient_clip=None)
    testing.optimizer = torch.optim.SGD(testing.module.parameters(), lr=1.0)
    start = [weights.detach().clone() for weights in testing.module.parameters()]
    batch = next(testing.loader.epoch(1))
    gradients = torch.autograd.grad(testing.objective(testing.module, batch, 1, 0), testing.module.parameters())
    monkeypatch.setattr("pfnano_tag.train.rate_finder.BATCHES", 1)
    monkeypatch.setattr("pfnano_tag.train.rate_finder.rate_of", lambda number: 0.25)
    found = scan(testing, Interruption())
    assert found.rates == [0.25]
    for before, gradient, after in zip(start, gradients, testing.module.parameters(), strict=True):
        assert torch.allclose(before - 0.25 * gradient, after.detach(), atol=1e-6)


def test_it_ends_where_the_loss_explodes(tmp_path):
    found = scan(trainer(tmp_path, norm=False), Interruption())
    smoothed = found.smoothed
    assert 20 < len(found.rates) < BATCHES
    assert smoothed[-1] > EXPLODED * min(smoothed)
    assert all(loss <= EXPLODED * min(smoothed[: n + 1]) for n, loss in enumerate(smoothed[:-1]))
    assert LOWEST < found.suggestion < found.rates[-1] / 10
    again = scan(trainer(tmp_path, norm=False), Interruption())
    assert again == found


def test_a_training_beside_it_stays_and_goes_on_bit_for_bit(tmp_path):
    whole, parts = trainer(tmp_path / "whole"), trainer(tmp_path / "parts")
    whole.run(Interruption())
    stopped = StopAfter(5)
    with pytest.raises(Incomplete):
        parts.run(stopped)
    before = contents(tmp_path / "parts")
    write(tmp_path / "parts", "net", scan(trainer(tmp_path / "parts"), Interruption()))
    after = contents(tmp_path / "parts")
    assert set(after) - set(before) == {"learning_rate.json", "learning_rate.png"}
    assert all(after[name] == content for name, content in before.items())
    resumed = trainer(tmp_path / "parts")
    resumed.restore()
    resumed.run(Interruption())
    ended = contents(tmp_path / "parts")
    assert all(ended[name] == content for name, content in contents(tmp_path / "whole").items() if name[-3:] != ".pt")
    table = json.loads(after["learning_rate.json"])
    assert len(table["rates"]) == len(table["losses"]) == len(table["smoothed"])
    assert table["suggestion"] == RateScan(table["rates"], table["losses"]).suggestion


def test_what_can_not_be_tested(tmp_path):
    spoiled = labelled_jets(60)
    spoiled.inputs.jet_JF[:, 0] = float("inf")
    with pytest.raises(DataError, match="loss of the first batch is not finite"):
        scan(trainer(tmp_path, spoiled), Interruption())
    with pytest.raises(Incomplete, match="nothing was written"):
        scan(trainer(tmp_path), StopAfter(0))
    assert not list(tmp_path.iterdir())


def contents(folder):
    """All files but the times that epochs took."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "timing.json"}
