"""Splitting a study into items: one file, one job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pfnano_tag.card.card import Card
from pfnano_tag.card.files import REPLICAS, expand_files, replicas_of
from pfnano_tag.card.folder import analysis_path
from pfnano_tag.errors import DataError, FileError


@dataclass(frozen=True)
class Item:
    """One job.

    Parameters
    ----------
    index : int
        Position in the list of items.
    dataset : str
        Name of the dataset.
    name : str
        File name of the output, in the dataset's folder below `analysis`.
    file : str
        Absolute path or address of the input.
    """

    index: int
    dataset: str
    name: str
    file: str

    @property
    def line(self) -> str:
        """The item as a line of `items.txt`: fields separated by tabs."""
        return "\t".join([str(self.index), self.dataset, self.name, self.file])


def items_of(card: Card, datasets: Sequence[str] = ()) -> tuple[Item, ...]:
    """Return one item per file of the datasets with role `analyze`, in the card's order.

    Parameters
    ----------
    card : Card
        The study's card.
    datasets : sequence of str
        Only these datasets; all when empty.

    Raises
    ------
    CardError
        When the card has no such dataset.
    DataError
        When there is no dataset to analyze, or two files of a dataset have the same name.
    FileError
        When files are missing, or a name can't stand in a list.
    """
    chosen = [card.dataset(name) for name in datasets] or list(card.datasets_for("analyze"))
    items: list[Item] = []
    for dataset in chosen:
        if "analyze" not in dataset.roles:
            raise DataError(
                f"dataset {dataset.name}: its role is {dataset.roles[0]}, expected analyze among its roles"
            )
        for file in expand_files(card.patterns(dataset)):
            name = analysis_path(card, dataset.name, file).name
            items.append(Item(len(items), dataset.name, name, _absolute(file)))
    if not items:
        raise DataError("the card has no dataset with role analyze, so there is nothing to submit")
    _check(items)
    return tuple(items)


def _absolute(file: str) -> str:
    places = (place if "://" in place else str(Path(place).absolute()) for place in replicas_of(file))
    return REPLICAS.join(places)


def _check(items: Sequence[Item]) -> None:
    outputs: dict[tuple[str, str], str] = {}
    for item in items:
        if any(sign in item.file for sign in "\t\n\r"):
            raise FileError(f"{item.file!r}: a name with a tab or a line break can't stand in a list of files")
        other = outputs.setdefault((item.dataset, item.name), item.file)
        if other != item.file:
            raise DataError(
                f"dataset {item.dataset}: {other} and {item.file} would share the output {item.name}; "
                "give them other names, or make two datasets of them"
            )
