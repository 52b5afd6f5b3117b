"""Constituents of the flat DeepJet layout: a branch per feature and slot, ordered, truncated and clipped already.

Names and padding: cms-jet/PFNano and cms-sw/cmssw, plugins/DeepJetTableProducer.cc. The numbers of candidates in the
file count also those behind the last slot. Four-vectors of constituents are not in this layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.candidates import Content
from pfnano_tag.nano.columns import Index, Jagged, list_of_row, offsets_of
from pfnano_tag.nano.layouts import Status
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.schema import Feature
from pfnano_tag.nano.selection import aligned

COUNTS = {"charged": "Jet_DeepJet_nCpfcand", "neutral": "Jet_DeepJet_nNpfcand", "sv": "Jet_DeepJet_nsv"}
"""Number of constituents of each jet, before truncation."""

CHI2 = "Cpfcan_chi2"


def event_of(chunk: Chunk, row: Index) -> Index:
    """Return the event of each chosen jet."""
    return list_of_row(chunk["Jet_pt"].offsets)[row]


def read(
    chunk: Chunk, row: Index, group: str, features: Sequence[Feature], status: Mapping[str, Status], cap: int
) -> Content:
    """Return one group's constituents, truncated.

    Parameters
    ----------
    chunk : Chunk
        Events.
    row : ndarray of int64 [jets]
        Chosen jets, rows of the chunk's flat collection.
    group : str
        `charged`, `neutral` or `sv`.
    features : sequence of Feature
        Of that group.
    status : mapping
        How each can be had.
    cap : int
        Constituents kept per jet.

    Returns
    -------
    Content
        Without four-vectors. A candidate has no track where its chi2 is negative, and no vertex nearby where
        `drminsv` is 0.

    Raises
    ------
    BadChunk
        When a number of constituents is negative, or branches have different lengths.
    """
    count = aligned(chunk, COUNTS[group], chunk["Jet_pt"])[row].astype(np.int64)
    if (count < 0).any():
        raise chunk.bad(f"{COUNTS[group]} is {count.min()} for a jet; numbers of constituents can't be negative")
    offsets = offsets_of(np.minimum(count, cap))
    filled = np.arange(cap) < count[:, None]
    slots = chunk.file.contents.slots
    columns = {f.flat: _flat(chunk, slots[f.flat][:cap], row, filled) for f in features if status[f.id] != "missing"}
    values = [(f, columns.get(f.flat, np.full(offsets[-1], f.default, dtype=np.float32))) for f in features]
    absent = {}
    if group == "charged" and CHI2 in slots:
        chi2 = columns.get(CHI2)
        absent["track"] = (_flat(chunk, slots[CHI2][:cap], row, filled) if chi2 is None else chi2) < 0
    for feature in features:
        if feature.needs == "vertex" and feature.flat in columns:
            absent["vertex"] = columns[feature.flat] >= 0
    return Content(values, {}, offsets, absent)


def _flat(chunk: Chunk, branches: Sequence[str], row: Index, filled: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the filled slots of a feature, jet after jet."""
    padded = np.empty(filled.shape, dtype=np.float32)
    jets: Jagged = chunk["Jet_pt"]
    for slot, name in enumerate(branches):
        padded[:, slot] = aligned(chunk, name, jets)[row]
    return padded[filled]
