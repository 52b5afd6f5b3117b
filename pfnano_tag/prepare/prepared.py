"""`prepared.json`: all that the preparation found, in one small file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pfnano_tag import __version__
from pfnano_tag.card.card import Card
from pfnano_tag.card.hashing import content_hash
from pfnano_tag.card.output import write_json
from pfnano_tag.errors import StudyError
from pfnano_tag.prepare.defaults import DefaultCounts
from pfnano_tag.prepare.inputs import InputFeature, InputSpec
from pfnano_tag.prepare.reweighting import WeightTables

__all__ = ["FORMAT_VERSION", "FileRecord", "InputFeature", "InputSpec", "Prepared", "read_prepared", "write_prepared"]

FORMAT = "pfnano_tag prepared"
FORMAT_VERSION = 3
SECTIONS = ("datasets", "jets", "inputs", "labels", "splitting", "scaling", "reweighting")
"""Sections of the card that the content depends on."""


@dataclass(frozen=True)
class FileRecord:
    """A file of the study, and how much of it was read.

    Parameters
    ----------
    path, dataset : str
        The file and its dataset.
    identity : str
        UUID and size; empty when the file could not be opened.
    layout, jet_type : str
        What the file is (see `nano.layouts`); empty when it could not be opened.
    entries : int
        Events in the file.
    chunks : tuple of (start, stop)
        Entry ranges that were read.
    lost : tuple of str
        What could not be read, and why.
    absent : tuple of str
        Branches of truth targets (`nano.targets`) that the file lacks.
    jets : tuple of tuple of int
        Kept jets of each of the chunks by split, in the order of `SPLITS`: several processes share chunks by them.
    """

    path: str
    dataset: str
    identity: str
    layout: str
    jet_type: str
    entries: int
    chunks: tuple[tuple[int, int], ...]
    lost: tuple[str, ...]
    absent: tuple[str, ...] = ()
    jets: tuple[tuple[int, ...], ...] = ()

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> FileRecord:
        """Return a record from JSON content."""
        chunks = tuple((int(start), int(stop)) for start, stop in content["chunks"])
        rest = {name: content[name] for name in ("path", "dataset", "identity", "layout", "jet_type", "entries")}
        jets = tuple(tuple(int(count) for count in counts) for counts in content["jets"])
        lost, absent = tuple(content["lost"]), tuple(content["absent"])
        return FileRecord(**rest, chunks=chunks, lost=lost, absent=absent, jets=jets)


@dataclass(frozen=True)
class Prepared:
    """The prepared study.

    Parameters
    ----------
    study : str
        Its name.
    sections : dict of str
        Hash of each section of the card that the content depends on.
    classes : tuple of str
        Flavour classes in the order of the networks' outputs.
    merged : dict of str
        Class that was merged away -> why.
    inputs : InputSpec
        What networks see.
    weights : WeightTables
        Training weights by class, pT and eta.
    files : tuple of FileRecord
        In the card's order.
    jets : dict
        Dataset -> split -> class -> number of jets.
    events : dict
        Dataset -> split -> number of events.
    sumw : dict
        Dataset -> split -> sum of generator weights of all events.
    cutflow : dict
        Dataset -> reason -> jets.
    defaults : dict of DefaultCounts
        Feature -> placeholders over all kept jets.
    weightless : dict of int
        Dataset -> events dropped for a weight that is not finite.
    """

    study: str
    sections: dict[str, str]
    classes: tuple[str, ...]
    merged: dict[str, str]
    inputs: InputSpec
    weights: WeightTables
    files: tuple[FileRecord, ...]
    jets: dict[str, dict[str, dict[str, int]]]
    events: dict[str, dict[str, int]]
    sumw: dict[str, dict[str, float]]
    cutflow: dict[str, dict[str, int]]
    defaults: dict[str, DefaultCounts]
    weightless: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether every chunk of every file was read."""
        return not any(record.lost for record in self.files)

    def total(self, split: str, name: str | None = None) -> int:
        """Return the number of jets of a split, of one class or of all."""
        counts = [jets[split] for jets in self.jets.values()]
        return sum(count[name] if name else sum(count.values()) for count in counts)

    @property
    def jets_hash(self) -> str:
        """What the jets of a training depend on beside the card: files, chunks and weights."""
        files = [[record.identity or record.path, record.chunks] for record in self.files]
        return content_hash({"files": files, "weights": self.weights.to_json()})

    def to_json(self) -> dict[str, Any]:
        """Return the content of `prepared.json`, with a hash over it."""
        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "code_version": __version__,
            "study": self.study,
            "complete": self.complete,
            "sections": self.sections,
            "classes": list(self.classes),
            "merged": self.merged,
            "inputs": self.inputs.to_json(),
            "weights": self.weights.to_json(),
            "files": [asdict(record) for record in self.files],
            "jets": self.jets,
            "events": self.events,
            "sumw": self.sumw,
            "cutflow": self.cutflow,
            "defaults": {name: {**counts.to_json(), "share": counts.share} for name, counts in self.defaults.items()},
            "weightless": self.weightless,
        }
        content = json.loads(json.dumps(content))  # tuples to lists: the form that is read back
        return {**content, "sha256": content_hash(content)}


