"""Run, luminosity section and event of entries, as people write them: what to look up when a range goes wrong."""

from __future__ import annotations

from pfnano_tag.errors import BadChunk
from pfnano_tag.nano.reader import PFNanoFile

IDENTITY = ("run", "luminosityBlock", "event")


def events_of(file: PFNanoFile, start: int, stop: int) -> str:
    """Return `run:lumi:event` of the first and last event of a range, or nothing where they can't be read.

    Parameters
    ----------
    file : PFNanoFile
        Open.
    start, stop : int
        Entry range, stop excluded.
    """
    if start >= stop or not file.branches.issuperset(IDENTITY):
        return ""
    ends = dict.fromkeys((start, stop - 1))
    try:
        chunks = [file.chunk(entry, entry + 1) for entry in ends]
        for chunk in chunks:
            chunk.load(IDENTITY)
        return " to ".join(":".join(str(int(chunk[name][0])) for name in IDENTITY) for chunk in chunks)
    except (BadChunk, MemoryError):
        return ""


def with_events(error: BadChunk, file: PFNanoFile) -> BadChunk:
    """Return the error with the events that it is about.

    Parameters
    ----------
    error : BadChunk
        Of this file.
    file : PFNanoFile
        Open.
    """
    events = error.events or events_of(file, error.start, error.stop)
    return BadChunk(error.path, error.start, error.stop, error.reason, events)
