"""DeepJet against its reference, layer by layer, and what must hold where it differs from it."""

import pytest
import torch
from synthetic import constituents, features, random_jets
from torch import nn

from pfnano_tag.models.batch import FlatInputs, call, collate
from pfnano_tag.models.deepjet import read_backwards
from pfnano_tag.models.dropout import Dropout
from pfnano_tag.models.layers import RowNorm
from pfnano_tag.models.registry import build
from tests.models.reference_deepjet import (
    CONVOLUTIONS,
    DENSE,
    FEATURES,
    LSTMS,
    SLOTS,
    ReferenceDeepJet,
    number_of_parameters,
)

PADDED = {"padded": list(SLOTS.values())}


def network(seed=3, **arguments):
    """DeepJet at the reference's inputs, as if it had been trained: norms not trivial, jets not all alike.

    With freshly drawn weights the logits of all jets agree to 1e-4, and would hide a difference.
    """
    torch.manual_seed(seed)
    module = build("deepjet", arguments, FEATURES, 6).eval()
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.kaiming_normal_(part.weight)
        if isinstance(part, nn.LSTM):
            for weight in (part.weight_ih_l0, part.weight_hh_l0):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        if isinstance(part, RowNorm):
            nn.init.normal_(part.running_mean, std=0.3)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.normal_(part.weight, mean=1.0, std=0.2)
            nn.init.normal_(part.bias, std=0.2)
    return module


def reference(module, dropout=0.1):
    """The reference with the weights of a network."""
    twin = ReferenceDeepJet(dropout).eval()
    copy_norm(module.norm, twin.jet_norm)
    for group, branch in module.branches.items():
        copy_norm(branch.norm, twin.input_norm[group])
        pairs = zip(linear_in(branch.layers), twin.convolutions[group], strict=True)
        for mine, convolution in pairs:
            convolution.weight.data.copy_(mine.weight[:, :, None])
            convolution.bias.data.copy_(mine.bias)
        copy_norms(branch.layers, twin.norms[group])
        twin.lstm[group].load_state_dict(branch.lstm.state_dict())
        copy_norm(branch.norm_state, twin.lstm_norm[group])
    for mine, linear in zip(linear_in(module.dense), twin.dense, strict=True):
        linear.load_state_dict(mine.state_dict())
    copy_norms(module.dense, twin.dense_norm)
    twin.last.load_state_dict(module.head.state_dict())
    return twin


def linear_in(layers):
    return [layer for layer in layers if isinstance(layer, nn.Linear)]


def norms_in(layers):
    return [layer for layer in layers if isinstance(layer, RowNorm)]


def copy_norm(mine, other):
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(other, name).data.copy_(getattr(mine, name))


def copy_norms(layers, others):
    for mine, other in zip(norms_in(layers), others, strict=True):
        copy_norm(mine, other)


def jets(count, lowest=0, seed=0):
    """Jets with `lowest` to all slots filled, at the reference's inputs."""
    generator = torch.Generator().manual_seed(seed)
    groups = {}
    for group, slots in SLOTS.items():
        counts = torch.randint(min(lowest, slots), slots + 1, (count,), generator=generator)
        groups[group] = constituents(counts, FEATURES[group], generator)
    jet = torch.randn(count, FEATURES["jet"], generator=generator)
    return FlatInputs(jet, torch.zeros_like(jet, dtype=torch.bool), groups)


def zero_padded(batch):
    """Groups as the reference has them, (B, slots, features)."""
    padded = {}
    for group, slots in SLOTS.items():
        x = batch.groups[group].x_BNF
        padded[group] = torch.zeros(len(batch), slots, FEATURES[group])
        padded[group][:, : x.shape[1]] = x[:, :slots]
    return padded


def stages_of(module):
    """What the stages of a network give, under the reference's names: filled when it is called."""
    stages = {}

    def keep(name, part):
        part.register_forward_hook(lambda _, __, out: stages.__setitem__(name, out))

    keep("jet", module.norm)
    for group, branch in module.branches.items():
        layers = list(branch.layers)
        ends = [number for number, layer in enumerate(layers) if isinstance(layer, Dropout)]
        for number, end in enumerate([*ends, len(layers) - 1]):
            keep(f"{group} {number}", layers[end])
        branch.norm_state.register_forward_pre_hook(
            lambda _, inputs, name=f"{group} lstm": stages.__setitem__(name, inputs[0])
        )
    module.dense.register_forward_pre_hook(lambda _, inputs: stages.__setitem__("concatenated", inputs[0]))
    drops = [layer for layer in module.dense if isinstance(layer, Dropout)]
    for number, layer in enumerate(drops):
        keep(f"dense {number}", layer)
    return stages