def write_prepared(path: Path, prepared: Prepared) -> None:
    """Write `prepared.json`, whole or not at all."""
    write_json(path, prepared.to_json())


def read_prepared(path: str | Path, card: Card | None = None) -> Prepared:
    """Read `prepared.json`.

    Parameters
    ----------
    path : str or Path
        The file; `card.folder.prepared_path` says where it is.
    card : Card, optional
        The card that it must have been made with.

    Raises
    ------
    StudyError
        When it is missing, damaged, changed by hand, of another format version, or made with another card.
    """
    content = _read(Path(path))
    if card is not None:
        _same_card(Path(path), content["sections"], card)
    try:
        return prepared_of(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudyError(f"{path}: damaged ({type(error).__name__}: {error}); run `prepare` again") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyError(f"{path}: not there; run `python -m pfnano_tag.prepare` first") from error
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: can't be read as JSON ({error}); run `prepare` again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise StudyError(f"{path}: no prepared study (its JSON has no format {FORMAT!r})")
    if content.get("format_version") != FORMAT_VERSION:
        raise StudyError(
            f"{path}: has format version {content.get('format_version')}, this program reads {FORMAT_VERSION}; "
            "run `prepare` again"
        )
    digest = content.pop("sha256", None)
    if digest != content_hash(content) or not isinstance(content.get("sections"), dict):
        raise StudyError(f"{path}: its content does not fit its own hash (changed or damaged); run `prepare` again")
    return content


def _same_card(path: Path, sections: Mapping[str, str], card: Card) -> None:
    changed = [name for name in SECTIONS if sections.get(name) != card.hash(name)]
    if changed:
        raise StudyError(
            f"{path}: was prepared with another card: section {', '.join(changed)} differs; "
            "undo the change, or run `prepare` again"
        )


def prepared_of(content: Mapping[str, Any]) -> Prepared:
    """Return the prepared study of JSON content, as `Prepared.to_json` makes it.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError
        When the content is something else.
    """
    counts = {
        name: DefaultCounts(c["entries"], c["placeholders"], c["non_finite"])
        for name, c in content["defaults"].items()
    }
    names = ("study", "sections", "merged", "jets", "events", "sumw", "cutflow", "weightless")
    inputs = InputSpec.from_json(content["inputs"])
    inputs.declare()
    return Prepared(
        **{name: content[name] for name in names},
        classes=tuple(content["classes"]),
        inputs=inputs,
        weights=WeightTables.from_json(content["weights"]),
        files=tuple(FileRecord.from_json(record) for record in content["files"]),
        defaults=counts,
    )
