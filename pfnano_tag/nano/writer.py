"""Friend trees: columns per jet, aligned with the tree `Events` of a file, written chunk by chunk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray
from uproot.writing import _cascadetree as cascadetree

from pfnano_tag.card.output import write_whole
from pfnano_tag.errors import FileError, OutputError
from pfnano_tag.nano.columns import Index
from pfnano_tag.nano.sources import RootFile

PROVENANCE = "provenance"


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
        there = RootFile(output)
    except FileError:
        return
    events = "Events" in there.keys
    there.close()
    if events:
        raise OutputError(
            f"{output}: holds a tree 'Events' and is not written over; choose another name for the output"
        )


class FriendWriter:
    """Writes one friend tree with jagged float32 branches `<collection>_<column>` and the counter `n<collection>`.

    Parameters
    ----------
    path : Path
        New file (a temporary name: see `friend_tree`).
    tree : str
        Name of the tree.
    collection : str
        Name of the collection, `Jet`.
    columns : sequence of str
        Names of the columns.
    """

    def __init__(self, path: Path, tree: str, collection: str, columns: Sequence[str]) -> None:
        self._collection, self._columns = collection, tuple(columns)
        self._file = uproot.recreate(path, compression=uproot.ZSTD(3))
        record = ak.types.RecordType([ak.types.NumpyType("float32") for _ in columns], list(columns))
        with unsigned_counters():
            self._tree = self._file.mktree(
                tree,
                {collection: ak.types.ListType(record)},
                counter_name=lambda name: f"n{name}",
                field_name=lambda outer, inner: f"{outer}_{inner}",
            )

    def __enter__(self) -> FriendWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def extend(self, offsets: Index, columns: Mapping[str, NDArray[np.float32]]) -> None:
        """Append events.

        Parameters
        ----------
        offsets : ndarray of int64 [events + 1]
            Entries of each event.
        columns : mapping of ndarray of float32 [entries]
            Every column of the tree.
        """
        values = [ak.contents.NumpyArray(columns[name].astype(np.float32, copy=False)) for name in self._columns]
        record = ak.contents.RecordArray(values, list(self._columns), length=int(offsets[-1]))
        self._tree.extend(
            {self._collection: ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))}
        )

    def note(self, provenance: Mapping[str, Any]) -> None:
        """Write down where the tree comes from, as JSON in the TObjString `provenance`."""
        self._file[PROVENANCE] = json.dumps(dict(provenance), allow_nan=False)


@contextmanager
def friend_tree(path: str | Path, tree: str, collection: str, columns: Sequence[str]) -> Iterator[FriendWriter]:
    """Yield a writer; the file gets its name when the block succeeds.

    Raises
    ------
    OutputError
        When the folder can't be made or written to.
    """
    with write_whole(path) as temporary, FriendWriter(temporary, tree, collection, columns) as writer:
        yield writer


class _UnsignedCounters:
    """Stands in for numpy inside uproot's tree writer: its `int32` is `uint32`."""

    int32 = np.uint32

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@contextmanager
def unsigned_counters() -> Iterator[None]:
    """Make uproot declare counters (`nJet`) as uint32, as NanoAOD does; it knows only int32. For `mktree` alone."""
    original = cascadetree.numpy
    cascadetree.numpy = _UnsignedCounters()
    try:
        yield
    finally:
        cascadetree.numpy = original
