"""The networks of a job: found, loaded, named, and the reading of jets that they share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pfnano_tag.card import Card
from pfnano_tag.errors import CheckpointError, DataError
from pfnano_tag.infer.bookkeeping import Tagger, find_checkpoint, load_checkpoint
from pfnano_tag.infer.conversion import common_candidate_pt, union_of_caps, union_of_droppable, union_of_features
from pfnano_tag.infer.onnx_session import open_session
from pfnano_tag.models.device import chosen_device
from pfnano_tag.nano.allocation import keep_freed_memory
from pfnano_tag.nano.features import branches_for, has_vectors, read_jets
from pfnano_tag.nano.jets import JetTable
from pfnano_tag.nano.layouts import require_inputs
from pfnano_tag.nano.reader import Chunk, PFNanoFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Networks:
    """Networks by the name that their results carry.

    Parameters
    ----------
    taggers : dict of Tagger
        By name: the model's, with the epoch where two epochs of a model are asked for.
    """

    taggers: dict[str, Tagger]

    @property
    def features(self) -> tuple[str, ...]:
        """Identifiers of all inputs."""
        return union_of_features(tagger.inputs for tagger in self.taggers.values())

    @property
    def droppable(self) -> tuple[str, ...]:
        """Identifiers of inputs that a file may lack."""
        return union_of_droppable(tagger.inputs for tagger in self.taggers.values())

    def check(self, file: PFNanoFile) -> None:
        """Complain about everything that the networks need and the file can't give.

        Raises
        ------
        MissingBranch
            Naming features that can't be had.
        DataError
            When the jets are of another kind than those of the training, or lack constituents' four-vectors.
        """
        if not self.taggers:
            return
        who = ", ".join(self.taggers)
        specs = {name: tagger.inputs for name, tagger in self.taggers.items()}
        caps, candidate_pt = union_of_caps(list(specs.values())), common_candidate_pt(specs)
        require_inputs(file.contents, self.features, caps, candidate_pt, self.droppable, f"inputs of {who}")
        for name, tagger in self.taggers.items():
            _check_jets(name, tagger, file)

    def branches(self, file: PFNanoFile) -> set[str]:
        """Return the branches that the inputs are made from."""
        return branches_for(self.features, file.contents)

    def read(self, chunk: Chunk, jets: NDArray[np.bool_]) -> JetTable:
        """Return the table of chosen jets with the inputs of all networks.

        Parameters
        ----------
        chunk : Chunk
            Events.
        jets : ndarray of bool [jets of the chunk]
            Which jets.
        """
        specs = {name: tagger.inputs for name, tagger in self.taggers.items()}
        candidate_pt = common_candidate_pt(specs)
        return read_jets(
            chunk, self.features, jets, union_of_caps(list(specs.values())), candidate_pt, self.droppable
        )


def _check_jets(name: str, tagger: Tagger, file: PFNanoFile) -> None:
    """Refuse jets of another pile-up treatment than the training's, and files without vectors that are needed."""
    trained = tagger.inputs.jet_types
    if trained and file.jet_type not in (*trained, "unknown") and "types" not in file.jets.mix:
        raise DataError(
            f"{file.path}: its jets are {file.jet_type}, model {name!r} was trained on {', '.join(trained)}; "
            "use the other jets, or set jets.mix=[types]"
        )
    if trained and file.jet_type == "unknown":
        log.warning(
            "%s does not say what its jets are; model %r was trained on %s", file.path, name, ", ".join(trained)
        )
    groups = [group for group in tagger.inputs.groups if group != "jet" and not has_vectors(file.contents, group)]
    if tagger.module.needs_vectors and groups:
        raise DataError(
            f"{file.path}: model {name!r} needs the four-vectors of the constituents, which layout {file.layout} has "
            f"not ({', '.join(groups)}); use files with candidates, or a model without pairwise features"
        )


def load_networks(card: Card, models: Sequence[str] | None) -> Networks:
    """Load networks from checkpoints.

    Parameters
    ----------
    card : Card
        Section `models`; checkpoints are in its study folder.
    models : sequence of str or None
        `name`, `name:best`, `name:EPOCH`, `name:last` or a path; None: all of the card at best.

    Raises
    ------
    CheckpointError
        When one is missing, damaged, or can't be used together with the others or by `resources.backend`.
    MissingExtra
        When the backend is not installed.
    """
    asked = card.models_named(models)
    paths = [find_checkpoint(card, model) for model in asked]
    loaded = [load_checkpoint(path) for path in paths]
    names = [tagger.name for tagger in loaded]
    keys = [tagger.name if names.count(tagger.name) == 1 else f"{tagger.name}_{tagger.epoch}" for tagger in loaded]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise CheckpointError(f"asked for twice: {', '.join(twice)} (best or last may be the epoch that you named)")
    if card.resources.backend == "onnx":
        threads = card.resources.threads
        loaded = [replace(t, session=open_session(t, path, threads)) for t, path in zip(loaded, paths, strict=True)]
    else:
        device = chosen_device(card.resources.device)
        for tagger in loaded:
            tagger.module.to(device)
    networks = Networks(dict(zip(keys, loaded, strict=True)))
    if networks.taggers:
        common_candidate_pt({name: tagger.inputs for name, tagger in networks.taggers.items()})
    return networks


def use_resources(card: Card) -> None:
    """Let torch use the threads that the card allows, and the process keep memory for the next batch."""
    torch.set_num_threads(card.resources.threads)
    keep_freed_memory()
