"""Repeats the entries of a file, with other event numbers in each copy, other baskets or compression."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from pfnano_tag.nano.writer import unsigned_counters

Keep = Callable[[Mapping[str, ak.Array]], NDArray[np.bool_]]
EVENT_NUMBERS = ("event", "event_no", "Event_no")
"""Branches that hold the number of the event, by layout."""
LIST = "list:"
"""Tells the jagged branches that share a counter from the counter, which the writer makes itself."""


def repeat(source: Path, output: Path, entries: int, basket: int, compression: str, container: str) -> None:
    """Write the entries of a file, in their order, as often as it takes to have a number of entries.

    Parameters
    ----------
    source, output : Path
        ROOT files. The tree `Events` is repeated (in a file without one: its only tree), other trees are copied.
    entries : int
        Entries of the new file.
    basket : int
        Entries of each basket, or of each cluster of an RNTuple.
    compression : str
        Algorithm and level, say `LZMA 9`.
    container : str
        `ttree` or `rntuple`.
    """
    algorithm, level = compression.split()
    temporary = output.with_suffix(".tmp.root")
    settings = getattr(uproot, algorithm)(int(level))
    with uproot.open(source) as original, uproot.recreate(temporary, compression=settings) as new:
        trees = [name.split(";")[0] for name, kind in original.classnames().items() if kind == "TTree"]
        main = "Events" if "Events" in trees else trees[0]
        for name in sorted(trees, key=lambda tree: tree != main):
            content = Columns(original[name], fit_to_train_on if name == "tree" else None)
            add = content.tree_writer(new, name) if container == "ttree" else content.rntuple_writer(new, name)
            wanted = entries if name == main else len(content)
            for start in range(0, wanted, basket):
                add(content.repeated(start, min(start + basket, wanted)))
    temporary.rename(output)


class Columns:
    """All branches of a small tree but the counters, in memory.

    Parameters
    ----------
    tree : uproot.TTree
        Read whole.
    keep : callable or None
        Takes the columns, returns which entries are kept.
    """

    def __init__(self, tree: Any, keep: Keep | None = None) -> None:
        counters = {branch.name: _counter_of(branch) for branch in tree.branches}
        self._counter = {name: of for name, of in counters.items() if name not in counters.values()}
        self._arrays: dict[str, ak.Array] = tree.arrays(list(self._counter), library="ak", how=dict)
        if keep is not None:
            kept = keep(self._arrays)
            self._arrays = {name: ak.to_packed(array[kept]) for name, array in self._arrays.items()}
        self._length = len(next(iter(self._arrays.values())))
        numbers = [name for name in EVENT_NUMBERS if name in self._arrays]
        self._number = numbers[0] if numbers else ""
        self._step = int(ak.max(self._arrays[self._number])) + 1 if self._number else 0

    def __len__(self) -> int:
        return self._length

    def repeated(self, start: int, stop: int) -> dict[str, ak.Array]:
        """Return entries `start` to `stop` of the endless repetition of the tree, with their own event numbers."""
        rows = np.arange(start, stop) % self._length
        chosen = {name: ak.to_packed(array[rows]) for name, array in self._arrays.items()}
        if self._number:
            copies = np.arange(start, stop) // self._length
            chosen[self._number] = _shifted(chosen[self._number], copies * self._step)
        return chosen

    def tree_writer(self, file: Any, name: str) -> Any:
        """Return what appends entries to a new TTree with the branches and counters of this one."""
        types: dict[str, Any] = {}
        for counter, fields in self._collections().items():
            kinds = [self._arrays[field].type.content.content for field in fields]
            types[LIST + counter] = ak.types.ListType(ak.types.RecordType(kinds, fields))
        types |= {field: self._arrays[field].type.content for field, counter in self._counter.items() if not counter}
        with unsigned_counters():
            tree = file.mktree(
                name,
                types,
                title=name,
                counter_name=lambda outer: outer.removeprefix(LIST),
                field_name=lambda outer, inner: inner or outer,
            )
        return lambda entries: tree.extend(self._grouped(entries))

    def rntuple_writer(self, file: Any, name: str) -> Any:
        """Return what appends entries to a new RNTuple with a field per branch of this tree."""
        form = _record({field: array[:0] for field, array in self._arrays.items()}).layout.form
        ntuple = file.mkrntuple(name, form)
        return lambda entries: ntuple.extend(_record(entries))

    def _collections(self) -> dict[str, list[str]]:
        """Return the jagged branches by their counter."""
        counters = dict.fromkeys(counter for counter in self._counter.values() if counter)
        return {counter: [field for field, of in self._counter.items() if of == counter] for counter in counters}

    def _grouped(self, entries: Mapping[str, ak.Array]) -> dict[str, ak.Array]:
        """Return entries as the writer takes them: one record array per counter."""
        grouped = {LIST + counter: _zipped(entries, fields) for counter, fields in self._collections().items()}
        return grouped | {field: entries[field] for field, counter in self._counter.items() if not counter}


def fit_to_train_on(columns: Mapping[str, ak.Array]) -> NDArray[np.bool_]:
    """Return which jets a training with the default card takes, so that no side of a benchmark has to select."""
    pt, eta = (ak.to_numpy(columns[name]) for name in ("jet_corr_pt", "jet_eta"))
    strange = ak.to_numpy(columns["isPU"]) + ak.to_numpy(columns["isUndefined"]) > 0
    return np.asarray((pt >= 20) & (pt <= 1000) & (np.abs(eta) <= 2.5) & ~strange)


def _counter_of(branch: Any) -> str:
    """Return the name of the branch that counts the values of a jagged one; nothing for a plain one."""
    counter = branch.member("fLeaves")[0].member("fLeafCount")
    return "" if counter is None else str(counter.member("fName"))


def _shifted(numbers: ak.Array, by: NDArray[np.int64]) -> ak.Array:
    plain = ak.to_numpy(numbers)
    return ak.Array((plain + by.astype(plain.dtype)).astype(plain.dtype))


def _zipped(entries: Mapping[str, ak.Array], fields: list[str]) -> ak.Array:
    layouts = [ak.to_layout(entries[field]) for field in fields]
    record = ak.contents.RecordArray([layout.content for layout in layouts], fields)
    return ak.Array(ak.contents.ListOffsetArray(layouts[0].offsets, record))


def _record(entries: Mapping[str, ak.Array]) -> ak.Array:
    return ak.Array(ak.contents.RecordArray([ak.to_layout(array) for array in entries.values()], list(entries)))
