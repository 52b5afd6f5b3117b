"""Which jets are attacked, and the loss of nominal and attacked jets, against plain formulas."""

import pytest
import torch
from synthetic import CLASSES, labelled_jets, specification

from pfnano_tag.attack.registry import make
from pfnano_tag.card.attacks import Attack
from pfnano_tag.card.training import Training
from pfnano_tag.errors import CardError
from pfnano_tag.infer.bookkeeping import feature_counts
from pfnano_tag.models.batch import call, collate
from pfnano_tag.models.losses import cross_entropy
from pfnano_tag.models.registry import build
from pfnano_tag.train.objective import Objective, in_words, make_loss

FGSM = Attack(kind="fgsm", epsilon=0.2)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return build("deepsets", {"phi": [8], "rho": [8]}, feature_counts(specification()), len(CLASSES)).train()


@pytest.fixture(scope="module")
def batch():
    jets = labelled_jets(40, seed=4)
    return collate(jets.inputs, torch.arange(40), jets.label, jets.weight)


def objective(seed=1, attack=FGSM, **settings):
    chosen = Training(**{"attack": "fgsm", **settings})
    return Objective(make_loss(chosen, CLASSES), chosen, attack, specification(), seed)


def nominal_loss(network, batch):
    return cross_entropy(call(network, batch), batch.label_B, batch.weight_B).item()


def seen_by(network, batch, chosen, epoch=1, number=0):
    """Inputs of the batch as the network sees them in training mode."""
    seen = []

    def watch(module, arguments):
        if module.training:
            seen.append({"jet": arguments[0], **arguments[1]})

    handle = network.register_forward_pre_hook(watch)
    chosen(network, batch, epoch, number)
    handle.remove()
    return seen


def moved_jets(batch, seen):
    moved = torch.zeros(len(batch), dtype=torch.bool)
    for name, x in batch.inputs.items():
        moved |= (seen[name] != x).flatten(1).any(1)
    return moved


def test_every_batch_is_replaced_by_its_image(network, batch):
    (seen,) = seen_by(network, batch, objective())
    image = make(FGSM, specification(), loss=cross_entropy)(network, batch)
    assert all(torch.equal(seen[name], x) for name, x in image.inputs.items())
    expected = cross_entropy(call(network, image), batch.label_B, batch.weight_B).item()
    assert objective()(network, batch, 1, 0).item() == pytest.approx(expected, rel=1e-6)
    assert expected > nominal_loss(network, batch) + 0.01


def test_every_and_after_choose_batches(network, batch):
    nominal = nominal_loss(network, batch)
    chosen = objective(attack_every=3, attack_after=2)
    attacked = [
        (epoch, number)
        for epoch in (1, 2, 3, 4)
        for number in range(7)
        if chosen(network, batch, epoch, number).item() != pytest.approx(nominal, rel=1e-6)
    ]
    assert attacked == [(3, 0), (3, 3), (3, 6), (4, 0), (4, 3), (4, 6)]


@pytest.mark.parametrize("kind", ["fgsm", "pgd", "normed_gradient", "noise"])
def test_a_fraction_of_the_jets_is_replaced_by_what_they_would_be_alone(network, batch, kind):
    """The rest of the batch has no part in a jet's image."""
    attack = Attack(kind=kind, epsilon=0.2, steps=2)
    (all_of_them,) = seen_by(network, batch, objective(attack=attack))
    (some,) = seen_by(network, batch, objective(attack=attack, attack_fraction=0.3))
    moved = moved_jets(batch, some)
    assert int(moved.sum()) == 12
    for name, x in batch.inputs.items():
        assert torch.equal(some[name][~moved], x[~moved])
        assert torch.allclose(some[name][moved], all_of_them[name][moved], atol=1e-6)


def test_the_draw_is_a_function_of_seed_epoch_and_batch(network, batch):
    def moved(seed, epoch, number):
        (seen,) = seen_by(network, batch, objective(seed, attack_fraction=0.5), epoch, number)
        return tuple(moved_jets(batch, seen).tolist())

    assert moved(1, 2, 3) == moved(1, 2, 3)
    assert len({moved(1, 2, 3), moved(2, 2, 3), moved(1, 3, 3), moved(1, 2, 4)}) == 4


