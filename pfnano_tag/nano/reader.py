"""Reading PFNano: a file is opened once, each branch of each chunk is read once.

A chunk is an entry range on cluster edges, fixed by the file and a byte size; it is the unit of work and of loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from pfnano_tag.errors import BadChunk, FileError, OutputError
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.layouts import Layout, kind_of, layout_of, require_branches

Plan = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class RunsTotals:
    """Sums over the events that a file was made from, of the tree `Runs` (simulation).

    Parameters
    ----------
    count : int
        Events generated.
    sumw, sumw2 : float
        Sum of generator weights and of their squares.
    """

    count: int
    sumw: float
    sumw2: float


def protect_events(output: str | Path) -> None:
    """Refuse to write over a file that holds a tree `Events`: somebody's input, if not this command's.

    Raises
    ------
    OutputError
        When it does.
    """
    if not Path(output).is_file():
        return
    try:
        with uproot.open(output) as there:
            events = "Events" in there
    except _DAMAGED:
        return
    if events:
        raise OutputError(
            f"{output}: holds a tree 'Events' and is not written over; choose another name for the output"
        )


class PFNanoFile:
    """One ROOT file with a tree `Events`; a context manager.

    Parameters
    ----------
    path : str or Path
        Local path or `root://` address.

    Raises
    ------
    FileError
        When the file can't be opened, is no ROOT file, or has no tree `Events`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._file = _open(self.path)
        try:
            self.tree = self._events()
        except BaseException:
            self._file.close()
            raise

    def _events(self) -> Any:
        keys = [key.split(";")[0] for key in self._file.keys(recursive=False)]
        if "Events" not in keys:
            raise FileError(f"{self.path}: no tree 'Events' in this file; it has: {', '.join(keys) or 'nothing'}")
        try:
            tree = self._file["Events"]
        except _DAMAGED as error:
            raise FileError(
                f"{self.path}: 'Events' can't be read (file damaged or truncated): {_first(error)}"
            ) from error
        if not isinstance(tree, uproot.TTree):
            found = self._file.classname_of("Events")
            raise FileError(f"{self.path}: 'Events' is a {found}, expected a TTree (RNTuples can't be read yet)")
        return tree

    def __enter__(self) -> PFNanoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def num_entries(self) -> int:
        """Events in the file."""
        return int(self.tree.num_entries)

    @property
    def uuid(self) -> str:
        """ROOT's identifier of the file, the same for all replicas."""
        return str(self._file.file.uuid)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return int(self._file.file.fEND)

    @property
    def identity(self) -> str:
        """UUID and size: which file this is, wherever it lies."""
        return f"{self.uuid}:{self.size}"

    @cached_property
    def branches(self) -> frozenset[str]:
        """Names of the branches of `Events`."""
        return frozenset(branch.name for branch in self.tree.branches)

    @property
    def layout(self) -> Layout:
        """`candidates` or `nano`."""
        return layout_of(self.branches)

    @property
    def kind(self) -> str:
        """`mc` or `data`."""
        return kind_of(self.branches)

    def require(self, names: Iterable[str], needed_by: str) -> None:
        """Raise `MissingBranch` naming all branches of `names` that the file lacks."""
        require_branches(names, self.branches, self.path, needed_by)

    @cached_property
    def runs(self) -> RunsTotals | None:
        """Sums of generator weights from the tree `Runs`; None where the file has none (data)."""
        try:
            tree = self._file["Runs"]
        except uproot.KeyInFileError:
            return None
        names = {name: next((n for n in (name, f"{name}_") if n in tree), None) for name in _RUNS_BRANCHES}
        if any(branch is None for branch in names.values()):
            return None
        try:
            count, sumw, sumw2 = (tree[branch].array(library="np") for branch in names.values())
        except _DAMAGED as error:
            raise FileError(f"{self.path}: the sums in 'Runs' can't be read: {_first(error)}") from error
        return RunsTotals(int(count.sum()), float(np.sum(sumw)), float(np.sum(sumw2)))

    def plan(self, branches: Iterable[str], chunk_bytes: float) -> Plan:
        """Return the entry ranges of the file's chunks.

        Chunks end on edges that the baskets of all named branches share, so that each basket is decompressed
        once; where clusters are too large for that (four times the size), chunks are cut anywhere.

        Parameters
        ----------
        branches : iterable of str
            Branches that will be read.
        chunk_bytes : float
            Uncompressed size of a chunk, at least one cluster.

        Returns
        -------
        tuple of (start, stop)
            Covering all entries in order; empty for a file without events.
        """
        names = sorted(set(branches) & self.branches)
        entries = self.num_entries
        if entries == 0:
            return ()
        bytes_per_entry = sum(self.tree[name].uncompressed_bytes for name in names) / entries
        wanted = max(1, int(chunk_bytes / max(bytes_per_entry, 1e-9)))
        edges = [edge for edge in self.tree.common_entry_offsets(filter_name=names) if 0 < edge < entries]
        return plan_chunks([*edges, entries], wanted)

    def chunk(self, start: int, stop: int) -> Chunk:
        """Return an entry range of the file; nothing is read yet."""
        return Chunk(self, start, stop)


