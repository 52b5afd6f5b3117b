"""File lists of a dataset: globs, `.txt` lists, `root://` addresses."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from pfnano_tag.errors import FileError


def expand_files(patterns: Iterable[str]) -> list[str]:
    """Return the files that patterns stand for, sorted within a pattern, each once.

    Parameters
    ----------
    patterns : iterable of str
        Paths and globs (`*`, `?`, `[]`, `**`; `~` is the home folder), `.txt` files with one of these per line
        (`#` begins a comment line), `root://` addresses (no globs).

    Returns
    -------
    list of str

    Raises
    ------
    FileError
        When a path does not exist, a glob matches nothing, or a list holds itself.
    """
    return _expanded(patterns, ())


def _expanded(patterns: Iterable[str], lists: tuple[Path, ...]) -> list[str]:
    files: dict[str, None] = {}
    for pattern in patterns:
        files.update(dict.fromkeys(_expand(pattern, lists)))
    return list(files)


def _expand(pattern: str, lists: tuple[Path, ...]) -> list[str]:
    if "://" in pattern:
        return [_remote(pattern)]
    pattern = str(Path(pattern).expanduser())
    if pattern.endswith(".txt"):
        return _listed(Path(pattern), lists)
    if Path(pattern).is_file():
        return [pattern]
    matches = sorted(match for match in glob.glob(pattern, recursive=True) if Path(match).is_file())
    if not matches:
        what = "matches no file" if any(sign in pattern for sign in "*?[") else "no such file"
        raise FileError(f"{pattern}: {what} (seen from {Path.cwd()})")
    return matches


def _remote(address: str) -> str:
    if "*" in address:
        raise FileError(f"{address}: globs are for local files; write the addresses into a .txt list")
    return address


def _listed(path: Path, lists: tuple[Path, ...]) -> list[str]:
    if path.resolve() in lists:
        raise FileError(f"{path}: the list of files holds itself")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: the list of files can't be read: {error}") from error
    names = [line.strip() for line in lines]
    return _expanded((name for name in names if name and not name.startswith("#")), (*lists, path.resolve()))