def test_padded_network_is_the_reference_layer_by_layer():
    module = network(**PADDED)
    twin, stages = reference(module), stages_of(module)
    batch = collate(jets(40), torch.arange(40))
    out = call(module, batch)
    assert (out.std(0) > 0.1).all()
    torch.testing.assert_close(out, twin(batch.jet_BF, zero_padded(batch)), rtol=0, atol=1e-5)
    assert stages.keys() == twin.stages.keys()
    assert len(stages) == 1 + sum(len(widths) + 1 for widths in CONVOLUTIONS.values()) + 1 + len(DENSE)
    for name, expected in twin.stages.items():
        torch.testing.assert_close(stages[name], expected.reshape(stages[name].shape), rtol=0, atol=1e-5, msg=name)


def test_padded_network_trains_as_the_reference_does():
    """Without dropout, whose random numbers differ: outputs, gradients and running statistics of two steps."""
    module = network(dropout=0.0, **PADDED).double().train()
    twin = reference(module, dropout=0.0).double().train()
    flat = jets(24)
    for part in (torch.arange(12), torch.arange(12, 24)):
        batch = collate(flat, part)
        x = {name: group.x_BNF.double() for name, group in batch.groups.items()}
        out = call(module, batch.with_inputs(batch.jet_BF.double(), x))
        other = twin(batch.jet_BF.double(), {name: x.double() for name, x in zero_padded(batch).items()})
        torch.testing.assert_close(out, other, rtol=0, atol=1e-9)
        out.square().mean().backward()
        other.square().mean().backward()
    charged, convolution = module.branches["charged"], twin.convolutions["charged"][0]
    torch.testing.assert_close(charged.layers[0].weight.grad, convolution.weight.grad[..., 0], rtol=1e-6, atol=1e-10)
    for name in ("running_mean", "running_var"):
        mine = getattr(norms_in(charged.layers)[1], name), getattr(norms_in(module.dense)[7], name)
        others = getattr(twin.norms["charged"][1], name), getattr(twin.dense_norm[7], name)
        torch.testing.assert_close(mine[0], others[0], rtol=1e-4, atol=0)  # torch takes n - 1 of the rows it counts
        torch.testing.assert_close(mine[1], others[1], rtol=1e-9, atol=0)


def test_jets_that_fill_their_slots_are_the_reference_s_without_padding_too():
    module = network()
    batch = collate(jets(10, lowest=25), torch.arange(10))
    expected = reference(module)(batch.jet_BF, zero_padded(batch))
    torch.testing.assert_close(call(module, batch), expected, rtol=0, atol=1e-5)


def test_other_jets_are_the_reference_s_with_as_many_slots_as_they_have_constituents():
    """By default padding is never seen: each jet is alone, its groups cut to what is there."""
    module = network()
    twin = reference(module)
    flat = jets(15, lowest=1)
    together = call(module, collate(flat, torch.arange(15)))
    effect = []
    for jet in range(15):
        batch = collate(flat, torch.tensor([jet]))
        exact = {name: group.x_BNF for name, group in batch.groups.items()}
        torch.testing.assert_close(together[jet : jet + 1], twin(batch.jet_BF, exact), rtol=0, atol=1e-5)
        padded = twin(batch.jet_BF, zero_padded(batch))
        effect.append(float((padded - together[jet]).detach().abs().max()))
    assert max(effect) > 0.1  # what the reference's padding does


def test_padded_network_leaves_out_what_does_not_fit():
    module = network(padded=[3, 2, 1])
    batch = collate(jets(8, lowest=4), torch.arange(8))
    short = {name: group.x_BNF.clone() for name, group in batch.groups.items()}
    for name, slots in zip(SLOTS, (3, 2, 1), strict=True):
        short[name][:, slots:] = 7.0
    assert torch.equal(call(module, batch), call(module, batch.with_inputs(batch.jet_BF, short)))


def test_padded_network_does_not_depend_on_how_long_the_batch_is():
    module, flat = network(**PADDED).double(), jets(10)
    batch = collate(flat, torch.arange(10))
    out = module(*in_double(batch, extra=0))
    assert torch.equal(out, module(*in_double(batch, extra=30)))
    alone = [module(*in_double(collate(flat, torch.tensor([jet])), extra=0)) for jet in range(10)]
    torch.testing.assert_close(out, torch.cat(alone), rtol=0, atol=1e-10)


def in_double(batch, extra):
    """Arguments of a network, with so much more padding, which is not a number."""
    x, mask = {}, {}
    for name, group in batch.groups.items():
        values = group.x_BNF.double().masked_fill(~group.mask_BN[:, :, None], torch.nan)
        x[name] = nn.functional.pad(values, (0, 0, 0, extra), value=torch.nan)
        mask[name] = nn.functional.pad(group.mask_BN, (0, extra))
    return batch.jet_BF.double(), x, mask


