"""What is known after an epoch, against counting by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from synthetic import CLASSES, labelled_jets

from pfnano_tag.card.evaluation import Evaluation
from pfnano_tag.models.losses import LOSSES
from pfnano_tag.models.registry import build
from pfnano_tag.train.validation import separation, validate

EVERY = Evaluation(discriminants=("BvsL", "CvsB", "CvsL", "BvsC", "QvsG"), mistags=(0.3, 0.1, 0.01))
SIDES = {
    "BvsL": ((0, 1, 2), (4, 5)),
    "CvsB": ((3,), (0, 1, 2)),
    "CvsL": ((3,), (4, 5)),
    "BvsC": ((0, 1, 2), (3,)),
    "QvsG": ((4,), (5,)),
}


def nodes_and_labels(count=400, seed=3):
    """Coarse scores: many ties."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 6, count)
    raw = rng.integers(1, 8, (count, 6)) + 4.0 * np.eye(6)[label] * rng.random((count, 1))
    raw = np.round(raw)
    return raw / raw.sum(axis=1, keepdims=True), label


def brute_force(score, signal, mistag):
    """The best signal efficiency of all cuts that let no more than this share of the background through."""
    best = 0.0
    for cut in sorted(set(score)):
        if sum(s >= cut for s in score[~signal]) <= mistag * sum(~signal) + 1e-9:
            best = max(best, sum(s >= cut for s in score[signal]) / sum(signal))
    return best


@pytest.mark.parametrize("name", SIDES)
def test_auc_and_efficiencies_are_those_of_counting(name):
    nodes, label = nodes_and_labels()
    found = separation(nodes, label, CLASSES, EVERY)
    signal, background = SIDES[name]
    chosen = np.isin(label, signal + background)
    above, below = nodes[chosen][:, signal].sum(axis=1), nodes[chosen][:, background].sum(axis=1)
    score, is_signal = above / (above + below), np.isin(label[chosen], signal)
    assert found[f"auc_{name}"] == pytest.approx(roc_auc_score(is_signal, score), abs=1e-12)
    for mistag in EVERY.mistags:
        assert found[f"efficiency_{name}_{mistag:g}"] == pytest.approx(
            brute_force(score, is_signal, mistag), abs=1e-12
        )


def test_what_the_classes_or_the_jets_lack():
    nodes, label = nodes_and_labels()
    assert not any("QvsG" in name or "Cvs" in name for name in separation(nodes[:, :2], label % 2, ("b", "g"), EVERY))
    without_c = np.where(label == 3, 0, label)
    found = separation(nodes, without_c, CLASSES, EVERY)
    assert found["auc_CvsL"] is None
    assert found["efficiency_BvsC_0.1"] is None
    assert found["auc_BvsL"] is not None


def test_no_cut_lets_little_enough_through():
    """All jets have one score: no threshold has a mistag rate of 1 % or less."""
    found = separation(np.full((60, 6), 1 / 6), np.arange(60) % 6, CLASSES, EVERY)
    assert found["auc_BvsL"] == 0.5
    assert found["efficiency_BvsL_0.01"] == 0.0


def test_validation_loss_with_and_without_weights():
    torch.manual_seed(1)
    jets = labelled_jets(150, seed=4)
    features = {"jet": 3, "charged": 4, "neutral": 2, "sv": 2}
    module = build("deepsets", {"phi": [8], "rho": [8]}, features, 6)
    loss = LOSSES["cross_entropy"]()
    weighted, plain = (validate(module, [jets], CLASSES, loss, 64, EVERY, flag) for flag in (True, False))
    ones = labelled_jets(150, seed=4)
    ones.weight[:] = 1
    assert plain["validation_loss"] == validate(module, [ones], CLASSES, loss, 64, EVERY, True)["validation_loss"]
    assert weighted.pop("validation_loss") != plain.pop("validation_loss")
    assert weighted == plain
    ones.weight[:] = float("nan")
    assert validate(module, [ones], CLASSES, loss, 64, EVERY, True)["validation_loss"] is None
