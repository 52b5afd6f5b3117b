"""Work on many job outputs, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from pfnano_tag.card.command import progress
from pfnano_tag.errors import StudyError

Item = TypeVar("Item")

FEW = 50
"""Up to this many job outputs are read by this process alone: others would take longer to start."""


class Pool:
    """Processes that are started when there is enough to do.

    Parameters
    ----------
    processes : int
        Most of them; 1: this process alone.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._executor: ProcessPoolExecutor | None = None

    def run(
        self, work: Callable[[Item], None], items: Sequence[Item], sizes: Sequence[int], description: str, unit: str
    ) -> None:
        """Do some work for each item; the first error, in their order, ends it.

        Parameters
        ----------
        work : callable
            Of a module; writes what it has to say to a file.
        items : sequence
            What is worked on.
        sizes : sequence of int
            Files to be read for each.
        description, unit : str
            For the progress bar.

        Raises
        ------
        StudyError
            When a process was killed.
        """
        if not items:
            return
        alone = min(self.processes, len(items)) == 1 or sum(sizes) <= FEW
        done = map(work, items) if alone else self._started().map(work, items)
        read = progress(
            zip(done, sizes, strict=True), sum(sizes), description, unit, size=lambda finished: finished[1]
        )
        try:
            for _ in read:
                pass
        except BrokenProcessPool as error:
            raise StudyError(
                f"{description}: a process was killed, perhaps for want of memory; what is done is kept: run again "
                "with fewer (--workers)"
            ) from error

    def _started(self) -> ProcessPoolExecutor:
        if self._executor is None:
            context = multiprocessing.get_context("spawn")  # reading leaves threads behind, which fork would break
            self._executor = ProcessPoolExecutor(self.processes, mp_context=context)
        return self._executor

    def close(self) -> None:
        """End all processes."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None
