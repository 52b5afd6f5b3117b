"""CPU time and memory of the processes that srun starts for a job: each leaves its own where it is asked to.

The job's runner sees srun alone, which does nothing but wait.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pfnano_tag.card.output import write_json
from pfnano_tag.errors import OutputError

log = logging.getLogger(__name__)

VARIABLE = "PFNANO_TAG_USAGE"
"""Environment variable with the folder that a process leaves its usage in; unset: nowhere."""


@contextmanager
def usage_left(known: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Context of a command: at its end, what process and children took is left in the folder that is asked for.

    Where it can't be written, a warning says so: the command ends as it would have.
    """
    try:
        yield
    finally:
        if folder := known.get(VARIABLE):
            both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
            cpu = sum(one.ru_utime + one.ru_stime for one in both)
            usage = {"cpu": cpu, "memory": max(one.ru_maxrss for one in both) / 1000}
            try:
                write_json(Path(folder) / f"{socket.gethostname()}_{os.getpid()}.json", usage)
            except OutputError as error:
                log.warning("CPU time and memory of this process are not known to the job's report: %s", error)


def usage_in(folder: Path) -> tuple[float, float]:
    """Return what processes left in a folder: CPU time of all together [s], and the memory of the largest [MB]."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return sum(one["cpu"] for one in found), max((one["memory"] for one in found), default=0.0)
