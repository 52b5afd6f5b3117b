"""What every attack must respect, and what each one must do."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import features, labelled_jets, random_jets, specification
from torch import nn

from pfnano_tag.attack.constraints import in_scaled, in_units, movable, restrict
from pfnano_tag.attack.draws import normal, uniform
from pfnano_tag.attack.fgsm import fgsm
from pfnano_tag.attack.gradient import input_gradient
from pfnano_tag.attack.noise import noise
from pfnano_tag.attack.registry import KINDS, make
from pfnano_tag.card.attacks import Attack
from pfnano_tag.models.batch import Batch, call, collate
from pfnano_tag.models.losses import cross_entropy
from pfnano_tag.models.registry import ARCHITECTURES, build

SPEC = specification()


def network(architecture="deepsets", seed=0):
    sizes = {
        "mlp": {"hidden": [16], "dropout": 0.3},
        "deepjet": {"dense": [16], "charged_lstm": 16, "neutral_lstm": 8, "sv_lstm": 8},
        "deepsets": {"phi": [16], "rho": [16], "dropout": 0.3},
        "particle_transformer": {"embed": [16], "pair": [8], "heads": 2, "blocks": 1, "class_blocks": 1},
        "multitask": {"embed": [16], "width": 16, "heads": 2, "layers": 1, "out": 8, "head": [8]},
    }
    torch.manual_seed(seed)
    return build(architecture, sizes[architecture], features(), 6)


def batch_of(count=16, seed=0):
    jets = labelled_jets(count, seed)
    return collate(jets.inputs, torch.arange(count), jets.label, jets.weight)


def bits(x):
    return x.view(torch.int32)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("impact", [None, 0.2])
def test_protected_defaults_and_padding_keep_their_bits(kind, impact):
    module, batch = network(), batch_of()
    distort = make(Attack(kind=kind, epsilon=0.1, steps=3, restrict_impact=impact), SPEC)
    attacked = distort(module, batch)
    moved = 0
    for name, x in batch.inputs.items():
        default = batch.jet_default_BF if name == "jet" else batch.groups[name].default_BNF
        protected = torch.tensor([feature.protected for feature in SPEC.groups[name]])
        frozen = default | protected
        if name != "jet":
            frozen = frozen | ~batch.groups[name].mask_BN[:, :, None]
            assert attacked.groups[name].vectors_BN4 is batch.groups[name].vectors_BN4
        assert torch.equal(bits(attacked.inputs[name])[frozen], bits(x)[frozen]), name
        moved += int((attacked.inputs[name] != x)[~frozen].sum())
    assert moved > 100
    assert attacked.label_B is batch.label_B
    assert attacked.weight_B is batch.weight_B


@settings(deadline=None, max_examples=25)
@given(
    epsilon=st.floats(1e-3, 1.0),
    seed=st.integers(0, 50),
    architecture=st.sampled_from(sorted(ARCHITECTURES)),
)
def test_fgsm_moves_by_epsilon_or_not_at_all(epsilon, seed, architecture):
    module, batch = network(architecture, seed), batch_of(6, seed)
    attacked = fgsm(module, batch, epsilon, movable(batch, SPEC))
    for name, x in batch.inputs.items():
        new = attacked.inputs[name]
        up, down = x + epsilon, x - epsilon
        assert ((new == x) | (new == up) | (new == down)).all(), name


@pytest.mark.parametrize("kind", ["fgsm", "pgd"])
def test_strength_is_the_largest_change(kind):
    module, batch = network(), batch_of()
    attacked = make(Attack(kind=kind, epsilon=0.05), SPEC)(module, batch)
    for name, x in batch.inputs.items():
        assert float((attacked.inputs[name] - x).abs().max()) == pytest.approx(0.05, rel=1e-3)


class Linear(nn.Module):
    """Logits ``W jet``: the attack is known in closed form."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, -2.0, 5.0], [-1.0, 0.5, 0.0]]))

    def forward(self, jet, x, mask, vectors=None):
        return jet @ self.weight.T


def linear_batch():
    jet = torch.tensor([[0.3, -0.2, 1.0], [0.1, 0.4, -1.0]])
    return Batch(jet, torch.zeros(2, 3, dtype=torch.bool), {}, torch.tensor([0, 1]))


