"""Two processes that work together, kept for all tests of a module: they import torch only once."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from pfnano_tag.card.launch import Launch
from pfnano_tag.errors import UserError
from pfnano_tag.train.distributed import joined

Task = Callable[..., Any]
ATTEMPTS = 3
"""Another program may take a free port before rank 0 does."""


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


class Ranks:
    """A context in which functions of a module run in several processes at once."""

    def __init__(self, size: int = 2) -> None:
        self.size = size

    def __enter__(self) -> Ranks:
        self._pool = ProcessPoolExecutor(self.size, multiprocessing.get_context("spawn"))
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def run(self, task: Task, *arguments: Any) -> list[Any]:
        """What `task(world, *arguments)` returns in each process."""
        for attempt in range(ATTEMPTS):
            port = free_port()
            launches = [Launch(rank, self.size, rank, "127.0.0.1", port, "test") for rank in range(self.size)]
            futures = [self._pool.submit(_in_a_world, launch, task, arguments) for launch in launches]
            try:
                return [future.result(timeout=300) for future in futures]
            except UserError as error:
                if "can't meet" not in str(error) or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")


def _in_a_world(launch: Launch, task: Task, arguments: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    with joined(launch, torch.device("cpu")) as world:
        return task(world, *arguments)
