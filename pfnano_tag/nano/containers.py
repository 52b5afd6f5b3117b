"""TTrees and RNTuples seen the same way: NanoAOD branch names, entry ranges read into flat columns.

An RNTuple stores a collection either as one vector per branch (`Jet_pt`: what uproot writes and ROOT's importer
projects) or as one collection of records (`Jet` with members `pt`, `eta`: what CMSSW writes). Both are read as the
branches `Jet_pt`, `Jet_eta` with the counter `nJet`; members answer to `Jet.pt`, too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

import awkward as ak
import numpy as np
from numpy.typing import NDArray
from uproot.interpretation.jagged import AsJagged
from uproot.interpretation.numerical import AsDtype

from pfnano_tag.errors import FileError
from pfnano_tag.nano.baskets import BasketList, baskets_of, read_column
from pfnano_tag.nano.columns import Jagged

T = TypeVar("T")
Column = Jagged | NDArray[Any]
Spread = Callable[..., Iterable[Any]]


class TransferError(OSError):
    """A server gave no answer, or none that is of use, in all attempts; the same bytes may be had later."""


class Owner(Protocol):
    """The file that a container lies in."""

    path: str

    @property
    def is_remote(self) -> bool:
        """Whether bytes travel, and may be damaged on the way."""

    def require_unchanged(self) -> None:
        """Raise `FileError` when the file is not what was opened."""


class Container(ABC):
    """Entries in named columns, within a file.

    Parameters
    ----------
    owner : RootFile
        The open file.
    name : str
        Of the tree, as `Events`.
    """

    kind: Literal["TTree", "RNTuple"]

    def __init__(self, owner: Owner, name: str) -> None:
        self.owner, self.name = owner, name

    @property
    @abstractmethod
    def num_entries(self) -> int:
        """Entries, as events."""

    @property
    @abstractmethod
    def names(self) -> frozenset[str]:
        """Names of all columns, whether they can be read or not."""

    @abstractmethod
    def title(self, name: str) -> str:
        """Return what the producer says of a column; empty where it says nothing."""

    @abstractmethod
    def typename(self, name: str) -> str:
        """Return the type of a column in C++: `float[]` (any number of values per entry), `uint32_t`, `float[9]`."""

    @property
    @abstractmethod
    def compression(self) -> str:
        """Compression of most columns, as `LZMA 9`; `none` without."""

    @abstractmethod
    def uncompressed_bytes(self, name: str) -> int:
        """Return the size of a column in memory [bytes]."""

    @abstractmethod
    def edges(self, names: Iterable[str]) -> list[int]:
        """Return the entries at which the baskets of all named columns end; rising, the last is `num_entries`."""

    @abstractmethod
    def _read(self, names: list[str], start: int, stop: int) -> dict[str, Column]:
        """Read columns of an entry range; anything may be raised on damaged bytes."""

    def arrays(self, names: Iterable[str], start: int, stop: int) -> dict[str, Column]:
        """Read columns of an entry range, and nothing else.

        Parameters
        ----------
        names : iterable of str
            Columns.
        start, stop : int
            Entry range, stop excluded.

        Returns
        -------
        dict
            By name: `Jagged` where an entry holds any number of values, else an array with one value (or one row of
            a fixed length) per entry; in the type of the file and the byte order of the machine.

        Raises
        ------
        KeyError
            When there is no such column.
        FileError
            When a column can't be read as numbers, or when a local file has changed since it was opened.
        TransferError
            When a server does not deliver.
        Exception
            Whatever damaged bytes cause. Bytes that travelled are fetched a second time before that.
        """
        wanted = list(dict.fromkeys(names))
        self.owner.require_unchanged()
        try:
            found = self._read(wanted, start, stop)
        except (MemoryError, TransferError, FileError, KeyError):
            raise
        except Exception:
            self.owner.require_unchanged()
            if not self.owner.is_remote:
                raise
            found = self._read(wanted, start, stop)
        self.owner.require_unchanged()
        return found

    def refuse(self, name: str, what: str) -> FileError:
        """Return the error that a column can't be read."""
        return FileError(
            f"{self.owner.path}: '{name}' of '{self.name}' is a {what}; expected numbers: one per entry, a fixed "
            f"number, or a list. Leave it out or write it in another type"
        )


