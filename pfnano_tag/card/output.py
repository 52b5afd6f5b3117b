"""Writing files whole or not at all: to a temporary name, synced, renamed."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pfnano_tag.card.files import replicas_of
from pfnano_tag.errors import OutputError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says while writing to a disk that is full, or beyond the user's quota or limit."""


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to `path` when the block succeeds.

    Parameters
    ----------
    path : str or Path
        Where the file is to be; its folder is made. The temporary name keeps the file's ending.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    OutputError
        When the folder can't be made or written to, a folder has the file's name, or the disk is full.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=f".tmp{target.suffix}", dir=target.parent)
    except OSError as error:
        raise OutputError(f"{target}: can't be written: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        _rename(temporary, target)
        _sync(target.parent)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise OutputError(f"{target}: can't be written: {error.strerror}; what was there before is kept") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON, whole or not at all; NaN and infinity are errors, floats keep all digits."""
    text = json.dumps(content, indent=1, allow_nan=False)
    with write_whole(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def check_output(output: str | Path, inputs: list[str]) -> None:
    """Refuse an output that is one of the inputs, or a folder.

    Raises
    ------
    OutputError
        When the two are the same file, or a folder has the output's name.
    """
    target = Path(output)
    if target.is_dir():
        raise OutputError(f"{output}: is a folder; name the file to write")
    for source in (place for one in inputs for place in replicas_of(one)):
        if "://" not in source and target.resolve() == Path(source).resolve():
            raise OutputError(f"{output}: the output is also an input; choose another name")


def _rename(temporary: Path, target: Path) -> None:
    try:
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{target}: can't be written: {error.strerror}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
