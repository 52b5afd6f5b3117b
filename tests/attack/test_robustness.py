"""AUC against strength: set-ups, strength zero, flips, shifts, and the command on the small study."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from synthetic import CLASSES, features, labelled_jets, specification

from pfnano_tag.attack import stage
from pfnano_tag.attack.constraints import in_units, movable
from pfnano_tag.attack.fgsm import fgsm
from pfnano_tag.attack.robustness import (
    COMMON_SAMPLE,
    WHITE_BOX,
    Campaign,
    Variant,
    attacked_nodes,
    computed,
    curve_of,
    flips,
    joined,
    robustness,
    variants,
)
from pfnano_tag.attack.shifts import InputShifts
from pfnano_tag.card import read_card
from pfnano_tag.card.attacks import Attack
from pfnano_tag.errors import CardError, CheckpointError
from pfnano_tag.evaluate import stage as evaluation
from pfnano_tag.evaluate.bootstrap import replica_weights
from pfnano_tag.infer.bookkeeping import Tagger
from pfnano_tag.infer.prediction import predict
from pfnano_tag.models.batch import call, collate
from pfnano_tag.models.registry import build

SPEC = specification()
ATTACKS = {"fgsm": Attack(kind="fgsm", scan=(0.3, 0.0, 0.1)), "noise": Attack(kind="noise", scan=(0.1,))}


def tagger(name, seed, inputs=SPEC):
    torch.manual_seed(seed)
    module = build("deepsets", {"phi": [16], "rho": [16]}, features(), 6).eval()
    return Tagger(name, 1, module, inputs, CLASSES, "deepsets", {}, "hash", {})


@pytest.fixture(scope="module")
def campaign():
    taggers = {name: tagger(name, seed) for seed, name in enumerate(("first", "second"))}
    return Campaign(taggers, "first", taggers["first"], ATTACKS, seed=3)


@pytest.fixture(scope="module")
def jets():
    return labelled_jets(300)


@pytest.fixture(scope="module")
def nodes(campaign, jets):
    return attacked_nodes(campaign, jets.inputs, jets.label.numpy(), 64)


def by_hand(model, source, jets, epsilon):
    batch = collate(jets.inputs, torch.arange(len(jets.label)), jets.label)
    attacked = fgsm(source.module, batch, epsilon, movable(batch, SPEC))
    with torch.no_grad():
        return call(model.module, attacked).softmax(1).numpy()


def test_white_box_uses_the_networks_own_gradient_and_the_common_sample_the_sources(campaign, jets, nodes):
    first, second = campaign.taggers.values()
    own = nodes[Variant("second", "fgsm", WHITE_BOX, 0.3)]
    shared = nodes[Variant("second", "fgsm", COMMON_SAMPLE, 0.3)]
    np.testing.assert_allclose(own, by_hand(second, second, jets, 0.3), atol=1e-5)
    np.testing.assert_allclose(shared, by_hand(second, first, jets, 0.3), atol=1e-5)
    assert np.abs(own - shared).max() > 1e-3


def test_equal_variants_are_computed_once(campaign):
    listed = variants(campaign)
    assert len(listed) == len(set(listed)) == 2 + 2 + 4 + 2  # nominal, first white box, second both, noise
    assert computed(campaign, Variant("first", "fgsm", COMMON_SAMPLE, 0.1)).setup == WHITE_BOX
    assert computed(campaign, Variant("second", "noise", WHITE_BOX, 0.1)).setup == COMMON_SAMPLE
    for model in campaign.taggers:
        for attack in ATTACKS:
            for setup in (WHITE_BOX, COMMON_SAMPLE):
                curve = list(curve_of(campaign, model, attack, setup))
                assert set(curve) <= set(listed)
                assert [v.strength for v in curve] == sorted({0.0, *ATTACKS[attack].scan})


def test_strength_zero_is_the_nominal_evaluation_exactly(campaign, jets, nodes):
    for name, one in campaign.taggers.items():
        clean = predict(one, jets.inputs, 64)
        np.testing.assert_array_equal(nodes[Variant(name)], clean)
        still = dataclasses.replace(campaign, taggers={name: one}, source_name=name, source=one)
        tiny = {"fgsm": Attack(kind="fgsm", scan=(1e-30,)), "noise": Attack(kind="noise", scan=(1e-30,))}
        found = attacked_nodes(dataclasses.replace(still, attacks=tiny), jets.inputs, jets.label.numpy(), 64)
        for values in found.values():  # also when the attack is really run
            np.testing.assert_array_equal(values, clean)


def test_stronger_attacks_do_more_harm(campaign, jets, nodes):
    weights = replica_weights(np.arange(len(jets.label), dtype=np.uint64), 5)
    aucs = robustness(nodes, ("BvsL",), jets.label.numpy(), CLASSES, weights)
    for model in campaign.taggers:
        curve = list(curve_of(campaign, model, "fgsm", WHITE_BOX))
        values = [aucs[v]["BvsL"].value for v in curve]
        assert values[0] > values[1] > values[2]
        changed = [flips(nodes[curve[0]], nodes[v]) for v in curve]
        assert changed[0] == 0
        assert 0 < changed[1] < changed[2]
        assert np.isfinite(aucs[curve[2]]["BvsL"].error)


def test_jets_in_parts_give_the_same(campaign, jets, nodes):
    label = jets.label.numpy()
    parts = [
        attacked_nodes(campaign, jets.inputs.select(torch.arange(a, b)), label[a:b], 50)
        for a, b in ((0, 120), (120, 300))
    ]
    for variant, values in joined(parts).items():
        np.testing.assert_allclose(values, nodes[variant], atol=1e-5)


def test_shifts_count_what_moved(campaign, jets):
    shifts = {name: InputShifts(SPEC) for name in ATTACKS}
    attacked_nodes(campaign, jets.inputs, jets.label.numpy(), 64, shifts)
    charged = jets.inputs.groups["charged"]
    columns = [feature.id for feature in SPEC.groups["charged"]]
    for survey in shifts.values():
        for column, name in enumerate(columns):
            shift = survey.shifts[name]
            real = ~charged.default_NF[:, column]
            assert shift.values == int(real.sum()) == shift.nominal.sum() == shift.attacked.sum()
            if SPEC.groups["charged"][column].protected:
                assert (shift.moved, shift.distance) == (0, 0)
                np.testing.assert_array_equal(shift.nominal, shift.attacked)
            else:
                assert shift.moved > 0.5 * shift.values
                assert shift.distance > 0
    fgsm_shift = shifts["fgsm"].shifts["charged/ptrel"]
    assert fgsm_shift.total / fgsm_shift.moved == pytest.approx(0.3, rel=1e-3)  # the largest strength, each once
    physical = in_units(charged.x_NF, SPEC.groups["charged"])[:, columns.index("charged/ptrel")]
    inside = (physical[~charged.default_NF[:, columns.index("charged/ptrel")]] >= -0.5).sum()
    assert abs(int(shifts["noise"].shifts["charged/ptrel"].nominal[50:].sum()) - int(inside)) <= 1


def test_networks_with_other_inputs_can_not_share_a_sample(campaign):
    other = dataclasses.replace(SPEC, candidate_pt=2.0)
    with pytest.raises(CheckpointError, match="stranger: other inputs"):
        dataclasses.replace(campaign, taggers={**campaign.taggers, "stranger": tagger("stranger", 5, other)}).check()


def test_the_command(small_study, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(small_study / "study", folder)
    overrides = [
        f"study.folder={folder}",
        "attacks.fgsm.scan=[0.05, 0.2]",
        "attacks.noise.scan=[0.05]",
        "evaluation.discriminants=[BvsL]",
        "evaluation.replicas=5",
    ]
    card = read_card(small_study / "card.yaml", overrides)
    results = stage.run(card, ["small", "small:1"])
    written = json.loads((folder / "attacks" / "results.json").read_text())
    assert written == results
    assert results["source"] == "small"
    clean = evaluation.load_taggers(card, ["small"], tuple(card.labels.classes))
    assert set(results["models"]) == {"small", "small_1"}
    found = results["models"]["small"]["attacks"]["fgsm"]
    assert found["white_box"] == found["common_sample"]  # it is the source itself
    assert len(found["white_box"]["auc"]["BvsL"]) == 3
    assert found["white_box"]["flips"][0] == 0
    from pfnano_tag.evaluate.performance import of_networks
    from pfnano_tag.evaluate.scores import collect
    from pfnano_tag.prepare.prepared import read_prepared

    scores = collect(card, read_prepared(folder / "prepared.json", card), clean)
    weights = scores.replica_weights(5)
    nominal = of_networks(scores, card.evaluation, evaluation.pt_edges(card), weights)["small"]["BvsL"].auc
    assert found["white_box"]["auc"]["BvsL"][0] == [nominal.value, nominal.error]
    pictures = {path.name for path in (folder / "attacks").glob("*.png")}
    assert {"auc_BvsL_fgsm_white_box.png", "auc_BvsL_fgsm_common_sample.png", "auc_BvsL_noise.png"} <= pictures
    assert {"inputs_fgsm.png", "inputs_noise.png", "flips_noise.png"} <= pictures
    differences = results["differences"]["fgsm"]["white_box"]["small - small_1"]["BvsL"]
    assert len(differences) == 3
    assert "passes over them" in stage.plan(card, ["small"], None, 50)
    with pytest.raises(CardError, match="nothing to do"):
        stage.run(
            read_card(
                small_study / "card.yaml",
                [f"study.folder={folder}", "attacks.fgsm.scan=[0]", "attacks.noise.scan=[]"],
            )
        )
