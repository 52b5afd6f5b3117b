"""The ledger of a job: which chunks of which file are done, kept beside the output.

`H.root.ledger/` holds `plan.json` (what the job is, and the file's chunks), one small partial result per chunk that
is done, and a note for the chunk in work, which a killed process leaves behind. A rerun with the same key does what
is missing; another key (another card, model, file or format) starts anew. Partial results are summed in the order of
the plan, so that a continued job gives the same bits. On success the partial results go; plan and key stay, and tell
the next run that there is nothing to do.
"""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.parts import ledger_folder
from pfnano_tag.card.hashing import file_hash
from pfnano_tag.card.output import write_json, write_whole
from pfnano_tag.errors import OutputError
from pfnano_tag.nano.plan import Plan

log = logging.getLogger(__name__)
Partial = dict[str, NDArray[Any]]


@contextmanager
def locked(output: Path, part: Path | None = None) -> Iterator[Path]:
    """Hold the ledger folder of an output, or that of a part of it; yield it.

    Parameters
    ----------
    output : Path
        What the job writes.
    part : Path or None
        Folder of the part; None: the output's own ledger.

    Raises
    ------
    OutputError
        When another job holds it, or it can't be made.
    """
    folder = ledger_folder(output) if part is None else part
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "lock").open("w")
    except OSError as error:
        raise OutputError(f"{folder}: the ledger can't be made: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"{part or output}: another job is writing this output; wait for it, or choose another"
            ) from error
        if part is None:
            _sweep(output.parent, output.name)
        _sweep(folder, "")
        yield folder


def _sweep(folder: Path, name: str) -> None:
    """Remove temporary files that a killed job left (`card.output.write_whole`); the lock is held."""
    for path in folder.iterdir():
        if path.name.startswith(f".{name}") and ".tmp" in path.suffixes[-2:]:
            path.unlink()


def _hashes(outputs: Sequence[Path]) -> str:
    return ":".join(file_hash(output) for output in outputs)


class Ledger:
    """Chunks of one job and their partial results; hold the lock while using it.

    Parameters
    ----------
    folder : Path
        From `locked`.
    key : str
        SHA-256 of `content`.
    content : mapping
        What the key was made of, written down for people.
    """

    def __init__(self, folder: Path, key: str, content: Mapping[str, Any]) -> None:
        self.folder, self.key, self._content = folder, key, dict(content)
        self._stored = self._read()

    @property
    def known(self) -> bool:
        """Whether the ledger was made for this key."""
        return self._stored is not None

    @property
    def finished(self) -> str | None:
        """SHA-256 of the outputs that a complete run with this key left, or None."""
        return None if self._stored is None else self._stored.get("finished")

    @property
    def plan(self) -> Plan:
        """The file's chunks, fixed at first contact; empty before `start`."""
        return () if self._stored is None else tuple((int(a), int(b)) for a, b in self._stored["plan"])

    def start(self, plan: Plan) -> None:
        """Begin with this key: drop what another key left, and fix the plan (unless it is fixed already)."""
        if self._stored is None:
            self.clear()
            self._write(plan, None)

    def restart(self, plan: Plan) -> None:
        """Begin with other chunks: drop all that is there."""
        self.clear()
        self._write(plan, None)

    def finish(self, *outputs: Path) -> None:
        """Note that the outputs are complete, and drop the partial results."""
        self._write(self.plan, _hashes(outputs))
        self.clear()

    def is_finished(self, *outputs: Path) -> bool:
        """Return whether the outputs are there, complete, and untouched since."""
        there = self.finished is not None and all(output.is_file() for output in outputs)
        return there and _hashes(outputs) == self.finished

    def reopen(self) -> None:
        """Forget that the job was finished (an output is gone or was altered)."""
        self._write(self.plan, None)

    def clear(self) -> None:
        """Remove all partial results, and what was noted of chunks."""
        for path in (*self.folder.glob("chunk_*.npz"), *self.folder.glob("begun_*")):
            path.unlink()

    def discard(self) -> None:
        """Remove the ledger altogether, of a job that can't be done."""
        shutil.rmtree(self.folder)

    def save(self, chunk: int, partial: Mapping[str, NDArray[Any]]) -> None:
        """Write the partial result of a chunk, whole or not at all."""
        with write_whole(self._path(chunk)) as temporary, temporary.open("wb") as file:
            np.savez(file, **dict(partial))  # type: ignore[arg-type]

    def load(self, chunk: int) -> Partial | None:
        """Return the partial result of a chunk; None when there is none, or it is damaged."""
        path = self._path(chunk)
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                return {name: content[name] for name in content.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            log.warning("%s: damaged partial result (%s): the chunk is done again", path, error)
            return None

    def deaths(self, chunk: int) -> int:
        """Return how often a process ended in this chunk without a word: killed, for want of memory or for others."""
        try:
            return int(self.note(chunk).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError):  # killed while it wrote the note
            return 1

    @contextmanager
    def attempt(self, chunk: int) -> Iterator[None]:
        """Context of the work on a chunk; who is killed in it leaves a note, which `deaths` counts.

        Raises
        ------
        OutputError
            When the note can't be written.
        """
        note = self.note(chunk)
        deaths = self.deaths(chunk)
        try:
            note.write_text(str(deaths + 1), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{note}: can't be written: {error.strerror}") from error
        try:
            yield
        finally:
            note.unlink(missing_ok=True)

    def forget(self, chunk: int) -> None:
        """Remove the partial result of a chunk."""
        self._path(chunk).unlink(missing_ok=True)

    def note(self, chunk: int) -> Path:
        """Return the file that counts a chunk's deaths; when it is removed, the chunk is tried again."""
        return self.folder / f"begun_{chunk:05d}"

    def _path(self, chunk: int) -> Path:
        return self.folder / f"chunk_{chunk:05d}.npz"

    def _write(self, plan: Plan, finished: str | None) -> None:
        stored = {
            "key": self.key,
            "plan": [list(chunk) for chunk in plan],
            "finished": finished,
            "made_for": self._content,
        }
        write_json(self.folder / "plan.json", stored)
        self._stored = stored

    def _read(self) -> dict[str, Any] | None:
        path = self.folder / "plan.json"
        if not path.exists():
            return None
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["key"] == self.key and all(len(chunk) == 2 for chunk in stored["plan"]):
                return dict(stored)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: damaged ledger (%s): all is done again", path, error)
            return None
        changed = sorted(
            name for name, value in self._content.items() if stored.get("made_for", {}).get(name) != value
        )
        log.info("%s: made for another job (%s changed): all is done again", path, ", ".join(changed))
        return None
