"""Averages of the weights along the training: Lookahead, and the exponential moving average.

Both are part of what a resumed training needs: they are saved and restored whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pfnano_tag.train.muon import Muon


class Lookahead:
    """Lookahead around an optimiser (Zhang et al., arXiv:1907.08610, algorithm 1).

    After every `steps` steps of the optimiser the slow weights go part of the way to the fast ones,
    `slow += alpha (fast - slow)`, and the fast weights go on from there. The state of the optimiser (running means)
    is kept, as in Ranger.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer or Muon
        Moves the fast weights: those of the network.
    steps : int
        Steps between two of the slow weights.
    alpha : float
        Step size of the slow weights.
    """

    def __init__(self, optimizer: torch.optim.Optimizer | Muon, steps: int, alpha: float) -> None:
        self.optimizer, self.steps, self.alpha = optimizer, steps, alpha
        self.taken = 0
        self._slow = [weight.detach().clone() for weight in self._fast()]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of the optimiser, with their learning rates."""
        return self.optimizer.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """One step of the fast weights, and one of the slow ones when it is their turn."""
        self.optimizer.step()
        self.taken += 1
        if self.taken % self.steps == 0:
            with torch.no_grad():
                for slow, fast in zip(self._slow, self._fast(), strict=True):
                    slow += self.alpha * (fast - slow)
                    fast.copy_(slow)

    def state_dict(self) -> dict[str, Any]:
        """State of the optimiser, slow weights, steps taken."""
        return {"optimizer": self.optimizer.state_dict(), "slow": self._slow, "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        for slow, saved in zip(self._slow, state["slow"], strict=True):
            slow.copy_(saved)
        self.taken = int(state["taken"])

    def _fast(self) -> Iterable[Tensor]:
        return [weight for group in self.param_groups for weight in group["params"]]


def moving_average(module: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of a network's weights: `average = decay average + (1 - decay) weights`.

    The first update copies the weights; buffers are copied in each. The average is `.module`; parameters and number
    of updates are in its `state_dict`.

    Parameters
    ----------
    module : nn.Module
        Network; it is copied.
    decay : float
        Between 0 and 1; the average reaches back about `1 / (1 - decay)` updates.
    """
    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))
