"""Baskets of a TTree's branches, decoded straight into flat columns: the layout of bytes in ROOT's TBasket.

uproot does the same through objects for every basket and an awkward array for every branch, which for NanoAOD's many
small branches takes longer than decompression. What is unusual (values that are no plain numbers, baskets within the
tree's own header, lists without ends) is left to uproot.
"""

from __future__ import annotations

import struct
import threading
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cramjam
import numpy as np
import xxhash
from numpy.typing import NDArray
from uproot.interpretation.jagged import AsJagged
from uproot.interpretation.numerical import AsDtype

from pfnano_tag.nano.columns import Jagged

Bytes = NDArray[np.uint8]
Fetch = Callable[[int, int], bytes]
"""Returns the bytes of a range of the file."""

_KEY = struct.Struct(">ihiIhh")
"""Of TKey: bytes, version, uncompressed bytes, date, bytes of the key, cycle."""
_BASKET = struct.Struct(">hiiiib")
"""Of TBasket, at the key's end: version, buffer size, size of entries, entries, end of the values, flag."""
_BLOCK_HEADER, _LZ4_CHECKSUM = 9, 8


def _inflate(block: memoryview, target: Bytes) -> int:
    content = zlib.decompress(block, bufsize=len(target))
    target[:] = np.frombuffer(content, np.uint8)
    return len(content)


_DECOMPRESS: dict[bytes, Callable[[Any, Any], int]] = {
    b"ZL": _inflate,
    b"XZ": cramjam.xz.decompress_into,
    b"L4": cramjam.lz4.decompress_block_into,
    b"ZS": cramjam.zstd.decompress_into,
}
"""By the letters that a block begins with; each fills an array and returns how much it wrote."""


class _Scratch(threading.local):
    """Memory to decompress into, kept by each thread: fresh memory takes as long to get as ZSTD to fill."""

    def __init__(self) -> None:
        self._memory = np.empty(0, dtype=np.uint8)

    def of(self, size: int) -> Bytes:
        """Return memory whose content lasts until the next call."""
        if len(self._memory) < size:
            self._memory = np.empty(size + size // 4, dtype=np.uint8)
        return self._memory[:size]


_scratch = _Scratch()


@dataclass(frozen=True)
class BasketList:
    """The baskets of a branch.

    Parameters
    ----------
    name : str
        Of the branch.
    edges : tuple of int
        Entries at which baskets begin and end; one more than there are baskets.
    ranges : tuple of (start, stop)
        Bytes of the baskets in the file.
    stored, native : numpy.dtype
        Type of the numbers in the file and in memory.
    shape : tuple of int
        Shape of an entry's values; empty for one.
    is_jagged : bool
        Whether an entry has any number of values.
    """

    name: str
    edges: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...]
    stored: np.dtype[Any]
    native: np.dtype[Any]
    shape: tuple[int, ...]
    is_jagged: bool

    def overlapping(self, start: int, stop: int) -> range:
        """Return the baskets that hold entries of a range."""
        if stop <= start:
            return range(0)
        return range(bisect_right(self.edges, start) - 1, bisect_left(self.edges, stop))


def baskets_of(branch: Any) -> BasketList | None:
    """Return the baskets of a branch; None where they are to be read by uproot.

    Parameters
    ----------
    branch : uproot.TBranch
        The branch.
    """
    interpretation = branch.interpretation
    is_jagged = type(interpretation) is AsJagged and interpretation.header_bytes == 0
    numbers = interpretation.content if is_jagged else interpretation
    edges = tuple(int(edge) for edge in branch.entry_offsets)
    count = len(edges) - 1
    seeks, sizes = branch.member("fBasketSeek")[:count].tolist(), branch.member("fBasketBytes")[:count].tolist()
    # an embedded basket lies in the tree's header and has no place of its own
    if type(numbers) is not AsDtype or branch.embedded_baskets or len(seeks) != count or 0 in seeks:
        return None
    stored, shape = numbers.from_dtype.base, numbers.from_dtype.shape
    if stored.names or (is_jagged and shape):
        return None
    ranges = tuple((seek, seek + size) for seek, size in zip(seeks, sizes, strict=True))
    return BasketList(branch.name, edges, ranges, stored, numbers.to_dtype.base, shape, is_jagged)


def read_column(baskets: BasketList, start: int, stop: int, fetch: Fetch) -> Jagged | NDArray[Any] | None:
    """Read an entry range of a branch.

    Parameters
    ----------
    baskets : BasketList
        Of the branch.
    start, stop : int
        Entry range, stop excluded.
    fetch : callable
        Returns the bytes of a range of the file.

    Returns
    -------
    Jagged, ndarray or None
        None where the ends of lists aren't stored.

    Raises
    ------
    ValueError
        When a basket is damaged, or the file ends before it does.
    """
    if stop > baskets.edges[-1]:
        raise ValueError(f"'{baskets.name}' ends at entry {baskets.edges[-1]}, before entry {stop}")
    values: list[NDArray[Any]] = []
    offsets = np.zeros(max(stop - start, 0) + 1, dtype=np.int64)
    at = 0
    for index in baskets.overlapping(start, stop):
        entries = baskets.edges[index + 1] - baskets.edges[index]
        first = max(start - baskets.edges[index], 0)
        last = min(stop - baskets.edges[index], entries)
        data, positions = _decoded(_fetched(baskets, index, fetch), baskets.name, entries)
        if not baskets.is_jagged:
            found = _numbers(data, baskets, entries)
        elif positions is None:
            return None
        else:
            bounds = _bounds(positions, baskets, len(data))
            found = data.view(baskets.stored)
            before, into = offsets[at], offsets[at + 1 : at + 1 + last - first]
            into[:] = bounds[first + 1 : last + 1]
            into += before - bounds[first]
            at += last - first
            first, last = int(bounds[first]), int(bounds[last])
        values.append(found[first:last].astype(baskets.native))
    empty = np.empty((0, *baskets.shape), dtype=baskets.native)
    column = values[0] if len(values) == 1 else np.concatenate([empty, *values])
    return Jagged(column, offsets) if baskets.is_jagged else column


