"""Reader processes: they read and scale chunks ahead of the training, and hand them over in shared memory.

Readers are new Python processes (not forked, so no lock or thread is copied); they import neither torch nor
matplotlib nor the caller's main module. A block comes back as the descriptor of a file without a name, in memory:
nothing is copied through a pipe, and nothing can be left behind by a process that is killed. A reader whose caller is
gone reads the end of its socket, and ends too.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from pfnano_tag import errors
from pfnano_tag.card.base import strictly
from pfnano_tag.card.card import Card
from pfnano_tag.errors import Incomplete, UserError
from pfnano_tag.nano.allocation import keep_freed_memory
from pfnano_tag.prepare.prepared import Prepared, prepared_of
from pfnano_tag.train.blocks import Block, mapped_block, write_block
from pfnano_tag.train.decoding import ChunkOfFile, Decoder
from pfnano_tag.train.interruption import STOPPING

IN_FLIGHT = 3
"""Chunks per reader that are asked for and not used yet: one in work and two ready."""

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from pfnano_tag.train.readers import serve; serve(int(sys.argv[2]))"
)
_SIZE = struct.Struct("<Q")
_OF_THE_JOB = (signal.SIGINT, *STOPPING)
"""Signals that go to all processes of a job: the caller decides when readers end."""


class Readers:
    """A fixed number of reader processes; started when the first chunk is asked for.

    Parameters
    ----------
    count : int
        Processes, at least one.
    card, prepared, vectors, targets
        As for `Decoder`.
    """

    def __init__(
        self, count: int, card: Card, prepared: Prepared, vectors: bool, targets: Sequence[str] = ()
    ) -> None:
        self.count = count
        self._prepared = prepared
        study = {"card": card.model_dump(mode="json"), "prepared": prepared.to_json()}
        self._first_message = json.dumps({**study, "vectors": vectors, "targets": list(targets)}).encode()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sockets: list[socket.socket] = []
        self._tickets = 0
        self._end = weakref.finalize(self, _end, self._processes, self._sockets)

    @property
    def pids(self) -> list[int]:
        """Numbers of the running processes."""
        return [process.pid for process in self._processes]

    def close(self) -> None:
        """End all processes."""
        self._end()

    def blocks(self, chunks: Sequence[ChunkOfFile], splits: Sequence[str]) -> Iterator[Block]:
        """Yield the blocks of chunks in the order asked for; chunks behind them are read meanwhile.

        Parameters
        ----------
        chunks : sequence of (file, chunk)
            What to read.
        splits : sequence of str
            As for `Decoder.block`.

        Raises
        ------
        UserError
            What a reader met, as reading in this process would have raised it.
        Incomplete
            When a reader has died.
        """
        self._start()
        first, self._tickets = self._tickets, self._tickets + len(chunks)
        asked = 0
        for done, chunk in enumerate(chunks):
            while asked < min(len(chunks), done + IN_FLIGHT * self.count):
                request = json.dumps([first + asked, *chunks[asked], list(splits)]).encode()
                self._ask(asked % self.count, request, chunk)
                asked += 1
            yield self._answer(done % self.count, first + done, chunk)

    def _start(self) -> None:
        while len(self._processes) < self.count:
            ours, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, "-c", _START, json.dumps(sys.path), str(theirs.fileno())]
                environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
                # Signals wait until the reader ignores them (`serve`): a new process has the mask of its maker.
                mask = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_JOB)
                try:
                    process = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment
                    )
                    self._processes.append(process)
                    self._sockets.append(ours)
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _send(ours, self._first_message)

    def _ask(self, reader: int, request: bytes, chunk: ChunkOfFile) -> None:
        try:
            _send(self._sockets[reader], request)
        except OSError as error:
            raise self._died(reader, chunk) from error

    def _answer(self, reader: int, ticket: int, chunk: ChunkOfFile) -> Block:
        while True:
            try:
                content, descriptor = _receive(self._sockets[reader])
            except (OSError, EOFError) as error:
                raise self._died(reader, chunk) from error
            answer = json.loads(content)
            try:
                if answer["ticket"] != ticket:  # asked for by an epoch that was given up
                    continue
                if "error" in answer:
                    raise _error_of(answer)
                assert descriptor is not None
                return mapped_block(descriptor, 0, answer["length"])
            finally:
                if descriptor is not None:
                    os.close(descriptor)

    def _died(self, reader: int, chunk: ChunkOfFile) -> Incomplete:
        code = self._processes[reader].wait()
        how = f"was ended by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
        record = self._prepared.files[chunk[0]]
        start, stop = record.chunks[chunk[1]]
        hint = ", most likely for lack of memory: lower resources.readers or resources.chunk" if code == -9 else ""
        return Incomplete(
            f"reader process {reader + 1} of {self.count} {how}{hint}; waited for {record.path}, entries {start} to "
            f"{stop}; go on with --resume"
        )


def _error_of(answer: dict[str, Any]) -> Exception:
    """Return the error that a reader has met: one that users see by its own class, else all that is known of it."""
    kind = getattr(errors, answer["error"], None)
    if isinstance(kind, type) and issubclass(kind, (UserError, Incomplete)):
        return kind(answer["message"])
    return RuntimeError(f"a reader process failed:\n{answer['trace']}")


def _end(processes: list[subprocess.Popen[bytes]], sockets: list[socket.socket]) -> None:
    """End readers: they have nothing to save."""
    while sockets:
        sockets.pop().close()
    for process in processes:
        process.kill()
    while processes:
        processes.pop().wait()


def serve(descriptor: int) -> None:
    """Answer requests for chunks until the caller closes the socket: the life of a reader process.

    Parameters
    ----------
    descriptor : int
        Of the socket.
    """
    for number in _OF_THE_JOB:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_JOB)
    with socket.socket(fileno=descriptor) as caller:
        try:
            _serve(caller, json.loads(_receive(caller)[0]))
        except (EOFError, ConnectionError):  # the caller is gone
            return


def _serve(caller: socket.socket, study: dict[str, Any]) -> None:
    card, prepared = strictly(Card, study["card"]), prepared_of(study["prepared"])
    keep_freed_memory()
    with Decoder(card, prepared, study["vectors"], study["targets"]) as decoder:
        while True:
            _serve_one(caller, decoder)


def _serve_one(caller: socket.socket, decoder: Decoder) -> None:
    ticket, file, chunk, splits = json.loads(_receive(caller)[0])
    try:
        block = decoder.block((file, chunk), splits)
        with _file_in_memory() as memory:
            answer = {"ticket": ticket, "length": write_block(block, memory)}
            _send(caller, json.dumps(answer).encode(), memory.fileno())
    except ConnectionError:
        raise
    except MemoryError:
        advice = "set resources.chunk to a smaller value"
        _send_error(caller, ticket, "DataError", f"a reader process ran out of memory; {advice}", "")
    except Exception as error:
        _send_error(caller, ticket, type(error).__name__, str(error), traceback.format_exc())


def _send_error(caller: socket.socket, ticket: int, kind: str, message: str, trace: str) -> None:
    _send(caller, json.dumps({"ticket": ticket, "error": kind, "message": message, "trace": trace}).encode())


def _file_in_memory() -> BinaryIO:
    """Return a file without a name: in memory where the system has such files, else in the temporary folder."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("pfnano_tag block"), "wb")
    return tempfile.TemporaryFile()


def _send(to: socket.socket, content: bytes, descriptor: int | None = None) -> None:
    size = _SIZE.pack(len(content))
    if descriptor is None:
        to.sendall(size)
    else:
        socket.send_fds(to, [size], [descriptor])
    to.sendall(content)


def _receive(of: socket.socket) -> tuple[bytes, int | None]:
    """Return a message and the descriptor that came with it; `EOFError` when the other side is gone."""
    size, descriptors, _, _ = socket.recv_fds(of, _SIZE.size, 1)
    if len(size) < _SIZE.size:
        size += _exactly(of, _SIZE.size - len(size))
    return _exactly(of, _SIZE.unpack(size)[0]), next(iter(descriptors), None)


def _exactly(of: socket.socket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        part = of.recv(min(size - len(content), 1 << 20))
        if not part:
            raise EOFError("the other side has closed the socket")
        content += part
    return bytes(content)