@pytest.mark.parametrize("jets_of_batch", [[0, 0], [0], [1]])
def test_padded_network_has_finite_gradients_for_jets_without_constituents(jets_of_batch):
    module = build("deepjet", {"padded": [9, 9, 3]}, features(), 6).train()
    batch = collate(random_jets(2), torch.tensor(jets_of_batch))
    out = call(module, batch)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_number_of_parameters_of_the_reference():
    module = build("deepjet", {}, FEATURES, 6)
    assert module.dense[0].in_features == 265 == FEATURES["jet"] + sum(LSTMS.values())
    found = sum(parameter.numel() for parameter in module.parameters())
    assert found == number_of_parameters() == sum(p.numel() for p in ReferenceDeepJet().parameters())


def test_first_constituent_is_read_last():
    """With a forget gate that is shut, the state holds the last constituent that was read and nothing else."""
    torch.manual_seed(0)
    lstm = nn.LSTM(2, 3)
    lstm.bias_ih_l0.data[3:6] = -1e4
    lstm.weight_hh_l0.data.zero_()
    mask = torch.tensor([[True, True, True], [False, False, False], [True, False, False]])
    rows = torch.randn(4, 2)
    state = read_backwards(lstm, rows, mask)
    assert (state[1] == 0).all()
    for jet, first in ((0, 0), (2, 3)):
        torch.testing.assert_close(state[jet], lstm(rows[first : first + 1])[0][0])


def test_lstm_against_a_loop_over_jets_with_its_gradient():
    torch.manual_seed(1)
    lstm = nn.LSTM(4, 5).double()
    counts = torch.tensor([3, 0, 7, 1, 0, 7, 2])
    mask = torch.arange(9) < counts[:, None]
    rows = torch.randn(20, 4, dtype=torch.float64, requires_grad=True)
    loop = [
        lstm(part.flip(0))[0][-1] if len(part) else torch.zeros(5, dtype=torch.float64)
        for part in rows.split(counts.tolist())
    ]
    state = read_backwards(lstm, rows, mask)
    torch.testing.assert_close(state, torch.stack(loop), rtol=0, atol=1e-12)
    upstream = torch.randn(7, 5, dtype=torch.float64)
    mine, other = (torch.autograd.grad((out * upstream).sum(), rows)[0] for out in (state, torch.stack(loop)))
    torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


def test_statistics_are_those_of_real_constituents():
    module = build("deepjet", {"dropout": 0.0}, features(), 6).train()
    batch = collate(random_jets(30), torch.arange(30))
    call(module, batch)
    for name, group in batch.groups.items():
        real = group.x_BNF[group.mask_BN]
        norm = module.branches[name].norm
        torch.testing.assert_close(norm.running_mean, 0.6 * real.mean(0))
        torch.testing.assert_close(norm.running_var, 0.4 + 0.6 * real.var(0))


def test_norm_is_torch_s_for_batches_of_one_size():
    torch.manual_seed(5)
    mine, torchs = RowNorm(4, 0.6, 1e-3), nn.BatchNorm1d(4, eps=1e-3, momentum=0.6)
    for _ in range(3):
        rows = 2 + 3 * torch.randn(20, 4)
        torch.testing.assert_close(mine(rows), torchs(rows))
    rows = torch.randn(7, 4)
    torch.testing.assert_close(mine.eval()(rows), torchs.eval()(rows))


def test_a_last_batch_of_two_jets_hardly_moves_the_running_statistics():
    torch.manual_seed(6)
    norm = RowNorm(1, 0.6, 1e-3)
    for _ in range(10):
        norm(torch.randn(1000, 1))
    norm(torch.tensor([[30.0], [31.0]]))
    assert abs(float(norm.running_mean)) < 0.1
    assert float(norm.running_var) == pytest.approx(1, abs=0.1)


def test_a_single_row_is_normalised_with_the_running_statistics_and_leaves_them():
    norm = RowNorm(2, 0.6, 1e-3)
    norm(torch.tensor([[1.0, 0.0], [3.0, 4.0], [5.0, 8.0]]))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    row = torch.tensor([[3.0, -2.0]])
    expected = (row - norm.running_mean) / (norm.running_var + 1e-3).sqrt()
    torch.testing.assert_close(norm(row), expected)
    assert norm(torch.zeros(0, 2)).shape == (0, 2)
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())


def test_other_groups_and_none():
    module = build("deepjet", {"other": [7], "other_lstm": 9}, {"jet": 3, "lost": 5}, 6)
    assert module.branches["lost"].lstm.input_size == 7
    assert module.dense[0].in_features == 3 + 9
    assert build("deepjet", {"dense": []}, {"charged": 5}, 6).head.in_features == 150
    assert build("deepjet", {}, {"jet": 3}, 6)(torch.randn(4, 3), {}, {}).shape == (4, 6)
