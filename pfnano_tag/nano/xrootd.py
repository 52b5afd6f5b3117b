"""`root://` through XRootD: time-outs, retry with back-off on the same bytes, then the next replica.

The client's own defaults wait eight minutes and more for a dead server. Ours are set before the client is imported,
each unless the environment says otherwise already; every request carries its time-out as well.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any, TypeVar

from uproot.source.chunk import Chunk, Source
from uproot.source.futures import TrivialFuture

from pfnano_tag.card.files import replicas_of
from pfnano_tag.card.resources import Remote
from pfnano_tag.errors import MissingExtra
from pfnano_tag.nano import credentials
from pfnano_tag.nano.containers import TransferError
from pfnano_tag.nano.local import Check

T = TypeVar("T")
Range = tuple[int, int]

_REQUEST_BYTES = 8_000_000
"""Bytes asked for at once, so that a time-out of seconds suits slow lines, too."""
_MOST_RANGES, _LARGEST_RANGE = 1024, 2_097_136
"""Limits of a vector read: the protocol's defaults."""
_HEADER_BYTES = 75
"""A ROOT file's header, with its UUID and its size, is at most this long."""
_ERROR_RESPONSE = 400
_NO_VECTORS = {3000, 3002, 3006, 3013}
"""Answers to a vector read from servers without: invalid argument, too long, invalid request, unsupported."""
_NOT_THERE = {3011: "no such file", 3015: "not a file", 3016: "a directory", 3029: "no replica left"}
_NOT_OFFERED = 3010
_NOT_ALLOWED = {3010, 3028, 3030}
"""Not authorised, encryption required, authentication failed."""
_CLIENT_NOT_ALLOWED = {203, 204}
"""The client's own codes: login failed, authentication failed."""
_EXPIRED = {103, 206}
"""The client's own codes: socket timeout, operation expired."""


@dataclass
class _Settings:
    remote: Remote = field(default_factory=Remote)
    is_ready: bool = False
    stated: int | None = None

    @property
    def timeout(self) -> int:
        """Time for an answer [s]: the environment's, where somebody has set it, else the card's."""
        return ceil(self.remote.timeout) if self.stated is None else self.stated


_settings = _Settings()


def configure(remote: Remote) -> None:
    """Set time-outs and attempts of this process, from section `resources.remote` of the card."""
    _settings.remote = remote


class _Failed(Exception):
    """A request that failed, and may succeed when repeated."""


class _Refused(Exception):
    """A request that this server will never grant."""


def _client() -> Any:
    """Import the XRootD client, with our time-outs.

    Raises
    ------
    MissingExtra
        When it is not installed.
    """
    if not _settings.is_ready:
        _prepare_environment()
        _settings.is_ready = True
    try:
        from XRootD import client
    except ImportError as error:
        raise MissingExtra(
            "root:// addresses need the package xrootd; install it with: pip install 'pfnano_tag[xrootd]'"
        ) from error
    return client


def _prepare_environment() -> None:
    """Set the client's time-outs that nobody has set."""
    stated = os.environ.get("XRD_REQUESTTIMEOUT", "")
    _settings.stated = int(stated) if stated.isdigit() and int(stated) else None
    seconds = str(_settings.timeout)
    ours = {
        "XRD_RUNFORKHANDLER": "1",
        "XRD_TIMEOUTRESOLUTION": "1",
        "XRD_CONNECTIONWINDOW": str(min(5, _settings.timeout)),
        "XRD_CONNECTIONRETRY": "1",
        "XRD_STREAMERRORWINDOW": "0",  # a server that comes back is tried at once
        "XRD_REQUESTTIMEOUT": seconds,
        "XRD_STREAMTIMEOUT": seconds,
    }
    for name, value in ours.items():
        os.environ.setdefault(name, value)


