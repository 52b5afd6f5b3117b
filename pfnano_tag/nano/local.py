"""Bytes of local files, read and never mapped: a file that shrinks meanwhile is an error, not a dead process."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uproot.source.chunk import Chunk, Source

from pfnano_tag.errors import FileError

Check = Callable[[bytes, bytes], None]
"""Looks at the bytes of a page and at those of its checksum, and raises when they don't fit."""


def _accept(content: bytes, checksum: bytes) -> None:
    """Take all bytes as they are."""


class LocalSource(Source):
    """What uproot reads a local file through.

    Parameters
    ----------
    file_path : str
        The file.
    **options
        Of uproot; none matters here.

    Raises
    ------
    OSError
        When the file can't be opened.
    """

    def __init__(self, file_path: str, **options: Any) -> None:
        super().__init__()
        self._file_path = file_path
        self._descriptor: int | None = os.open(file_path, os.O_RDONLY)
        self._opened_as = os.fstat(self._descriptor)
        self._num_bytes = self._opened_as.st_size
        self._checked: dict[int, int] = {}
        self._check: Check = _accept

    def require_unchanged(self) -> None:
        """Raise `FileError` when the file has been removed, replaced or written to since it was opened."""
        try:
            now = Path(self._file_path).stat()
        except OSError as error:
            raise FileError(f"{self._file_path}: gone since it was opened: {error.strerror}") from error
        then = self._opened_as
        if (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino):
            raise FileError(f"{self._file_path}: replaced by another file since it was opened; read it again")
        if now.st_size != then.st_size:
            change = "grown" if now.st_size > then.st_size else "been cut"
            raise FileError(
                f"{self._file_path}: has {change} from {then.st_size} to {now.st_size} bytes since it was opened; "
                "read it again when nothing writes to it any more"
            )
        if now.st_mtime_ns != then.st_mtime_ns:
            raise FileError(
                f"{self._file_path}: written to since it was opened; read it again when nothing writes to it any more"
            )

    def chunk(self, start: int, stop: int) -> Chunk:
        """Return a byte range; a short one where the file ends before."""
        self._num_requests += 1
        self._num_requested_chunks += 1
        self._num_requested_bytes += stop - start
        return Chunk(self, start, stop, _Later(self, start, stop))

    def chunks(self, ranges: list[tuple[int, int]], notifications: queue.Queue[Any]) -> list[Chunk]:
        """Return byte ranges, each of which is read when it is used; all are announced at once."""
        made = [self.chunk(start, stop) for start, stop in ranges]
        for chunk in made:
            notifications.put(chunk)
        return made

    def gather(self, ranges: list[tuple[int, int]]) -> Callable[[int, int], bytes]:
        """Return what reads byte ranges: each when it is asked for."""
        return self.bytes_at

    def page_at(self, start: int, stop: int) -> bytes:
        """Read a byte range, and check it where that was asked for."""
        behind = self._checked.get(start, 0)
        if not behind:
            return self.bytes_at(start, stop)
        content = self.bytes_at(start, stop + behind)
        self._check(content[: stop - start], content[stop - start :])
        return content[: stop - start]

    def bytes_at(self, start: int, stop: int) -> bytes:
        """Read a byte range; short where the file ends before."""
        if self._descriptor is None:
            raise OSError(f"{self._file_path}: closed")
        pieces = []
        while start < stop and (piece := os.pread(self._descriptor, stop - start, start)):
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @contextmanager
    def holding(self, pages: Iterable[tuple[int, int, int]], check: Check) -> Iterator[None]:
        """Check the bytes of pages as they are read.

        Parameters
        ----------
        pages : iterable of (start, stop, behind)
            Byte ranges, and how many bytes of a checksum follow each.
        check : callable
            Takes a page and its checksum.
        """
        self._checked = {start: behind for start, _, behind in pages}
        self._check = check
        try:
            yield
        finally:
            self._checked, self._check = {}, _accept

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._descriptor is None

    def __enter__(self) -> LocalSource:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _Later:
    """Stands in for uproot's future of a chunk: reads when asked, so that compressed bytes don't pile up."""

    def __init__(self, source: LocalSource, start: int, stop: int) -> None:
        self._source, self._range = source, (start, stop)

    def result(self, timeout: float | None = None) -> bytes:
        return self._source.page_at(*self._range)
