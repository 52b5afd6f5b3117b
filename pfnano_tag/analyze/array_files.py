"""Files of rows: Parquet, or a plain tree, written chunk by chunk, whole or not at all.

`H.root.jets.parquet` and `H.root.jets.root` lie beside the output `H.root`. What the rows are, and what they are
short of, is JSON: in Parquet's key-value metadata (`pfnano_tag`), or in the TObjString `provenance`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, get_args

import uproot
from numpy.typing import NDArray

from pfnano_tag.analyze.arrays import COLUMN, Column
from pfnano_tag.card.arrays import ArrayFormat
from pfnano_tag.card.output import write_whole
from pfnano_tag.errors import MissingExtra

log = logging.getLogger(__name__)

FORMAT, FORMAT_VERSION = "pfnano_tag arrays", 1
TREE, PROVENANCE, METADATA_KEY = "Jets", "provenance", "pfnano_tag"


class _Writer(Protocol):
    def write(self, columns: Mapping[str, NDArray[Any]]) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...


class ArrayFile:
    """Rows on their way to a file, or to none.

    Parameters
    ----------
    path : Path or None
        What the file will be called; None: nothing is written.
    columns : sequence of Column
        Of the rows.
    writer : object or None
        Of the format.
    """

    def __init__(self, path: Path | None, columns: Sequence[Column], writer: _Writer | None) -> None:
        self.path, self.columns, self._writer = path, tuple(columns), writer
        self.rows = 0

    def extend(self, partial: Mapping[str, NDArray[Any]]) -> None:
        """Append the rows of a chunk's partial result.

        Parameters
        ----------
        partial : mapping of ndarray
            Has `column.NAME` [jets] for every column.
        """
        found = {column.name: partial[COLUMN + column.name] for column in self.columns}
        if self._writer is not None and len(found[self.columns[0].name]):
            self._writer.write(found)
            self.rows += len(found[self.columns[0].name])

    def describe(self) -> dict[str, Any] | None:
        """Return what the job's own output says of the file."""
        return None if self.path is None else {"file": self.path.name, "rows": self.rows}

    def note(self, info: Mapping[str, Any], sums: Mapping[str, float]) -> None:
        """Write down where the rows come from.

        Parameters
        ----------
        info : mapping
            Provenance of the job (`result.JobResult`).
        sums : mapping of float
            By the names in `result.SUMS`: the weights are to be divided by `sumw_effective`, summed over files.
        """
        if self._writer is not None:
            content = {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "columns": [column.to_json() for column in self.columns],
                "rows": self.rows,
                "sums": dict(sums),
                "info": dict(info),
            }
            self._writer.note(json.dumps(content, allow_nan=False))


def arrays_path(output: Path, form: str) -> Path:
    """Return the file of rows beside a job's output."""
    return output.with_name(f"{output.name}.jets.{form}")


def is_arrays(path: Path) -> bool:
    """Return whether a file beside job outputs is one of rows, by its name."""
    return path.name.endswith(tuple(f".root.jets.{form}" for form in get_args(ArrayFormat)))


def check_format(form: str) -> None:
    """Complain when a format can't be written here.

    Raises
    ------
    MissingExtra
        When its package is not installed.
    """
    if form == "parquet":
        _pyarrow()


@contextmanager
def array_file(output: Path, form: str, columns: Sequence[Column]) -> Iterator[ArrayFile]:
    """Yield what takes the rows of a job; its file gets its name when the block succeeds.

    Files of rows that an earlier job with this output left in another format are removed.

    Parameters
    ----------
    output : Path
        The job's ROOT file.
    form : str
        `parquet`, `root`, or `none`.
    columns : sequence of Column
        Of the rows.

    Raises
    ------
    OutputError
        When the file can't be written.
    """
    if form == "none":
        yield ArrayFile(None, (), None)
    else:
        path = arrays_path(output, form)
        with write_whole(path) as temporary:
            writer = _Parquet(temporary, columns) if form == "parquet" else _Tree(temporary, columns)
            file = ArrayFile(path, columns, writer)
            try:
                yield file
            finally:
                writer.close()
        log.info("%s: %d rows of jets", path, file.rows)
    for other in get_args(ArrayFormat):
        if other != form and arrays_path(output, other).is_file():
            log.info("%s: of an earlier job, removed", arrays_path(output, other))
            arrays_path(output, other).unlink()


class _Parquet:
    """A row group per chunk; whole numbers, flags and floats of the columns' types, no nulls."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        arrow, parquet = _pyarrow()
        self._arrow = arrow
        types = [arrow.from_numpy_dtype(column.dtype) for column in columns]
        self._schema = arrow.schema(
            [arrow.field(c.name, kind, nullable=False) for c, kind in zip(columns, types, strict=True)]
        )
        self._file = path.open("wb")  # a full disk is then Python's own error, with its number
        self._writer = parquet.ParquetWriter(self._file, self._schema, compression="zstd")

    def write(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self._writer.write_table(self._arrow.table(dict(columns), schema=self._schema))

    def note(self, text: str) -> None:
        self._writer.add_key_value_metadata({METADATA_KEY: text})

    def close(self) -> None:
        with self._file:
            self._writer.close()


class _Tree:
    """A basket per chunk and branch."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._file = uproot.recreate(path, compression=uproot.ZSTD(3))
        self._tree = self._file.mktree(TREE, {column.name: column.dtype for column in columns})

    def write(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self._tree.extend(dict(columns))

    def note(self, text: str) -> None:
        self._file[PROVENANCE] = text

    def close(self) -> None:
        self._file.close()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra(
            "arrays.format: parquet needs the package pyarrow; install it with: pip install 'pfnano_tag[tables]' "
            "(or take the format root)"
        ) from error
    return pyarrow, pyarrow.parquet
