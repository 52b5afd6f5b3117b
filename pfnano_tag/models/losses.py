"""Losses, as functions and as modules: all are weighted means sum(w l) / sum(w).

Shape suffixes: B jets, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def weighted_mean(loss_B: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """`sum(w l) / sum(w)`; the plain mean without weights, zero if all weights are zero.

    The normalisation to the sum of weights (not to the number of jets) is that of the adversarial-training
    papers' code (arXiv:2203.13890): a batch's step does not depend on its mix of flavours.
    """
    if weight_B is None:
        return loss_B.mean()
    total = weight_B.sum()
    return (weight_B * loss_B).sum() / torch.where(total > 0, total, torch.ones_like(total))


def cross_entropy(
    logits_BK: Tensor, label_B: Tensor, weight_B: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Cross entropy of softmax(logits) with integer labels.

    Parameters
    ----------
    smoothing : float
        Label smoothing: this fraction of the target is spread evenly over all classes.
    """
    loss_B = F.cross_entropy(logits_BK, label_B, reduction="none", label_smoothing=smoothing)
    return weighted_mean(loss_B, weight_B)


def focal(
    logits_BK: Tensor,
    label_B: Tensor,
    weight_B: Tensor | None = None,
    gamma: float = 2.0,
    alpha_K: Tensor | None = None,
) -> Tensor:
    """Focal loss `alpha (1 - p)^gamma (-ln p)` with p the probability of the true class (arXiv:1708.02002).

    Parameters
    ----------
    gamma : float
        Focusing strength; 0 is the cross entropy.
    alpha_K : Tensor or None
        Factor per class.
    """
    log_p_B = F.log_softmax(logits_BK, dim=1).gather(1, label_B[:, None]).squeeze(1)
    # -expm1(log p) is 1 - p without cancellation; the floor keeps the power's gradient finite at p = 1.
    loss_B = (-torch.expm1(log_p_B)).clamp(min=1e-12) ** gamma * -log_p_B
    if alpha_K is not None:
        loss_B = alpha_K[label_B] * loss_B
    return weighted_mean(loss_B, weight_B)


def divergence(nominal_BK: Tensor, attacked_BK: Tensor) -> Tensor:
    """Kullback-Leibler divergence KL(p || p') of each jet, with p and p' the softmax of the two logits, (B,).

    The regulariser of TRADES (arXiv:1901.08573, section 3): sum_k p_k (ln p_k - ln p'_k), with gradients to both.
    """
    log_p_BK, log_q_BK = F.log_softmax(nominal_BK, dim=1), F.log_softmax(attacked_BK, dim=1)
    return (log_p_BK.exp() * (log_p_BK - log_q_BK)).sum(1)


class CrossEntropy(nn.Module):
    """`cross_entropy` as a module."""

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits_BK: Tensor, label_B: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """Weighted mean loss."""
        return cross_entropy(logits_BK, label_B, weight_B, self.smoothing)


class Focal(nn.Module):
    """`focal` as a module; `alpha` is one factor per class."""

    def __init__(self, gamma: float = 2.0, alpha: tuple[float, ...] | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha_K: Tensor | None
        self.register_buffer("alpha_K", None if alpha is None else torch.tensor(alpha, dtype=torch.float32))

    def forward(self, logits_BK: Tensor, label_B: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """Weighted mean loss."""
        return focal(logits_BK, label_B, weight_B, self.gamma, self.alpha_K)


LOSSES: dict[str, type[nn.Module]] = {"cross_entropy": CrossEntropy, "focal": Focal}
