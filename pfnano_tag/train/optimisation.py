"""Optimisers and learning-rate schedules.

A schedule is a pure function of the step: nothing has to be saved for a training that is resumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from pfnano_tag.card.training import Training
from pfnano_tag.train.averaging import Lookahead
from pfnano_tag.train.muon import Muon

WARM_UP = 0.05
"""Fraction of the steps in which `cosine` rises linearly."""
LOWEST = 0.01
"""Learning rate at the end of `cosine` and `flat_then_decay`, as a fraction of the highest."""
CYCLE_RISE, CYCLE_START, CYCLE_END = 0.3, 1 / 25, 1 / 25e4
"""One cycle (Smith, Topin, arXiv:1708.07120) with torch's defaults: rising part, first and last learning rate."""
DECAY_START = 0.7
"""Fraction of the steps after which `flat_then_decay` falls linearly to `LOWEST`, as the trainings of b-hive do."""
INVERSE_EPOCHS = 30
"""Epochs after which `inverse` has halved the learning rate (as in the trainings of arXiv:2203.13890)."""

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer | Muon]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "radam": torch.optim.RAdam,
    "muon": Muon,
}


Optimizer = torch.optim.Optimizer | Muon | Lookahead


def make_optimizer(settings: Training, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Optimiser of the card over the given parameters, with Lookahead around it where the card says so."""
    create = OPTIMIZERS[settings.optimizer]
    optimizer = create(
        parameters, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    if settings.lookahead is None:
        return optimizer
    return Lookahead(optimizer, settings.lookahead.steps, settings.lookahead.alpha)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give all parameter groups this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def bound_gradient(module: nn.Module, clip: float | None) -> Tensor:
    """Scale the gradient in the parameters down to the norm `clip` at most; returns its norm before that."""
    return nn.utils.clip_grad_norm_(module.parameters(), math.inf if clip is None else clip)


def rate_factor(schedule: str, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Learning rate of a step as a fraction of the highest.

    Parameters
    ----------
    schedule : str
        `constant`, `inverse`, `cosine`, `one_cycle` or `flat_then_decay`.
    step : int
        Steps done before this one, over all epochs.
    steps_per_epoch, epochs : int
        Length of the whole training.
    """
    last = max(1, steps_per_epoch * epochs - 1)
    return SCHEDULES[schedule](step, last, step // steps_per_epoch)


def _constant(step: int, last: int, epoch: int) -> float:
    return 1.0


def _inverse(step: int, last: int, epoch: int) -> float:
    return 1 / (1 + epoch / INVERSE_EPOCHS)


def _cosine(step: int, last: int, epoch: int) -> float:
    rise = max(1, round(WARM_UP * last))
    if step < rise:
        return (step + 1) / rise
    return _half_wave(1.0, LOWEST, (step - rise) / max(1, last - rise))


def _one_cycle(step: int, last: int, epoch: int) -> float:
    peak = CYCLE_RISE * (last + 1) - 1
    if step <= peak:
        return _half_wave(CYCLE_START, 1.0, step / peak)
    return _half_wave(1.0, CYCLE_END, (step - peak) / (last - peak))


def _flat_then_decay(step: int, last: int, epoch: int) -> float:
    fallen = (step / last - DECAY_START) / (1 - DECAY_START)
    return 1 - (1 - LOWEST) * max(0.0, fallen)


def _half_wave(start: float, end: float, way: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(way, 1.0)))


SCHEDULES: dict[str, Callable[[int, int, int], float]] = {
    "constant": _constant,
    "inverse": _inverse,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "flat_then_decay": _flat_then_decay,
}
