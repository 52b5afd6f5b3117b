"""Scaled inputs: a JetTable becomes the matrices that a network sees, the same way in training and everywhere else.

Values are float32 and stay so: transformed, shifted by the mean and divided by the standard deviation in float32.
A placeholder becomes the feature's scaled default; a feature that was not live in training is 0 and counts as a
placeholder everywhere, so that neither data nor an attack can move what the network never learned to read.

Shape suffixes: J jets, N constituents of all jets, F features, 4 four-vector components (px, py, pz, E).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.columns import Index, offsets_of, rank_in_list
from pfnano_tag.nano.jets import VECTOR, ConstituentTable, JetTable
from pfnano_tag.nano.schema import transformed
from pfnano_tag.prepare.inputs import InputFeature, InputSpec

BLOCK = 1 << 13
"""Rows converted at once: a block of all columns stays in the cache while it is transposed."""


@dataclass(frozen=True)
class ScaledGroup:
    """One constituent group of all jets.

    Parameters
    ----------
    x_NF : ndarray of float32
        Transformed and scaled features.
    default_NF : ndarray of bool
        True where a value is a placeholder.
    offsets : ndarray of int64 [J + 1]
        Jet j owns rows `offsets[j]` to `offsets[j + 1]`.
    vectors_N4 : ndarray of float32, or None
        Four-vectors [GeV].
    """

    x_NF: NDArray[np.float32]
    default_NF: NDArray[np.bool_]
    offsets: Index
    vectors_N4: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class ScaledJets:
    """Inputs of many jets: a matrix of jet features and flat constituent groups.

    Parameters
    ----------
    jet_JF : ndarray of float32
        Jet features, transformed and scaled.
    jet_default_JF : ndarray of bool
        True where a jet feature is a placeholder.
    groups : dict of ScaledGroup
        In the order of the input specification.
    """

    jet_JF: NDArray[np.float32]
    jet_default_JF: NDArray[np.bool_]
    groups: dict[str, ScaledGroup]

    def __len__(self) -> int:
        return len(self.jet_JF)


Matrices = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32] | None]
Allocate = Callable[[str, int, int, bool], Matrices]
"""From a group, rows, features, and whether there are four-vectors, to x, default and vectors."""


def separate_arrays(group: str, rows: int, features: int, vectors: bool) -> Matrices:
    """Return uninitialised matrices of a group, each contiguous."""
    x_NF, default_NF = np.empty((rows, features), dtype=np.float32), np.empty((rows, features), dtype=np.bool_)
    return x_NF, default_NF, np.empty((rows, len(VECTOR)), dtype=np.float32) if vectors else None


def scaled_jets(
    table: JetTable, inputs: InputSpec, vectors: bool = True, allocate: Allocate = separate_arrays
) -> ScaledJets:
    """Return the scaled inputs of all jets.

    Parameters
    ----------
    table : JetTable
        Has every feature of `inputs`; it may have more, also more constituents per jet than `inputs.caps`.
    inputs : InputSpec
        Features, their order and scaling.
    vectors : bool
        Whether to add the constituents' four-vectors [GeV], for groups that have them.
    allocate : callable
        Gives the matrices to fill, for callers that have a place for them.

    Returns
    -------
    ScaledJets
        Groups in the order of `inputs`.
    """
    groups = {
        name: _group(table, name, features, inputs.caps[name], vectors, allocate)
        for name, features in inputs.groups.items()
        if name != "jet"
    }
    features = inputs.groups.get("jet", ())
    jet_JF, jet_default_JF, _ = allocate("jet", len(table), len(features), False)
    _scale(table, features, None, jet_JF, jet_default_JF)
    return ScaledJets(jet_JF, jet_default_JF, groups)


def _group(
    table: JetTable,
    name: str,
    features: Sequence[InputFeature],
    cap: int,
    vectors: bool,
    allocate: Allocate,
) -> ScaledGroup:
    group = table.groups[name]
    rows, offsets = truncated(group, cap)
    has_vectors = vectors and VECTOR[0] in group.columns
    x_NF, default_NF, vectors_N4 = allocate(name, int(offsets[-1]), len(features), has_vectors)
    _scale(table, features, rows, x_NF, default_NF)
    if vectors_N4 is not None:
        for i, component in enumerate(VECTOR):
            column = group.columns[component]
            vectors_N4[:, i] = column if rows is None else column[rows]
    return ScaledGroup(x_NF, default_NF, offsets, vectors_N4)


def truncated(group: ConstituentTable, cap: int) -> tuple[Index | None, Index]:
    """Return the rows (None: all) and offsets of each jet's first `cap` constituents."""
    counts = group.counts
    if not (counts > cap).any():
        return None, group.offsets
    return np.flatnonzero(rank_in_list(group.offsets) < cap), offsets_of(np.minimum(counts, cap))


def _scale(
    table: JetTable,
    features: Sequence[InputFeature],
    rows: Index | None,
    x_NF: NDArray[np.float32],
    default_NF: NDArray[np.bool_],
) -> None:
    """Fill scaled values and placeholders of chosen rows (None: all)."""
    length = len(x_NF)
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        chosen = slice(start, stop) if rows is None else rows[start:stop]
        default_NF[start:stop] = False
        for i, feature in enumerate(features):
            _fill(table, feature, chosen, x_NF[start:stop, i], default_NF[start:stop, i])


def _fill(
    table: JetTable,
    feature: InputFeature,
    rows: slice | Index,
    x: NDArray[np.float32],
    default: NDArray[np.bool_],
) -> None:
    """Fill one column of a block."""
    if not feature.live:
        x[:] = 0
        default[:] = True
        return
    values = transformed(table.column(feature.id)[rows], feature.transform) - np.float32(feature.mean)
    values /= np.float32(feature.std)
    if feature.id in table.default:
        placeholder = table.default[feature.id][rows]
        np.copyto(values, np.float32(feature.default), where=placeholder)
        default[:] = placeholder
    x[:] = values
