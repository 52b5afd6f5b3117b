"""RNTuples: fields under NanoAOD branch names, columns read cluster by cluster, pages checked.

uproot parses the schema and decodes pages; which pages to read is decided here, because its own `arrays` decodes the
cluster behind the range as well, and reads each page of a server's file in a request of its own.
Format: the RNTuple binary format specification 1.0 (ROOT, tree/ntuple/doc/BinaryFormatSpecification.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray
from uproot import const

from pfnano_tag.nano.columns import Index, Jagged
from pfnano_tag.nano.containers import Column, Container, Owner, Spread, most_common

_ROLE = const.RNTupleFieldRole
_ALGORITHMS = {1: "ZLIB", 2: "LZMA", 4: "LZ4", 5: "ZSTD"}
"""ROOT's codes: compression settings are 100 times these plus the level."""
_NUMBERS = {**const.rntuple_col_num_to_dtype_dict, 0x00: "bool", 0x1C: "float32", 0x1D: "float32"}
_CPP = {"float32": "float", "float64": "double", "bool": "bool"}
_CHECKSUM = 8
"""Bytes of the XXH3 sum behind a page."""
_SINGLETONS = {
    *("BeamSpot", "CaloMET", "ChsMET", "DeepMETResolutionTune", "DeepMETResponseTune", "FiducialMET", "GenMET"),
    *("GenVtx", "Generator", "HTXS", "L1PreFiringWeight", "LHE", "MET", "PFMET", "PV", "Pileup", "PuppiMET"),
    *("RawMET", "RawPFMET", "RawPuppiMET", "Rho", "TkMET", "TrkMET"),
}
"""NanoAOD's tables with one row per event, which CMSSW writes to RNTuples as collections of one element."""


@dataclass(frozen=True)
class Field:
    """Where a branch lies in an RNTuple.

    Parameters
    ----------
    values : int or None
        Column of the values; None for a counter.
    offsets : int or None
        Column of the ends of the lists; None where each entry holds one value or a fixed number.
    length : int
        Values per entry where that is fixed, else 0.
    single : bool
        A list that always has one value, seen as one value per entry.
    title, typename : str
        What the producer says of it; its type in C++.
    refused : str
        What it is, where it can't be read; else empty.
    """

    values: int | None
    offsets: int | None = None
    length: int = 0
    single: bool = False
    title: str = ""
    typename: str = ""
    refused: str = ""

    @property
    def columns(self) -> tuple[int, ...]:
        """Columns that the field is read from."""
        return tuple(column for column in (self.offsets, self.values) if column is not None)


