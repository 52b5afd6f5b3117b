"""Layers shared by the networks.

Shape suffixes: B jets, N constituents of one group (padded), S slots of one group (a fixed number), T rows, F
features, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pfnano_tag.models.dropout import Dropout

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def dense_stack(width_in: int, widths: Sequence[int], activation: str, norm: bool, dropout: float) -> nn.Sequential:
    """Linear layers, each followed by an optional layer norm, the activation and dropout.

    Layer norm and not batch norm: a jet's output must not depend on the other jets of its batch, and the
    gradient of an attack must be the same in training and in evaluation.
    """
    layers: list[nn.Module] = []
    for width_out in widths:
        layers.append(nn.Linear(width_in, width_out))
        if norm:
            layers.append(nn.LayerNorm(width_out))
        layers.append(ACTIVATIONS[activation]())
        if dropout > 0:
            layers.append(Dropout(dropout))
        width_in = width_out
    return nn.Sequential(*layers)


class RowNorm(nn.Module):
    """Batch norm over the rows of a matrix (T, D) that batches of few rows can't spoil.

    In evaluation it is torch's batch norm. In training it differs twice. A single row has no variance: it is
    normalised with the running statistics and leaves them alone, and so is none. And a batch moves the running
    statistics in proportion to its rows, relative to the largest batch so far: the last batch of an epoch may hold
    two jets, whose mean and variance would otherwise, with a high momentum, decide what the epoch's checkpoint is
    worth. Where several processes train together (`torch.distributed`), the rows are those of all of them: each must
    call the layer, with as few rows as it may have, and in a context `in_step`.

    Parameters
    ----------
    width : int
        Columns D.
    momentum : float
        Weight of a full batch in the running statistics (torch's convention).
    eps : float
        Added to the variance.
    """

    running_mean: Tensor
    running_var: Tensor
    most_rows: Tensor

    def __init__(self, width: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("most_rows", torch.zeros((), dtype=torch.int64))

    def forward(self, rows_TD: Tensor) -> Tensor:
        """Rows with mean `bias` and standard deviation `weight` in each column (up to `eps`)."""
        if exporting():  # whether there are rows is not known then, which torch's batch norm asks
            scale_D, shift_D = self.scale_and_shift()
            return rows_TD * scale_D + shift_D
        if self.training and processes() > 1:
            return self._normalised_together(rows_TD)
        momentum, training = 0.0, self.training and len(rows_TD) > 1
        if training:
            momentum = self._momentum_of(len(rows_TD))
        statistics = (self.running_mean, self.running_var)
        return F.batch_norm(rows_TD, *statistics, self.weight, self.bias, training, momentum, self.eps)

    def _momentum_of(self, rows: int) -> float:
        self.most_rows.clamp_(min=rows)
        return self.momentum * rows / int(self.most_rows)

    @torch.compiler.disable
    def _normalised_together(self, rows_TD: Tensor) -> Tensor:
        mean_D, variance_D, rows = statistics_of_all(rows_TD.detach().to(self.weight.dtype))
        if rows < 2:
            scale_D, shift_D = self.scale_and_shift()
            return rows_TD * scale_D + shift_D
        momentum = self._momentum_of(rows)
        self.running_mean.lerp_(mean_D, momentum)
        self.running_var.lerp_(variance_D * rows / (rows - 1), momentum)
        scale_D = torch.rsqrt(variance_D + self.eps)
        before = scale_D.new_zeros(()) if _CHAIN.last is None else _CHAIN.last
        out_TD: Tensor
        out_TD, link = _NormalisedTogether.apply(rows_TD, self.weight, self.bias, mean_D, scale_D, rows, before)
        _CHAIN.add(link)
        return out_TD

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What the layer multiplies with and adds in evaluation, (D,) each."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


def exporting() -> bool:
    """Whether the network is being written down for another program, for batches of any size.

    What depends on the values of a batch, such as the length of its longest jet, is then taken from the shapes of the
    padded inputs: more padding, the same result.
    """
    return hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting()  # since torch 2.7


def has_row_norm(module: nn.Module) -> bool:
    """Whether a network has a layer that takes statistics of the jets of all processes."""
    return any(isinstance(part, RowNorm) for part in module.modules())


def processes() -> int:
    """Processes that train a network together; 1 where there is no process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def statistics_of_all(rows_TD: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and variance (over N, not N - 1) of the rows of all processes, and their number N.

    Means and sums of squared deviations are put together as in Chan et al. (1979), so that large means cost
    no digits.
    """
    own = rows_TD.new_zeros(1 + 2 * rows_TD.shape[1])
    if len(rows_TD):
        mean_D = rows_TD.mean(0)
        own = torch.cat([own[:1] + len(rows_TD), mean_D, (rows_TD - mean_D).square().sum(0)])
    every = [torch.empty_like(own) for _ in range(processes())]
    dist.all_gather(every, own)
    count_P1, mean_PD, squares_PD = torch.stack(every).split([1, rows_TD.shape[1], rows_TD.shape[1]], 1)
    rows = count_P1.sum().clamp(min=1)
    mean_D = (count_P1 * mean_PD).sum(0) / rows
    squares_D = (squares_PD + count_P1 * (mean_PD - mean_D).square()).sum(0)
    return mean_D, squares_D / rows, int(count_P1.sum())


class _Chain:
    """Ties the norms of a forward pass together; open inside `in_step`."""

    def __init__(self) -> None:
        self.open = False
        self.last: Tensor | None = None

    def add(self, link: Tensor) -> None:
        """Take the next link (none that has no gradient: activation checkpointing goes forward without)."""
        if self.open and link.requires_grad:
            self.last = link

    def tie(self, loss: Tensor) -> Tensor:
        """The loss, tied to the last link, whose value is zero."""
        return loss if self.last is None else loss + self.last.to(loss)


_CHAIN = _Chain()


@contextmanager
def in_step() -> Iterator[Callable[[Tensor], Tensor]]:
    """Context of a forward pass that several processes make together; yields what the loss goes through at its end.

    In the backward pass each norm adds up numbers of all processes. They must come in the same order everywhere, and
    none may be left out where a process has no rows and the loss does not depend on them: a chain of zeros leads from
    the loss through all norms in the reverse order of their calls.
    """
    _CHAIN.open, _CHAIN.last = True, None
    try:
        yield _CHAIN.tie
    finally:
        _CHAIN.open, _CHAIN.last = False, None


class _NormalisedTogether(torch.autograd.Function):
    """Batch norm with the mean and the standard deviation of the rows of all processes, and a link of the chain.

    The loss is the sum of the processes' losses: its gradient with respect to a row has parts through the statistics,
    to which the losses of all processes contribute. The gradients of weight and bias are this process's part.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows_TD: Tensor,
        weight_D: Tensor,
        bias_D: Tensor,
        mean_D: Tensor,
        scale_D: Tensor,
        rows: int,
        link: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Normalise the rows of this process."""
        normalised_TD = (rows_TD - mean_D) * scale_D
        ctx.save_for_backward(normalised_TD, scale_D * weight_D)
        ctx.rows, ctx.dtype = rows, rows_TD.dtype
        return (normalised_TD * weight_D + bias_D).to(rows_TD.dtype), torch.zeros_like(link)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TD: Tensor, of_link: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients with respect to the rows of this process, to weight, bias and link."""
        normalised_TD, scale_D = ctx.saved_tensors
        gradient_TD = gradient_TD.to(scale_D.dtype)
        of_bias_D, of_weight_D = gradient_TD.sum(0), (gradient_TD * normalised_TD).sum(0)
        bias_D, weight_D = _summed(torch.stack([of_bias_D, of_weight_D])) / ctx.rows
        rows_TD = (gradient_TD - bias_D - normalised_TD * weight_D) * scale_D
        return rows_TD.to(ctx.dtype), of_weight_D, of_bias_D, None, None, None, of_link


def _summed(values: Tensor) -> Tensor:
    """Sum over all processes, in place."""
    dist.all_reduce(values)
    return values


def first_slots(x_BNF: Tensor, mask_BN: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """Bring a padded group to a fixed number of slots, whatever the batch was padded to.

    Parameters
    ----------
    x_BNF : Tensor
        Features; the padding lies behind the constituents and may hold anything.
    mask_BN : Tensor
        bool, True for real constituents.
    slots : int
        Slots S; constituents behind the first S are left out.

    Returns
    -------
    x_BSF : Tensor
        Features, zero where there is no constituent.
    mask_BS : Tensor
        bool.
    """
    missing = max(0, slots - mask_BN.shape[1])
    mask_BS = F.pad(mask_BN[:, :slots], (0, missing))
    x_BSF = F.pad(x_BNF[:, :slots], (0, 0, 0, missing))
    return torch.where(mask_BS[:, :, None], x_BSF, 0), mask_BS


def scatter_rows(rows_TD: Tensor, slots_T: Tensor, size: int, free: Tensor | None = None) -> Tensor:
    """Place rows at the given slots of a zero matrix of `size` rows; its gradient is a plain gather.

    Where the other slots are known (`free`, int64), only those are set to zero first.
    """
    if free is None:
        places = rows_TD.new_zeros(size, rows_TD.shape[1])
    else:
        places = rows_TD.new_empty(size, rows_TD.shape[1]).index_fill_(0, free, 0)
    return places.index_copy_(0, slots_T, rows_TD)
