"""A batch that passes the network in parts: the same jets, the same gradient."""

import pytest
import torch
from synthetic import CLASSES, features, labelled_jets, random_jets, specification

from pfnano_tag.card.attacks import Attack
from pfnano_tag.card.training import Training
from pfnano_tag.models.batch import collate
from pfnano_tag.models.registry import build
from pfnano_tag.train.objective import Objective, make_loss

SMALL = {"embed": [8], "pair": [], "heads": 2, "blocks": 1, "class_blocks": 1, "dropout": 0.0}


def batch_of(count=40, seed=3):
    jets = labelled_jets(count, seed=seed)
    return collate(jets.inputs, torch.arange(count), jets.label, jets.weight)


@pytest.mark.parametrize("constituents", [1, 30, 100, 10**6])
def test_parts_together_are_the_batch_and_have_at_most_one_jet_too_many(constituents):
    batch = batch_of()
    parts = batch.parts(constituents)
    assert torch.equal(torch.cat([part.jet_BF for part in parts]), batch.jet_BF)
    assert torch.equal(torch.cat([part.label_B for part in parts]), batch.label_B)
    assert torch.equal(torch.cat([part.weight_B for part in parts]), batch.weight_B)
    for name, group in batch.groups.items():
        for field in ("x_BNF", "default_BNF", "vectors_BN4"):
            rows = [getattr(part.groups[name], field)[part.groups[name].mask_BN] for part in parts]
            assert torch.equal(torch.cat(rows), getattr(group, field)[group.mask_BN])
    lengths = [sum(group.mask_BN.sum(1) for group in part.groups.values()) for part in parts]
    longest = max(int(length.max()) for length in lengths)
    assert all(int(length.sum()) <= constituents + longest for length in lengths)
    assert (len(parts) == 1) == (constituents == 10**6)
    if len(parts) > 1:
        assert all(part.groups[n].mask_BN.any(0).all() for part in parts for n in batch.groups if len(part))


def test_a_batch_without_constituents_is_one_part():
    empty = collate(random_jets(1), torch.tensor([0, 0]))
    assert empty.parts(1) == [empty]


def gradients(limit, distortion=None, weights=True, **settings):
    torch.manual_seed(1)
    module = build("particle_transformer", SMALL, features(), len(CLASSES)).double()
    for part in module.modules():  # of the parts, batch norm would take other statistics
        if hasattr(part, "most_rows"):
            part.forward = lambda rows: rows
    batch = batch_of()
    groups = {name: type(g)(g.x_BNF.double(), g.mask_BN, g.default_BNF) for name, g in batch.groups.items()}
    weight = batch.weight_B.double() if weights else None
    batch = type(batch)(batch.jet_BF.double(), batch.jet_default_BF, groups, batch.label_B, weight)
    chosen = Training(constituents_at_once=limit, **settings)
    objective = Objective(make_loss(chosen, CLASSES), chosen, distortion, specification(), 1)
    loss = objective.gradient(module.train(), batch, 1, 0)
    return float(loss), [p.grad for p in module.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("distortion", "settings"),
    [
        (None, {}),
        (None, {"loss": "focal"}),
        (Attack(kind="fgsm", epsilon=0.1), {"attack": "fgsm"}),
        (Attack(kind="fgsm", epsilon=0.1), {"attack": "fgsm", "attack_loss": "kl"}),
    ],
)
@pytest.mark.parametrize("weights", [True, False])
def test_gradients_of_parts_add_up_to_the_batchs(distortion, settings, weights):
    whole, expected = gradients(None, distortion, weights, **settings)
    for limit in (1, 60):
        loss, found = gradients(limit, distortion, weights, **settings)
        assert loss == pytest.approx(whole, rel=1e-6)
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)


def test_networks_without_sequences_are_never_split(monkeypatch):
    module = build("deepsets", {}, features(), len(CLASSES))
    batch = batch_of()
    monkeypatch.setattr(type(batch), "parts", lambda self, limit: pytest.fail("was split"))
    settings = Training(constituents_at_once=1)
    Objective(make_loss(settings, CLASSES), settings, None, specification(), 1).gradient(module, batch, 1, 0)


def test_an_attack_takes_its_gradient_in_parts_too():
    """Batch norm keeps the batch whole: the network cuts it, in training and while an attack looks at it."""
    batch, found = batch_of(), {}
    longest = int(sum(group.mask_BN.sum(1) for group in batch.groups.values()).max())
    for limit in (30, None):
        torch.manual_seed(1)
        module = build("particle_transformer", SMALL, features(), len(CLASSES)).train()
        passes = []
        module.blocks[0].register_forward_pre_hook(
            lambda _, inputs, module=module, passes=passes: passes.append((module.training, len(inputs[0])))
        )
        settings = Training(constituents_at_once=limit)
        objective = Objective(make_loss(settings, CLASSES), settings, Attack(kind="fgsm"), specification(), 1)
        found[limit] = float(objective.gradient(module, batch, 1, 0))
        assert {training for training, _ in passes} == {True, False}
        if limit:
            assert max(rows for _, rows in passes) <= limit + longest
        else:
            assert len(passes) == 2
    assert found[30] == pytest.approx(found[None], rel=1e-6)
