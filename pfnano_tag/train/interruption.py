"""SIGTERM (a batch system's time limit, a shutdown) ends a training cleanly between two batches."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interruption:
    """Context in which SIGTERM sets `asked` instead of ending the process.

    Only the main thread can install signal handlers; elsewhere the context does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Interruption:
        if self._main:
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
