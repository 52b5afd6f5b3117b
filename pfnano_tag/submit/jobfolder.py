"""The job folder: all that the jobs of one submission need, made whole or not at all."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from pfnano_tag import __version__
from pfnano_tag.card.card import ANALYZED_SECTIONS, BOUND_SECTIONS, Card
from pfnano_tag.card.folder import model_folder, prepared_path
from pfnano_tag.card.jobs import job_folders
from pfnano_tag.card.output import write_json
from pfnano_tag.card.showing import resolved_yaml
from pfnano_tag.errors import CardError, FileError, OutputError, StudyError
from pfnano_tag.submit.credentials import ship_credentials
from pfnano_tag.submit.environment import check_archive
from pfnano_tag.submit.items import Item

CHECKOUT = Path(__file__).resolve().parents[2]
"""Where the templates lie: `condor/` and `slurm/` beside the package."""
FORMAT, FORMAT_VERSION = "pfnano_tag jobs", 1
OWN_STUDY = ("generate", "prepare", "train")
"""Stages that write into their study's folder: for them, the item's folder is the study's folder."""
_TRAINED = (*BOUND_SECTIONS, "reweighting")
STAGE_SECTIONS = {
    "generate": ("generate",),
    "prepare": _TRAINED,
    "train": (*_TRAINED, "models", "training", "attacks"),
    "analyze": ("datasets", *ANALYZED_SECTIONS, "attacks"),
}
"""Sections of the card that the results of a stage depend on."""


@dataclass(frozen=True)
class JobFolder:
    """A job folder that is complete.

    Parameters
    ----------
    path : Path
        The folder, absolute.
    name : str
        Different for each job folder there ever was: what batch systems are asked for.
    stage, backend : str
        What the jobs do, and where.
    items : tuple of Item
        The jobs.
    inputs : tuple of str
        What a job on another machine needs of the folder beside its item's folder, by name.
    sections : mapping
        Hashes of the sections of the card that the results depend on, when it was made.
    """

    path: Path
    name: str
    stage: str
    backend: str
    items: tuple[Item, ...]
    inputs: tuple[str, ...]
    sections: Mapping[str, str] = field(default_factory=dict, compare=False)

    def folder_of(self, index: int) -> Path:
        """Return the folder of an item."""
        return self.path / "items" / str(index)


