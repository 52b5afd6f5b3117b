"""The study folder: where each command finds and leaves its files, bound to one card."""

from __future__ import annotations

import json
from pathlib import Path

from pfnano_tag import __version__
from pfnano_tag.card.card import BOUND_SECTIONS, Card
from pfnano_tag.card.datasets import Role
from pfnano_tag.card.output import write_json
from pfnano_tag.errors import StudyError


def bind(card: Card) -> None:
    """Bind the study's folder to the card, or check that it is bound to this one.

    Writes `study.json` on first use.

    Raises
    ------
    StudyError
        When the folder is bound to another hash; the message names the sections that differ.
    """
    path = card.folder / "study.json"
    hashes = {section: card.hash(section) for section in BOUND_SECTIONS}
    if not path.exists():
        write_json(path, {"study": card.study.name, "sections": hashes, "code_version": __version__})
        return
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


def prepared_path(card: Card) -> Path:
    """Return the path of `prepared.json`."""
    return card.folder / "prepared.json"


def model_folder(card: Card, model: str) -> Path:
    """Return the folder of a model's checkpoints and metrics."""
    return card.folder / "models" / model


def analysis_path(card: Card, dataset: str, file: str) -> Path:
    """Return where the data/MC job of one file leaves its histograms by default."""
    return card.folder / "analysis" / dataset / f"{Path(file).stem}.root"


def generated_folder(card: Card) -> Path:
    """Return the folder of the files that `generate` makes for the study."""
    return card.folder / "generated"


def sample_text(card: Card, role: Role) -> str:
    """Return what pictures say of the files of a role: made by `generate` in this study, or the study's name.

    Generated files say so; nothing claims to be from an experiment.
    """
    made = generated_folder(card).absolute()
    patterns = [pattern for dataset in card.datasets_for(role) for pattern in card.patterns(dataset)]
    if all("://" not in pattern and Path(pattern).absolute().is_relative_to(made) for pattern in patterns):
        return "pfnano_tag generated sample"
    return f"{card.study.name}, simulation" if role == "train" else f"pfnano_tag, {card.study.name}"
