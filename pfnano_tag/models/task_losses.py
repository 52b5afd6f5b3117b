"""Losses of tasks, entry by entry, and the ways to make one loss of several.

An entry is what has a label: a jet, a constituent, a pair. A task's loss is sum(w l) / sum(w) over its entries, each
with the weight of its jet.

Shape suffixes: E entries, B jets, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gaussian_nll(mean_E: Tensor, log_variance_E: Tensor, target_E: Tensor) -> Tensor:
    """Negative logarithm of a Gaussian likelihood without its constant: (s + (t - m)^2 exp(-s)) / 2, s = ln variance.

    As `torch.nn.GaussianNLLLoss`, with the logarithm in place of the variance: positive whatever the network says.
    """
    return 0.5 * (log_variance_E + (target_E - mean_E).square() * torch.exp(-log_variance_E))


def smooth_l1(prediction_E: Tensor, target_E: Tensor, beta: float) -> Tensor:
    """Squared error over 2 beta where the error is below beta, its modulus minus beta / 2 above."""
    return F.smooth_l1_loss(prediction_E, target_E, reduction="none", beta=beta)


def weighted_sum(loss_E: Tensor, jet_E: Tensor, weight_B: Tensor | None) -> Tensor:
    """Sum of w l over entries, w the weight of an entry's jet, 1 without weights; zero without entries."""
    return loss_E.sum() if weight_B is None else (weight_B.index_select(0, jet_E) * loss_E).sum()


class FixedWeights(nn.Module):
    """The sum of losses, each times a factor.

    Parameters
    ----------
    factors : mapping of str to float
        Factor of each loss.
    """

    def __init__(self, factors: Mapping[str, float]) -> None:
        super().__init__()
        self.factors = dict(factors)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Sum of the losses that are given."""
        return torch.stack([self.factors[name] * loss for name, loss in losses.items()]).sum()


class LearnedWeights(nn.Module):
    """Weights by the uncertainty of each task, learned with the network (Kendall, Gal, Cipolla, arXiv:1705.07115).

    With s the logarithm of a task's variance, a classification adds exp(-s) l + s / 2 (equation 9), a regression
    exp(-s) l / 2 + s / 2 (equation 5). The likelihood of a Gaussian regression has its variance inside already, and
    can be negative, which would have no minimum in s: it adds its loss times a fixed factor.

    Parameters
    ----------
    factors : mapping of str to float
        1 for a classification, 1/2 for a regression.
    fixed : mapping of str to float
        Losses that have no uncertainty here, and their factors.
    """

    def __init__(self, factors: Mapping[str, float], fixed: Mapping[str, float]) -> None:
        super().__init__()
        self.factors, self.fixed = dict(factors), dict(fixed)
        self.places = {name: place for place, name in enumerate(factors)}
        self.log_variance = nn.Parameter(torch.zeros(len(factors)))

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Sum over the losses that are given."""
        terms = []
        for name, loss in losses.items():
            if name in self.fixed:
                terms.append(self.fixed[name] * loss)
                continue
            s = self.log_variance[self.places[name]]
            terms.append(self.factors[name] * torch.exp(-s) * loss + 0.5 * s)
        return torch.stack(terms).sum()


class GeometricMean(nn.Module):
    """The n-th root of the product of n losses (Chennupati et al., arXiv:1904.08492, section 3.3).

    Its gradient is that of the mean logarithm, times itself: the scale of a loss has no meaning. Losses are above
    zero; one that is zero, for nothing has a label, is left out.
    """

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Geometric mean of the losses that are given."""
        positive = [loss for loss in losses.values() if bool(loss > 0)]
        if not positive:
            return torch.stack(list(losses.values())).sum()
        return torch.stack(positive).log().mean().exp()
