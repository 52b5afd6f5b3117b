"""The job folder: all that the jobs of one submission need, made whole or not at all."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pfnano_tag.card.card import Card
from pfnano_tag.card.folder import model_folder, prepared_path
from pfnano_tag.card.showing import resolved_yaml
from pfnano_tag.errors import CardError, FileError, OutputError, StudyError
from pfnano_tag.infer.bookkeeping import find_checkpoint
from pfnano_tag.submit.split import Item

CHECKOUT = Path(__file__).resolve().parents[2]
"""Where the templates lie: `condor/` and `slurm/` beside the package."""


@dataclass(frozen=True)
class JobFolder:
    """A job folder that is complete.

    Parameters
    ----------
    path : Path
        The folder, absolute.
    output : Path
        Where the jobs leave `<dataset>/<file>.root`, absolute.
    items : tuple of Item
        The jobs.
    inputs : tuple of str
        What a job on another machine needs of the folder, by name.
    """

    path: Path
    output: Path
    items: tuple[Item, ...]
    inputs: tuple[str, ...]


def write_job_folder(
    card: Card, items: Sequence[Item], folder: Path | None, models: Sequence[str] | None = None
) -> JobFolder:
    """Write card, items, settings, checkpoints and worker script.

    Parameters
    ----------
    card : Card
        The study's card.
    items : sequence of Item
        From `split.items_of`.
    folder : Path, optional
        The folder to make; the next free `jobs/analyze-0001` of the study when not given.
    models : sequence of str, optional
        Names in section `models`, also of scans; all when not given.

    Raises
    ------
    CardError
        When the card has no such model.
    OutputError
        When the folder is there already, or can't be made.
    CheckpointError
        When a model is not trained.
    """
    chosen = [] if models is None else card.chosen_models(models)
    target = (folder or _next_folder(card)).absolute()
    if target.exists():
        raise OutputError(f"{target}: is there already, and jobs may be running from it; choose another --folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OutputError(f"{target}: can't be made: {error.strerror}") from error
    try:
        inputs = tuple(_fill(made, card, items, chosen))
        made.chmod(0o755)
        made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return JobFolder(target, (card.folder / "analysis").absolute(), tuple(items), inputs)


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


def _next_folder(card: Card) -> Path:
    taken = [path.name.rpartition("-")[2] for path in (card.folder / "jobs").glob("analyze-*")]
    number = max((int(end) for end in taken if end.isdigit()), default=0) + 1
    return card.folder / "jobs" / f"analyze-{number:04d}"


def _fill(made: Path, card: Card, items: Sequence[Item], chosen: Sequence[str]) -> Iterator[str]:
    """Write everything; yield the names of what a job reads."""
    (made / "card.yaml").write_text(resolved_yaml(card), encoding="utf-8")
    (made / "items.txt").write_text("".join(f"{item.line}\n" for item in items), encoding="utf-8")
    (made / "settings.sh").write_text(_settings(card, chosen), encoding="utf-8")
    shutil.copy(template("condor/worker.sh"), made / "worker.sh")
    (made / "logs").mkdir()
    _copy_study(card, made / "study", chosen or list(card.models))
    yield from ("card.yaml", "items.txt", "settings.sh", "study")
    if _copy_files(card, made / "inputs"):
        yield "inputs"


def _settings(card: Card, chosen: Sequence[str]) -> str:
    """Return what the worker script sources; the Python is this one unless an environment is shipped."""
    environment = card.submit.environment or ""
    if environment and not Path(environment).is_file():
        raise FileError(f"submit.environment: {environment}: no such file; scripts/pack_env.sh makes one")
    values = {
        "python": sys.executable,
        "environment": str(Path(environment).absolute()) if environment else "",
        "threads": str(card.resources.threads),
        "models": " ".join(chosen),
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def _copy_study(card: Card, study: Path, models: Sequence[str]) -> None:
    """Copy `study.json`, `prepared.json` and the best checkpoint of models."""
    study.mkdir()
    for source in (card.folder / "study.json", prepared_path(card)):
        if source.is_file():
            shutil.copy(source, study / source.name)
    for name in models:
        best = find_checkpoint(card, name)
        folder = study / "models" / name
        folder.mkdir(parents=True)
        for source in (best, best.with_suffix(".safetensors"), model_folder(card, name) / "best.json"):
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
