"""Being told to stop: a batch system sends SIGTERM before it kills. Imports nothing heavy: it comes before that."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pfnano_tag.errors import Incomplete


class _Stopped(BaseException):
    """SIGTERM; no `Exception`, so that nothing that handles damaged input takes it for damage."""


@contextmanager
def stopping() -> Iterator[None]:
    """Turn SIGTERM into `Incomplete`: the chunk in work is dropped, all others are saved already."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except _Stopped as error:
        raise Incomplete("told to stop (SIGTERM); finished chunks are saved, a rerun continues") from error
    finally:
        signal.signal(signal.SIGTERM, previous)
