"""Splitting a stage of a study into items: what one job does, and what it must leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pfnano_tag.analyze.parts import Part
from pfnano_tag.card.card import Card
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.card.files import absolute, expand_files
from pfnano_tag.card.folder import analysis_path, generated_folder, model_folder
from pfnano_tag.errors import DataError, FileError, StudyError
from pfnano_tag.submit.grouping import ONE_EACH, Grouping
from pfnano_tag.submit.items import Item, Step


def items_of(
    card: Card,
    stage: str,
    datasets: Sequence[str] = (),
    models: Sequence[str] | None = None,
    grouping: Grouping = ONE_EACH,
) -> tuple[Item, ...]:
    """Return the items of a stage, in the card's order.

    Parameters
    ----------
    card : Card
        The study's card.
    stage : str
        `generate`, `prepare`, `train` or `analyze`.
    datasets : sequence of str
        Only these datasets (`prepare`, `analyze`); all when empty.
    models : sequence of str or None
        Networks, scans, or `name:EPOCH` (`analyze`); None: all of the card; empty: none.
    grouping : Grouping
        Files per item (`prepare`, `analyze`), or items per file (`analyze`).

    Raises
    ------
    CardError
        When the card has no such dataset or model.
    DataError
        When there is nothing to do, or two files would leave their result in one place.
    FileError
        When files are missing, or a name can't stand in a list.
    """
    if stage == "analyze":
        found = list(_analyses(card, datasets, models, grouping))
    elif stage == "prepare":
        found = list(_scans(card, datasets, grouping.files))
    elif stage == "train":
        found = list(_trainings(card, models))
    else:
        found = list(_productions(card))
    items = tuple(Item(index, *content) for index, content in enumerate(found))
    if not items:
        raise DataError(f"the card has no dataset with role {stage}, so there is nothing to submit")
    _check(items)
    return items


Content = tuple[str, tuple[Step, ...], tuple[str, ...]]
"""Name, steps and outputs of an item."""


def _analyses(
    card: Card, datasets: Sequence[str], models: Sequence[str] | None, grouping: Grouping
) -> Iterator[Content]:
    chosen = [] if models is None else [f"--model={name}" for name in card.models_named(models)]
    if models is not None and not models:
        chosen = ["--no-models"]
    for dataset, files in _files(card, "analyze", datasets):
        arguments = (f"--dataset={dataset.name}", *chosen)
        for some in _parts(files, grouping.files):
            outputs = tuple(str(analysis_path(card, dataset.name, file).relative_to(card.folder)) for file in some)
            places = [absolute(file) for file in some]
            if grouping.parts > 1:
                yield from _shares(arguments, places[0], outputs[0], grouping.parts)
                continue
            steps = (Step(arguments, place, output) for place, output in zip(places, outputs, strict=True))
            yield _name(outputs, "analysis"), tuple(steps), outputs


def _shares(arguments: tuple[str, ...], file: str, output: str, count: int) -> Iterator[Content]:
    """Yield the items that share a file."""
    for part in (Part(number, count) for number in range(1, count + 1)):
        name = f"{_name((output,), 'analysis')} part {part}"
        yield name, (Step(arguments, file, output, str(part)),), (str(part.folder(Path(output))),)


def _scans(card: Card, datasets: Sequence[str], together: int) -> Iterator[Content]:
    from pfnano_tag.prepare.stage import Source, partial_path

    for dataset, files in _files(card, "train", datasets):
        for part in _parts(files, together):
            outputs = tuple(str(partial_path(card, Source(file, dataset)).relative_to(card.folder)) for file in part)
            yield f"{dataset.name}/{_name(outputs, '')}", (Step(("--partial", *part)),), outputs


def _trainings(card: Card, models: Sequence[str] | None) -> Iterator[Content]:
    for name in card.chosen_models(models):
        folder = model_folder(card, name)
        if folder.exists():
            raise StudyError(
                f"{folder}: is there already; go on with it by `train --resume`, or remove it to submit the training"
            )
        best = folder / "best.json"
        yield name, (Step((f"--model={name}", "--resume")),), (str(best.relative_to(card.folder)),)


def _productions(card: Card) -> Iterator[Content]:
    for sample, section in card.generate.samples.items():
        for index in range(section.files):
            name = f"{sample}:{index}"
            path = generated_folder(card) / sample / f"{sample}_{index}.root"
            yield name, (Step((f"--only={name}",)),), (str(path.relative_to(card.folder)),)


def _files(card: Card, role: str, names: Sequence[str]) -> Iterator[tuple[Dataset, list[str]]]:
    datasets = [card.dataset(name) for name in names] or [one for one in card.datasets if role in one.roles]
    for dataset in datasets:
        if role not in dataset.roles:
            raise DataError(
                f"dataset {dataset.name}: its role is {dataset.roles[0]}, expected {role} among its roles"
            )
        yield dataset, expand_files(card.patterns(dataset))


def _parts(files: Sequence[str], together: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(files), together):
        yield files[first : first + together]


def _name(outputs: Sequence[str], folder: str) -> str:
    first = str(Path(outputs[0]).relative_to(folder).with_suffix(""))
    return first if len(outputs) == 1 else f"{first} and {len(outputs) - 1} more"


def _check(items: Sequence[Item]) -> None:
    outputs: dict[str, tuple[Item, str]] = {}
    for item in items:
        for place, step in zip(item.outputs, item.steps, strict=False):
            file = step.file or " ".join(step.arguments)
            if any(sign in file for sign in "\n\r"):
                raise FileError(f"{file!r}: a name with a line break can't stand in a list of files")
            known, other = outputs.setdefault(place, (item, file))
            if (known, other) != (item, file):
                raise DataError(
                    f"{other} and {file} would share the output {place}; give them other names, or make two "
                    "datasets of them"
                )
