"""File lists of a dataset: globs, `.txt` lists, `root://` addresses, replicas."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from pfnano_tag.errors import FileError

REPLICAS = " | "
"""Stands between the places of one and the same file."""

SCHEMES = ("root", "roots", "xroot", "xroots")
"""Protocols of addresses that can be read: XRootD's names for its own, with and without encryption."""


def replicas_of(file: str) -> list[str]:
    """Return the places of a file, in the order in which they are tried.

    Raises
    ------
    FileError
        When a place is an address of a protocol that can't be read.
    """
    places = [place for place in (part.strip() for part in file.split(REPLICAS)) if place] or [file]
    for place in places:
        scheme, sign, _ = place.partition("://")
        if sign and scheme not in SCHEMES:
            raise FileError(f"{place}: only local files and {SCHEMES[0]}:// addresses can be read, not {scheme}://")
    return places


def absolute(file: str) -> str:
    """Return a file's name with absolute paths in place of relative ones."""
    places = (place if "://" in place else str(Path(place).absolute()) for place in replicas_of(file))
    return REPLICAS.join(places)


def expand_files(patterns: Iterable[str]) -> list[str]:
    """Return the files that patterns stand for, sorted within a pattern, each once.

    Parameters
    ----------
    patterns : iterable of str
        Paths and globs (`*`, `?`, `[]`, `**`; `~` is the home folder), `root://` addresses (no globs), replicas of
        one file with ` | ` between them (no globs), `.txt` files with one of these per line (`#` begins a comment
        line).

    Returns
    -------
    list of str
        Replicas stay together, as they are written. A file that comes a second time, by any of its places, is
        left out.

    Raises
    ------
    FileError
        When a path does not exist, a glob matches nothing, or a list is empty or holds itself; lists are named with
        the line.
    """
    files: list[str] = []
    known: set[str] = set()
    for file in _expanded(patterns, ()):
        places = replicas_of(file)
        if known.isdisjoint(places):
            files.append(file)
        known.update(places)
    return files


def _expanded(patterns: Iterable[str], lists: tuple[Path, ...]) -> Iterator[str]:
    for pattern in patterns:
        yield from _expand(pattern, lists)


def _expand(pattern: str, lists: tuple[Path, ...]) -> Iterable[str]:
    if not pattern.strip():
        raise FileError("files: an empty path")
    if REPLICAS in pattern:
        return [_replicated(pattern)]
    if "://" in pattern:
        return [_address(pattern)]
    pattern = str(Path(pattern).expanduser())
    if pattern.endswith(".txt"):
        return _listed(Path(pattern), lists)
    if Path(pattern).is_file():
        return [pattern]
    matches = sorted(match for match in glob.glob(pattern, recursive=True) if Path(match).is_file())
    if not matches:
        what = "matches no file" if any(sign in pattern for sign in "*?[") else "no such file"
        if Path(pattern).is_dir():
            what = f"is a folder; write {Path(pattern) / '*.root'}"
        raise FileError(f"{pattern}: {what} (seen from {Path.cwd()})")
    return matches


def _replicated(pattern: str) -> str:
    """Return the places of one file; those on this machine may be missing while another is left."""
    places = [_address(place) if "://" in place else str(Path(place).expanduser()) for place in replicas_of(pattern)]
    there = [place for place in places if "://" in place or Path(place).is_file()]
    if not there:
        raise FileError(f"{pattern}: no such file in any of these places (seen from {Path.cwd()})")
    return REPLICAS.join(there)


def _address(address: str) -> str:
    if "*" in address:
        raise FileError(f"{address}: globs are for local files; write the addresses into a .txt list")
    (place,) = replicas_of(address)
    return place


def _listed(path: Path, lists: tuple[Path, ...]) -> Iterator[str]:
    if path.resolve() in lists:
        raise FileError(f"{path}: the list of files holds itself")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: the list of files can't be read: {error}") from error
    named = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    named = [(number, line) for number, line in named if line and not line.startswith("#")]
    if not named:
        raise FileError(f"{path}: the list of files names no file")
    for number, line in named:
        try:
            yield from _expand(line, (*lists, path.resolve()))
        except FileError as error:
            raise FileError(f"{path}, line {number}: {error}") from error
