"""Conversion: JetTable to network inputs, the same way in training, evaluation and inference.

Values are float32 and stay so: transformed, shifted by the mean and divided by the standard deviation in float32.
A placeholder becomes the feature's scaled default; a feature that was not live in training is 0 and counts as a
placeholder everywhere, so that neither data nor an attack can move what the network never learned to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pfnano_tag.errors import CheckpointError
from pfnano_tag.models.batch import FlatInputs, GroupInputs
from pfnano_tag.nano.columns import offsets_of, rank_in_list
from pfnano_tag.nano.jets import VECTOR, ConstituentTable, JetTable
from pfnano_tag.nano.schema import FEATURES, transformed
from pfnano_tag.prepare.inputs import InputFeature, InputSpec

BLOCK = 1 << 14
"""Rows converted at once: a block of all columns stays in the cache while it is transposed."""


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
    groups = {
        name: _group(table, table.groups[name], features, inputs.caps[name], vectors)
        for name, features in inputs.groups.items()
        if name != "jet"
    }
    jet_JF, jet_default_JF = _matrix(table, inputs.groups.get("jet", ()), None, len(table))
    return FlatInputs(jet_JF, jet_default_JF, groups)


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


def _group(
    table: JetTable, group: ConstituentTable, features: Sequence[InputFeature], cap: int, vectors: bool
) -> GroupInputs:
    rows, offsets = _truncated(group, cap)
    x_NF, default_NF = _matrix(table, features, rows, int(offsets[-1]))
    vectors_N4 = None
    if vectors:
        columns = [group.columns[name] for name in VECTOR]
        chosen = columns if rows is None else [column[rows] for column in columns]
        vectors_N4 = torch.from_numpy(np.stack(chosen, axis=1))
    return GroupInputs(x_NF, default_NF, torch.from_numpy(offsets), vectors_N4)


def _truncated(group: ConstituentTable, cap: int) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """Return the rows (None: all) and offsets of each jet's first `cap` constituents."""
    counts = group.counts
    if not (counts > cap).any():
        return None, group.offsets
    return np.flatnonzero(rank_in_list(group.offsets) < cap), offsets_of(np.minimum(counts, cap))


def _matrix(
    table: JetTable, features: Sequence[InputFeature], rows: NDArray[np.int64] | None, length: int
) -> tuple[Tensor, Tensor]:
    """Return scaled values (float32) and placeholders (bool), both [length, features]."""
    x_NF = np.empty((length, len(features)), dtype=np.float32)
    default_NF = np.zeros((length, len(features)), dtype=np.bool_)
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        chosen = slice(start, stop) if rows is None else rows[start:stop]
        for i, feature in enumerate(features):
            _fill(table, feature, chosen, x_NF[start:stop, i], default_NF[start:stop, i])
    return torch.from_numpy(x_NF), torch.from_numpy(default_NF)


def _fill(
    table: JetTable,
    feature: InputFeature,
    rows: slice | NDArray[np.int64],
    x: NDArray[np.float32],
    default: NDArray[np.bool_],
) -> None:
    """Fill one column of a block."""
    if not feature.live:
        x[:] = 0
        default[:] = True
        return
    values = transformed(table.column(feature.id)[rows], feature.transform)
    np.subtract(values, np.float32(feature.mean), out=x)
    np.divide(x, np.float32(feature.std), out=x)
    if feature.id in table.default:
        default[:] = table.default[feature.id][rows]
        x[default] = feature.default
