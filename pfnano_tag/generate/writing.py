"""PFNano files through uproot: unsigned counters, one basket per chunk, content hash, provenance."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from pfnano_tag.generate.branches import layout, stored
from pfnano_tag.generate.ragged import Array, Table
from pfnano_tag.nano.writer import unsigned_counters

COMPRESSIONS = {"zstd": ("ZSTD", 5), "lzma": ("LZMA", 9)}


def _jagged(table: Table, fields: dict[str, Array]) -> ak.Array:
    contents = [ak.contents.NumpyArray(v) for v in fields.values()]
    record = ak.contents.RecordArray(contents, list(fields), length=len(table))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(table.offsets), record))


class FileWriter:
    """Write chunks of events to a new file.

    Parameters
    ----------
    path : Path
        Where to write (the caller renames).
    mode : str
        `mc` or `data`: which branches there are.
    compression : str
        A key of `COMPRESSIONS`.
    """

    def __init__(self, path: Path, mode: str, compression: str) -> None:
        algorithm, level = COMPRESSIONS[compression]
        self.mode = mode
        self.scalars, self.collections = layout(mode)
        self._file = uproot.recreate(path, compression=getattr(uproot, algorithm)(level))
        types: dict[str, Any] = dict(self.scalars)
        for name, fields in self.collections.items():
            record = ak.types.RecordType([ak.types.NumpyType(t) for t in fields.values()], list(fields))
            types[name] = ak.types.ListType(record)
        with unsigned_counters():
            self._tree = self._file.mktree(
                "Events",
                types,
                title="Events",
                counter_name=lambda collection: f"n{collection}",
                field_name=lambda outer, inner: f"{outer}_{inner}",
            )
        self._hash = hashlib.sha256()

    def add(self, scalars: dict[str, Array], tables: dict[str, Table]) -> None:
        """Append one chunk: scalar columns [E], and one table per collection."""
        data: dict[str, Any] = {}
        for name, dtype in self.scalars.items():
            data[name] = stored(name, scalars[name], dtype)
            self._hash.update(data[name].tobytes())
        for name, fields in self.collections.items():
            table = tables[name]
            columns = {k: stored(k, table[k], t) for k, t in fields.items()}
            self._hash.update(table.offsets.tobytes())
            for values in columns.values():
                self._hash.update(values.tobytes())
            data[name] = _jagged(table, columns)
        self._tree.extend(data)

    def digest(self) -> str:
        """sha256 over all columns written so far."""
        return self._hash.hexdigest()

    def close(self, run_lumis: Array, runs: dict[str, Array], provenance: dict[str, Any]) -> None:
        """Write LuminosityBlocks, Runs and the provenance (TObjString, JSON), and closes the file.

        Parameters
        ----------
        run_lumis : Array
            Unique (run, luminosityBlock) pairs [n, 2].
        runs : dict[str, Array]
            Columns of `Runs`.
        """
        lumis = {"run": run_lumis[:, 0].astype(np.uint32), "luminosityBlock": run_lumis[:, 1].astype(np.uint32)}
        self._file.mktree("LuminosityBlocks", {k: v.dtype for k, v in lumis.items()}).extend(lumis)
        self._file.mktree("Runs", {k: v.dtype for k, v in runs.items()}).extend(runs)
        self._file["tag"] = json.dumps(provenance, sort_keys=True)
        self._file.close()
