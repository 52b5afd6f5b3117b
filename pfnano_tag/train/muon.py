"""Muon on the matrices of a network, AdamW on all its other weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class Muon:
    """Muon (arXiv:2502.16982, `torch.optim.Muon`) for matrices, and AdamW for biases, norms and tokens.

    Updates of matrices are scaled to the size of AdamW's (section 2.2 there), so that both take one learning rate and
    one weight decay.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        All weights of the network.
    lr : float
        Learning rate.
    betas : tuple of float
        Of AdamW; Muon's momentum is the first one.
    weight_decay : float
        Decoupled weight decay.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float
    ) -> None:
        every = list(parameters)
        matrices = [weight for weight in every if weight.ndim == 2]
        others = [weight for weight in every if weight.ndim != 2]
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            self.parts.append(
                torch.optim.Muon(
                    matrices, lr=lr, weight_decay=weight_decay, momentum=betas[0], adjust_lr_fn="match_rms_adamw"
                )
            )
        if others:
            self.parts.append(torch.optim.AdamW(others, lr=lr, betas=betas, weight_decay=weight_decay))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of both, with their learning rates."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """One step of both."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """States of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