class NTupleContainer(Container):
    """An RNTuple.

    Parameters
    ----------
    owner : RootFile
        The open file.
    name : str
        Of the RNTuple.
    ntuple : uproot.behaviors.RNTuple.RNTuple
        The RNTuple.
    spread : callable
        `map` over columns, in threads or not.
    """

    kind = "RNTuple"

    def __init__(self, owner: Owner, name: str, ntuple: Any, spread: Spread = map) -> None:
        super().__init__(owner, name)
        self._ntuple, self._spread = ntuple, spread
        for group in ntuple.footer.cluster_group_records:  # uproot checks header and footer, these it doesn't
            link = group.page_list_link
            envelope = ntuple.read_locator(link.locator, link.env_uncomp_size)[0].raw_data.tobytes()
            _check(envelope[:-_CHECKSUM], envelope[-_CHECKSUM:], "list of pages")

    @cached_property
    def num_entries(self) -> int:
        """Entries, as events."""
        return int(self._ends[-1])

    @cached_property
    def _ends(self) -> Index:
        """Where clusters end; 0 comes first."""
        summaries = sorted(self._ntuple.cluster_summaries, key=lambda summary: summary.num_first_entry)
        ends = [0, *(summary.num_first_entry + summary.num_entries for summary in summaries)]
        return np.array(ends, dtype=np.int64)

    @cached_property
    def _fields(self) -> Mapping[str, Field]:
        return fields_of(self._ntuple)

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of all fields as branches, whether they can be read or not."""
        return frozenset(self._fields)

    def title(self, name: str) -> str:
        """Return the description of a field."""
        return self._fields[name].title

    def typename(self, name: str) -> str:
        """Return the type of a field, as of a branch."""
        return self._fields[name].typename

    @cached_property
    def compression(self) -> str:
        """Compression of most columns."""
        settings = (column.compression_settings for cluster in self._ntuple.page_link_list[:1] for column in cluster)
        return most_common(
            f"{_ALGORITHMS.get(code // 100, 'unknown')} {code % 100}" if code else "none"
            for code in settings
            if code is not None
        )

    def uncompressed_bytes(self, name: str) -> int:
        """Return the size of a field in memory [bytes], with the ends of its lists."""
        return sum(self._column_bytes[column] for column in self._fields[name].columns)

    @cached_property
    def _column_bytes(self) -> list[int]:
        sizes = [0] * len(self._ntuple.column_records)
        for cluster in self._ntuple.page_link_list:
            for column, stored in enumerate(cluster):
                elements = sum(page.num_elements for page in stored.pages)
                sizes[column] += elements * self._ntuple.get_field_metadata(column).dtype_result.itemsize
        return sizes

    def edges(self, names: Iterable[str]) -> list[int]:
        """Return where clusters end: the same entries for all fields."""
        return sorted({*self._ends[1:].tolist(), self.num_entries} - {0}) or [0]

    def _read(self, names: list[str], start: int, stop: int) -> dict[str, Column]:
        wanted = {name: self._fields[name] for name in names}
        for name, field in wanted.items():
            if field.refused:
                raise self.refuse(name, field.refused)
        first = int(np.searchsorted(self._ends, start, side="right")) - 1
        last = int(np.searchsorted(self._ends, stop, side="left")) if stop > start else first
        columns = sorted({column for field in wanted.values() for column in field.columns})
        source = self._ntuple.file.source
        with source.holding(self._pages(columns, first, last), _check):
            contents = dict(
                zip(columns, self._spread(lambda column: self._decoded(column, first, last), columns), strict=True)
            )
        base = int(self._ends[first]) if last > first else start
        return {name: self._cut(name, field, contents, start - base, stop - base) for name, field in wanted.items()}

    def _pages(self, columns: Iterable[int], first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Yield start and stop of the pages of columns in clusters, and how many bytes of a checksum follow."""
        for cluster in range(first, last):
            stored = self._ntuple.page_link_list[cluster]
            for column in columns:
                for page in stored[self._live(column, stored)].pages if column < len(stored) else ():
                    at = page.locator.offset
                    yield at, at + page.locator.num_bytes, _CHECKSUM if page.has_checksum else 0

    def _live(self, column: int, stored: list[Any]) -> int:
        """Return the column that holds a cluster's values where a field has several representations."""
        if not stored[column].suppressed:
            return column
        records = self._ntuple.column_records
        field = records[column].field_id
        return next(i for i, other in enumerate(records) if other.field_id == field and not stored[i].suppressed)

    def _decoded(self, column: int, first: int, last: int) -> NDArray[Any]:
        """Read a column of clusters; ends of lists begin with 0 and count from the first cluster on.

        A column that was added while the file was being written lacks its first elements: these are zeros, which
        is what they mean for trigger bits and for the ends of lists.
        """
        if last == first:
            layout = self._ntuple.get_field_metadata(column)
            return np.zeros(int(layout.dtype_byte in const.rntuple_index_types), dtype=layout.dtype_result)
        late = max(0, int(self._ntuple.column_records[column].first_element_index) - int(self._ends[first]))
        return np.asarray(self._ntuple.read_cluster_range(column, first, last, missing_element_padding=late))

    def _cut(self, name: str, field: Field, contents: Mapping[int, NDArray[Any]], start: int, stop: int) -> Column:
        """Cut entries out of decoded columns; start and stop count from the first cluster read."""
        if field.offsets is None:
            assert field.values is not None
            width = max(1, field.length)
            values = contents[field.values][start * width : stop * width]
            if len(values) != (stop - start) * width:
                raise ValueError(f"'{name}' has {len(values)} values for {stop - start} entries")
            return values.reshape(-1, width) if field.length else values
        ends = contents[field.offsets][start : stop + 1].astype(np.int64)
        if len(ends) != stop - start + 1 or (np.diff(ends) < 0).any():
            raise ValueError(f"the lists of '{name}' have {len(ends) - 1} ends, not all rising, for {stop - start}")
        if field.values is None:
            return np.diff(ends).astype(np.uint32)
        values = contents[field.values]
        if len(values) < ends[-1]:
            raise ValueError(f"'{name}' has {len(values)} values, but its lists end at {ends[-1]}")
        values = values[ends[0] : ends[-1]]
        if not field.single:
            return Jagged(values, ends - ends[0])
        if (np.diff(ends) != 1).any():
            raise ValueError(f"'{name}' has not one value in each entry")
        return values


def _check(content: bytes, checksum: bytes, what: str = "page") -> None:
    """Raise `ValueError` where bytes are not what was written."""
    if checksum and xxhash.xxh3_64_intdigest(content) != int.from_bytes(checksum, "little"):
        raise ValueError(f"the checksum of a {what} does not fit its bytes")


