"""The job outputs of all files of all datasets: which are there, which are not.

What is short is written down, never filled in: files without a job output, datasets whose list of files can't be seen
from here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from pfnano_tag.analyze.array_files import is_arrays
from pfnano_tag.analyze.parts import join_parts, only_in_parts
from pfnano_tag.card.card import Card
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.card.files import expand_files
from pfnano_tag.card.folder import analysis_path
from pfnano_tag.card.jobs import collect_results
from pfnano_tag.errors import DataError, FileError, StudyError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetJobs:
    """The job outputs of one dataset.

    Parameters
    ----------
    dataset : Dataset
        Of the card.
    paths : tuple of Path
        Outputs that are there, sorted: sums then have the same bits in any order of the dataset's files.
    missing : tuple of str
        Files of the dataset without an output; where they can't be listed, outputs of which only parts are there.
    unlisted : str
        Why the dataset's files can't be listed here; empty when they can.
    """

    dataset: Dataset
    paths: tuple[Path, ...]
    missing: tuple[str, ...] = ()
    unlisted: str = ""


def gather_jobs(card: Card) -> list[DatasetJobs]:
    """Bring in what batch jobs left, put the parts of files together, and return the job outputs of all datasets.

    Raises
    ------
    StudyError, DataError
        As `find_jobs`.
    """
    collect_results(card)
    join_parts(card)
    return find_jobs(card)


def find_jobs(card: Card) -> list[DatasetJobs]:
    """Return the job outputs of all datasets with role `analyze`, in the card's order.

    Raises
    ------
    StudyError
        When there is none at all.
    DataError
        When two files of a dataset share an output.
    """
    found = [_jobs_of(card, dataset) for dataset in card.datasets_for("analyze")]
    if not any(jobs.paths for jobs in found):
        folder = card.folder / "analysis"
        raise StudyError(f"{folder}: no job output of any dataset; run `analyze` for each file first")
    return found


def _jobs_of(card: Card, dataset: Dataset) -> DatasetJobs:
    try:
        files = expand_files(card.patterns(dataset))
    except FileError as error:
        # The inputs may lie where the jobs ran: then what came back is all that can be seen.
        log.warning(
            "dataset %s: its files can't be listed here (%s); taking the outputs there are", dataset.name, error
        )
        folder = analysis_path(card, dataset.name, "any").parent
        outputs_there = tuple(sorted(path for path in folder.glob("*.root") if not is_arrays(path)))
        in_parts = tuple(str(output) for output in only_in_parts(folder))
        return DatasetJobs(dataset, outputs_there, in_parts, unlisted=str(error))
    outputs = {file: analysis_path(card, dataset.name, file) for file in files}
    if len(set(outputs.values())) < len(outputs):
        raise DataError(f"dataset {dataset.name}: two of its files have the same output name; give them other names")
    there = tuple(sorted(path for path in outputs.values() if path.is_file()))
    return DatasetJobs(dataset, there, tuple(file for file, path in outputs.items() if not path.is_file()))