class _Connection:
    """One file on one server."""

    def __init__(self, address: str) -> None:
        self.address = address
        client = _client()
        self._timeout = _settings.timeout
        self._file = client.File()
        self._vectors = True
        self._answer(self._file.open(address, timeout=self._timeout))
        self.size = int(self._answer(self._file.stat(timeout=self._timeout)).size)
        self.header = self._one((0, min(_HEADER_BYTES, self.size)))

    def _answer(self, found: tuple[Any, Any]) -> Any:
        """Return what a request brought, or raise what became of it."""
        status, content = found
        if status.ok:
            return content
        message = " ".join(str(status.message).split())
        server_says = int(status.errno) if status.code == _ERROR_RESPONSE else 0
        if server_says in _NOT_THERE:
            raise _Refused(f"{_NOT_THERE[server_says]} ({message})")
        if server_says == _NOT_OFFERED and "disallowed" in message:
            raise _Refused(f"the server does not offer this path ({message})")
        if server_says in _NOT_ALLOWED or status.code in _CLIENT_NOT_ALLOWED:
            raise _Refused(f"the server refuses access ({message}); {credentials.state()}")
        if status.code in _EXPIRED:
            raise _Failed(f"no answer within {self._timeout} s, see resources.remote.timeout ({message})")
        raise _Failed(message)

    def read(self, ranges: list[Range]) -> list[bytes]:
        """Read byte ranges that one request may hold."""
        if self._vectors and len(ranges) > 1:
            status, found = self._file.vector_read(
                [(start, stop - start) for start, stop in ranges], timeout=self._timeout
            )
            if not (status.code == _ERROR_RESPONSE and int(status.errno) in _NO_VECTORS):
                self._answer((status, found))
                if [part.offset for part in found.chunks] != [start for start, _ in ranges]:
                    raise _Failed("the server sent other bytes than those asked for")
                return [_whole(part.buffer, ends) for part, ends in zip(found.chunks, ranges, strict=True)]
            self._vectors = False
        return [self._one(ends) for ends in ranges]

    def _one(self, ends: Range) -> bytes:
        start, stop = ends
        return _whole(self._answer(self._file.read(start, stop - start, timeout=self._timeout)), ends)

    def close(self) -> None:
        """Close the file; a server that is gone needs no goodbye."""
        if self._file.is_open():
            self._file.close(timeout=1)


def _whole(content: bytes, ends: Range) -> bytes:
    if len(content) != ends[1] - ends[0]:
        raise _Failed(f"the server sent {len(content)} of {ends[1] - ends[0]} bytes at byte {ends[0]}")
    return content


