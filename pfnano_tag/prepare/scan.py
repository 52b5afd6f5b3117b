"""The scan of one file: its partial result, which merges with those of other files to the same numbers in any order.

Counts are integers and exact; moments are kept in Chan's form; sums of weights are float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.card import Card
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.card.labels import FLAVOURS
from pfnano_tag.errors import BadChunk
from pfnano_tag.nano.jets import JetTable
from pfnano_tag.nano.layouts import require_inputs
from pfnano_tag.nano.plan import Plan
from pfnano_tag.nano.reader import Chunk, PFNanoFile
from pfnano_tag.nano.schema import FEATURES, inputs_of, transformed
from pfnano_tag.nano.targets import absent_branches
from pfnano_tag.prepare.cleaning import REASONS
from pfnano_tag.prepare.defaults import DefaultCounts, count_defaults
from pfnano_tag.prepare.labeling import indistinct_in
from pfnano_tag.prepare.reweighting import count_jets
from pfnano_tag.prepare.sample import event_branches, examine, read_features, require_kind, sample_branches
from pfnano_tag.prepare.scaling import Moments, merged, moments_of
from pfnano_tag.prepare.splitting import SPLITS

TRAIN = SPLITS.index("train")
CUTFLOW = ("jets", *REASONS, "kept")


@dataclass(frozen=True)
class Counted:
    """What a scan adds up over chunks and files. Shapes: S splits, C flavours, P pT bins, E eta bins.

    Parameters
    ----------
    cutflow : dict of int
        Jets by what became of them.
    events : ndarray of int64 [S]
        Events (with finite weight) per split.
    weightless : int
        Events whose weight is NaN or infinite; dropped.
    sumw : ndarray of float64 [S]
        Sums of generator weights of all events per split.
    jets : ndarray of int64 [S, C]
        Kept jets per split and flavour.
    kinematics : ndarray of int64 [C, P, E]
        Training jets in the bins of section `reweighting`.
    moments : dict of Moments
        Per feature, of transformed training values without placeholders.
    defaults : dict of DefaultCounts
        Per feature, over all kept jets.
    b_jets, neutrinos : int
        What tells whether the file knows leptonic b jets (see `labeling`).
    """

    cutflow: dict[str, int]
    events: NDArray[np.int64]
    weightless: int
    sumw: NDArray[np.float64]
    jets: NDArray[np.int64]
    kinematics: NDArray[np.int64]
    moments: dict[str, Moments]
    defaults: dict[str, DefaultCounts]
    b_jets: int
    neutrinos: int

    def to_json(self) -> dict[str, Any]:
        """Return the sums as JSON content; floats keep all digits."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: value.tolist() for name, value in plain.items() if isinstance(value, np.ndarray)}
        nested = {name: {key: v.to_json() for key, v in plain[name].items()} for name in ("moments", "defaults")}
        return plain | arrays | nested

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Counted:
        """Return sums from JSON content."""
        integers = {name: np.array(content[name], dtype=np.int64) for name in ("events", "jets", "kinematics")}
        return Counted(
            cutflow=dict(content["cutflow"]),
            weightless=int(content["weightless"]),
            sumw=np.array(content["sumw"], dtype=np.float64),
            moments={key: Moments.from_json(value) for key, value in content["moments"].items()},
            defaults={key: DefaultCounts.from_json(value) for key, value in content["defaults"].items()},
            b_jets=int(content["b_jets"]),
            neutrinos=int(content["neutrinos"]),
            **integers,
        )