def _fetched(baskets: BasketList, index: int, fetch: Fetch) -> bytes:
    """Return the bytes of a basket."""
    start, stop = baskets.ranges[index]
    raw = fetch(start, stop)
    if len(raw) < stop - start:
        raise ValueError(
            f"a basket of '{baskets.name}' lies at bytes {start} to {stop}, and the file ends before: it is truncated"
        )
    return raw


def _numbers(data: Bytes, baskets: BasketList, entries: int) -> NDArray[Any]:
    """Return values of a fixed number per entry, as they are stored."""
    each = baskets.stored.itemsize * int(np.prod(baskets.shape, dtype=np.int64))
    if len(data) != entries * each:
        raise ValueError(f"a basket of '{baskets.name}' has {len(data)} bytes for {entries} entries of {each}")
    return data.view(baskets.stored).reshape(entries, *baskets.shape)


def _bounds(positions: NDArray[np.int32], baskets: BasketList, size: int) -> NDArray[np.int32]:
    """Return where lists begin and end, in values; a number has 1, 2, 4 or 8 bytes."""
    each = baskets.stored.itemsize
    bounds = positions >> (each.bit_length() - 1)
    odd = np.bitwise_or.reduce(positions) & (each - 1)
    if odd or positions[0] != 0 or positions[-1] != size or (bounds[1:] < bounds[:-1]).any():
        raise ValueError(f"the lists in a basket of '{baskets.name}' do not follow each other")
    return bounds


def _decoded(raw: bytes, name: str, entries: int) -> tuple[Bytes, NDArray[np.int32] | None]:
    """Return the bytes of a basket's values, and where entries begin and end in them if that is stored."""
    try:
        length, _, size, _, key_length, _ = _KEY.unpack_from(raw)
        *_, held, end, _ = _BASKET.unpack_from(raw, key_length - _BASKET.size)
    except struct.error as error:
        raise ValueError(f"the key of a basket of '{name}' is damaged: {error}") from error
    if length != len(raw) or held != entries:
        raise ValueError(f"a basket of '{name}' says {length} bytes, {held} entries; expected {len(raw)}, {entries}")
    stored = memoryview(raw)[key_length:]
    data = np.frombuffer(stored, np.uint8) if len(stored) == size else _decompressed(stored, size, name)
    border = end - key_length
    if border == size:
        return data, None
    # a count, then where each entry begins, counted from the key's start; the last one is not kept up by ROOT
    positions = data[border + 4 : border + 4 * (entries + 2)].view(">i4") - np.int32(key_length)
    if not 0 <= border <= size or len(positions) != entries + 1:
        raise ValueError(f"a basket of '{name}' has {len(positions)} ends for {entries} entries")
    positions[-1] = border
    return data[:border], positions


def _decompressed(stored: memoryview, size: int, name: str) -> Bytes:
    """Decompress the blocks of a basket, into memory that the next one overwrites."""
    blocks = list(_blocks(stored, size, name))
    data = _scratch.of(size)  # not before the blocks are known to fill it: a damaged size may be 2 GB
    filled = 0
    for method, block, unpacked in blocks:
        if method == b"L4":
            checksum, block = int.from_bytes(block[:_LZ4_CHECKSUM], "big"), block[_LZ4_CHECKSUM:]
            if xxhash.xxh64_intdigest(block) != checksum:
                raise ValueError(f"the checksum of a basket of '{name}' does not fit its bytes")
        try:
            written = _DECOMPRESS[method](block, data[filled : filled + unpacked])
        except (ValueError, OSError, RuntimeError, zlib.error, cramjam.DecompressionError) as error:
            raise ValueError(f"a basket of '{name}' can't be decompressed: {error}") from error
        if written != unpacked:
            raise ValueError(f"a block of a basket of '{name}' has {written} bytes, expected {unpacked}")
        filled += unpacked
    return data


def _blocks(stored: memoryview, size: int, name: str) -> Iterator[tuple[bytes, memoryview, int]]:
    """Yield letters, bytes and uncompressed size of the blocks that together have `size` bytes.

    A block begins with two letters, a method, and its sizes in three bytes each.
    """
    at = 0
    while size:
        header = bytes(stored[at : at + _BLOCK_HEADER])
        packed, unpacked = int.from_bytes(header[3:6], "little"), int.from_bytes(header[6:9], "little")
        block = stored[at + _BLOCK_HEADER : at + _BLOCK_HEADER + packed]
        at += _BLOCK_HEADER + packed
        if header[:2] not in _DECOMPRESS or len(block) != packed or not 0 < unpacked <= size:
            raise ValueError(f"a basket of '{name}' has a block that is cut, too long, or of no known compression")
        yield header[:2], block, unpacked
        size -= unpacked
