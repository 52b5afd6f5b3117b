"""Dropout (Srivastava et al., JMLR 15 (2014) 1929) that costs little on a CPU.

There torch makes a uniform number of 64 random bits for each unit, which takes longer than what most layers do with
it. Here a unit has 16 bits: it is kept where they are above a threshold, and scaled by the inverse of exactly the
probability of that; the probability itself is rounded to 1/65536.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BITS = 16
LEVELS = 2**BITS


class Dropout(nn.Module):
    """Sets each unit to zero with a probability in training, and scales the others up; the input in evaluation.

    Parameters
    ----------
    p : float
        Probability to drop a unit, from 0 to 1.

    Raises
    ------
    ValueError
        When `p` is not a probability.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout: found {p:g}, expected a probability from 0 to 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        return dropped(x, self.p) if self.training else x

    def extra_repr(self) -> str:
        """What `print` shows of the layer."""
        return f"p={self.p:g}"


def dropped(x: Tensor, p: float) -> Tensor:
    """Return `x` with units set to zero, each with probability `p`, and the others scaled so that the mean stays.

    Random bits are those of torch's global generator: the same seed, the same units. On other devices than the CPU,
    and where the network is being compiled, it is torch's own dropout, whose kernels are fast there.
    """
    if p == 0:
        return x
    kept = LEVELS - round(p * LEVELS)
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p)
    return x * _scales_of_kept(x, kept) if kept else F.dropout(x, 1.0)


def _scales_of_kept(x: Tensor, kept: int) -> Tensor:
    """Zeros, and LEVELS / kept where a unit is kept."""
    words, lanes = torch.int64, 64 // BITS
    drawn = torch.empty(-(-x.numel() // lanes), dtype=words, device=x.device).random_(torch.iinfo(words).min, None)
    bits = drawn.view(torch.int16)[: x.numel()].view(x.shape)
    scales = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return torch.ge(bits, LEVELS // 2 - kept, out=scales).mul_(LEVELS / kept)