@dataclass(frozen=True)
class FileScan:
    """What the scan of one file has found.

    Parameters
    ----------
    path, dataset : str
        The file and its dataset.
    identity : str
        UUID and size.
    layout, jet_type : str
        What the file is (see `nano.layouts`).
    entries : int
        Events in the file.
    plan : tuple of (start, stop)
        Chunks.
    lost : tuple of (start, stop, reason)
        Chunks that could not be read.
    jets : tuple of tuple of int
        Kept jets of each chunk that was read, by split.
    indistinct : tuple of str
        Classes that the file's branches can't tell from b.
    absent : tuple of str
        Branches of truth targets (`nano.targets`) that the file lacks.
    counted : Counted
        Sums over the chunks that were read.
    """

    path: str
    dataset: str
    identity: str
    layout: str
    jet_type: str
    entries: int
    plan: Plan
    lost: tuple[tuple[int, int, str], ...]
    jets: tuple[tuple[int, ...], ...]
    indistinct: tuple[str, ...]
    absent: tuple[str, ...]
    counted: Counted

    def to_json(self) -> dict[str, Any]:
        """Return the partial result as JSON content."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {"counted": self.counted.to_json()}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> FileScan:
        """Return a partial result from JSON content."""
        return FileScan(
            path=content["path"],
            dataset=content["dataset"],
            identity=content["identity"],
            layout=content["layout"],
            jet_type=content["jet_type"],
            entries=int(content["entries"]),
            plan=tuple((int(start), int(stop)) for start, stop in content["plan"]),
            lost=tuple((int(start), int(stop), str(reason)) for start, stop, reason in content["lost"]),
            jets=tuple(tuple(int(count) for count in counts) for counts in content["jets"]),
            indistinct=tuple(content["indistinct"]),
            absent=tuple(content["absent"]),
            counted=Counted.from_json(content["counted"]),
        )


def nothing_counted(card: Card) -> Counted:
    """Return sums over no events at all, with every feature of the card's input set."""
    settings, ids = card.reweighting, inputs_of(card.inputs)
    bins = (len(FLAVOURS), len(settings.pt_edges) - 1, len(settings.eta_edges) - 1)
    return Counted(
        cutflow=dict.fromkeys(CUTFLOW, 0),
        events=np.zeros(len(SPLITS), dtype=np.int64),
        weightless=0,
        sumw=np.zeros(len(SPLITS)),
        jets=np.zeros((len(SPLITS), len(FLAVOURS)), dtype=np.int64),
        kinematics=np.zeros(bins, dtype=np.int64),
        moments={name: Moments() for name in ids},
        defaults={name: DefaultCounts() for name in ids},
        b_jets=0,
        neutrinos=0,
    )


def summed(parts: Sequence[Counted]) -> Counted:
    """Return the sums of disjoint parts (at least one); sums of weights are correctly rounded."""
    first = parts[0]
    return Counted(
        cutflow={key: sum(part.cutflow[key] for part in parts) for key in first.cutflow},
        events=np.sum([part.events for part in parts], axis=0),
        weightless=sum(part.weightless for part in parts),
        sumw=np.array([math.fsum(part.sumw[split] for part in parts) for split in range(len(SPLITS))]),
        jets=np.sum([part.jets for part in parts], axis=0),
        kinematics=np.sum([part.kinematics for part in parts], axis=0),
        moments={name: merged(part.moments[name] for part in parts) for name in first.moments},
        defaults={name: sum((p.defaults[name] for p in parts), DefaultCounts()) for name in first.defaults},
        b_jets=sum(part.b_jets for part in parts),
        neutrinos=sum(part.neutrinos for part in parts),
    )


def check_file(file: PFNanoFile, card: Card, dataset: Dataset) -> set[str]:
    """Return the branches that the scan reads of a file.

    Raises
    ------
    DataError
        When a data file stands in a dataset of simulation.
    MissingBranch
        When the file can't give inputs, labels or the events' identity.
    """
    require_kind(file, dataset)
    ids = inputs_of(card.inputs)
    inputs = card.inputs
    needed_by = f"input set {inputs.set!r}" if inputs.features is None else "inputs.features"
    require_inputs(file.contents, ids, inputs.caps.model_dump(), inputs.candidate_pt, inputs.droppable, needed_by)
    return sample_branches(file, card, ids)


