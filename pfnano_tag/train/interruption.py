"""Signals that end a training cleanly between two batches: a time limit, an eviction, a shutdown."""

from __future__ import annotations

import signal
import threading
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGXCPU)
"""What batch systems send before they kill: at the end of the time or on eviction; ahead of it as asked for (SLURM's
`--signal=USR1@300`); at the soft limit of CPU time."""


class Interruption:
    """Context in which these signals set `asked` instead of ending the process.

    Only the main thread can install signal handlers; elsewhere the context does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Interruption:
        if self._main:
            self._before = {number: signal.signal(number, self._ask) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
