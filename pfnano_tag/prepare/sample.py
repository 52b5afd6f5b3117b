"""The training sample: cleaned, labelled and split jets, chunk by chunk.

The scan, the training and the evaluation all read jets through here, so that they see the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.card import Card
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.errors import BadChunk, DataError, FileError, StudyError
from pfnano_tag.nano.columns import list_of_row
from pfnano_tag.nano.features import branches_for, read_jets, require_targets
from pfnano_tag.nano.jets import JetTable
from pfnano_tag.nano.plan import Plan
from pfnano_tag.nano.reader import Chunk, PFNanoFile, open_file
from pfnano_tag.nano.schema import inputs_of
from pfnano_tag.nano.targets import target_branches
from pfnano_tag.prepare.cleaning import Cutflow, clean, cleaning_branches
from pfnano_tag.prepare.labeling import DROP, Flavours, Truth, labels_of, truth_branches, truth_of
from pfnano_tag.prepare.prepared import FileRecord, Prepared
from pfnano_tag.prepare.splitting import IDENTITY, SPLITS, event_hash, split_of

EVENT = (*IDENTITY, "genWeight")

PART_BYTES = 12e6
"""What a chunk is worked through by: uncompressed branches that fit, with what is made of them, in a cache."""


@dataclass(frozen=True)
class LabelledJets:
    """Jets that are fit to train on.

    Parameters
    ----------
    table : JetTable
        Features, not scaled.
    label : ndarray of int64 [jets]
        Index in the study's classes.
    split : ndarray of uint8 [jets]
        Index in `SPLITS`.
    weight : ndarray of float64 [jets]
        Generator weight of the jet's event (the training weight comes from the tables of `reweighting`).
    event_id : ndarray of uint64 [jets]
        Hash of the event's identity: the same for all jets of an event.
    dataset : str
        Name of the dataset.
    stored : dict of ndarray of float32 [jets]
        Branches of the jet collection that were asked for beside the features, as far as the file has them.
    """

    table: JetTable
    label: NDArray[np.int64]
    split: NDArray[np.uint8]
    weight: NDArray[np.float64]
    event_id: NDArray[np.uint64]
    dataset: str
    stored: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Examined:
    """A chunk after cleaning, labeling and splitting, before features are read.

    Parameters
    ----------
    kept : ndarray of bool [jets]
        Over the chunk's flat jet collection.
    cutflow : dict of int
        Jets by what became of them.
    truth : Truth
        Flavours of all jets of the chunk.
    event : ndarray of int64 [jets]
        Event of each jet of the chunk.
    event_id : ndarray of uint64 [events]
        Hash of the event's identity.
    split : ndarray of uint8 [events]
        Index in `SPLITS`.
    weight : ndarray of float64 [events]
        Generator weight.
    """

    kept: NDArray[np.bool_]
    cutflow: Cutflow
    truth: Truth
    event: NDArray[np.int64]
    event_id: NDArray[np.uint64]
    split: NDArray[np.uint8]
    weight: NDArray[np.float64]

    @property
    def flavour(self) -> Flavours:
        """Flavour of each kept jet."""
        return self.truth.flavour[self.kept]


def require_kind(file: PFNanoFile, dataset: Dataset) -> None:
    """Refuse a data file in a dataset of simulation, and the reverse.

    Raises
    ------
    DataError
        Naming the file and the dataset.
    """
    if file.kind != dataset.kind:
        words = {"mc": "simulation (kind mc)", "data": "collision data (kind data)"}
        found = {"mc": "has generator branches", "data": "has no generator branches"}
        raise DataError(
            f"{file.path}: this file {found[file.kind]}, so it is {words[file.kind]}, but dataset {dataset.name!r} "
            f"is {words[dataset.kind]}; move the file to another dataset or mend the dataset's kind"
        )


def event_branches(file: PFNanoFile, card: Card) -> set[str]:
    """Return the branches of a file that choose and label jets; they are read first.

    Raises
    ------
    MissingBranch
        When events can't be identified, jets can't be labelled or cleaned.
    """
    identity = "preparation (identity and weight of the events"
    if file.is_jet_tree:
        identity += "; name the branches in jets.tree.branches, or set jets.tree.position_identifies"
    file.require(EVENT, f"{identity})")
    cleaning = cleaning_branches(file.branches, card.jets, file.path)
    return {*EVENT, *cleaning, *truth_branches(file.branches, file.path)}


def sample_branches(file: PFNanoFile, card: Card, features: Iterable[str]) -> set[str]:
    """Return all branches of a file that make training jets with these features.

    Raises
    ------
    MissingBranch
        See `event_branches`.
    """
    return event_branches(file, card) | branches_for(features, file.contents)


def examine(chunk: Chunk, card: Card, dataset: str) -> Examined:
    """Clean, label and split the jets of a chunk.

    Parameters
    ----------
    chunk : Chunk
        Of a file of simulation.
    card : Card
        Sections `jets` and `splitting` are used.
    dataset : str
        Name of the dataset, part of the events' identity.
    """
    chunk.load(EVENT)
    truth = truth_of(chunk)
    weight = chunk["genWeight"].astype(np.float64)
    cleaned = clean(chunk, card.jets, weight, truth.flavour != DROP)
    event_id = event_hash(dataset, *(chunk[name] for name in IDENTITY))
    split = split_of(event_id, card.splitting.fractions)
    event = list_of_row(chunk["Jet_pt"].offsets)
    return Examined(cleaned.kept, cleaned.cutflow, truth, event, event_id, split, weight)


def read_features(
    chunk: Chunk, card: Card, features: Iterable[str], jets: NDArray[np.bool_], targets: Sequence[str] = ()
) -> JetTable:
    """Return chosen jets of a chunk with features and truth targets, by the card's section `inputs`.

    Raises
    ------
    MissingBranch
        When the file can't give a target, or a feature that `inputs.droppable` doesn't name.
    """
    inputs = card.inputs
    caps = inputs.caps.model_dump()
    return read_jets(chunk, features, jets, caps, inputs.candidate_pt, inputs.droppable, targets)


def training_jets(
    card: Card,
    prepared: Prepared,
    splits: Sequence[str] = ("train",),
    features: Sequence[str] | None = None,
    stored: Sequence[str] = (),
    targets: Sequence[str] = (),
) -> Iterator[LabelledJets]:
    """Yield the jets of some splits, chunk by chunk, exactly those that the scan has seen.

    Parameters
    ----------
    card : Card
        The study's card.
    prepared : Prepared
        Names files, chunks and classes.
    splits : sequence of str
        Of `train`, `validation`, `test`.
    features : sequence of str, optional
        Feature identifiers; all inputs of the study when not given.
    stored : sequence of str
        Further branches of the jet collection (scores of other taggers), read from the files that have them.
    targets : sequence of str
        Truth targets of the tables (`nano.targets`).

    Yields
    ------
    LabelledJets
        In the order of `prepared.files`, which is not the listing order; possibly without jets. The order in a
        chunk is the file's.

    Raises
    ------
    StudyError
        When a file is not the one that was prepared.
    FileError
        When a file or chunk that was prepared can't be read any more.
    """
    for record in prepared.files:
        if record.chunks:
            with PreparedFile(card, prepared, record, features, stored, targets) as file:
                for start, stop in record.chunks:
                    yield file.jets(start, stop, splits)


class PreparedFile:
    """A file of the study, open, that gives the jets of its chunks; a context manager.

    Parameters
    ----------
    card : Card
        The study's card.
    prepared : Prepared
        Names the classes.
    record : FileRecord
        The file, of `prepared.files`.
    features, stored, targets
        As for `training_jets`.

    Raises
    ------
    StudyError
        When the file is not the one that was prepared.
    FileError
        When it can't be opened.
    MissingBranch
        When it can't give a target.
    """

    def __init__(
        self,
        card: Card,
        prepared: Prepared,
        record: FileRecord,
        features: Sequence[str] | None = None,
        stored: Sequence[str] = (),
        targets: Sequence[str] = (),
    ) -> None:
        self.card, self.prepared, self.record = card, prepared, record
        self.features = tuple(features) if features is not None else inputs_of(card.inputs)
        self.file = open_file(record.path, card)
        try:
            self._check()
            self.stored = [name for name in stored if name in self.file.branches]
            self._branches = event_branches(self.file, card) | set(self.stored)
            self.targets = tuple(targets)
            require_targets(self.file.contents, targets)
            needed = branches_for(self.features, self.file.contents) | target_branches(targets)
            self._all_branches = self._branches | needed
        except BaseException:
            self.file.close()
            raise

    def _check(self) -> None:
        if self.file.identity != self.record.identity:
            raise StudyError(
                f"{self.record.path}: not the file that was prepared (then {self.record.identity}, "
                f"now {self.file.identity}); restore it, or run `prepare` again"
            )

    def __enter__(self) -> PreparedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def parts(self, start: int, stop: int) -> Plan:
        """Return the entry ranges that one of the record's chunks is best read in: whole clusters, `PART_BYTES` each.

        A chunk holds its branches, what is derived from them and the result at once: in parts it takes less memory,
        stays in the processor's caches, and gives the same jets.
        """
        return self.file.parts(start, stop, self._all_branches, PART_BYTES)

    def jets(self, start: int, stop: int, splits: Sequence[str]) -> LabelledJets:
        """Return the jets of a chunk that belong to some splits, in the file's order.

        Parameters
        ----------
        start, stop : int
            One of the record's chunks, or of its parts.
        splits : sequence of str
            Of `train`, `validation`, `test`.

        Raises
        ------
        FileError
            When the chunk can't be read any more.
        """
        unknown = set(splits) - set(SPLITS)
        if unknown:
            raise ValueError(f"no such split: {sorted(unknown)}; there are {SPLITS}")
        wanted = np.isin(np.arange(len(SPLITS)), [SPLITS.index(name) for name in splits])
        chunk = self.file.chunk(start, stop)
        try:
            chunk.load(self._branches)
            return self._labelled(chunk, wanted)
        except BadChunk as error:
            raise FileError(f"{error}; `prepare` could read it: restore the file and go on") from error

    def _labelled(self, chunk: Chunk, wanted: NDArray[np.bool_]) -> LabelledJets:
        """Return the jets of a chunk that belong to wanted splits (bool [splits])."""
        dataset = self.record.dataset
        seen = examine(chunk, self.card, dataset)
        chosen = seen.kept & wanted[seen.split][seen.event]
        table = read_features(chunk, self.card, self.features, chosen, self.targets)
        event = seen.event[chosen]
        return LabelledJets(
            table,
            labels_of(seen.truth.flavour[chosen], self.prepared.classes),
            seen.split[event],
            seen.weight[event],
            seen.event_id[event],
            dataset,
            {name: chunk[name].values[chosen].astype(np.float32) for name in self.stored},
        )