class TreeContainer(Container):
    """A TTree.

    Parameters
    ----------
    owner : RootFile
        The open file.
    name : str
        Of the tree.
    tree : uproot.TTree
        The tree.
    spread : callable
        `map` over columns, in threads or not.
    """

    kind = "TTree"

    def __init__(self, owner: Owner, name: str, tree: Any, spread: Spread = map) -> None:
        super().__init__(owner, name)
        self._tree, self._spread = tree, spread
        self._basket_lists: dict[str, BasketList | None] = {}

    @property
    def num_entries(self) -> int:
        """Entries, as events."""
        return int(self._tree.num_entries)

    @cached_property
    def _branches(self) -> Mapping[str, Any]:
        return {branch.name: branch for branch in self._tree.branches}

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of all branches, whether they can be read or not."""
        return frozenset(self._branches)

    def _said(self, name: str, ask: Callable[[Any], T]) -> T:
        """Ask uproot's description of a branch: in a damaged header, that can raise anything."""
        branch = self._branches[name]
        try:
            return ask(branch)
        except MemoryError:
            raise
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            what = f"the description of '{name}' in '{self.name}' can't be read (file damaged)"
            raise FileError(f"{self.owner.path}: {what}: {first}") from error

    def title(self, name: str) -> str:
        """Return the title of a branch."""
        return self._said(name, lambda branch: str(branch.title or ""))

    def typename(self, name: str) -> str:
        """Return the type of a branch in C++."""
        return self._said(name, lambda branch: str(branch.typename))

    @cached_property
    def compression(self) -> str:
        """Compression of most branches."""
        return most_common(self._said(name, _compression) for name in self._branches)

    def uncompressed_bytes(self, name: str) -> int:
        """Return the size of a branch in memory [bytes]."""
        return self._said(name, lambda branch: int(branch.uncompressed_bytes))

    def edges(self, names: Iterable[str]) -> list[int]:
        """Return the entries at which the baskets of all named branches end."""
        different = {self._edges_of(name) for name in names}
        common = set.intersection(*map(set, different)) if different else set()
        return [*sorted(end for end in common if 0 < end < self.num_entries), self.num_entries]

    def _edges_of(self, name: str) -> tuple[int, ...]:
        baskets = self._baskets(name)
        if baskets is not None:
            return baskets.edges
        return self._said(name, lambda branch: tuple(map(int, branch.entry_offsets)))

    def _read(self, names: list[str], start: int, stop: int) -> dict[str, Column]:
        lists = [baskets for name in names if (baskets := self._baskets(name)) is not None]
        fetch = self._tree.file.source.gather(
            [baskets.ranges[index] for baskets in lists for index in baskets.overlapping(start, stop)]
        )
        columns = self._spread(lambda baskets: read_column(baskets, start, stop, fetch), lists)
        found = {baskets.name: column for baskets, column in zip(lists, columns, strict=True) if column is not None}
        unusual = [name for name in names if name not in found]
        if unusual:
            found.update(self._read_by_uproot(unusual, start, stop))
        return {name: found[name] for name in names}

    def _read_by_uproot(self, names: list[str], start: int, stop: int) -> dict[str, Column]:
        """Read branches whose baskets we don't decode."""
        for name in names:
            interpretation = self._branches[name].interpretation
            numbers = interpretation.content if isinstance(interpretation, AsJagged) else interpretation
            if not isinstance(numbers, AsDtype):
                raise self.refuse(name, f"branch of type {self.typename(name)}")
        arrays = self._tree.arrays(
            names, entry_start=start, entry_stop=stop, library="ak", how=dict, array_cache=None
        )
        return {name: flat(arrays[name]) for name in names}

    def _baskets(self, name: str) -> BasketList | None:
        if name not in self._basket_lists:
            self._basket_lists[name] = self._said(name, baskets_of)
        return self._basket_lists[name]


def _compression(branch: Any) -> str:
    """Return a branch's compression; uproot's own files say it for the whole file only."""
    stated = branch.compression
    if stated is None and branch.compressed_bytes < branch.uncompressed_bytes:
        stated = branch.file.compression
    return "none" if stated is None else f"{stated.name} {stated.level}"


def flat(array: ak.Array) -> Column:
    """Return an awkward array of numbers as flat content and offsets, without a copy where it is packed."""
    layout = ak.to_packed(array, highlevel=False)
    if layout.is_regular:
        return np.asarray(ak.to_numpy(layout))
    if layout.is_list:
        return Jagged(ak.to_numpy(layout.content), np.asarray(layout.offsets.data, dtype=np.int64))
    return np.asarray(layout.data)


def most_common(kinds: Iterable[str]) -> str:
    """Return what occurs most; `none` where there is nothing."""
    counted = Counter(kinds).most_common(1)
    return counted[0][0] if counted else "none"