class RemoteSource(Source):
    """What uproot reads a `root://` file through.

    Parameters
    ----------
    file_path : str
        Address; replicas are separated by ` | `.
    **options
        Of uproot; none matters here.

    Raises
    ------
    TransferError
        When no replica can be opened.
    MissingExtra
        When the XRootD client is not installed.
    """

    def __init__(self, file_path: str, **options: Any) -> None:
        super().__init__()
        self._file_path = file_path
        self._replicas = replicas_of(file_path)
        self._connection: _Connection | None = None
        self._identity: tuple[int, bytes] | None = None
        self._given_up = self._closed = False
        self._held: dict[Range, bytes] = {}
        self._lock = threading.RLock()
        self._num_bytes = self._deliver(lambda connection: connection.size)

    def require_unchanged(self) -> None:
        """Do nothing: whether it is the same file is checked whenever it is opened again."""

    def _deliver(self, ask: Callable[[_Connection], T]) -> T:
        """Ask the server in use, several times, then the others; return the first answer.

        After a request that nobody answered, each further one is tried once per replica: a dead server then costs
        little, and one that is back is found.
        """
        remote = _settings.remote
        attempts = 1 if self._given_up else remote.attempts
        failures: list[str] = []
        with self._lock:
            for replica in list(self._replicas):
                failure = ""
                for attempt in range(attempts):
                    if attempt:
                        time.sleep(remote.wait * 2 ** (attempt - 1))
                    try:
                        answer = ask(self._connected(replica))
                    except _Refused as error:
                        failure = f"{replica}: {error}"
                        self._disconnect()
                        break
                    except _Failed as error:
                        failure = f"{replica}: {error}; {_times(attempt + 1)} asked"
                        self._disconnect()
                    else:
                        self._given_up = False
                        return answer
                failures.append(failure)
                self._replicas = [*self._replicas[1:], self._replicas[0]]
            self._given_up = True
        raise TransferError("; ".join(failures))

    def _connected(self, replica: str) -> _Connection:
        """Return the open connection to a replica; open it, and see that it is the same file, where there is none."""
        if self._closed:
            raise _Refused("closed")
        if self._connection is None:
            made = _Connection(replica)
            identity = (made.size, made.header)
            if self._identity not in (None, identity):
                made.close()
                raise _Refused(
                    f"another file than the one that was opened first ({made.size} bytes, expected "
                    f"{self._identity[0] if self._identity else 0} and the same ROOT header)"
                )
            self._identity = identity
            self._connection = made
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _fetched(self, ranges: list[Range]) -> list[bytes]:
        """Read byte ranges of any size, in requests that servers take."""
        pieces = [
            (at, min(at + _LARGEST_RANGE, stop))
            for start, stop in ranges
            for at in range(start, stop, _LARGEST_RANGE)
        ]
        parts: list[bytes] = []
        for request in _requests(pieces):
            parts += self._deliver(lambda connection, request=request: connection.read(request))  # type: ignore[misc]
        rest = iter(parts)
        return [b"".join([next(rest) for _ in range(start, stop, _LARGEST_RANGE)]) for start, stop in ranges]

    def chunk(self, start: int, stop: int) -> Chunk:
        """Return a byte range; a short one where the file ends before."""
        self._num_requests += 1
        self._num_requested_chunks += 1
        self._num_requested_bytes += stop - start
        content = self._held.get((start, stop))
        if content is None:
            content = self._fetched([(start, max(start, min(stop, self._num_bytes)))])[0]
        return Chunk(self, start, stop, TrivialFuture(content))

    def chunks(self, ranges: list[Range], notifications: queue.Queue[Any]) -> list[Chunk]:
        """Return byte ranges, all fetched."""
        self._num_requests += 1
        self._num_requested_chunks += len(ranges)
        self._num_requested_bytes += sum(stop - start for start, stop in ranges)
        fetched = self._fetched(ranges)
        made = [Chunk(self, *ends, TrivialFuture(content)) for ends, content in zip(ranges, fetched, strict=True)]
        for chunk in made:
            notifications.put(chunk)
        return made

    def gather(self, ranges: list[Range]) -> Callable[[int, int], bytes]:
        """Fetch byte ranges, and return what gives them out."""
        fetched = dict(zip(ranges, self._fetched(ranges), strict=True))
        return lambda start, stop: fetched[start, stop]

    @contextmanager
    def holding(self, pages: Iterable[tuple[int, int, int]], check: Check) -> Iterator[None]:
        """Fetch pages now, and check them; until the end, `chunk` takes them from memory.

        Parameters
        ----------
        pages : iterable of (start, stop, behind)
            Byte ranges, and how many bytes of a checksum follow each.
        check : callable
            Takes a page and its checksum.
        """
        wanted = list(pages)
        try:
            fetched = self._fetched([(start, stop + behind) for start, stop, behind in wanted])
            for (start, stop, _), content in zip(wanted, fetched, strict=True):
                check(content[: stop - start], content[stop - start :])
                self._held[start, stop] = content[: stop - start]
            yield
        finally:
            self._held = {}

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._closed

    def __enter__(self) -> RemoteSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._disconnect()


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _requests(pieces: list[Range]) -> Iterator[list[Range]]:
    """Yield pieces in groups that one request may hold."""
    group: list[Range] = []
    size = 0
    for start, stop in pieces:
        if group and (len(group) == _MOST_RANGES or size + stop - start > _REQUEST_BYTES):
            yield group
            group, size = [], 0
        group.append((start, stop))
        size += stop - start
    if group:
        yield group
