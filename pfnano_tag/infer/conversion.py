"""Conversion: JetTable to network inputs, the same way in training, evaluation and inference.

The numbers are made by `prepare.scaled`; here they become tensors. Networks that share a reading ask here for the
union of what they need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from pfnano_tag.errors import CheckpointError
from pfnano_tag.models.batch import FlatInputs, GroupInputs
from pfnano_tag.nano.jets import JetTable
from pfnano_tag.nano.schema import FEATURES
from pfnano_tag.prepare.inputs import InputSpec
from pfnano_tag.prepare.scaled import ScaledGroup, ScaledJets, scaled_jets


def to_inputs(table: JetTable, inputs: InputSpec, vectors: bool = True) -> FlatInputs:
    """Return the scaled inputs of all jets.

    Parameters
    ----------
    table : JetTable
        Has every feature of `inputs`; it may have more, also more constituents per jet than `inputs.caps`.
    inputs : InputSpec
        Features, their order and scaling.
    vectors : bool
        Whether to add the constituents' four-vectors [GeV].

    Returns
    -------
    FlatInputs
        float32; groups in the order of `inputs`.
    """
    return tensors_of(scaled_jets(table, inputs, vectors))


def tensors_of(jets: ScaledJets) -> FlatInputs:
    """Return scaled jets as tensors that share their memory.

    Parameters
    ----------
    jets : ScaledJets
        Any number of jets.
    """
    groups = {name: _tensors(group) for name, group in jets.groups.items()}
    return FlatInputs(torch.from_numpy(jets.jet_JF), torch.from_numpy(jets.jet_default_JF), groups)


def _tensors(group: ScaledGroup) -> GroupInputs:
    vectors = None if group.vectors_N4 is None else torch.from_numpy(group.vectors_N4)
    offsets = torch.from_numpy(group.offsets)
    return GroupInputs(torch.from_numpy(group.x_NF), torch.from_numpy(group.default_NF), offsets, vectors)


def union_of_features(specs: Iterable[InputSpec]) -> tuple[str, ...]:
    """Return the features that some network needs, in the order of the feature table.

    Parameters
    ----------
    specs : iterable of InputSpec
        Of all networks of a job.
    """
    wanted = {name for spec in specs for name in spec.ids}
    return tuple(name for name in FEATURES if name in wanted)


def union_of_droppable(specs: Iterable[InputSpec]) -> tuple[str, ...]:
    """Return the features of a union that a file may lack without harm to any network that uses them.

    Those are named as droppable, or were not live in training, in every network that has them.
    """
    listed = list(specs)
    needed = {name for spec in listed for name in spec.needed}
    return tuple(name for name in union_of_features(listed) if name not in needed)


def union_of_caps(specs: Sequence[InputSpec]) -> dict[str, int]:
    """Return the most constituents per group that some network takes; `to_inputs` truncates for the others."""
    caps: dict[str, int] = {}
    for spec in specs:
        for name, cap in spec.caps.items():
            caps[name] = max(cap, caps.get(name, 0))
    return caps


def common_candidate_pt(specs: Mapping[str, InputSpec]) -> float:
    """Return the candidates' pT threshold [GeV] of networks that share a reading.

    Parameters
    ----------
    specs : mapping
        Name of the network -> its inputs; at least one.

    Raises
    ------
    CheckpointError
        When they differ: counts of candidates would mean different things.
    """
    thresholds = {name: spec.candidate_pt for name, spec in specs.items()}
    if len(set(thresholds.values())) != 1:
        listed = ", ".join(f"{name} {value:g} GeV" for name, value in thresholds.items())
        raise CheckpointError(
            f"the models were trained with different inputs.candidate_pt ({listed}): run them apart"
        )
    return next(iter(thresholds.values()))
