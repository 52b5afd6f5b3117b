"""Job outputs that must not be merged: of other settings, of one file twice, of another card."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pfnano_tag.analyze.factors import factor_files
from pfnano_tag.card.card import Card
from pfnano_tag.card.hashing import file_hash
from pfnano_tag.compare.jobs import Job
from pfnano_tag.errors import CardError, DataError, StudyError

log = logging.getLogger(__name__)


def refuse_mixtures(jobs: Iterable[Job]) -> None:
    """Refuse job outputs that were not made with the same card sections, models and format, or, of one dataset, not
    with the same triggers, vetoes, lumi mask and split.

    Raises
    ------
    StudyError
        Naming two outputs and what differs.
    """
    first: Job | None = None
    of_datasets: dict[str, Job] = {}
    for job in jobs:
        other = of_datasets.setdefault(job.info["dataset"], job)
        ours, theirs = (one.info.get("settings_of_dataset", {}) for one in (other, job))
        if ours != theirs:
            what = ", ".join(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key))
            raise StudyError(
                f"{other.path} and {job.path}, of one dataset, were made with different settings of it ({what}); "
                "analyze all its files with the same card"
            )
        first = first or job
        if job.info["settings"] != first.info["settings"]:
            what = _what_differs(first.info, job.info)
            raise StudyError(
                f"{first.path} and {job.path} were made with different settings ({what}); "
                "analyze all files with the same card and models"
            )


def refuse_repetitions(jobs: Iterable[Job]) -> None:
    """Refuse two outputs of one file, known by its identity wherever it lies: its events would count twice.

    Raises
    ------
    DataError
        Naming both outputs and the places of the file.
    """
    known: dict[str, Job] = {}
    for job in jobs:
        identity = job.info.get("file", {}).get("identity")
        other = known.setdefault(identity, job) if identity else job
        if other is not job:
            places = " and ".join(str(one.info["file"]["path"]) for one in (other, job))
            raise DataError(
                f"{other.path} and {job.path} are of one and the same file ({places}): its events would count twice; "
                "name it once in the card"
            )


def _what_differs(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Return the parts of the settings that differ, by name."""
    ours, theirs = first.get("settings_by_part", {}), second.get("settings_by_part", {})
    return ", ".join(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)) or "unknown parts"


def refuse_stale(card: Card, jobs: Iterable[Job]) -> None:
    """Refuse job outputs that were made with another card than this one.

    Raises
    ------
    StudyError
        Naming an output and the sections of the card that changed since.
    """
    attacks = {name: card.attacks[name].model_dump(mode="json") for name in card.histograms.variants}
    stated: dict[str, Any] = {"attacks": attacks, "replicas": card.comparison.replicas}
    try:
        stated["corrections"] = factor_files(card)
    except CardError as error:  # they may lie where the jobs ran
        log.info("not compared with what the jobs read: %s", error)
    for job in jobs:
        parts = job.info.get("settings_by_part", {})
        # Hashes of sections are strings; the rest is in the settings as it is (models: hashes of checkpoints).
        now: dict[str, Any] = {name: card.hash(name) for name, value in parts.items() if _is_section(name, value)}
        now |= {name: value for name, value in stated.items() if name in parts}
        changed = [name for name, value in now.items() if parts[name] != value]
        changed += _changed_of_dataset(card, job)
        if changed:
            raise StudyError(
                f"{job.path}: made with another card, {', '.join(changed)} changed since; run `analyze` again "
                "(for all files), or undo the change"
            )


def _changed_of_dataset(card: Card, job: Job) -> list[str]:
    """Return what the card says of a job's dataset now, and did not when the job was done."""
    then, dataset = job.info.get("settings_of_dataset", {}), card.dataset(job.info["dataset"])
    now: dict[str, Any] = {
        "test_only": "train" in dataset.roles and bool(job.info["models"]),
        "triggers": list(dataset.triggers),
        "vetoes": list(dataset.vetoes),
    }
    try:
        now["lumi_mask"] = None if dataset.lumi_mask is None else file_hash(Path(dataset.lumi_mask))
    except OSError as error:  # it may lie where the jobs ran
        log.info("%s: the lumi mask can't be compared with that of the jobs: %s", dataset.lumi_mask, error)
    keys = {"test_only": "roles"}
    return [f"{dataset.name}.{keys.get(key, key)}" for key, value in now.items() if then.get(key, value) != value]


def _is_section(name: str, value: object) -> bool:
    return isinstance(value, str) and name in Card.model_fields
