"""The dense network on flat inputs: against a loop, and with whatever padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import features, random_jets
from torch import nn

from pfnano_tag.errors import CardError
from pfnano_tag.models.batch import call, collate
from pfnano_tag.models.layers import first_slots
from pfnano_tag.models.registry import build

COUNT = 20


def network(**arguments):
    torch.manual_seed(2)
    return build("mlp", {"hidden": [16, 16]} | arguments, features(), 6).eval()


def flat_row(flat, jet, slots, occupancy):
    """Inputs of one jet, number by number."""
    row = flat.jet_JF[jet].tolist()
    for name, number in slots.items():
        group = flat.groups[name]
        start, stop = group.offsets[jet : jet + 2].tolist()
        width = group.x_NF.shape[1]
        for slot in range(number):
            row += group.x_NF[start + slot].tolist() if start + slot < stop else [0.0] * width
        if occupancy:
            row += [float(start + slot < stop) for slot in range(number)]
    return row


@pytest.mark.parametrize("occupancy", [True, False])
@pytest.mark.parametrize("slots", [{"charged": 6, "neutral": 6, "sv": 1}, {"charged": 3, "neutral": 0, "sv": 40}])
def test_against_a_loop_over_jets(slots, occupancy):
    """Fewer slots than constituents, more than any jet has, and none."""
    module = network(**slots, occupancy=occupancy)
    flat = random_jets(COUNT)
    rows = torch.tensor([flat_row(flat, jet, slots, occupancy) for jet in range(COUNT)])
    first, second = (layer for layer in module.hidden if isinstance(layer, nn.Linear))
    twin = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), module.head)
    torch.testing.assert_close(call(module, collate(flat, torch.arange(COUNT))), twin(rows), rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(chosen=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=8), slots=st.integers(0, 15))
def test_output_does_not_depend_on_how_long_the_batch_is(chosen, slots):
    """Batches are padded to their longest jet, which may be shorter or longer than the slots."""
    module = network(charged=slots, neutral=slots, sv=slots).double()
    flat = random_jets(COUNT)
    together = call(module, in_double(collate(flat, torch.tensor(chosen))))
    alone = torch.cat([call(module, in_double(collate(flat, torch.tensor([jet])))) for jet in chosen])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def in_double(batch):
    x = {name: group.x_BNF.double() for name, group in batch.groups.items()}
    return batch.with_inputs(batch.jet_BF.double(), x)


def test_constituents_behind_the_slots_are_not_seen():
    module, flat = network(charged=4), random_jets(COUNT)
    batch = collate(flat, torch.arange(COUNT))
    x = {name: group.x_BNF.clone() for name, group in batch.groups.items()}
    x["charged"][:, 4:] += 10
    assert torch.equal(call(module, batch), call(module, batch.with_inputs(batch.jet_BF, x)))
    x["charged"][:, 3] += 10
    assert not torch.equal(call(module, batch), call(module, batch.with_inputs(batch.jet_BF, x)))


def test_occupancy_tells_an_average_constituent_from_none():
    flat = random_jets(COUNT)
    batch = collate(flat, torch.arange(COUNT))
    x = {name: torch.zeros_like(group.x_BNF) for name, group in batch.groups.items()}
    jet = torch.zeros_like(batch.jet_BF)
    for occupancy in (True, False):
        out = call(network(occupancy=occupancy), batch.with_inputs(jet, x))
        assert (len(torch.unique(out, dim=0)) > 1) == occupancy


def test_default_size_is_that_of_five_layers_of_a_hundred():
    """The deepjet input set: 15 jet features, 6 x 16, 6 x 6 and 1 x 12 of constituents, 13 slots."""
    module = build("mlp", {}, {"jet": 15, "charged": 16, "neutral": 6, "sv": 12}, 6)
    inputs = 15 + 6 * 16 + 6 * 6 + 12 + 13
    expected = (inputs + 1) * 100 + 4 * (100 + 1) * 100 + (100 + 1) * 6
    assert sum(parameter.numel() for parameter in module.parameters()) == expected


def test_other_groups_and_none():
    lost = build("mlp", {"other": 2, "hidden": []}, {"jet": 3, "lost": 5}, 6)
    assert lost.head.in_features == 3 + 2 * (5 + 1)
    assert build("mlp", {"hidden": []}, {"jet": 3}, 6).head.in_features == 3
    with pytest.raises(CardError, match="no inputs: there are no jet features and no group has slots"):
        build("mlp", {"charged": 0}, {"charged": 5}, 6)


def test_slots_hold_no_padding_and_give_it_no_gradient():
    x = torch.full((2, 3, 2), torch.nan)
    x[0, :2] = 1.0
    x.requires_grad_()
    mask = torch.tensor([[True, True, False], [False, False, False]])
    for slots in (0, 1, 3, 5):
        filled, real = first_slots(x, mask, slots)
        assert filled.shape == (2, slots, 2)
        assert torch.equal(filled, real[:, :, None].expand_as(filled).float())
        assert real.sum() == min(2, slots)
    filled.sum().backward()
    assert torch.equal(x.grad, mask[:, :, None].expand_as(x).float())