def plan_of(file: PFNanoFile, card: Card, branches: set[str]) -> Plan:
    """Return the chunks of a file, by `resources.chunk` (uncompressed MB of the branches that are read)."""
    return file.plan(branches, card.resources.chunk_bytes)


def scan_file(file: PFNanoFile, card: Card, dataset: Dataset) -> FileScan:
    """Scan an open file, chunk by chunk; a chunk that can't be read is lost alone.

    Raises
    ------
    DataError, MissingBranch
        See `check_file`.
    """
    branches = check_file(file, card, dataset)
    plan = plan_of(file, card, branches)
    parts: list[Counted] = []
    lost: list[tuple[int, int, str]] = []
    for start, stop in plan:
        chunk = file.chunk(start, stop)
        try:
            chunk.load(event_branches(file, card))
            parts.append(scan_chunk(chunk, card, dataset.name))
        except BadChunk as error:
            lost.append((start, stop, error.reason))
    indistinct = tuple(sorted(indistinct_in(file.branches)))
    return FileScan(
        path=file.path,
        dataset=dataset.name,
        identity=file.identity,
        layout=file.layout,
        jet_type=file.jet_type,
        entries=file.num_entries,
        plan=plan,
        lost=tuple(lost),
        jets=tuple(tuple(part.jets.sum(axis=1).tolist()) for part in parts),
        indistinct=indistinct,
        absent=absent_branches(file.branches),
        counted=summed([nothing_counted(card), *parts]),
    )


def scan_chunk(chunk: Chunk, card: Card, dataset: str) -> Counted:
    """Return the sums of one chunk.

    Parameters
    ----------
    chunk : Chunk
        Of a file of simulation.
    card : Card
        The study's card.
    dataset : str
        Name of the dataset.
    """
    seen = examine(chunk, card, dataset)
    ids = inputs_of(card.inputs)
    table = read_features(chunk, card, ids, seen.kept)
    finite = np.isfinite(seen.weight)
    split = seen.split[seen.event[seen.kept]]
    train = split == TRAIN
    jets = np.bincount(split * len(FLAVOURS) + seen.flavour, minlength=len(SPLITS) * len(FLAVOURS))
    pt, eta = (chunk[name].values[seen.kept][train] for name in ("Jet_pt", "Jet_eta"))
    return Counted(
        cutflow=seen.cutflow,
        events=np.bincount(seen.split[finite], minlength=len(SPLITS)),
        weightless=int(np.count_nonzero(~finite)),
        sumw=np.bincount(seen.split[finite], weights=seen.weight[finite], minlength=len(SPLITS)).astype(np.float64),
        jets=jets.reshape(len(SPLITS), len(FLAVOURS)),
        kinematics=count_jets(seen.flavour[train], len(FLAVOURS), pt, eta, card.reweighting),
        moments=_moments(table, ids, train, card),
        defaults={name: count_defaults(table.default_mask(name), table.non_finite.get(name, 0)) for name in ids},
        b_jets=seen.truth.b_jets,
        neutrinos=seen.truth.neutrinos,
    )


def transform_of(feature: str, card: Card) -> str:
    """Return the transform of a feature: the feature table's, or none at all by section `scaling`."""
    return FEATURES[feature].transform if card.scaling.transform == "schema" else "none"


def _moments(table: JetTable, ids: Sequence[str], train: NDArray[np.bool_], card: Card) -> dict[str, Moments]:
    """Return the moments of all features over training jets, without placeholders."""
    rows = {"jet": train} | {name: np.repeat(train, group.counts) for name, group in table.groups.items()}
    found = {}
    for name in ids:
        chosen = rows[FEATURES[name].group]
        if name in table.default:
            chosen = chosen & ~table.default[name]
        found[name] = moments_of(transformed(table.column(name)[chosen], transform_of(name, card)))
    return found
