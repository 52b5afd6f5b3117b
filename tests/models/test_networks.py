"""What must hold for every network, whatever its weights."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from synthetic import features, random_jets
from torch import nn

from pfnano_tag.errors import CardError
from pfnano_tag.models.attention import VERSIONS as VERSION_STYLES
from pfnano_tag.models.attention import AttentionBlock
from pfnano_tag.models.batch import Batch, GroupBatch, GroupInputs, call, collate
from pfnano_tag.models.layers import RowNorm
from pfnano_tag.models.pairs import MASKED_SCORE, PairEmbedding, kinematics, pair_features
from pfnano_tag.models.registry import ARCHITECTURES, build, resolve
from pfnano_tag.models.tokens import REGISTER, Tokens

SMALL = {
    "multitask": {"embed": [16], "width": 24, "layers": 2, "heads": 4, "out": 12, "head": [10]},
    "mlp": {"charged": 12, "neutral": 9, "sv": 3, "hidden": [24]},
    "deepjet": {
        "charged": [16, 8],
        "neutral": [8],
        "sv": [8],
        "charged_lstm": 12,
        "neutral_lstm": 8,
        "sv_lstm": 8,
        "dense": [16],
    },
    "deepsets": {"phi": [16, 12], "rho": [24]},
    "particle_transformer": {
        "embed": [16, 24],
        "pair": [8, 8],
        "heads": 4,
        "blocks": 2,
        "class_blocks": 1,
        "head": [10],
    },
}
ORDERED = {"mlp", "deepjet"}
"""Architectures that see constituents in order."""


VERSIONS = [("particle_transformer", {"version": version}) for version in (2, 3)]
OTHERS = [*VERSIONS, ("particle_transformer", {"class_blocks": 0}), ("particle_transformer", {"recompute": True})]


@pytest.fixture(params=[*((name, {}) for name in sorted(ARCHITECTURES)), *OTHERS], ids=str)
def network(request):
    return small(*request.param)


def small(architecture, arguments=None):
    torch.manual_seed(4)
    module = build(architecture, SMALL[architecture] | (arguments or {}), features(), 6)
    for part in module.modules():  # batch norm at its first values would hide mistakes
        if isinstance(part, RowNorm):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
    return module.eval()


def double(module, batch):
    """Network and batch in float64, where invariances hold to rounding far below 1e-6."""
    groups = {
        name: GroupBatch(g.x_BNF.double(), g.mask_BN, g.default_BNF, g.vectors_BN4.double())
        for name, g in batch.groups.items()
    }
    return module.double(), Batch(batch.jet_BF.double(), batch.jet_default_BF, groups)


def test_padding_changes_nothing(network):
    batch = collate(random_jets(12), torch.arange(12))
    wider = {
        name: GroupBatch(
            F.pad(g.x_BNF, (0, 0, 0, 7)),
            F.pad(g.mask_BN, (0, 7)),
            F.pad(g.default_BNF, (0, 0, 0, 7), value=True),
            F.pad(g.vectors_BN4, (0, 0, 0, 7)),
        )
        for name, g in batch.groups.items()
    }
    more = Batch(batch.jet_BF, batch.jet_default_BF, wider)
    assert torch.equal(call(network, batch), call(network, more))


def test_padding_may_hold_anything(network):
    batch = collate(random_jets(12), torch.arange(12))
    spoiled = {name: torch.where(g.mask_BN[:, :, None], g.x_BNF, math.nan) for name, g in batch.groups.items()}
    assert torch.equal(call(network, batch), call(network, batch.with_inputs(batch.jet_BF, spoiled)))


def shuffled_jets():
    """Jets, and the same with the constituents of each jet and group in another order."""
    flat = random_jets(9, seed=5)
    generator = torch.Generator().manual_seed(6)
    groups = {}
    for name, g in flat.groups.items():
        bounds = zip(g.offsets[:-1].tolist(), g.offsets[1:].tolist(), strict=True)
        rows = torch.cat([a + torch.randperm(b - a, generator=generator) for a, b in bounds])
        groups[name] = GroupInputs(g.x_NF[rows], g.default_NF[rows], g.offsets, g.vectors_N4[rows])
    return flat, type(flat)(flat.jet_JF, flat.jet_default_JF, groups)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_order_of_constituents_changes_nothing_but_for_ordered_networks(architecture):
    flat, shuffled = shuffled_jets()
    module, batch = double(small(architecture), collate(flat, torch.arange(9)))
    _, other = double(module, collate(shuffled, torch.arange(9)))
    change = (call(module, batch) - call(module, other)).abs().amax(1)
    assert change[0] == 0  # this jet has no constituents
    if architecture in ORDERED:
        assert (change[1:] > 1e-4).all()
    else:
        assert (change < 1e-10).all()


def test_a_jet_does_not_see_its_batch(network):
    flat = random_jets(15, seed=7)
    together = call(*double(network, collate(flat, torch.arange(15))))
    alone = torch.cat([call(*double(network, collate(flat, torch.tensor([jet])))) for jet in range(15)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_jets_without_constituents_have_finite_outputs_and_gradients(network, training):
    flat = random_jets(4)
    network.train(training)
    generator = torch.Generator().manual_seed(3)
    for indices in ([0, 1, 2], [0, 0], [0], [1]):  # some jets without, all without, one jet without and with
        batch = collate(flat, torch.tensor(indices))
        jet = torch.randn(batch.jet_BF.shape, generator=generator).requires_grad_()
        x = {name: g.x_BNF.clone().requires_grad_() for name, g in batch.groups.items()}
        out = call(network, batch.with_inputs(jet, x))
        assert out.isfinite().all()
        network.zero_grad()
        out.square().sum().backward()
        gradients = [p.grad for p in network.parameters() if p.grad is not None] + [jet.grad]
        assert all(g.isfinite().all() for g in gradients)
        assert jet.grad.abs().sum() > 0


def test_every_input_matters(network):
    network, batch = double(network, collate(random_jets(12), torch.arange(12)))
    x = {name: g.x_BNF.clone().requires_grad_() for name, g in batch.groups.items()}
    call(network, batch.with_inputs(batch.jet_BF, x)).square().sum().backward()
    for name, g in batch.groups.items():
        touched = (x[name].grad != 0).any(-1)
        assert torch.equal(touched, g.mask_BN), name


def brute_force_pair(a, b):
    """The formula of arXiv:2202.03772 for one pair, in plain Python."""
    (pxa, pya, pza, ea), (pxb, pyb, pzb, eb) = a, b
    pta, ptb = math.hypot(pxa, pya), math.hypot(pxb, pyb)
    ya, yb = 0.5 * math.log((ea + pza) / (ea - pza)), 0.5 * math.log((eb + pzb) / (eb - pzb))
    dphi = math.atan2(pya, pxa) - math.atan2(pyb, pxb)
    dphi = math.atan2(math.sin(dphi), math.cos(dphi))
    delta = math.sqrt((ya - yb) ** 2 + dphi**2)
    m2 = (ea + eb) ** 2 - (pxa + pxb) ** 2 - (pya + pyb) ** 2 - (pza + pzb) ** 2
    values = (min(pta, ptb) * delta, min(pta, ptb) / (pta + ptb), delta, m2)
    return [math.log(max(value, 1e-8)) for value in values]


def test_pair_features_against_a_loop():
    vectors = random_jets(6).groups["charged"].vectors_N4[:10].double()
    tokens = kinematics(vectors)
    for i in range(10):
        for j in range(10):
            expected = torch.tensor(brute_force_pair(vectors[i].tolist(), vectors[j].tolist()), dtype=torch.float64)
            found = pair_features(tokens[i], tokens[j])
            same = i == j  # the mass of a particle with itself is a difference of nearly equal numbers
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 if same else 1e-9)
            torch.testing.assert_close(found, pair_features(tokens[j], tokens[i]), rtol=0, atol=1e-12)


def test_pair_bias_is_symmetric_and_takes_padded_keys_out():
    torch.manual_seed(0)
    embedding = PairEmbedding((8,), 4, "gelu").double().eval()
    vectors = random_jets(6).groups["charged"].vectors_N4[:7].double()
    tokens = Tokens.of([torch.tensor([[True] * 5, [True, True, False, False, False]])])
    bias = embedding(vectors, tokens)
    assert bias.shape == (2, 4, 5, REGISTER)
    assert (bias[~tokens.key_mask_BS[:, None, None, :].expand_as(bias)] == MASKED_SCORE).all()
    for jet, length in enumerate((5, 2)):
        real = bias[jet, :, :length, :length]
        assert torch.equal(real, real.transpose(1, 2))
        assert ((real != 0) & (real > MASKED_SCORE)).all()
        assert (bias[jet, :, length:, :length] == 0).all()
    tokens = kinematics(vectors[5:])
    pair = pair_features(tokens[0], tokens[1])[None]
    torch.testing.assert_close(bias[1, :, 0, 1], embedding.embed(pair)[0])


@pytest.mark.parametrize("training", [True, False])
def test_pair_bias_has_the_gradient_of_a_twin_that_loops_over_pairs(training):
    torch.manual_seed(1)
    embedding = PairEmbedding((6,), 2, "gelu").double()
    embedding.norm.running_mean.normal_()
    embedding.norms[0].running_var.uniform_(0.5, 2)
    twin = nn.Sequential(
        nn.BatchNorm1d(4), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.GELU(), nn.Linear(6, 2), nn.BatchNorm1d(2)
    ).double()
    parts = [embedding.norm, embedding.linear[0], embedding.norms[0], None, embedding.linear[1], embedding.norms[1]]
    for mine, theirs in zip(parts, twin, strict=True):
        if mine is not None:
            theirs.load_state_dict(mine.state_dict(), strict=False)  # each has a counter of its own
    embedding.train(training)
    twin.train(training)
    vectors = random_jets(6).groups["charged"].vectors_N4[:8].double().view(2, 4, 4)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    upstream = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    bias = embedding(vectors[mask], Tokens.of([mask]))[..., :4].masked_fill(~mask[:, None, None, :], 0)
    (bias * upstream).sum().backward()

    tokens = kinematics(vectors)
    pairs = [(jet, i, j) for jet, length in enumerate((4, 2)) for i in range(length) for j in range(i + 1)]
    rows = twin(torch.stack([pair_features(tokens[jet, i], tokens[jet, j]) for jet, i, j in pairs]))
    expected = torch.zeros(2, 2, 4, 4, dtype=torch.float64)
    for row, (jet, i, j) in zip(rows, pairs, strict=True):
        expected[jet, :, i, j] = expected[jet, :, j, i] = row
    (expected * upstream).sum().backward()
    torch.testing.assert_close(bias, expected)
    for mine, theirs in zip(parts, twin, strict=True):
        if mine is not None:
            for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(a.grad, b.grad)
            for name, values in theirs.state_dict().items():
                if name != "num_batches_tracked":
                    torch.testing.assert_close(mine.state_dict()[name], values)


def test_batch_norm_of_fewer_than_two_rows_takes_the_running_statistics():
    norm = RowNorm(3)
    norm.running_mean.fill_(2.0)
    for rows in (torch.ones(1, 3), torch.ones(0, 3)):
        assert torch.equal(norm(rows), (rows - 2) / math.sqrt(1 + norm.eps))
    assert norm.running_mean.eq(2).all()
    two = norm(torch.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 4.0]]))
    torch.testing.assert_close(two, torch.tensor([[-1.0, 0.0, -1.0], [1.0, 0.0, 1.0]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("architecture", ["particle_transformer", "multitask"])
def test_activations_that_are_computed_again_give_the_same_gradients(architecture):
    batch = collate(random_jets(12), torch.arange(12))
    found = []
    for recompute in (False, True):
        torch.manual_seed(4)
        arguments = SMALL[architecture] | {"recompute": recompute, "dropout": 0.1}
        module = build(architecture, arguments, features(), 6)
        torch.manual_seed(5)  # of the dropout
        call(module.train(), batch).square().sum().backward()
        found.append([p.grad.clone() for p in module.parameters()])
    for kept, again in zip(*found, strict=True):
        assert torch.equal(kept, again)


def test_stochastic_depth_drops_whole_jets_and_keeps_the_mean():
    block = AttentionBlock(4, 2, 2, 0.0, "gelu", replace(VERSION_STYLES[3], drop_path=0.25))
    jet = torch.arange(4000).repeat_interleave(2)
    kept = block._kept(torch.ones(8000, 4), jet, 4000).view(4000, -1)
    assert ((kept == 0) | (kept == 1 / 0.75)).all()
    assert (kept == kept[:, :1]).all()
    assert kept.mean().item() == pytest.approx(1, abs=0.03)
    assert block.eval()._kept(torch.ones(8, 4), jet[:8], 4).eq(1).all()


def test_transformer_without_pairs_needs_no_vectors():
    module = build("particle_transformer", SMALL["particle_transformer"] | {"pair": []}, features(), 6)
    assert not module.needs_vectors
    batch = collate(random_jets(4), torch.arange(4))
    x = {name: g.x_BNF for name, g in batch.groups.items()}
    mask = {name: g.mask_BN for name, g in batch.groups.items()}
    assert module(batch.jet_BF, x, mask, None).shape == (4, 6)


@pytest.mark.parametrize(
    ("architecture", "arguments", "words"),
    [
        ("deepset", {}, "unknown architecture 'deepset'; nearest: deepsets"),
        ("deepsets", {"phis": [3]}, "phis: unknown argument; nearest: phi"),
        ("deepsets", {"phi": 64}, "phi: found 64, expected a list of positive whole numbers"),
        ("deepsets", {"features": {"jet": 1}}, "features: unknown argument"),
        ("particle_transformer", {"heads": 5}, "embed ends with 128, which heads = 5 does not divide"),
        ("mlp", {"charged": -1}, "charged: found -1, expected a whole number of at least 0"),
        ("deepjet", {"sv_lstm": 0}, "sv_lstm: found 0, expected a number greater than 0"),
        ("deepjet", {"momentum": 0}, "momentum: found 0, expected a number greater than 0"),
        ("deepjet", {"padded": [25, 25]}, "[25, 25], expected a number for each of charged, neutral, sv"),
        ("particle_transformer", {"dropout": 1.0, "blocks": 1.5}, "blocks: found 1.5, expected a whole number"),
        ("particle_transformer", {"version": 4}, "version: found 4, expected one of 1, 2, 3"),
        ("particle_transformer", {"activation": "tanh"}, "expected one of relu, gelu, silu"),
    ],
)
def test_wrong_arguments_are_named(architecture, arguments, words):
    with pytest.raises(CardError) as error:
        build(architecture, arguments, features(), 6)
    assert words in str(error.value)


def test_all_problems_at_once():
    with pytest.raises(CardError, match=r"nonsense.*heads.*dropout"):
        resolve("particle_transformer", {"nonsense": 1, "heads": "8", "dropout": -0.1})


def test_resolved_arguments_build_the_same_network():
    resolved = resolve("deepsets", {"phi": [8]})
    assert resolved["rho"] == [128, 64]
    assert resolved["phi"] == [8]
    assert resolve("deepsets", resolved) == resolved


def test_massless_constituents_far_forward_give_finite_pairs():
    """In single precision (E + pz) / (E - pz) is exactly zero there."""
    vectors = torch.tensor([[1.0, 0.0, -1e5, 1e5], [0.0, 1.0, -1e5, 1e5], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1e5, 1e5]])
    tokens = kinematics(vectors)
    assert torch.isfinite(pair_features(tokens[:, None], tokens[None, :])).all()


@pytest.mark.parametrize("arguments", [{}, {"class_blocks": 0}, {"pair": []}, {"recompute": True}], ids=str)
@pytest.mark.parametrize("order", ["by length", "random"])
def test_parts_of_a_batch_in_training_are_the_whole_batch(arguments, order):
    """Outputs, gradients and running statistics: batch norm has all constituents and pairs, whatever the parts."""
    flat = random_jets(60, seed=3)
    indices = torch.argsort(flat.lengths) if order == "by length" else torch.randperm(60)
    assert (flat.lengths == 0).any()  # also a jet without any
    found = []
    for limit in (None, 10_000, 150, 1):
        module, batch = double(small("particle_transformer", {"dropout": 0.0, **arguments}), collate(flat, indices))
        module.train().constituents_at_once = limit
        out = call(module, batch)
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
        found.append([out, *(p.grad for p in module.parameters()), *(b.double() for b in module.buffers())])
    for other in found[1:]:
        for first, second in zip(found[0], other, strict=True):
            torch.testing.assert_close(second, first, rtol=1e-9, atol=1e-9)
