"""The preparation of simulated top quark pairs: the numbers make sense."""

import numpy as np
import pytest

from pfnano_tag.prepare import stage
from pfnano_tag.prepare.reweighting import lookup
from pfnano_tag.prepare.sample import training_jets
from pfnano_tag.prepare.splitting import SPLITS


@pytest.fixture(scope="module")
def study(generated_mc, tmp_path_factory):
    from pfnano_tag.card.card import Card

    sample = {"name": "ttbar", "files": str(generated_mc), "kind": "mc", "roles": ["train"]}
    card = Card.model_validate(
        {
            "study": {"name": "ttbar", "folder": tmp_path_factory.mktemp("ttbar") / "study"},
            "datasets": [sample],
            "labels": {"classes": ["b", "lepb", "c", "uds", "g"]},
        }
    )
    return card, stage.run(card)


def test_flavours_of_top_pairs(study):
    _, prepared = study
    total = {name: sum(prepared.total(split, name) for split in SPLITS) for name in prepared.classes}
    b_jets = total["b"] + total["lepb"]
    # two b quarks per event, most of them in acceptance; about every third b hadron gives a neutrino, itself or its c
    assert 1.2 < b_jets / 400 < 2.1
    assert 0.25 < total["lepb"] / b_jets < 0.5
    assert min(total.values()) > 50
    assert prepared.cutflow["ttbar"]["lepton"] > 20  # leptons from W are jets, too


def test_reweighted_training_jets_are_balanced_in_kinematics_and_number(study):
    card, prepared = study
    (part,) = training_jets(card, prepared)
    pt, eta = part.table.jet["pt"], part.table.jet["eta"]
    weight = lookup(prepared.weights, part.label, pt, eta)
    assert weight.mean() == pytest.approx(1)
    assert (weight > 0).all()
    yields = np.bincount(part.label, weights=weight)
    assert np.allclose(yields, len(part) / len(prepared.classes))

    def spread(weights):
        means = np.bincount(part.label, weights=weights * np.log(pt)) / np.bincount(part.label, weights=weights)
        return np.ptp(means)

    assert spread(weight) < 0.35 * spread(np.ones(len(part)))


def test_inputs_are_on_a_common_scale(study):
    from pfnano_tag.infer.conversion import to_inputs

    card, prepared = study
    (part,) = training_jets(card, prepared)
    flat = to_inputs(part.table, prepared.inputs)
    for x, default in ((flat.jet_JF, flat.jet_default_JF), *((g.x_NF, g.default_NF) for g in flat.groups.values())):
        for column, mask in zip(x.T.numpy().astype(float), default.T.numpy(), strict=True):
            regular = column[~mask]
            assert abs(regular.mean()) < 1e-4
            assert regular.std() == pytest.approx(1, abs=1e-4)
            assert (column[mask] < regular.min()).all() or (column[mask] == -5).all()


def test_broken_significances_became_placeholders(study):
    counted = study[1].defaults["charged/trackSip3dSig"]
    assert counted.non_finite > 0
    assert counted.share < 0.05
