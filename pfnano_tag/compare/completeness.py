"""How complete a comparison is: files with an output of files expected, chunks read of these, events of all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pfnano_tag.compare.jobs import Job
from pfnano_tag.compare.outputs import DatasetJobs


@dataclass(frozen=True)
class Completeness:
    """What is there of a dataset, or of several.

    Parameters
    ----------
    files : int
        With a job output.
    files_expected : int or None
        Of the card; None where they can't be listed from here.
    chunks, chunks_lost : int
        Of files with an output.
    events, events_read : int
        In files with an output, and in their chunks that were read (before any selection).
    events_expected : float or None
        In all files, those without an output being taken as large as the mean of the dataset's others; None where
        files can't be listed, or none of a dataset has an output.
    """

    files: int
    files_expected: int | None
    chunks: int
    chunks_lost: int
    events: int
    events_read: int
    events_expected: float | None

    @property
    def fraction(self) -> float | None:
        """Events read of those expected; None where that is not known."""
        return self.events_read / self.events_expected if self.events_expected else None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON content."""
        return {
            "files": self.files,
            "files_expected": self.files_expected,
            "chunks": self.chunks,
            "chunks_lost": self.chunks_lost,
            "events_in_files": self.events,
            "events_read": self.events_read,
            "events_expected": None if self.events_expected is None else round(self.events_expected),
            "fraction": self.fraction,
            "words": self.words,
        }

    @property
    def words(self) -> str:
        """For people: what was merged of what is expected."""
        if self.files_expected is None:
            files = f"{self.files} files (how many are expected can't be seen from here)"
        else:
            files = f"{self.files} of {self.files_expected} files"
        chunks = f"{self.chunks - self.chunks_lost} of {self.chunks} chunks of these"
        if self.fraction is None:
            return f"{files}, {chunks}"
        estimated = "about " if self.files_expected != self.files else ""
        return f"{files}, {chunks}: {estimated}{_percent(self.fraction)} of the events"


def _percent(fraction: float) -> str:
    """Return a share in percent; 100 only where it is all."""
    text = f"{100 * fraction:.1f}"
    return f"{'over 99.9' if text == '100.0' and fraction < 1 else text} %"


def of_dataset(group: DatasetJobs, jobs: list[Job]) -> Completeness:
    """Return how complete a dataset is.

    Parameters
    ----------
    group : DatasetJobs
        Its files.
    jobs : list of Job
        Its job outputs.
    """
    expected = None if group.unlisted else len(group.paths) + len(group.missing)
    chunks, lost, events, read = (
        int(sum(job.sums[name] for job in jobs)) for name in ("chunks", "chunks_lost", "entries", "entries_processed")
    )
    known = expected is not None and len(jobs) > 0
    scaled = events * (expected or 0) / len(jobs) if known else None
    return Completeness(len(jobs), expected, chunks, lost, events, read, scaled)


def of_all(parts: Iterable[Completeness]) -> Completeness:
    """Return how complete several datasets are together."""
    several = list(parts)
    files = [one.files_expected for one in several if one.files_expected is not None]
    events = [one.events_expected for one in several if one.events_expected is not None]
    return Completeness(
        sum(one.files for one in several),
        sum(files) if len(files) == len(several) else None,
        sum(one.chunks for one in several),
        sum(one.chunks_lost for one in several),
        sum(one.events for one in several),
        sum(one.events_read for one in several),
        sum(events) if len(events) == len(several) else None,
    )