_RUNS_BRANCHES = ("genEventCount", "genEventSumw", "genEventSumw2")


def plan_chunks(edges: Sequence[int], wanted: int) -> Plan:
    """Join clusters to chunks of about `wanted` entries; cut clusters of more than four times that.

    Parameters
    ----------
    edges : sequence of int
        Where clusters end; rising; the last is the number of entries.
    wanted : int
        Entries of a chunk.
    """
    stops: list[int] = []
    start = previous = 0
    for edge in edges:
        if edge - start > wanted and previous > start:
            stops.append(previous)
            start = previous
        if edge - start > 4 * wanted:
            pieces = -(-(edge - start) // wanted)
            stops += [start + (edge - start) * piece // pieces for piece in range(1, pieces + 1)]
            start = edge
        previous = edge
    if previous > start:
        stops.append(previous)
    return tuple(zip([0, *stops[:-1]], stops, strict=True)) if stops else ()


class Chunk:
    """An entry range of a file; keeps the branches it has read.

    Parameters
    ----------
    file : PFNanoFile
        Open.
    start, stop : int
        Entry range, stop excluded.
    """

    def __init__(self, file: PFNanoFile, start: int, stop: int) -> None:
        self.file, self.start, self.stop = file, start, stop
        self._columns: dict[str, Jagged | NDArray[Any]] = {}

    @property
    def num_events(self) -> int:
        """Events in the chunk."""
        return self.stop - self.start

    @property
    def branches(self) -> frozenset[str]:
        """Branches of the file."""
        return self.file.branches

    def load(self, names: Iterable[str]) -> None:
        """Read branches that have not been read yet, all in one go.

        Raises
        ------
        MissingBranch
            When the file lacks one.
        BadChunk
            When a basket can't be read.
        """
        wanted = sorted(set(names) - self._columns.keys())
        if not wanted:
            return
        self.file.require(wanted, "this step")
        try:
            arrays = self.file.tree.arrays(
                wanted, entry_start=self.start, entry_stop=self.stop, library="ak", how=dict, array_cache=None
            )
        except MemoryError:
            raise
        except Exception as error:  # a damaged basket can raise anything: decompression, struct, index errors
            raise self.bad(f"{type(error).__name__} while reading {', '.join(wanted[:4])}...: {error}") from error
        self._columns.update({name: _flat(array) for name, array in arrays.items()})

    def __getitem__(self, name: str) -> Any:
        """Return a branch: `Jagged`, or an array with one value per event; read now if it wasn't."""
        self.load([name])
        return self._columns[name]

    def drop(self) -> None:
        """Forget all branches that were read."""
        self._columns.clear()

    def bad(self, reason: str) -> BadChunk:
        """Return the error that says what is wrong with this chunk."""
        return BadChunk(self.file.path, self.start, self.stop, " ".join(reason.split())[:500])


def _flat(array: ak.Array) -> Jagged | NDArray[Any]:
    """Turn an awkward array of one branch into flat content and offsets, without a copy."""
    layout = ak.to_packed(array, highlevel=False)
    if layout.is_list:
        return Jagged(np.asarray(layout.content.data), np.asarray(layout.offsets.data, dtype=np.int64))
    return np.asarray(layout.data)


def _open(path: str) -> Any:
    """Open a ROOT file read-only, with a clear word when that fails."""
    if "://" not in path and not Path(path).is_file():
        raise FileError(f"{path}: no such file")
    try:
        return uproot.open(path)
    except _DAMAGED as error:
        raise FileError(
            f"{path}: can't be opened as a ROOT file (damaged, truncated or another format): {_first(error)}"
        ) from error


_DAMAGED = (OSError, ValueError, TypeError, KeyError, IndexError, uproot.DeserializationError)
"""What uproot raises on bytes that make no sense."""


def _first(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().splitlines()[0].rstrip(",") if str(error).strip() else type(error).__name__
