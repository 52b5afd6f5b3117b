"""Scores of all networks for the jets of the test split, collected chunk by chunk.

Shape suffixes: J jets, K classes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.card import Card
from pfnano_tag.card.command import progress
from pfnano_tag.errors import CheckpointError, DataError
from pfnano_tag.evaluate.bootstrap import replica_weights
from pfnano_tag.infer.bookkeeping import Tagger, find_checkpoint, load_checkpoint
from pfnano_tag.infer.conversion import common_candidate_pt, to_inputs, union_of_features
from pfnano_tag.infer.networks import use_resources
from pfnano_tag.infer.prediction import predict
from pfnano_tag.models.batch import FlatInputs
from pfnano_tag.models.device import chosen_device
from pfnano_tag.prepare.prepared import Prepared
from pfnano_tag.prepare.sample import LabelledJets, training_jets

log = logging.getLogger(__name__)

KINEMATICS = ("jet/pt", "jet/eta")


@dataclass(frozen=True)
class Scores:
    """Test jets with what every network says of them.

    Parameters
    ----------
    classes : tuple of str
        Flavour classes, the order of labels and nodes.
    label_J : ndarray of int64 [J]
        Index of the true class.
    event_id_J : ndarray of uint64 [J]
        Hash of the event.
    pt_J : ndarray of float32 [J]
        Transverse momentum [GeV].
    probabilities : dict of ndarray of float32 [J, K]
        Network -> output nodes.
    stored : dict of ndarray of float32 [J]
        Branch -> score that was stored in the files.
    """

    classes: tuple[str, ...]
    label_J: NDArray[np.int64]
    event_id_J: NDArray[np.uint64]
    pt_J: NDArray[np.float32]
    probabilities: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    stored: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label_J)

    def replica_weights(self, replicas: int) -> NDArray[np.uint8]:
        """Return bootstrap weights [R, J] of the jets, by event."""
        return replica_weights(self.event_id_J, replicas)


def load_taggers(card: Card, models: Sequence[str] | None, classes: Sequence[str]) -> dict[str, Tagger]:
    """Load the networks that are asked for.

    Parameters
    ----------
    card : Card
        Names the study's folder and its models.
    models : sequence of str or None
        `name` of a model or a scan, `name:epoch`, `name:best`, or a path; None: all of the card at their best epoch.
    classes : sequence of str
        Classes of the study, which the networks must have.

    Returns
    -------
    dict of Tagger
        By name; `name_epoch` where another epoch than the best is asked for.

    Raises
    ------
    CheckpointError
        When there is no such checkpoint, it has other classes, another network has the same name, or the networks
        were trained with different thresholds on candidates.
    """
    taggers: dict[str, Tagger] = {}
    for asked in card.models_named(models):
        path = find_checkpoint(card, asked)
        tagger = load_checkpoint(path)
        if tuple(tagger.classes) != tuple(classes):
            raise CheckpointError(
                f"{path}: its classes are {', '.join(tagger.classes)}, the study's are {', '.join(classes)}"
            )
        which = "" if asked.endswith(".json") else asked.partition(":")[2]
        name = tagger.name if which in ("", "best") else f"{tagger.name}_{tagger.epoch}"
        if name in taggers:
            raise CheckpointError(f"{path}: two networks are called {name!r}; name each once")
        tagger.module.to(chosen_device(card.resources.device))
        taggers[name] = tagger
    if not taggers:
        raise CheckpointError("the card names no models: add some to section `models`, train them, or use --model")
    common_candidate_pt({name: tagger.inputs for name, tagger in taggers.items()})
    return taggers


def chunks_of_test_jets(
    card: Card,
    prepared: Prepared,
    taggers: Mapping[str, Tagger],
    stored: Sequence[str] = (),
    vectors: bool | None = None,
) -> Iterator[tuple[LabelledJets, dict[str, FlatInputs]]]:
    """Yield the jets of the test split with the inputs of every network; equal specifications share one conversion.

    Parameters
    ----------
    card : Card
        The study's card.
    prepared : Prepared
        Files, chunks, classes.
    taggers : mapping of Tagger
        The networks.
    stored : sequence of str
        Further jet branches to read.
    vectors : bool or None
        Whether the inputs hold four-vectors; None: where one of the networks needs them.

    Yields
    ------
    jets : LabelledJets
        Jets of a chunk, at least one.
    flat : dict of FlatInputs
        By network.
    """
    ids = union_of_features(tagger.inputs for tagger in taggers.values())
    features = (*(name for name in KINEMATICS if name not in ids), *ids)
    if vectors is None:
        vectors = any(tagger.module.needs_vectors for tagger in taggers.values())
    chunks = sum(len(record.chunks) for record in prepared.files)
    jets = training_jets(card, prepared, ("test",), features, stored=stored)
    for labelled in progress(jets, chunks, "test split", "chunks"):
        if len(labelled):
            yield labelled, _converted(labelled, taggers, vectors)


def collect(
    card: Card,
    prepared: Prepared,
    taggers: Mapping[str, Tagger],
    stored: Sequence[str] = (),
    watch: Callable[[LabelledJets], None] | None = None,
) -> Scores:
    """Apply all networks to the jets of the test split.

    Parameters
    ----------
    card, prepared, taggers, stored
        As in `chunks_of_test_jets`.
    watch : callable or None
        Sees the jets of every chunk (a survey of inputs).

    Returns
    -------
    Scores

    Raises
    ------
    DataError
        When the test split has no jets.
    """
    use_resources(card)
    parts: list[Scores] = []
    for labelled, flat in chunks_of_test_jets(card, prepared, taggers, stored):
        if watch is not None:
            watch(labelled)
        nodes = {name: predict(t, flat[name], card.resources.batch_size) for name, t in taggers.items()}
        pt_J = labelled.table.jet["pt"]
        parts.append(Scores(prepared.classes, labelled.label, labelled.event_id, pt_J, nodes, dict(labelled.stored)))
    return joined(parts)


def joined(parts: Sequence[Scores]) -> Scores:
    """Return the jets of several parts; a stored score that some part lacks is left out, and said to be."""
    if not parts:
        raise DataError("the test split has no jets: more events, or a larger third part of splitting.fractions")
    everywhere = set.intersection(*(set(part.stored) for part in parts))
    for branch in sorted(set().union(*(part.stored for part in parts)) - everywhere):
        log.warning("%s is stored in some files only and is left out", branch)
    return Scores(
        parts[0].classes,
        np.concatenate([part.label_J for part in parts]),
        np.concatenate([part.event_id_J for part in parts]),
        np.concatenate([part.pt_J for part in parts]),
        {name: np.concatenate([part.probabilities[name] for part in parts]) for name in parts[0].probabilities},
        {
            name: np.concatenate([part.stored[name] for part in parts])
            for name in parts[0].stored
            if name in everywhere
        },
    )


def _converted(labelled: LabelledJets, taggers: Mapping[str, Tagger], vectors: bool) -> dict[str, FlatInputs]:
    """Return the inputs of every network; networks with equal specifications get the same object."""
    flats: dict[str, FlatInputs] = {}
    for name, tagger in taggers.items():
        twin = next((other for other in flats if taggers[other].inputs == tagger.inputs), None)
        flats[name] = flats[twin] if twin else to_inputs(labelled.table, tagger.inputs, vectors)
    return flats