def test_each_jet_is_drawn_as_often_as_the_others(network, batch):
    chosen = objective(attack_fraction=0.25)
    counts = torch.zeros(40)
    for number in range(400):
        counts[chosen._chosen(40, 1, number)] += 1
    assert counts.sum() == 4000
    assert (counts - 100).abs().max() < 4.5 * (400 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_nominal_loss_and_divergence(network, batch, share):
    """CE(f(x), y) + 2 KL(p || p') written as sums over jets and classes; jets that stay have no divergence."""
    chosen = objective(attack_loss="kl", attack_kl_weight=2.0, attack_fraction=share)
    image = make(FGSM, specification(), loss=cross_entropy)(network, batch)
    p, q = call(network, batch).double().softmax(1), call(network, image).double().softmax(1)
    attacked = set(chosen._chosen(40, 1, 0).tolist())
    total = 0.0
    for jet in range(40):
        term = -p[jet, batch.label_B[jet]].log()
        if jet in attacked:
            term = term + 2.0 * sum(p[jet, k] * (p[jet, k] / q[jet, k]).log() for k in range(len(CLASSES)))
        total = total + batch.weight_B[jet].double() * term
    expected = total / batch.weight_B.double().sum()
    network.zero_grad()
    found = chosen(network, batch, 1, 0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(found, network.head.weight)
    (wanted,) = torch.autograd.grad(expected, network.head.weight)
    assert torch.allclose(gradient, wanted, atol=1e-6)  # to both sides: the image alone is a constant


def test_a_batch_too_small_for_its_share_stays_nominal(network):
    jets = labelled_jets(3, seed=4)
    small = collate(jets.inputs, torch.arange(3), jets.label, jets.weight)
    for loss in ("adversarial", "kl"):
        found = objective(attack_fraction=0.1, attack_loss=loss)(network, small, 1, 0).item()
        assert found == pytest.approx(nominal_loss(network, small), rel=1e-6)


def test_the_network_stays_in_training_mode_and_its_gradients_are_its_own(network, batch):
    network.zero_grad()
    objective(attack_fraction=0.5)(network, batch, 1, 0)
    assert all(part.training for part in network.modules())
    assert all(weights.grad is None for weights in network.parameters())


def test_losses_of_the_card():
    logits = torch.randn(50, len(CLASSES), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    label = torch.arange(50) % len(CLASSES)
    log_p = logits.log_softmax(1)
    true = log_p.gather(1, label[:, None]).squeeze(1)
    smooth = make_loss(Training(label_smoothing=0.2), CLASSES)
    assert float(smooth(logits, label)) == pytest.approx(float(-(0.8 * true + 0.2 * log_p.mean(1)).mean()), rel=1e-12)
    focal = make_loss(Training(loss="focal", focal_gamma=3.0, focal_alpha={"c": 2.5, "g": 0.5}), CLASSES)
    factor = torch.tensor([{"c": 2.5, "g": 0.5}.get(CLASSES[k], 1.0) for k in label.tolist()])
    assert float(focal(logits, label)) == pytest.approx(float(-(factor * (1 - true.exp()) ** 3 * true).mean()))


def test_a_class_that_the_prepared_study_lacks_is_named():
    settings = Training(loss="focal", focal_alpha={"b": 1.0, "bb": 2.0})
    with pytest.raises(CardError, match=r"focal_alpha: bb is no flavour class .* which has b, c, uds"):
        make_loss(settings, ("b", "c", "uds"))


def test_the_plan_says_what_is_attacked():
    assert in_words(Training()) == ""
    assert in_words(Training(attack="fgsm")) == "every batch attacked by fgsm"
    settings = Training(attack="pgd", attack_every=3, attack_fraction=0.5, attack_after=2, attack_loss="kl")
    assert in_words(settings) == "50% of the jets of one batch in 3 attacked by pgd after epoch 2, loss with 1 x KL"