def fields_of(ntuple: Any) -> dict[str, Field]:
    """Return the fields of an RNTuple under the names of NanoAOD branches.

    Parameters
    ----------
    ntuple : uproot.behaviors.RNTuple.RNTuple
        The RNTuple.

    Returns
    -------
    dict
        Top-level fields under their own name; members of a collection `Jet` as `Jet_pt` and `Jet.pt`; the number of
        its elements as `nJet`, also for plain vectors `Jet_pt` where no field says it.
    """
    schema = _Schema(ntuple)
    found: dict[str, Field] = {}
    grouped: dict[str, Field] = {}
    counters: dict[str, Field] = {}
    for identity in schema.members(None):
        name, role = schema.name(identity), schema.record(identity).struct_role
        if role == _ROLE.RECORD:
            grouped.update(schema.record_fields(name, identity, None))
        elif role == _ROLE.COLLECTION and schema.items_are_records(identity):
            if not name.startswith("_"):  # the importer's own collections: their members are projected by name
                offsets = schema.column(identity)
                grouped.update(schema.record_fields(name, schema.members(identity)[0], offsets))
                if name not in _SINGLETONS:
                    title = str(schema.record(identity).field_desc)
                    counters[f"n{name}"] = Field(None, offsets, title=title, typename="uint32_t")
        else:
            found[name] = field = schema.leaf(identity)
            if field.offsets is not None and field.values is not None and not field.single:
                counters.setdefault(f"n{name.partition('_')[0]}", Field(None, field.offsets, typename="uint32_t"))
    return {**counters, **grouped, **found}


class _Schema:
    """The field and column records of an RNTuple, with their relations."""

    def __init__(self, ntuple: Any) -> None:
        self._records = ntuple.field_records
        self._types = [column.type for column in ntuple.column_records]
        self._columns: dict[int, list[int]] = {}
        for index, column in enumerate(ntuple.column_records):
            if column.repr_idx == 0:
                self._columns.setdefault(column.field_id, []).append(index)
        self._members: dict[int | None, list[int]] = {}
        for identity, record in enumerate(self._records):
            parent = None if record.parent_field_id == identity else record.parent_field_id
            self._members.setdefault(parent, []).append(identity)

    def members(self, identity: int | None) -> list[int]:
        """Return the fields inside a field; those of the top level for None."""
        return self._members.get(identity, [])

    def record(self, identity: int) -> Any:
        """Return the record of a field."""
        return self._records[identity]

    def name(self, identity: int) -> str:
        """Return the name of a field."""
        return str(self._records[identity].field_name)

    def column(self, identity: int) -> int | None:
        """Return the only column of a field or of the one that it projects; None where there is not one."""
        source = self._records[identity].source_field_id
        columns = self._columns.get(identity if source is None else source, [])
        return columns[0] if len(columns) == 1 else None

    def items_are_records(self, identity: int) -> bool:
        """Whether a collection holds records."""
        inside = self.members(identity)
        return len(inside) == 1 and self.record(inside[0]).struct_role == _ROLE.RECORD

    def record_fields(self, name: str, identity: int, offsets: int | None) -> dict[str, Field]:
        """Return the members of a record, under both names; those in a collection share its ends of lists."""
        made = {}
        for member in self.members(identity):
            field = self.leaf(member, offsets, single=offsets is not None and name in _SINGLETONS)
            made[f"{name}_{self.name(member)}"] = made[f"{name}.{self.name(member)}"] = field
        return made

    def leaf(self, identity: int, offsets: int | None = None, single: bool = False) -> Field:
        """Return a field of numbers, or one that says why it can't be read."""
        record = self.record(identity)
        title, stated = str(record.field_desc), str(record.type_name) or record.struct_role.name.lower()
        refused = Field(None, title=title, typename=stated, refused=f"field of type {stated}")
        role = record.struct_role
        if role == _ROLE.LEAF and "RNTupleCardinality" in stated:
            ends = self.column(identity)
            return Field(None, ends, title=title, typename="uint32_t") if ends is not None else refused
        inside = self.members(identity)
        if role == _ROLE.COLLECTION and len(inside) == 1 and offsets is None and not record.repetition:
            item, ends = self.leaf(inside[0]), self.column(identity)
            if ends is None or item.refused or item.offsets is not None or item.length:
                return refused
            single = self.name(identity).partition("_")[0] in _SINGLETONS
            typename = item.typename if single else f"{item.typename}[]"
            return Field(item.values, ends, 0, single, title, typename)
        if role == _ROLE.LEAF and record.repetition and len(inside) == 1 and offsets is None:
            item = self.leaf(inside[0])
            if item.refused or item.length or item.offsets is not None:
                return refused
            length = int(record.repetition)
            return Field(item.values, None, length, title=title, typename=f"{item.typename}[{length}]")
        values = self.column(identity)
        if role != _ROLE.LEAF or record.repetition or values is None:
            return refused
        typename = self._number(values, stated)
        if offsets is not None and not single:
            typename += "[]"
        return Field(values, offsets, 0, single, title, typename)

    def _number(self, column: int, stated: str) -> str:
        """Return the type of a number as a branch has it: `float`, `uint8_t`."""
        number = _NUMBERS[self._types[column]]
        return _CPP.get(number, f"{number}_t") if re.fullmatch(r"u?int\d+|float\d+|bool", number) else stated
