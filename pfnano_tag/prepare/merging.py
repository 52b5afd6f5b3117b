"""From the partial results of all files to the prepared study."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from pfnano_tag.card.card import Card
from pfnano_tag.card.hashing import content_hash
from pfnano_tag.card.labels import FLAVOURS
from pfnano_tag.errors import DataError
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.schema import FEATURES, inputs_of
from pfnano_tag.prepare.defaults import scaled_default
from pfnano_tag.prepare.inputs import InputFeature, InputSpec
from pfnano_tag.prepare.labeling import MERGES_INTO, classes_of, labels_of, lacks_neutrinos
from pfnano_tag.prepare.prepared import SECTIONS, FileRecord, Prepared
from pfnano_tag.prepare.reweighting import weight_tables
from pfnano_tag.prepare.scaling import Moments
from pfnano_tag.prepare.scan import TRAIN, Counted, FileScan, nothing_counted, summed, transform_of
from pfnano_tag.prepare.splitting import SPLITS

Number = TypeVar("Number", int, float)

log = logging.getLogger(__name__)


def prepared_from(card: Card, scans: Sequence[FileScan], unread: Mapping[tuple[str, str], str]) -> Prepared:
    """Merge partial results.

    Parameters
    ----------
    card : Card
        The study's card.
    scans : sequence of FileScan
        One per file that was read, in any order.
    unread : mapping
        (dataset, path) -> why the file could not be read.

    Returns
    -------
    Prepared

    Raises
    ------
    DataError
        When a file was read twice, files of different kinds are mixed, or a class has no training jet.
    """
    _no_file_twice(scans)
    of_one_kind(scans, card)
    scans = _in_order(scans, card)
    merged = _merged_classes(card, scans)
    classes = classes_of(card.labels.classes, merged)
    total = summed([nothing_counted(card), *(scan.counted for scan in scans)])
    _every_class_filled(total, classes, card, _gone(scans, unread))
    by_dataset = {
        dataset.name: summed([nothing_counted(card), *(s.counted for s in scans if s.dataset == dataset.name)])
        for dataset in card.datasets_for("train")
    }
    return Prepared(
        study=card.study.name,
        sections={name: card.hash(name) for name in SECTIONS},
        classes=classes,
        merged=merged,
        inputs=_input_spec(card, total.moments, known_types(scans)),
        weights=weight_tables(_to_classes(total.kinematics, classes), classes, card.reweighting),
        files=(*map(_record, scans), *(_not_read(dataset, path, why) for (dataset, path), why in unread.items())),
        jets={name: _jets(counted, classes) for name, counted in by_dataset.items()},
        events={name: _per_split(c.events.tolist()) for name, c in by_dataset.items()},
        sumw={name: _per_split(c.sumw.tolist()) for name, c in by_dataset.items()},
        cutflow={name: c.cutflow for name, c in by_dataset.items()},
        defaults=total.defaults,
        weightless={name: c.weightless for name, c in by_dataset.items()},
    )


def _per_split(values: Sequence[Number]) -> dict[str, Number]:
    return dict(zip(SPLITS, values, strict=True))


def _to_classes(per_flavour: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Add up counts of flavours (first axis) to counts of classes."""
    label = labels_of(np.arange(len(FLAVOURS), dtype=np.int8), classes)
    out = np.zeros((len(classes), *per_flavour.shape[1:]), dtype=per_flavour.dtype)
    np.add.at(out, label, per_flavour)
    return out


