"""Dropout: which units it drops, how often, and what it does to values and gradients."""

import copy

import pytest
import torch
from synthetic import features, random_jets
from torch import nn

from pfnano_tag.models.batch import call, collate
from pfnano_tag.models.dropout import LEVELS, Dropout, dropped
from pfnano_tag.models.registry import build


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(7)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_units_are_dropped_with_the_probability_and_the_others_scaled_by_its_inverse(p):
    count = 400_000
    out = dropped(torch.ones(count), p)
    kept = (LEVELS - round(p * LEVELS)) / LEVELS
    assert abs(kept - (1 - p)) <= 0.5 / LEVELS
    assert out.unique().tolist() == pytest.approx([0, 1 / kept], rel=1e-7)
    deviation = (kept * (1 - kept) / count) ** 0.5
    assert abs(float((out > 0).double().mean()) - kept) < 4 * deviation


def test_every_lane_of_the_drawn_words_is_as_likely_and_all_are_independent():
    p, words = 0.3, 100_000
    lanes = (dropped(torch.ones(4 * words), p) > 0).double().view(words, 4)
    kept = (LEVELS - round(p * LEVELS)) / LEVELS
    assert torch.all((lanes.mean(0) - kept).abs() < 4 * (kept * (1 - kept) / words) ** 0.5)
    neighbours = torch.cat([lanes, lanes.roll(1, 0)], 1)
    correlations = torch.corrcoef(neighbours.T) - torch.eye(8, dtype=torch.float64)
    assert correlations.abs().max() < 5 / words**0.5


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (5, 7), (2, 3, 1), (0, 4)])
def test_any_shape_is_kept_and_the_same_seed_drops_the_same_units(shape):
    x = torch.randn(shape)
    states = []
    for _ in range(2):
        torch.manual_seed(11)
        states.append(dropped(x, 0.4))
    assert states[0].shape == x.shape
    assert torch.equal(*states)


def test_the_next_call_drops_others():
    x = torch.ones(1000)
    assert not torch.equal(dropped(x, 0.5), dropped(x, 0.5))


def test_gradient_has_the_mask_and_the_scale_of_the_value():
    x = torch.randn(40, 30, dtype=torch.float64, requires_grad=True)
    out = dropped(x, 0.2)
    out.sum().backward()
    assert torch.equal(out.detach(), x.detach() * x.grad)
    assert set((x.grad == 0).unique().tolist()) == {True, False}


@pytest.mark.parametrize("layout", ["transposed", "expanded", "strided"])
def test_layout_of_the_input_does_not_matter(layout):
    x = {
        "transposed": torch.randn(30, 40).T,
        "expanded": torch.randn(40, 1).expand(40, 30),
        "strided": torch.randn(40, 60)[:, ::2],
    }[layout]
    found = []
    for values in (x, x.contiguous()):
        torch.manual_seed(3)
        found.append(dropped(values, 0.3))
    assert torch.equal(*found)


def test_evaluation_and_probability_zero_leave_the_input_and_the_generator_alone():
    x, before = torch.randn(10), torch.get_rng_state()
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0).train()(x) is x
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("p", [1.0, 1 - 1e-6])
def test_where_nothing_is_kept_values_and_gradients_are_zero(p):
    x = torch.randn(100, requires_grad=True)
    out = dropped(x, p)
    out.sum().backward()
    assert torch.equal(out, torch.zeros(100))
    assert torch.equal(x.grad, torch.zeros(100))


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match="expected a probability from 0 to 1"):
        Dropout(p)


def test_half_precision_stays_half():
    out = dropped(torch.ones(1000, dtype=torch.bfloat16), 0.1)
    assert out.dtype == torch.bfloat16
    assert float(out.max()) == pytest.approx(1 / 0.9, rel=1e-2)


def test_as_often_as_torch_in_a_network():
    """Mean and spread of a unit behind a layer are those with torch's own dropout."""
    layer = nn.Linear(50, 1)
    x = torch.randn(50).expand(40_000, 50)
    ours, theirs = (layer(drop(x)).squeeze(1).detach() for drop in (Dropout(0.25), nn.Dropout(0.25)))
    error = float(theirs.std()) * (2 / len(x)) ** 0.5
    assert abs(float(ours.mean() - theirs.mean())) < 4 * error
    assert float(ours.std() / theirs.std()) == pytest.approx(1, abs=4 / len(x) ** 0.5)


def test_attention_in_training_without_dropped_weights_is_that_of_evaluation():
    """The attention that drops weights is written out on CPUs: with a vanishing share it equals torch's kernel."""
    arguments = {"embed": [16], "pair": [8], "heads": 2, "blocks": 2, "class_blocks": 1, "dropout": 0.0}
    module = build("particle_transformer", arguments, features(), 4).eval()
    batch = collate(random_jets(30, seed=5), torch.arange(30))
    expected = call(module, batch)
    written = copy.deepcopy(module)
    for block in written.blocks:
        block.training, block.dropout = True, 1e-9  # rounds to nothing dropped
    torch.testing.assert_close(call(written, batch), expected, rtol=1e-5, atol=1e-6)
