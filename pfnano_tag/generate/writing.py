"""Files through uproot: trees or RNTuples, counters and titles as CMS has them, a cluster per chunk, content hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from uproot.writing import _cascadetree as cascadetree

from pfnano_tag.generate.branches import Types, stored
from pfnano_tag.generate.layouts import Layout
from pfnano_tag.generate.ragged import Array, Table
from pfnano_tag.nano.writer import unsigned_counters

COMPRESSIONS = {"zstd": ("ZSTD", 5), "lzma": ("LZMA", 9)}


def _jagged(offsets: Array, content: ak.contents.Content) -> ak.Array:
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), content))


@contextmanager
def branch_titles(titles: Mapping[str, str]) -> Iterator[None]:
    """Make uproot give branches these titles; it has no option for them. For `mktree` alone."""
    original = cascadetree.Tree._branch_np

    def titled(tree: Any, name: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        branch: dict[str, Any] = original(tree, name, *arguments, **options)
        return branch | {"fTitle": titles.get(name, branch["fTitle"])}

    cascadetree.Tree._branch_np = titled
    try:
        yield
    finally:
        cascadetree.Tree._branch_np = original


class FileWriter:
    """Write chunks to a new file.

    Parameters
    ----------
    path : Path
        Where to write (the caller renames).
    layout : Layout
        How branches are called and stored.
    types : Types
        The branches.
    compression : str
        A key of `COMPRESSIONS`.
    container : str
        `ttree` or `rntuple`. An RNTuple has a vector field `<collection>_<field>` where a tree has a jagged branch,
        and the counters as plain fields; uproot writes no descriptions of fields, so it has no titles.
    """

    def __init__(
        self, path: Path, layout: Layout, types: Types, compression: str = "zstd", container: str = "ttree"
    ) -> None:
        algorithm, level = COMPRESSIONS[compression]
        self._layout, self._types, self._container = layout, types, container
        self._file = uproot.recreate(path, compression=getattr(uproot, algorithm)(level))
        self._tree = self._new_tree() if container == "ttree" else None
        self._hash = hashlib.sha256()

    def _counter(self, collection: str) -> str:
        return self._layout.counters.get(collection, f"n{collection}")

    def _new_tree(self) -> Any:
        types: dict[str, Any] = dict(self._types.scalars)
        for name, fields in self._types.collections.items():
            record = ak.types.RecordType([ak.types.NumpyType(t) for t in fields.values()], list(fields))
            types[name] = ak.types.ListType(record)
        with ExitStack() as stack:
            stack.enter_context(branch_titles(self._layout.titles))
            if self._layout.unsigned:
                stack.enter_context(unsigned_counters())
            return self._file.mktree(
                self._layout.tree,
                types,
                title=self._layout.tree,
                counter_name=self._counter,
                field_name=lambda outer, inner: f"{outer}_{inner}",
            )

    def add(self, scalars: dict[str, Array], tables: dict[str, Table]) -> None:
        """Append one chunk: scalar columns [entries], and one table per collection."""
        columns = {name: self._stored(name, scalars[name], dtype) for name, dtype in self._types.scalars.items()}
        fields: dict[str, dict[str, Array]] = {}
        for values in columns.values():
            self._hash.update(values.tobytes())
        for name, types in self._types.collections.items():
            fields[name] = {k: self._stored(k, tables[name][k], dtype) for k, dtype in types.items()}
            self._hash.update(tables[name].offsets.tobytes())
            for values in fields[name].values():
                self._hash.update(values.tobytes())
        offsets = {name: tables[name].offsets for name in fields}
        if self._container == "ttree":
            self._extend_tree(columns, fields, offsets)
        else:
            self._extend_rntuple(columns, fields, offsets)

    def _stored(self, name: str, values: Array, dtype: str) -> Array:
        if self._layout.precise:
            return np.ascontiguousarray(values, dtype=dtype)
        return stored(name, values, dtype)

    def _extend_tree(
        self, columns: dict[str, Array], fields: dict[str, dict[str, Array]], offsets: dict[str, Array]
    ) -> None:
        data: dict[str, Any] = dict(columns)
        for name, values in fields.items():
            contents = [ak.contents.NumpyArray(v) for v in values.values()]
            record = ak.contents.RecordArray(contents, list(values), length=int(offsets[name][-1]))
            data[name] = _jagged(offsets[name], record)
        assert self._tree is not None  # made with the file
        self._tree.extend(data)

    def _extend_rntuple(
        self, columns: dict[str, Array], fields: dict[str, dict[str, Array]], offsets: dict[str, Array]
    ) -> None:
        data: dict[str, Any] = dict(columns)
        counter = np.uint32 if self._layout.unsigned else np.int32
        for name, values in fields.items():
            data[self._counter(name)] = np.diff(offsets[name]).astype(counter)
            for key, column in values.items():
                data[f"{name}_{key}"] = _jagged(offsets[name], ak.contents.NumpyArray(column))
        if self._tree is None:  # types are those of the first chunk
            self._tree = self._file.mkrntuple(self._layout.tree, data)
        else:
            self._tree.extend(data)

    def digest(self) -> str:
        """sha256 over all columns written so far."""
        return self._hash.hexdigest()

    def close(self, run_lumis: Array, runs: dict[str, Array], provenance: dict[str, Any]) -> None:
        """Write LuminosityBlocks, Runs (with a tree `Events`) and the provenance (TObjString, JSON); close the file.

        Parameters
        ----------
        run_lumis : Array
            Unique (run, luminosityBlock) pairs [n, 2].
        runs : dict[str, Array]
            Columns of `Runs`.
        """
        if self._layout.tree == "Events":
            lumis = {"run": run_lumis[:, 0].astype(np.uint32), "luminosityBlock": run_lumis[:, 1].astype(np.uint32)}
            self._small("LuminosityBlocks", lumis)
            self._small("Runs", runs)
        self._file["tag"] = json.dumps(provenance, sort_keys=True)
        self._file.close()

    def _small(self, name: str, columns: dict[str, Array]) -> None:
        if self._container == "ttree":
            self._file.mktree(name, {k: v.dtype for k, v in columns.items()}).extend(columns)
        else:
            self._file.mkrntuple(name, columns)
