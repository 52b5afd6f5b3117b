"""How long epochs took: `timing.json`, apart from the metrics, which are the same to the last bit in any run."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from pfnano_tag.card.output import write_json
from pfnano_tag.evaluate.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clock:
    """The moment when it was made: wall clock, and CPU time of this process (reader processes don't count)."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def rate(self, jets: int) -> float | None:
        """Return jets per second since then; None of no jets, which tell no rate."""
        return jets / max(time.perf_counter() - self.wall, 1e-9) if jets else None

    def timing(self, epoch: int, jets_per_second: float | None) -> Metrics:
        """Return an entry of `timing.json`: seconds of the whole epoch, and the speed of its training part."""
        return {
            "epoch": epoch,
            "wall_seconds": time.perf_counter() - self.wall,
            "cpu_seconds": time.process_time() - self.cpu,
            "jets_per_second": jets_per_second,
        }


def read_timings(folder: Path, last_epoch: int) -> list[Metrics]:
    """Return what is known of the epochs up to `last_epoch`; nothing depends on it, so damage is only said."""
    path = folder / "timing.json"
    try:
        timings = json.loads(path.read_text(encoding="utf-8"))
        return [timing for timing in timings if timing["epoch"] <= last_epoch]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: can't be read (%s) and begins anew", path, error)
        return []


def write_timings(folder: Path, timings: list[Metrics]) -> None:
    """Write `timing.json`, a list of epochs."""
    write_json(folder / "timing.json", timings)
