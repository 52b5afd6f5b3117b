"""The study folder: where each command finds and leaves its files, bound to one card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pfnano_tag import __version__
from pfnano_tag.card.card import BOUND_SECTIONS, Card
from pfnano_tag.card.datasets import Role
from pfnano_tag.card.files import expand_files, replicas_of
from pfnano_tag.card.output import write_json
from pfnano_tag.errors import DataError, FileError, StudyError


def bind(card: Card) -> None:
    """Bind the study's folder to the card, or check that it is bound to this one.

    Writes `study.json` on first use.

    Raises
    ------
    StudyError
        When the folder is bound to another hash; the message names the sections that differ.
    """
    path = card.folder / "study.json"
    if path.exists():
        check_bound(card)
    else:
        write_json(path, {"study": card.study.name, "sections": _hashes(card), "code_version": __version__})


def check_bound(card: Card) -> None:
    """Check that the study's folder is bound to this card, or to none yet; nothing is written.

    Raises
    ------
    StudyError
        As for `bind`.
    """
    path = card.folder / "study.json"
    if not path.exists():
        return
    hashes = _hashes(card)
    try:
        bound = json.loads(path.read_text(encoding="utf-8"))["sections"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path}: can't be read as a study's binding: {error}") from error
    changed = [section for section in BOUND_SECTIONS if bound.get(section) != hashes[section]]
    if changed:
        raise StudyError(
            f"{card.folder}: the folder belongs to another card: section {', '.join(changed)} differs; "
            "set study.folder to a new folder, or undo the change"
        )


def _hashes(card: Card) -> dict[str, str]:
    return {section: card.hash(section) for section in BOUND_SECTIONS}


def prepared_path(card: Card) -> Path:
    """Return the path of `prepared.json`."""
    return card.folder / "prepared.json"


def model_folder(card: Card, model: str) -> Path:
    """Return the folder of a model's checkpoints and metrics."""
    return card.folder / "models" / model


def analysis_path(card: Card, dataset: str, file: str) -> Path:
    """Return where the data/MC job of one file leaves its histograms by default."""
    return card.folder / "analysis" / dataset / f"{Path(replicas_of(file)[0]).stem}.root"


def check_own_place(card: Card, dataset: str, file: str) -> None:
    """Check that no two files of a dataset would leave their histograms at the default place of this one.

    Raises
    ------
    DataError
        When they would; a list of files that can't be seen from here is not checked.
    """
    try:
        listed = expand_files(card.patterns(card.dataset(dataset)))
    except FileError:
        return
    place = analysis_path(card, dataset, file)
    rivals = [other for other in listed if analysis_path(card, dataset, other) == place]
    if len(rivals) > 1:
        raise DataError(
            f"dataset {dataset}: {' and '.join(rivals[:2])} would share the output {place}; "
            "give them other names, or make two datasets of them"
        )


def generated_folder(card: Card) -> Path:
    """Return the folder of the files that `generate` makes for the study."""
    return card.folder / "generated"


def read_results(folder: Path, stage: str) -> dict[str, Any] | None:
    """Return the content of `results.json` in a stage's folder (`evaluation`, `attacks`, `comparison`).

    Returns
    -------
    dict or None
        With a key `models`; None where the file is not there.

    Raises
    ------
    StudyError
        When it is there but can't be read.
    """
    path = folder / stage / "results.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: can't be read ({error}); make it again") from error
    if not isinstance(content, dict) or not isinstance(content.get("models"), dict):
        raise StudyError(f"{path}: has no key 'models'; make it again")
    return content


def sample_text(card: Card, role: Role) -> str:
    """Return what pictures say of the files of a role: made by `generate` in this study, or the study's name.

    Generated files say so; nothing claims to be from an experiment.
    """
    made = generated_folder(card).absolute()
    patterns = [pattern for dataset in card.datasets_for(role) for pattern in card.patterns(dataset)]
    if all("://" not in pattern and Path(pattern).absolute().is_relative_to(made) for pattern in patterns):
        return "pfnano_tag generated sample"
    return f"{card.study.name}, simulation" if role == "train" else f"pfnano_tag, {card.study.name}"
