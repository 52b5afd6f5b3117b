import math

import pytest
import torch

from pfnano_tag.models.losses import LOSSES, CrossEntropy, Focal, cross_entropy, divergence, focal, weighted_mean

LOGITS = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0], [math.log(9.0), 0.0]], dtype=torch.float64)
LABEL = torch.tensor([0, 1, 1])  # probabilities of the true class: 3/4, 1/2, 1/10
WEIGHT = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)


def test_cross_entropy_in_closed_form():
    expected = (1.0 * math.log(4 / 3) + 2.0 * math.log(2) + 0.5 * math.log(10)) / 3.5
    assert float(cross_entropy(LOGITS, LABEL, WEIGHT)) == pytest.approx(expected, rel=1e-12)
    plain = (math.log(4 / 3) + math.log(2) + math.log(10)) / 3
    assert float(CrossEntropy()(LOGITS, LABEL)) == pytest.approx(plain, rel=1e-12)


def test_label_smoothing_in_closed_form():
    true = math.log(4 / 3), math.log(2), math.log(10)
    other = math.log(4), math.log(2), math.log(10 / 9)
    expected = sum(0.95 * t + 0.05 * o for t, o in zip(true, other, strict=True)) / 3
    assert float(CrossEntropy(smoothing=0.1)(LOGITS, LABEL)) == pytest.approx(expected, rel=1e-12)


def test_focal_in_closed_form():
    terms = [(1 - p) ** 2 * -math.log(p) for p in (0.75, 0.5, 0.1)]
    expected = (1.0 * terms[0] + 2.0 * terms[1] + 0.5 * terms[2]) / 3.5
    assert float(Focal(gamma=2)(LOGITS, LABEL, WEIGHT)) == pytest.approx(expected, rel=1e-12)
    assert float(focal(LOGITS, LABEL, gamma=0.0)) == pytest.approx(float(cross_entropy(LOGITS, LABEL)), rel=1e-12)
    with_alpha = (2 * terms[0] + 5 * terms[1] + 5 * terms[2]) / 3
    assert float(Focal(2.0, (2.0, 5.0))(LOGITS, LABEL)) == pytest.approx(with_alpha, rel=1e-6)


def test_divergence_in_closed_form():
    """p = (3/4, 1/4), (1/2, 1/2), (9/10, 1/10) against the even distribution, and the other way round."""
    even = torch.zeros(3, 2, dtype=torch.float64)
    p = [(0.75, 0.25), (0.5, 0.5), (0.9, 0.1)]
    to_even = [sum(x * math.log(2 * x) for x in pair) for pair in p]
    from_even = [sum(-math.log(2 * x) / 2 for x in pair) for pair in p]
    assert divergence(LOGITS, even).tolist() == pytest.approx(to_even, rel=1e-12)
    assert divergence(even, LOGITS).tolist() == pytest.approx(from_even, rel=1e-12)
    assert divergence(LOGITS, LOGITS + 3.0).abs().max() < 1e-15


def test_divergence_has_gradients_to_both_sides():
    """d KL / d z'_k = q_k - p_k; d KL / d z_k = p_k (ln(p_k / q_k) - KL)."""
    nominal, attacked = LOGITS.clone().requires_grad_(), torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    kl = divergence(nominal, attacked)
    kl.sum().backward()
    p, q = LOGITS.softmax(1), torch.full((3, 2), 0.5, dtype=torch.float64)
    assert torch.allclose(attacked.grad, q - p)
    assert torch.allclose(nominal.grad, p * ((p / q).log() - kl.detach()[:, None]))


def test_scaling_all_weights_changes_nothing_and_zero_weight_removes_a_jet():
    assert torch.allclose(cross_entropy(LOGITS, LABEL, WEIGHT), cross_entropy(LOGITS, LABEL, 7 * WEIGHT))
    without = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)
    assert torch.allclose(cross_entropy(LOGITS, LABEL, without), cross_entropy(LOGITS[:2], LABEL[:2], WEIGHT[:2]))
    assert float(weighted_mean(torch.ones(3), torch.zeros(3))) == 0.0


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_certain_predictions_have_finite_gradients(name):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    LOSSES[name]()(logits, torch.tensor([0, 0])).backward()
    assert logits.grad.isfinite().all()
