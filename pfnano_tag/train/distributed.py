"""Processes that train one network together, each on its share of the jets, and what they tell each other.

All have the same weights. In each step the gradients of their parts of the batch, scaled by their share of the sum of
weights, are added up in one sum after the backward pass. It gives what torch's `DistributedDataParallel` does, whose
hooks are made for one backward pass per step with as many jets in each process: here a batch passes in parts, and
may be empty; its loss is a weighted mean over all processes; an attack calls the network in evaluation mode.

A process alone (`ALONE`) runs the same lines: its sums are its own numbers.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from pfnano_tag.card.launch import Launch
from pfnano_tag.errors import Incomplete, UserError

PATIENCE = timedelta(minutes=30)
"""How long a process waits for another one that is alive; one that has ended is noticed at once."""


@dataclass(frozen=True)
class World:
    """The processes of a training, as seen from one of them.

    Parameters
    ----------
    rank, size : int
        Which process, from 0, of how many.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def table(self, *values: float) -> Tensor:
        """Numbers of all processes, float64 (size, values), one row per rank."""
        return self._gathered(torch.tensor([values], dtype=torch.float64))

    def sums(self, *values: float) -> list[float]:
        """Sums over all processes."""
        sums: list[float] = self.table(*values).sum(0).tolist()
        return sums

    def gathered(self, rows: Tensor) -> Tensor:
        """Rows of all processes in the order of their ranks; each may have another number of them."""
        counts = self.table(len(rows)).long().flatten()
        most = int(counts.max())
        padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
        real = torch.arange(most) < counts[:, None]
        return self._gathered(padded)[real.flatten().to(rows.device)]

    def _gathered(self, rows: Tensor) -> Tensor:
        """Rows of all processes, all of one shape."""
        if self.size == 1:
            return rows
        every = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(every, rows.contiguous())
        return torch.cat(every)

    def told(self, content: Any) -> Any:
        """JSON content of rank 0, in all processes: what it has decided."""
        if self.size == 1:
            return content
        text = json.dumps(content).encode() if self.leads else b""
        rows = self.gathered(torch.tensor(list(text), dtype=torch.uint8))
        return json.loads(bytes(rows.tolist()))

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def add_gradients(self, module: nn.Module, loss: Tensor) -> Tensor:
        """Replace the gradients by their sums over all processes.

        A parameter without a gradient in all processes stays so: optimisers leave it alone.

        Parameters
        ----------
        module : nn.Module
            Network.
        loss : Tensor
            This process's part of the loss, a scalar.

        Returns
        -------
        Tensor
            Part of each rank, (size,).
        """
        if self.size == 1:
            return loss[None]
        parameters = list(module.parameters())
        own = loss.new_zeros(self.size)
        own[self.rank] = loss
        there = loss.new_tensor([parameter.grad is not None for parameter in parameters])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([own, there, *(gradient.flatten() for gradient in gradients)])
        dist.all_reduce(flat)
        sizes = [self.size, len(parameters), *(parameter.numel() for parameter in parameters)]
        losses, anywhere, *sums = flat.split(sizes)
        for parameter, known, total in zip(parameters, anywhere.tolist(), sums, strict=True):
            parameter.grad = total.view_as(parameter) if known else None
        return losses


ALONE = World()


@contextmanager
def joined(launch: Launch, device: torch.device) -> Iterator[World]:
    """Let the processes of a launch meet, and part at the end.

    Errors of a process that is not alone name its rank.

    Parameters
    ----------
    launch : Launch
        How this process was started.
    device : torch.device
        Where the network is: NCCL connects GPUs, gloo processors.

    Raises
    ------
    UserError
        When the others can't be met.
    Incomplete
        When another process has ended in between.
    """
    if launch.size == 1:
        yield ALONE
        return
    try:
        _meet(launch, device)
        yield World(launch.rank, launch.size)
    except (UserError, Incomplete) as error:
        raise type(error)(f"rank {launch.rank}: {error}") from error
    except RuntimeError as error:
        if not is_lost(error):
            raise
        raise Incomplete(
            f"rank {launch.rank}: another process has ended or does not answer; the last state that was written is "
            f"kept, go on with --resume ({_first_line(error)})"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def device_of_rank(device: torch.device, launch: Launch) -> torch.device:
    """The GPU of a process, of those that it sees; the processor is for all."""
    if device.type != "cuda" or launch.size == 1:
        return device
    return torch.device("cuda", launch.local_rank % torch.cuda.device_count())


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    words = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe")
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)


def _meet(launch: Launch, device: torch.device) -> None:
    where = f"tcp://{launch.address}:{launch.port}"
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store, _, _ = next(rendezvous(where, launch.rank, launch.size, timeout=PATIENCE))
        store = PrefixStore(_attempt(store, launch), store)
        dist.init_process_group(backend, store=store, rank=launch.rank, world_size=launch.size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"can't meet the other {launch.size - 1} processes that {launch.by} started at {where} "
            f"({_first_line(error)}); set MASTER_ADDR and MASTER_PORT to a free port of rank 0's machine"
        ) from error


def _attempt(store: Store, launch: Launch) -> str:
    """A name that only the processes of this attempt share.

    The store that torchrun keeps outlives the processes that it restarts: what the dead have left there must not be
    taken for the word of the living. Each process says a name of its own; rank 0 lists those that it has read, until
    all have found theirs in the list.
    """
    own, end = uuid.uuid4().hex, time.monotonic() + PATIENCE.total_seconds()
    store.set(f"name/{launch.rank}", own)
    while time.monotonic() < end:
        if launch.rank == 0:
            names = "".join(store.get(f"name/{rank}").decode() for rank in range(launch.size))
            store.set("names", names)
        else:
            names = store.get("names").decode()
        attempt = hashlib.sha256(names.encode()).hexdigest()
        if own in names:
            store.set(f"{attempt}/{launch.rank}", "seen")
        if launch.rank == 0 and store.check([f"{attempt}/{rank}" for rank in range(launch.size)]):
            store.set(f"{attempt}/complete", "")
        if own in names and store.check([f"{attempt}/complete"]):
            return attempt
        time.sleep(0.02)
    raise RuntimeError("some of them have not come")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