def test_fgsm_on_a_linear_model_in_closed_form():
    """With two classes the gradient is proportional to the difference of the other class's row and the true one's."""
    module, batch = Linear(), linear_batch()
    attacked = fgsm(module, batch, 0.1, movable(batch, SPEC))
    difference = (module.weight[1] - module.weight[0]).detach()
    sign = torch.stack([difference.sign(), -difference.sign()])
    sign[:, 2] = 0  # the third jet feature is protected
    torch.testing.assert_close(attacked.jet_BF, batch.jet_BF + 0.1 * sign)
    margin = 0.1 * (difference[:2].abs().sum())
    logits = batch.jet_BF @ module.weight.detach().T
    other = logits.gather(1, 1 - batch.label_B[:, None]) - logits.gather(1, batch.label_B[:, None])
    expected = torch.log1p(torch.exp(other.squeeze(1) + margin)).mean()
    found = cross_entropy(call(module, attacked), batch.label_B)
    torch.testing.assert_close(found.detach(), expected)
    assert found > cross_entropy(call(module, batch), batch.label_B)


def test_normed_gradient_has_length_epsilon_per_jet():
    module, batch = Linear(), linear_batch()
    spec = replace(SPEC, groups={"jet": tuple(replace(f, protected=False) for f in SPEC.groups["jet"])})
    attacked = make(Attack(kind="normed_gradient", epsilon=0.3), spec)(module, batch)
    change = attacked.jet_BF - batch.jet_BF
    torch.testing.assert_close(change.norm(dim=1), torch.full((2,), 0.3))
    difference = (module.weight[1] - module.weight[0]).detach()
    torch.testing.assert_close(change[0], 0.3 * difference / difference.norm())