def write_job_folder(
    card: Card,
    stage: str,
    backend: str,
    items: Sequence[Item],
    folder: Path | None = None,
    models: Sequence[str] | None = None,
    link: bool = True,
) -> JobFolder:
    """Write card, items, settings, checkpoints and worker script.

    Parameters
    ----------
    card : Card
        The study's card.
    stage, backend : str
        What the jobs do, and where.
    items : sequence of Item
        From `split.items_of`.
    folder : Path, optional
        The folder to make; the next free `jobs/STAGE-0001` of the study when not given. One that lies elsewhere gets
        a link among the study's.
    models : sequence of str, optional
        Networks that `analyze` needs, as `name` or `name:EPOCH`, also scans; all when None.
    link : bool
        Whether one that lies elsewhere gets a link in the study.

    Raises
    ------
    CardError
        When the card has no such model.
    OutputError
        When the folder is there already, or can't be made.
    CheckpointError
        When a model is not trained.
    """
    place = card.folder.absolute() / "jobs"
    target = (folder or next_folder(place, stage)).absolute()
    pointer = place / target.name
    linked = link and pointer != target
    if target.exists() or (linked and os.path.lexists(pointer)):
        raise OutputError(f"{target}: is there already, and jobs may be running from it; choose another --folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OutputError(f"{target}: can't be made: {error.strerror}") from error
    job = JobFolder(target, uuid.uuid4().hex, stage, backend, tuple(items), (), sections_of(card, stage))
    try:
        inputs = tuple(_fill(made, card, job, models))
        made.chmod(0o755)
        made.rename(target)
        if linked:
            place.mkdir(parents=True, exist_ok=True)
            pointer.symlink_to(target)
    except OSError as error:
        raise OutputError(f"{target}: can't be written: {error.strerror}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return replace(job, inputs=inputs)


def remove_folder(card: Card, path: Path) -> None:
    """Remove a job folder or chain that nothing runs from, and the study's link to it: as if it were never made."""
    place = card.folder.absolute() / "jobs"
    if (place / path.name).is_symlink():
        (place / path.name).unlink()
    shutil.rmtree(path, ignore_errors=True)  # on a shared disk something may be late; why it goes is to be told
    with suppress(OSError):  # other jobs' folders are in it
        place.rmdir()


def read_job_folder(path: Path) -> JobFolder:
    """Return a job folder that is there.

    Raises
    ------
    StudyError
        When it is none, or of another version.
    """
    try:
        about = json.loads((path / "job.json").read_text(encoding="utf-8"))
        if (about["format"], about["version"]) != (FORMAT, FORMAT_VERSION):
            raise StudyError(
                f"{path}: job folder of version {about['version']}, expected {FORMAT_VERSION}; submit the jobs again"
            )
        lines = (path / "items.jsonl").read_text(encoding="utf-8").splitlines()
        items = tuple(Item.from_json(json.loads(line)) for line in lines)
        names = (about["name"], about["stage"], about["backend"])
        return JobFolder(path.resolve(), *names, items, tuple(about["inputs"]), dict(about["sections"]))
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no job folder: it has no {Path(error.filename).name}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path}: can't be read as a job folder: {error}") from error


def chosen_folders(card: Card, folder: Path | None) -> list[JobFolder]:
    """Return the job folder that was named, or all of the study.

    Raises
    ------
    StudyError
        When there is none, or the one that was named is of another card.
    """
    if folder is None:
        found = job_folders(card)
        if not found:
            raise StudyError(f"{card.folder / 'jobs'}: no job folder; `submit jobs` makes one")
        return [read_job_folder(path) for path in found]
    job = read_job_folder(folder)
    known = [path.resolve() for path in job_folders(card)]
    if job.path not in known:
        raise StudyError(
            f"{folder}: job folder of another study than {card.folder}, which has "
            f"{', '.join(path.name for path in known) or 'none'}"
        )
    return [job]


def sections_of(card: Card, stage: str) -> dict[str, str]:
    """Return hashes of the sections that the results of a stage depend on."""
    return {section: card.hash(section) for section in STAGE_SECTIONS[stage]}


def changed_sections(card: Card, job: JobFolder) -> tuple[str, ...]:
    """Return the sections that the results depend on, and that were changed since the job folder was made."""
    return tuple(name for name, now in sections_of(card, job.stage).items() if job.sections.get(name) != now)


def check_card(card: Card, job: JobFolder) -> None:
    """Refuse to go on with the jobs of another card.

    Raises
    ------
    StudyError
        Naming the sections that differ.
    """
    changed = changed_sections(card, job)
    if changed:
        raise StudyError(
            f"{job.path}: made with another card, section {', '.join(changed)} differs; submit new jobs, or undo the "
            "change"
        )


def template(name: str) -> Path:
    """Return the path of a template, such as `condor/worker.sh`.

    Raises
    ------
    StudyError
        When the package was installed without its checkout.
    """
    path = CHECKOUT / name
    if not path.is_file():
        raise StudyError(f"{path}: no such template; submit from a checkout (pip install --editable .)")
    return path


def next_folder(place: Path, stage: str) -> Path:
    """Return the next free folder for jobs of a stage: `stage-0001`, and on."""
    taken = [path.name.rpartition("-")[2] for path in place.glob(f"{stage}-*")]
    number = max((int(end) for end in taken if end.isdigit()), default=0) + 1
    return place / f"{stage}-{number:04d}"


def _fill(made: Path, card: Card, job: JobFolder, models: Sequence[str] | None) -> Iterator[str]:
    """Write everything; yield the names of what a job reads."""
    inputs = ["job.json", "card.yaml", "settings.sh", "unpack.sh", "study"]
    elsewhere = card.model_copy(update={"site": None})  # its keys are filled in
    (made / "card.yaml").write_text(resolved_yaml(elsewhere), encoding="utf-8")
    (made / "settings.sh").write_text(_settings(card, job), encoding="utf-8")
    for script in ("worker.sh", "unpack.sh"):
        shutil.copy(template(f"condor/{script}"), made / script)
    for name in ("before", "after"):
        script = getattr(card.submit, name)
        if script is not None:
            shutil.copy(_there(f"submit.{name}", script), made / f"{name}.sh")
            inputs.append(f"{name}.sh")
    ship_credentials(card, job.stage, made)
    (made / "logs").mkdir()
    _copy_study(card, job.stage, made / "study", models)
    if job.stage == "analyze" and _copy_files(card, made / "inputs"):
        inputs.append("inputs")
    with (made / "items.jsonl").open("w", encoding="utf-8") as lines:
        for item in job.items:
            text = json.dumps(item.to_json())
            lines.write(f"{text}\n")
            folder = made / "items" / str(item.index)
            folder.mkdir(parents=True)
            (folder / "item.json").write_text(text, encoding="utf-8")
    write_json(made / "job.json", _about(card, job, inputs))
    yield from inputs


def _about(card: Card, job: JobFolder, inputs: Sequence[str]) -> dict[str, object]:
    slot = card.submit.slot(job.stage)
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "name": job.name,
        "stage": job.stage,
        "backend": job.backend,
        "study": card.study.name,
        "card": card.hash(),
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "code_version": __version__,
        "inputs": list(inputs),
        "items": len(job.items),
        "sections": dict(job.sections),
        "slot": slot.model_dump() | {"cpus": slot.cpus or card.resources.threads},
        "own_study": job.stage in OWN_STUDY,
        "directory": str(Path.cwd()),
        "origin": str(card.study.origin or card.folder),
        "stage_in": card.submit.stage_in,
    }


