"""Which job outputs are summed together: a tree of groups of neighbours, the same for any number of processes.

Outputs of a dataset, sorted by name, are summed in groups of about 32; the sums are summed again in groups, until one
is left. An output ends a group when a hash of its name says so (one in 32 does; 64 in a group are the most). So
groups hardly depend on each other: when outputs are added, all groups but those near them are what they were, and so
are their sums, which need not be made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfnano_tag.analyze.result import FORMAT_VERSION
from pfnano_tag.card.hashing import content_hash
from pfnano_tag.errors import FileError

GROUP = 32
"""Members of a group in the mean."""
LARGEST = 64
"""Most members of a group."""
VERSIONS = (1, FORMAT_VERSION)
"""Of what is kept of groups (to be raised when the code makes something else of the same outputs), and of outputs."""
HEADER = 100
"""Bytes in front of a ROOT file's content: its UUID, which each writing makes anew, and where it ends."""
KEY_DIGITS = 32
"""Digits of the key in a file's name."""


@dataclass(frozen=True)
class Node:
    """A job output, or the sum of several.

    Parameters
    ----------
    name : str
        Name of the output, or of the last one in the sum.
    key : str
        Hash of what it is made of.
    path : Path
        The output, or where the sum belongs.
    sources : tuple of Node
        What is summed; empty for an output.
    """

    name: str
    key: str
    path: Path
    sources: tuple[Node, ...] = ()

    @property
    def height(self) -> int:
        """0 for an output, 1 for a sum of outputs, and so on."""
        return 1 + max(source.height for source in self.sources) if self.sources else 0


def stamp_of(path: Path) -> list[Any]:
    """Return what an output is known by, without reading it: name, size, times of change [ns], header.

    No change escapes: writing the file again gives it another UUID, writing into it another time of change of its
    node, which (unlike that of its content) no command sets back.

    Raises
    ------
    FileError
        When it can't be read.
    """
    try:
        status = path.stat()
        with path.open("rb") as file:
            header = file.read(HEADER)
    except OSError as error:
        raise FileError(f"{path}: can't be read: {error.strerror}") from error
    return [path.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, header.hex()]


def leaf(path: Path) -> Node:
    """Return the node of a job output as it is now.

    Raises
    ------
    FileError
        When it can't be read.
    """
    return Node(path.name, content_hash({"version": VERSIONS, "stamp": stamp_of(path)}), path)


def groups(nodes: Sequence[Node], level: int = 1) -> Iterator[tuple[Node, ...]]:
    """Yield neighbours that are summed together.

    Parameters
    ----------
    nodes : sequence of Node
        Sorted by name.
    level : int
        1: nodes are outputs; with each further level, one in 32 of the ends is left.
    """
    group: list[Node] = []
    for node in nodes:
        group.append(node)
        if len(group) == LARGEST or _ends(node.name, level):
            yield tuple(group)
            group = []
    if group:
        yield tuple(group)


def _ends(name: str, level: int) -> bool:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return number % GROUP**level == GROUP**level - 1


def key_of(sources: Sequence[Node]) -> str:
    """Return the key of what is made of some nodes, in their order."""
    return content_hash({"version": VERSIONS, "sources": [source.key for source in sources]})


def tree(leaves: Sequence[Node], folder: Path) -> Node:
    """Return the sum of all outputs of a dataset; a group of one is its only member.

    Parameters
    ----------
    leaves : sequence of Node
        From `leaf`, at least one, sorted by name.
    folder : Path
        Where sums belong.
    """
    nodes, level = list(leaves), 1
    while len(nodes) > 1:
        nodes = [_sum_of(group, folder) for group in groups(nodes, level)]
        level += 1
    return nodes[0]


def _sum_of(group: tuple[Node, ...], folder: Path) -> Node:
    if len(group) == 1:
        return group[0]
    key = key_of(group)
    return Node(group[-1].name, key, folder / f"{key[:KEY_DIGITS]}.root", group)


def to_be_made(top: Node) -> list[Node]:
    """Return the sums in a tree that are not there, those first that others are made of."""
    if not top.sources or top.path.is_file():
        return []
    return [*(node for source in top.sources for node in to_be_made(source)), top]


def sums_in(top: Node) -> Iterator[Node]:
    """Yield all sums in a tree."""
    if top.sources:
        yield top
        for source in top.sources:
            yield from sums_in(source)