def test_normed_gradient_does_not_depend_on_the_batch():
    module, jets = network(), labelled_jets(12)
    distort = make(Attack(kind="normed_gradient", epsilon=0.3), SPEC)
    together = distort(module, collate(jets.inputs, torch.arange(12), jets.label))
    alone = distort(module, collate(jets.inputs, torch.tensor([4]), jets.label))
    torch.testing.assert_close(together.jet_BF[4:5], alone.jet_BF, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_gradient_attacks_raise_the_loss_and_pgd_does_most(architecture):
    module, batch = network(architecture).eval(), batch_of(64)

    def loss(kind):
        attacked = make(Attack(kind=kind, epsilon=0.2, steps=10), SPEC)(module, batch)
        return float(cross_entropy(call(module, attacked), batch.label_B).detach())

    clean = float(cross_entropy(call(module, batch), batch.label_B).detach())
    assert clean < loss("normed_gradient")
    assert abs(loss("noise") - clean) < 0.3 * (loss("fgsm") - clean)
    assert clean < loss("fgsm") <= loss("pgd") * 1.001


def test_without_labels_the_most_probable_class_is_attacked():
    module, batch = network().eval(), batch_of()
    own = replace(batch, label_B=call(module, batch).argmax(1))
    for kind in ("fgsm", "pgd", "normed_gradient"):
        distort = make(Attack(kind=kind, epsilon=0.1, steps=2), SPEC)
        blind = distort(module, replace(batch, label_B=None))
        assert blind.label_B is None
        for name, x in distort(module, own).inputs.items():
            assert torch.equal(x, blind.inputs[name])


def test_gradient_is_taken_in_evaluation_mode_and_leaves_the_network_as_it_was():
    module, batch = network(), batch_of()
    module.rho.eval()
    modes = [part.training for part in module.modules()]
    first, second = input_gradient(module, batch), input_gradient(module, batch)
    assert all(torch.equal(first[name], second[name]) for name in first)  # dropout is off
    assert [part.training for part in module.modules()] == modes
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(not x.requires_grad for x in fgsm(module, batch, 0.1, movable(batch, SPEC)).inputs.values())
    assert any(part.training for part in module.modules())


def test_gradient_ignores_sample_weights():
    module, batch = network(), batch_of()
    other = replace(batch, weight_B=batch.weight_B * torch.linspace(0, 5, len(batch)))
    for name, gradient in input_gradient(module, batch).items():
        assert torch.equal(gradient, input_gradient(module, other)[name])


def test_noise_is_normal():
    flat = random_jets(3000, seed=8)
    batch = collate(flat, torch.arange(3000))
    for name, draw in normal(batch, seed=3).items():
        real = draw if name == "jet" else draw[batch.groups[name].mask_BN]
        values = real.flatten().double()
        assert abs(float(values.mean())) < 5 / math.sqrt(len(values))
        assert abs(float(values.std()) - 1) < 5 / math.sqrt(2 * len(values))
        assert abs(float((values.abs() < 1).double().mean()) - 0.6827) < 5 * 0.47 / math.sqrt(len(values))
        assert float(values.abs().max()) > 3
    jet = normal(batch, seed=3)["jet"].double()
    assert float(torch.corrcoef(jet.T).fill_diagonal_(0).abs().max()) < 5 / math.sqrt(3000)


def test_noise_belongs_to_the_jet_and_not_to_its_batch():
    flat = random_jets(40, seed=9)
    together = uniform(collate(flat, torch.arange(40)), seed=1)
    order = torch.tensor([31, 2, 17])
    few = collate(flat, order)
    for name, draw in uniform(few, seed=1).items():
        if name == "jet":
            assert torch.equal(draw, together[name][order])
        else:
            mask = few.groups[name].mask_BN
            assert torch.equal(draw[mask], together[name][order][:, : mask.shape[1]][mask])
    other = uniform(few, seed=2)
    assert not any(torch.equal(other[name], draw) for name, draw in uniform(few, seed=1).items())
    assert torch.unique(together["jet"]).numel() == together["jet"].numel()


def test_noise_has_its_sigma():
    batch = collate(random_jets(2000), torch.arange(2000))
    allowed = movable(batch, SPEC)
    change = noise(batch, 0.05, allowed).jet_BF - batch.jet_BF
    assert float(change[allowed["jet"]].std()) == pytest.approx(0.05, rel=0.05)


def test_units_and_back():
    batch = batch_of(50)
    for name, x in batch.inputs.items():
        value = in_units(x, SPEC.groups[name])
        for column, feature in enumerate(SPEC.groups[name]):
            y = x[..., column].double() * feature.std + feature.mean
            scale = {"none": 0.0, "log": 1.0, "log100": 100.0}[feature.transform]
            expected = y.sign() * y.abs().expm1() / scale if scale else y
            torch.testing.assert_close(value[..., column], expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(in_scaled(value, SPEC.groups[name]), x.double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["fgsm", "noise", "systematic"])
def test_restricted_impact_in_original_units(kind):
    module, batch = network(), batch_of(60)
    free = make(Attack(kind=kind, epsilon=0.5), SPEC)(module, batch)
    bound = make(Attack(kind=kind, epsilon=0.5, restrict_impact=0.2), SPEC)(module, batch)
    bounded = 0
    for name, x in batch.inputs.items():
        columns = SPEC.groups[name]
        nominal, value = in_units(x, columns), in_units(bound.inputs[name], columns)
        assert ((value - nominal).abs() <= 0.2 * nominal.abs() * (1 + 1e-4) + 1e-5).all(), name
        small = (in_units(free.inputs[name], columns) - nominal).abs() <= 0.2 * nominal.abs()
        assert torch.equal(bound.inputs[name][small], free.inputs[name][small])
        assert ((value - nominal) * (free.inputs[name] - x) >= 0).all()
        bounded += int((~small).sum())
    assert bounded > 50


def test_restrict_keeps_an_unmoved_batch_bit_for_bit():
    batch = batch_of()
    again = restrict(batch, batch, SPEC, 0.1)
    assert all(torch.equal(bits(x), bits(again.inputs[name])) for name, x in batch.inputs.items())


def test_scan_strength_takes_the_place_of_epsilon():
    module, batch = network(), batch_of()
    scanned = make(Attack(kind="fgsm", epsilon=0.01), SPEC, strength=0.2)(module, batch)
    direct = fgsm(module, batch, 0.2, movable(batch, SPEC))
    assert torch.equal(scanned.jet_BF, direct.jet_BF)


def test_card_and_registry_name_the_same_attacks():
    assert set(Attack.model_fields["kind"].annotation.__args__) == set(KINDS)