def _settings(card: Card, job: JobFolder) -> str:
    """Return what the worker script sources; the Python is this one unless an environment is shipped."""
    environment = card.submit.environment or ""
    if environment and "://" not in environment:
        place = _there("submit.environment", environment, "; scripts/pack_env.sh makes one")
        if place.is_file():
            check_archive(place)
        environment = str(place.absolute())
    slot = card.submit.slot(job.stage)
    values = {
        "python": sys.executable,
        "environment": environment,
        "cache": card.submit.environment_cache or "",
        "threads": str(slot.cpus or card.resources.threads),
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def _there(key: str, name: str, hint: str = "") -> Path:
    path = Path(name).expanduser()
    if not path.exists():
        raise FileError(f"{key}: {name}: no such file (seen from {Path.cwd()}){hint}")
    return path


def _copy_study(card: Card, stage: str, study: Path, models: Sequence[str] | None) -> None:
    """Copy what the stage reads of the study: `study.json`, `prepared.json`, and checkpoints of models."""
    study.mkdir()
    for source in (card.folder / "study.json", prepared_path(card)):
        if source.is_file() and stage != "generate":
            shutil.copy(source, study / source.name)
    if stage == "train" and not prepared_path(card).is_file():
        raise StudyError(f"{prepared_path(card)}: is not there; run `prepare` first")
    names = card.models_named(models)
    if stage != "analyze" or not names:
        return
    from pfnano_tag.infer.bookkeeping import find_checkpoint  # loads torch, which `status` has no use for

    for asked in names:
        name = asked.partition(":")[0]
        card.training_of(name)  # says which models the card has
        found = find_checkpoint(card, asked)
        folder = study / "models" / name
        folder.mkdir(parents=True, exist_ok=True)
        for source in (found, found.with_suffix(".safetensors"), model_folder(card, name) / "best.json"):
            shutil.copy(source, folder / source.name)


def _copy_files(card: Card, inputs: Path) -> bool:
    """Copy lumi masks and the files of weights with a relative path: a job finds them under the same path."""
    named = {dataset.lumi_mask: "lumi_mask" for dataset in card.datasets if dataset.lumi_mask is not None}
    named |= {file: f"weights.factors.{name}:" for name, one in card.weights.factors.items() for file in one.files}
    relative = {file: key for file, key in named.items() if not Path(file).is_absolute()}
    for file, key in relative.items():
        if ".." in Path(file).parts:
            raise CardError(f"{key} {file}: a job can't follow `..`; give an absolute path")
        if not Path(file).is_file():
            raise FileError(f"{key} {file}: no such file (seen from {Path.cwd()})")
        (inputs / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, inputs / file)
    return bool(relative)