def _jets(counted: Counted, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    per_class = [_to_classes(counts, classes).tolist() for counts in counted.jets]
    return {split: dict(zip(classes, row, strict=True)) for split, row in zip(SPLITS, per_class, strict=True)}


def _record(scan: FileScan) -> FileRecord:
    gone = {(start, stop) for start, stop, _ in scan.lost}
    lost = tuple(f"entries {start} to {stop}: {reason}" for start, stop, reason in scan.lost)
    chunks = tuple(chunk for chunk in scan.plan if chunk not in gone)
    what = (scan.path, scan.dataset, scan.identity, scan.layout, scan.jet_type)
    return FileRecord(*what, scan.entries, chunks, lost, scan.absent, scan.jets)


def _in_order(scans: Sequence[FileScan], card: Card) -> list[FileScan]:
    """Sort by dataset, then by what was counted in a file: names and listing order of files don't matter.

    Sums and the order of the training jets follow this order, so that both are the same to the last bit however the
    files are listed.
    """
    datasets = [dataset.name for dataset in card.datasets]
    return sorted(
        scans, key=lambda scan: (datasets.index(scan.dataset), content_hash(scan.counted.to_json()), scan.identity)
    )


def _no_file_twice(scans: Sequence[FileScan]) -> None:
    seen: dict[str, str] = {}
    for scan in scans:
        if scan.identity in seen:
            raise DataError(
                f"{scan.path} and {seen[scan.identity]} are the same file (UUID and size {scan.identity}): "
                "its jets would count twice; take one of them out of the card"
            )
        seen[scan.identity] = scan.path


def _not_read(dataset: str, path: str, why: str) -> FileRecord:
    return FileRecord(path, dataset, identity="", layout="", jet_type="", entries=0, chunks=(), lost=(why,))


def of_one_kind(files: Sequence[FileScan | PFNanoFile], card: Card) -> None:
    """Refuse to mix layouts, or jets of different pile-up treatment, in one training, unless the card says so.

    Parameters
    ----------
    files : sequence of FileScan or PFNanoFile
        Files that were read, or are open to be read.
    card : Card
        Section `jets` says what may be mixed.

    Raises
    ------
    DataError
        Naming a file of each kind.
    """
    for what, key, attribute in (("layouts", "layouts", "layout"), ("jet types", "types", "jet_type")):
        found = {getattr(file, attribute): file.path for file in reversed(files)}
        if len(found) > 1 and key not in card.jets.mix:
            listed = ", ".join(f"{name} ({path})" for name, path in sorted(found.items()))
            raise DataError(
                f"the training files have different {what}: {listed}; their inputs need not mean the same: "
                f"train on one kind, or set jets.mix=[{key}]"
            )


def known_types(scans: Sequence[FileScan]) -> tuple[str, ...]:
    """Return the jet types of the files that tell."""
    return tuple(sorted({scan.jet_type for scan in scans} - {"unknown"}))


def _merged_classes(card: Card, scans: Sequence[FileScan]) -> dict[str, str]:
    """Return which classes merge into others because a file can't tell them, and why; each is said in the log."""
    reasons: dict[str, str] = {}
    for scan in scans:
        for name in scan.indistinct:
            reasons.setdefault(name, f"{scan.path} lacks the branches that tell {name} from {MERGES_INTO[name]}")
        if lacks_neutrinos(scan.counted.b_jets, scan.counted.neutrinos):
            reasons.setdefault(
                "lepb",
                f"{scan.path} has {scan.counted.b_jets} jets with a b hadron but no neutrino from a heavy hadron: "
                "its GenPart lacks them",
            )
    merged = {str(name): why for name, why in reasons.items() if name in card.labels.classes}
    for name, why in merged.items():
        log.warning("class %s merges into %s in all files: %s", name, MERGES_INTO[name], why)
    return merged


def _gone(scans: Sequence[FileScan], unread: Mapping[tuple[str, str], str]) -> str:
    """Return in words what could not be read; empty where nothing is missing."""
    why = [*(f"{scan.path}: {reason}" for scan in scans for _, _, reason in scan.lost), *unread.values()]
    return f"; {len(why)} chunks or files could not be read, the first: {why[0]}" if why else ""


def _every_class_filled(total: Counted, classes: Sequence[str], card: Card, gone: str) -> None:
    everything = _to_classes(total.jets.T, classes)
    binned = _to_classes(total.kinematics, classes).sum(axis=(1, 2))
    empty = [name for name, row in zip(classes, everything, strict=True) if row[TRAIN] == 0]
    outside = [name for name, n in zip(classes, binned, strict=True) if n == 0 and name not in empty]
    if outside:
        raise DataError(
            f"no training jet of class {', '.join(outside)} lies in the bins of section reweighting; "
            "widen reweighting.pt_edges and eta_edges to the range of section jets"
        )
    if empty:
        mergeable = [name for name in empty if name in MERGES_INTO and MERGES_INTO[name] not in empty]
        kept = [name for name in card.labels.classes if name not in mergeable]
        into = ", ".join(sorted({MERGES_INTO[name] for name in mergeable}))
        advice = f", or leave it out: labels.classes=[{', '.join(kept)}] merges it into {into}" if mergeable else ""
        found = ", ".join(f"{name} {row[TRAIN]}" for name, row in zip(classes, everything, strict=True))
        raise DataError(
            f"no training jets of class {', '.join(empty)} (found: {found}; dropped: {_drops(total)}{gone}); "
            f"add files that have them to a dataset with role train{advice}"
        )


def _drops(total: Counted) -> str:
    dropped = {key: n for key, n in total.cutflow.items() if n and key not in ("jets", "kept")}
    return ", ".join(f"{key} {n}" for key, n in dropped.items()) or "none"


def _input_spec(card: Card, moments: Mapping[str, Moments], jet_types: tuple[str, ...]) -> InputSpec:
    groups = {
        str(group): tuple(_input_feature(f"{group}/{name}", card, moments[f"{group}/{name}"]) for name in names)
        for group, names in _by_group(inputs_of(card.inputs)).items()
    }
    inputs = card.inputs
    return InputSpec(inputs.set, groups, inputs.caps.model_dump(), inputs.candidate_pt, inputs.droppable, jet_types)


def _by_group(ids: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {"jet": []}
    for name in ids:
        group, _, short = name.partition("/")
        groups.setdefault(group, []).append(short)
    return groups


def _input_feature(name: str, card: Card, moments: Moments) -> InputFeature:
    feature = FEATURES[name]
    if not moments.live:
        log.warning("input %s has no two different values in the training split: it is switched off", name)
    return InputFeature(
        id=name,
        name=feature.name,
        transform=transform_of(name, card),
        mean=moments.mean if moments.live else 0.0,
        std=moments.std if moments.live else 1.0,
        default=scaled_default(moments),
        protected=feature.protected,
        integer=feature.integer,
        live=moments.live,
        low=feature.low,
        high=feature.high,
        unit=feature.unit,
        label=feature.label,
        placeholder=feature.default,
        replacement=feature.replacement,
        axis=feature.axis,
    )
