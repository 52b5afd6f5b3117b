"""Reading the training and validation jets of a study into memory, once for all networks."""

from __future__ import annotations

import os

import torch

from pfnano_tag.card.card import Card
from pfnano_tag.card.command import progress
from pfnano_tag.errors import DataError, Incomplete
from pfnano_tag.infer.conversion import to_inputs
from pfnano_tag.prepare.prepared import Prepared
from pfnano_tag.prepare.sample import LabelledJets, training_jets
from pfnano_tag.prepare.splitting import SPLITS
from pfnano_tag.train.dataloader import LabelledInputs
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.weight_lookup import weight_column

USED = ("train", "validation")
GB = 1e9

PROGRAM = 0.6 * GB
"""Libraries, a chunk of a file, activations and optimiser of a network of two million parameters."""

VALUE, VECTOR, JET = 4 + 1, 16, 8 + 4 + 3 * 8
"""Bytes of a feature's value and placeholder flag, of a four-vector, of a jet's label, weight and offsets."""


def bytes_in_memory(prepared: Prepared) -> int:
    """Memory that the jets of the training take, from the counts of the preparation.

    While the parts of all chunks are joined they are there twice.
    """
    jets = sum(prepared.total(split) for split in USED)
    kept = sum(prepared.total(split) for split in SPLITS)
    if not kept:
        return 0
    per_jet = float(JET)
    for group, features in prepared.inputs.groups.items():
        entries = max((prepared.defaults[f.id].entries for f in features if f.id in prepared.defaults), default=0)
        size = VALUE * len(features) + (0 if group == "jet" else VECTOR)
        per_jet += entries / kept * size
    return round(2 * jets * per_jet)


def check_memory(card: Card, prepared: Prepared) -> None:
    """Refuse a sample that does not fit into memory, before anything is read.

    Raises
    ------
    DataError
        With what is needed, what is allowed, and what to do.
    """
    needed = PROGRAM + bytes_in_memory(prepared)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = min(card.resources.memory * GB, machine)
    if needed <= allowed:
        return
    jets = sum(prepared.total(split) for split in USED)
    advice = (
        f"raise resources.memory to {needed / GB:.1f} or more"
        if needed <= machine
        else f"name fewer files, as this machine has {machine / GB:.1f} GB"
    )
    raise DataError(
        f"training on {jets} jets needs about {needed / GB:.1f} GB of memory, resources.memory allows "
        f"{card.resources.memory:g} GB; {advice}"
    )


def load_jets(card: Card, prepared: Prepared, interruption: Interruption) -> tuple[LabelledInputs, LabelledInputs]:
    """Read, convert and weight all jets of the training and the validation split.

    Raises
    ------
    DataError
        When a split has no jets.
    Incomplete
        When asked to stop.
    """
    parts: dict[str, list[LabelledInputs]] = {name: [] for name in USED}
    chunks = sum(len(record.chunks) for record in prepared.files)
    for jets in progress(training_jets(card, prepared, USED), total=chunks, description="reading", unit="chunks"):
        if interruption.asked:
            raise Incomplete("stopped while reading the training jets; nothing was trained, run again")
        for name, part in _split(jets, prepared).items():
            parts[name].append(part)
    for name in USED:
        if not any(len(part) for part in parts[name]):
            raise DataError(f"the {name} split has no jets: name more files, or enlarge it in splitting.fractions")
    training = LabelledInputs.concatenate(parts.pop("train"))
    return training, LabelledInputs.concatenate(parts.pop("validation"))


def _split(jets: LabelledJets, prepared: Prepared) -> dict[str, LabelledInputs]:
    flat = to_inputs(jets.table, prepared.inputs)
    label = torch.from_numpy(jets.label)
    weight = weight_column(prepared.weights, jets.table, jets.label)
    chosen = {name: torch.from_numpy(jets.split == SPLITS.index(name)) for name in USED}
    return {name: LabelledInputs(flat.select(mask), label[mask], weight[mask]) for name, mask in chosen.items()}
