"""Being told to stop: by a batch system, which sends signals before it kills, or by the card, at the end of a time.

Imports nothing heavy: signals come before that, too.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pfnano_tag.errors import Incomplete
from pfnano_tag.train.interruption import STOPPING

CONTINUES = "finished chunks are saved, a rerun continues"


class Stopped(Incomplete):
    """The command was told to stop by a signal; whoever goes on after what is incomplete does not after this."""


class _Signal(BaseException):
    """A signal; no `Exception`, so that nothing that handles damaged input takes it for damage."""


@contextmanager
def stopping() -> Iterator[None]:
    """Turn signals into `Stopped`: the chunk in work is dropped, all others are saved already.

    Further signals are ignored while the first one has its way: it must not be disturbed in tidying up.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        for each in STOPPING:
            signal.signal(each, signal.SIG_IGN)
        raise _Signal(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield
    except _Signal as error:
        raise Stopped(f"told to stop ({error}); {CONTINUES}") from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class TimeLimit:
    """Ends a job between two chunks, before the next one would be cut off.

    Parameters
    ----------
    minutes : float or None
        From now on; None: no limit.
    """

    def __init__(self, minutes: float | None) -> None:
        self._minutes = minutes
        self._began: float | None = None
        self._start = time.monotonic()
        self._longest = 0.0

    def before_chunk(self) -> None:
        """Call before each chunk.

        Raises
        ------
        Incomplete
            When a chunk as long as the longest so far would not end in time.
        """
        if self._minutes is None:
            return
        now = time.monotonic()
        if self._began is not None:
            self._longest = max(self._longest, now - self._began)
        if now - self._start + self._longest > 60 * self._minutes:
            raise Incomplete(f"the time is up (resources.max_minutes: {self._minutes:g}); {CONTINUES}")
        self._began = now
