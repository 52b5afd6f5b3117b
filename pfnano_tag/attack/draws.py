"""Random numbers that belong to a jet, not to a batch.

Noise must not depend on how jets were put into batches, on the order of files, or on what ran before: a job that
continues after a kill has to give the same bits. So a number is a hash of (seed, what the jet looks like, position
of the value), never the next number of a stream.

Shape suffixes: B jets, N constituents, F features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pfnano_tag.models.batch import Batch

# Multipliers of the 64-bit finaliser of splitmix64 (Steele et al., OOPSLA 2014), as signed integers.
_FIRST = -0x40A7B892E31B1A47
_SECOND = -0x6B2FB644ECCEEE15
_STEP = -0x61C8864680B583EB

# The jet is recognised by its inputs rounded to 1/1024, so that a difference in the last bit (another
# processor, another batch) hardly ever makes another jet of it.
_GRID = 1024.0


def uniform(batch: Batch, seed: int) -> dict[str, Tensor]:
    """Numbers in (0, 1), float32, in the shapes of `batch.inputs`, a pure function of seed and jet."""
    key_B = _key(batch, seed)
    out = {}
    for index, (name, x) in enumerate(batch.inputs.items()):
        position = torch.arange(x.shape[-1], device=x.device)
        if x.dim() == 3:  # a constituent's number must not depend on the width of the padding
            position = torch.arange(x.shape[1], device=x.device)[:, None] * 4096 + position
        key = key_B.view(-1, *[1] * (x.dim() - 1)) + (index << 40)
        bits = _mix(key + position * _STEP)
        out[name] = (((bits >> 41) & 0x7FFFFF).float() + 0.5) / 2.0**23  # half-way points: never 0 or 1
    return out


def normal(batch: Batch, seed: int) -> dict[str, Tensor]:
    """Standard normal numbers, float32, in the shapes of `batch.inputs`."""
    return {name: math.sqrt(2) * torch.erfinv(2 * u - 1) for name, u in uniform(batch, seed).items()}


def _key(batch: Batch, seed: int) -> Tensor:
    """One integer per jet from all its real inputs."""
    key_B = torch.full((len(batch),), seed * _STEP % 2**62, dtype=torch.int64, device=batch.jet_BF.device)
    key_B = _mix(key_B + _folded(batch.jet_BF))
    for group in batch.groups.values():
        rows_BN = _mix(_folded(group.x_BNF) + torch.arange(group.x_BNF.shape[1], device=group.x_BNF.device) * _STEP)
        key_B = _mix(key_B + torch.where(group.mask_BN, rows_BN, 0).sum(1))
    return key_B


def _folded(x: Tensor) -> Tensor:
    """Sum over features of hashed rounded values."""
    column = torch.arange(x.shape[-1], device=x.device) * _STEP
    return _mix((x.detach().double() * _GRID).round().long() + column).sum(-1)


def _mix(z: Tensor) -> Tensor:
    """Finaliser of splitmix64; integers wrap around."""
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * _FIRST
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * _SECOND
    return z ^ ((z >> 31) & 0x1FFFFFFFF)
