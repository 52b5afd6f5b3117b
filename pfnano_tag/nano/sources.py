"""ROOT files wherever they lie: opened once, with time-outs, retry, replicas, and named errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import uproot
from uproot.behaviors.RNTuple import RNTuple
from uproot.source.chunk import Source

from pfnano_tag.card.files import REPLICAS, replicas_of
from pfnano_tag.card.resources import Remote
from pfnano_tag.errors import FileError, UserError
from pfnano_tag.nano import xrootd
from pfnano_tag.nano.containers import Column, Container, TransferError, TreeContainer
from pfnano_tag.nano.local import LocalSource
from pfnano_tag.nano.ntuples import NTupleContainer

log = logging.getLogger(__name__)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its kind."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(",") if text else type(error).__name__


@dataclass
class _Decompression:
    """Runs tasks in this thread, or in a pool that all files of the process share."""

    threads: int = 1
    _pool: ThreadPoolExecutor | None = field(default=None, repr=False)

    def submit(self, task: Callable[..., Any], /, *arguments: Any) -> Any:
        if self.threads == 1:
            return uproot.TrivialExecutor().submit(task, *arguments)
        return self._threads().submit(task, *arguments)

    def map(self, task: Callable[..., Any], *arguments: Iterable[Any]) -> Iterable[Any]:
        return map(task, *arguments) if self.threads == 1 else self._threads().map(task, *arguments)

    def resize(self, threads: int) -> None:
        if threads != self.threads and self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self.threads = threads

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="decompression")
        return self._pool


_decompression = _Decompression()


def configure(remote: Remote, decompression: int = 1) -> None:
    """Set how this process reads files, those that are open already as well.

    Parameters
    ----------
    remote : Remote
        Section `resources.remote` of the card.
    decompression : int
        Threads that decompress; 1 is this thread and no other.
    """
    xrootd.configure(remote)
    _decompression.resize(decompression)


class RootFile:
    """A ROOT file, open for reading.

    Parameters
    ----------
    path : str or Path
        Local path or `root://` address; replicas of one file are separated by ` | `, the first is tried first.

    Raises
    ------
    FileError
        When it can't be opened anywhere, or is no ROOT file.
    MissingExtra
        When an address is given and the package `xrootd` is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._containers: dict[str, Container] = {}
        self._directory = self._opened(replicas_of(self.path))
        self._source = self._directory.file.source
        self.is_remote = isinstance(self._source, xrootd.RemoteSource)
        written = int(self._directory.file.fEND)
        if self.size < written:
            log.warning("%s: truncated: it has %d bytes, its header says %d", self.path, self.size, written)

    def _opened(self, replicas: list[str]) -> Any:
        """Open the file, with a clear word when that fails."""
        failures: list[str] = []
        remote = [replica for replica in replicas if "://" in replica]
        for place in dict.fromkeys(REPLICAS.join(remote) if "://" in replica else replica for replica in replicas):
            try:
                return _root(place)
            except FileNotFoundError:
                failures.append(f"{place}: no such file")
            except TransferError as error:
                failures.append(str(error))
            except (MemoryError, UserError):
                raise
            except Exception as error:  # damaged bytes can raise anything
                what = "can't be opened as a ROOT file (damaged, truncated or another format)"
                failures.append(f"{place}: {what}: {first_line(error)}")
        raise FileError("; ".join(failures))

    @property
    def uuid(self) -> str:
        """ROOT's identifier of the file, the same for all replicas."""
        return str(self._directory.file.uuid)

    @property
    def size(self) -> int:
        """Bytes in the file, as ROOT wrote it; those that are left of a truncated one."""
        return min(int(self._directory.file.fEND), int(self._source.num_bytes))

    @cached_property
    def keys(self) -> dict[str, str]:
        """Names at the top level, without cycles, and the classes of what they name."""
        stored = self._directory.classnames(recursive=False, cycle=True)
        found: dict[str, tuple[int, str]] = {}
        for key, kind in stored.items():
            name, _, cycle = key.rpartition(";")
            found[name] = max(found.get(name, (-1, "")), (int(cycle), kind))
        return {name: kind for name, (_, kind) in found.items()}

    def container(self, name: str) -> Container:
        """Return a TTree or an RNTuple; its header is read once.

        Raises
        ------
        KeyError
            When nothing has that name.
        FileError
            When it is something else, or can't be read.
        """
        if name not in self.keys:
            raise KeyError(name)
        if name not in self._containers:
            self._containers[name] = self._described(name)
        return self._containers[name]

    def _described(self, name: str) -> Container:
        """Read the header of a TTree or an RNTuple, with a clear word when that fails."""
        try:
            try:
                found = self._made(name)
            except (MemoryError, TransferError, NotImplementedError):
                raise
            except Exception:
                if not self.is_remote:
                    raise
                found = self._made(name)  # the bytes may have been damaged on their way
        except NotImplementedError as error:
            raise FileError(f"{self.path}: '{name}' is of a kind that can't be read: {first_line(error)}") from error
        except TransferError as error:
            raise FileError(f"{self.path}: '{name}' can't be read: {error}") from error
        except MemoryError:
            raise
        except Exception as error:  # damaged bytes can raise anything
            raise FileError(
                f"{self.path}: '{name}' can't be read (file damaged or truncated): {first_line(error)}"
            ) from error
        if found is None:
            raise FileError(f"{self.path}: '{name}' is a {self.keys[name]}, expected a TTree or an RNTuple")
        return found

    def _made(self, name: str) -> Container | None:
        """Return a TTree or an RNTuple; None where the name stands for something else."""
        found = self._directory[name]
        if isinstance(found, uproot.TTree):
            return TreeContainer(self, name, found, _decompression.map)
        if not isinstance(found, RNTuple):
            return None
        ntuple = NTupleContainer(self, name, found, _decompression.map)
        _ = ntuple.names, ntuple.num_entries  # uproot reads the schema late: here an error is one of the file
        return ntuple

    def arrays_of(self, tree: str, names: Iterable[str]) -> dict[str, Column]:
        """Read columns of a small tree, as `Runs`, as a whole.

        Raises
        ------
        KeyError
            When there is no such tree or column.
        """
        container = self.container(tree)
        return container.arrays(names, 0, container.num_entries)

    def require_unchanged(self) -> None:
        """Raise `FileError` when a local file has changed or gone since it was opened."""
        self._source.require_unchanged()

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> RootFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Given(Source):
    """Hands uproot a source that is open, so that it can be closed when uproot fails on what is in it."""

    def __new__(cls, file_path: str, *, source: Source, **options: Any) -> Any:
        return source


def _root(place: str) -> Any:
    """Open the top directory of a file on this machine or on servers."""
    source = xrootd.RemoteSource(place) if "://" in place else LocalSource(place)
    try:
        return uproot.open(
            {place: None},
            handler=_Given,
            source=source,
            decompression_executor=_decompression,
            interpretation_executor=uproot.TrivialExecutor(),
            object_cache=None,
            array_cache=None,
        )
    except BaseException:
        source.close()
        raise
