"""Reading PFNano: a file is opened once, each branch of each chunk is read once.

A chunk is an entry range on cluster edges, fixed by the file and a byte size; it is the unit of work and of loss.
Branches are asked for by their canonical names (see `names`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.card import Card
from pfnano_tag.card.jets import Jets
from pfnano_tag.errors import BadChunk, FileError, MissingBranch
from pfnano_tag.nano import sources
from pfnano_tag.nano.branch_types import wrong_type
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.containers import Container
from pfnano_tag.nano.layouts import (
    DEEPJET_CANDIDATE_PT,
    Contents,
    JetType,
    Layout,
    jet_type_of,
    kind_of,
    layout_of,
    require_branches,
)
from pfnano_tag.nano.names import NTUPLE_EVENT, Branch, Names, event_names, tree_names
from pfnano_tag.nano.plan import Plan, parts_of, plan_chunks
from pfnano_tag.nano.runs import RunsTotals, totals_of
from pfnano_tag.nano.schema import declare, own_features
from pfnano_tag.nano.sources import RootFile

EVENTS = "Events"
TREES = ("TTree", "ROOT::RNTuple")
"""Classes of what holds entries."""


def open_file(path: str | Path, card: Card) -> PFNanoFile:
    """Open a file as a card says: its jets, time-outs and retries, threads of decompression (see `PFNanoFile`)."""
    sources.configure(card.resources.remote, card.resources.decompression)
    return PFNanoFile(path, card.jets)


class PFNanoFile:
    """One ROOT file with a tree `Events`, or with a plain tree of jets; a context manager.

    Parameters
    ----------
    path : str or Path
        Local path or `root://` address; replicas are separated by ` | `.
    jets : Jets, optional
        The card's section: which collection stands for the jets, and the names in a plain tree.

    Raises
    ------
    FileError
        When the file can't be opened, is no ROOT file, or has no tree of events or jets.
    MissingBranch
        When AK8 jets are asked for, and the file holds AK4 jets alone.
    """

    def __init__(self, path: str | Path, jets: Jets | None = None) -> None:
        self.path = str(path)
        self.jets = Jets() if jets is None else jets
        declare(own_features(self.jets.tree))
        self._file = RootFile(self.path)
        try:
            self.tree_name = self._tree_name()
            self.tree: Container = self._file.container(self.tree_name)
            self._require_jets()
        except BaseException:
            self._file.close()
            raise

    def _tree_name(self) -> str:
        trees, wanted = self._tree_names(), self.jets.tree.name
        if wanted and wanted in trees:
            return wanted
        if EVENTS in self._file.keys:
            return EVENTS
        if not wanted and len(trees) == 1:
            return trees[0]
        has = ", ".join(self._file.keys) or "nothing"
        hint = f" or {wanted!r} (jets.tree.name)" if wanted else ""
        raise FileError(f"{self.path}: no tree 'Events'{hint} in this file; it has: {has}")

    def _require_jets(self) -> None:
        """Refuse a tree that is neither one of events nor, by the card's names, one of jets; or without AK8 jets."""
        if self.is_jet_tree and "Jet_pt" not in self.names:
            looked_for = self.jets.tree.branches.get("Jet_pt", NTUPLE_EVENT["Jet_pt"])
            raise FileError(
                f"{self.path}: no tree 'Events' in this file, and its tree {self.tree_name!r} holds no jets: "
                f"it has no branch {looked_for!r} (Jet_pt in jets.tree.branches)"
            )
        if self.jets.collection == "FatJet" and not self.is_jet_tree and {"nJet", "Jet_pt"} <= self.tree.names:
            self._require_fat_jets()

    def _require_fat_jets(self) -> None:
        if "FatJet_pt" not in self.tree.names:
            raise MissingBranch(
                f"{self.path}: no AK8 jets in this file: it has Jet_pt, but no FatJet_pt; use other files, or set "
                "jets.collection=Jet"
            )

    def __enter__(self) -> PFNanoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @cached_property
    def trees(self) -> Mapping[str, int]:
        """Entries of each tree at the top level of the file, by name."""
        return {name: self._file.container(name).num_entries for name in self._tree_names()}

    def _tree_names(self) -> list[str]:
        return [name for name, kind in self._file.keys.items() if kind in TREES]

    @property
    def num_entries(self) -> int:
        """Events in the file (jets in a plain tree of jets)."""
        return self.tree.num_entries

    @property
    def uuid(self) -> str:
        """ROOT's identifier of the file, the same for all replicas."""
        return self._file.uuid

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._file.size

    @property
    def identity(self) -> str:
        """UUID and size: which file this is, wherever it lies."""
        return f"{self.uuid}:{self.size}"

    @cached_property
    def names(self) -> Names:
        """Where each canonical branch comes from."""
        stored = self.tree.names
        if self.is_jet_tree:
            try:
                return tree_names(stored, self.jets.tree, self.uuid)
            except MissingBranch as error:
                raise MissingBranch(f"{self.path}: {error}") from error
        return event_names(stored, self.jets.collection)

    @property
    def is_jet_tree(self) -> bool:
        """Whether an entry is a jet, not an event."""
        return self.tree_name != EVENTS or self.jets.tree.name == EVENTS

    @cached_property
    def branches(self) -> frozenset[str]:
        """Canonical names of the branches."""
        return frozenset(self.names)

    def stored(self, name: str) -> str:
        """Return what the file calls a canonical branch; the name itself where the file lacks it."""
        return ", ".join(self.names[name].stored) if name in self.names and self.names[name].stored else name

    def stored_names(self, names: Iterable[str]) -> list[str]:
        """Return the branches of the file that canonical names are made from, sorted; without those it lacks."""
        return sorted({stored for name in names if name in self.names for stored in self.names[name].stored})

    @cached_property
    def contents(self) -> Contents:
        """What features can be had from this file, and how."""
        layout: Layout = "jets" if self.is_jet_tree else layout_of(self.branches)
        threshold = {"jets": self.jets.tree.candidate_pt, "deepjet": DEEPJET_CANDIDATE_PT}.get(layout)
        return Contents(self.path, layout, self.branches, threshold)

    @property
    def layout(self) -> Layout:
        """`candidates`, `btvnano`, `deepjet`, `jets` or `nano`."""
        return self.contents.layout

    @cached_property
    def jet_type(self) -> JetType:
        """`CHS`, `PUPPI`, `AK8` or `unknown`."""
        title = "" if self.is_jet_tree or "nJet" not in self.names else self.tree.title(self.stored("nJet"))
        return jet_type_of(title, self.jets.collection, self.branches)

    @property
    def kind(self) -> str:
        """`mc` or `data`."""
        if self.is_jet_tree:
            return "mc" if "Jet_FlavSplit" in self.branches else "data"
        return kind_of(self.branches)

    def require(self, names: Iterable[str], needed_by: str) -> None:
        """Raise `MissingBranch` naming all branches of `names` that the file lacks."""
        require_branches(names, self.branches, self.path, needed_by)

    @cached_property
    def runs(self) -> RunsTotals | None:
        """Sums of generator weights from the tree `Runs`; None where the file has none (data)."""
        return totals_of(self._file)

    def uncompressed_bytes(self, names: Iterable[str]) -> int:
        """Return the size of branches, uncompressed."""
        return sum(self.tree.uncompressed_bytes(name) for name in self.stored_names(names))

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
        entries = self.num_entries
        if entries == 0:
            return ()
        names = list(branches)
        edges = [edge for edge in self.tree.edges(self.stored_names(names)) if 0 < edge < entries]
        return plan_chunks([*edges, entries], self._entries_of(names, chunk_bytes))

    def parts(self, start: int, stop: int, branches: Iterable[str], part_bytes: float) -> Plan:
        """Return entry ranges that a chunk can be read in without decompressing a basket twice.

        Parameters
        ----------
        start, stop : int
            The chunk.
        branches : iterable of str
            Branches that will be read.
        part_bytes : float
            Uncompressed size of a part, at least one cluster.

        Returns
        -------
        tuple of (start, stop)
            Covering the chunk in order.
        """
        names = list(branches)
        return parts_of(start, stop, self.tree.edges(self.stored_names(names)), self._entries_of(names, part_bytes))

    def _entries_of(self, branches: list[str], size: float) -> int:
        """Return how many entries have so many uncompressed bytes in some branches, at least one."""
        each = self.uncompressed_bytes(branches) / self.num_entries
        return max(1, int(size / max(each, 1e-9)))

    def chunk(self, start: int, stop: int) -> Chunk:
        """Return an entry range of the file; nothing is read yet."""
        return Chunk(self, start, stop)


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
        self._stored: dict[str, Jagged | NDArray[Any]] = {}
        self._made: dict[str, Jagged | NDArray[Any]] = {}
        self._lists: dict[str, Jagged] = {}
        self._varied: Mapping[str, Jagged | NDArray[Any]] = {}

    def varied(self, columns: Mapping[str, Jagged | NDArray[Any]]) -> Chunk:
        """Return this chunk with other columns (by canonical name) in place of some; what was read is shared."""
        other = Chunk(self.file, self.start, self.stop)
        other._stored, other._made, other._lists = self._stored, self._made, self._lists
        other._varied = {**self._varied, **columns}
        return other

    @property
    def num_events(self) -> int:
        """Events in the chunk."""
        return self.stop - self.start

    @property
    def branches(self) -> frozenset[str]:
        """Canonical names of the file's branches."""
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
        asked = set(names)
        self.file.require(asked, "this step")
        wanted = [name for name in self.file.stored_names(asked) if name not in self._stored]
        if not wanted:
            return
        try:
            self._stored.update(self.file.tree.arrays(wanted, self.start, self.stop))
        except MemoryError:
            raise
        except FileError as error:
            raise self.bad(str(error)) from error
        except Exception as error:  # a damaged basket can raise anything: decompression, struct, index errors
            if any(f"'{name}'" in str(error) for name in wanted):  # it names the branch itself
                raise self.bad(str(error)) from error
            raise self.bad(f"{type(error).__name__} while reading {', '.join(wanted[:4])}...: {error}") from error

    def __getitem__(self, name: str) -> Any:
        """Return a branch: `Jagged`, or an array with one value per event; read now if it wasn't.

        Raises
        ------
        BadChunk
            When it can't be read, has other numbers of values than the branches of its collection that were asked
            for before, holds lists where one value is expected or the reverse, whole numbers where
            momenta or angles are expected, or others in the identity of the events or in their truth.
        """
        if name in self._varied:
            return self._varied[name]
        self.load([name])
        branch = self.file.names[name]
        if branch.make is not None:
            if name not in self._made:
                self._made[name] = self._make(branch)
            return self._made[name]
        column = self._stored[branch.stored[0]]
        listed = f"n{name.partition('_')[0]}" in self.branches and not name.startswith("n")
        reason = wrong_type(name, column, listed)
        if reason:
            raise self.bad(f"{branch.stored[0]} holds {reason}")
        if isinstance(column, Jagged) and (listed or ("_" in name and not self.file.is_jet_tree)):
            column = self._stored[branch.stored[0]] = self._in_collection(name, column)
        return column

    def _in_collection(self, name: str, column: Jagged) -> Jagged:
        """Return a column with the offsets of its collection, or complain: rows would be taken from another event."""
        like = self._lists.setdefault(name.partition("_")[0], column)
        if column.offsets is like.offsets:
            return column
        if not np.array_equal(column.offsets, like.offsets):
            raise self.different_lengths(name, column, like)
        return Jagged(column.values, like.offsets)

    def different_lengths(self, name: str, column: Jagged, like: Jagged) -> BadChunk:
        """Return the error that a branch has other numbers of values than another one of its collection."""
        if len(column) != len(like):
            return self.bad(f"{name} has {len(column)} entries, other branches of the collection have {len(like)}")
        where = int(np.flatnonzero(column.counts != like.counts)[0])
        return self.bad(
            f"{name} has {column.counts[where]} values in entry {self.start + where}, other branches of the "
            f"collection have {like.counts[where]}: different lengths"
        )

    def _make(self, branch: Branch) -> Jagged | NDArray[Any]:
        assert branch.make is not None
        try:
            return branch.make({name: self._stored[name] for name in branch.stored}, self.start, self.stop)
        except ValueError as error:
            raise self.bad(str(error)) from error

    def __str__(self) -> str:
        return f"{self.file.path}, entries {self.start} to {self.stop}"

    def drop(self) -> None:
        """Forget all branches that were read."""
        self._stored.clear()
        self._made.clear()
        self._lists.clear()

    def bad(self, reason: str) -> BadChunk:
        """Return the error that says what is wrong with this chunk."""
        return BadChunk(self.file.path, self.start, self.stop, " ".join(reason.split())[:500])
