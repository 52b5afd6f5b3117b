"""Scores event by event, as awkward arrays: for notebooks and for other programs of the Scikit-HEP family."""

from __future__ import annotations

import awkward as ak
import numpy as np

from pfnano_tag.card import Card
from pfnano_tag.infer.networks import Networks
from pfnano_tag.infer.stage import NO_SCORE, score_chunk
from pfnano_tag.nano.reader import Chunk


def infer(card: Card, networks: Networks, chunk: Chunk, acceptance: bool = False) -> ak.Array:
    """Return the scores of all jets of a chunk, in their events and in the order of the file.

    Parameters
    ----------
    card : Card
        Sections `jets` (collection; ranges in pT and eta), `histograms.discriminants`, `resources.batch_size`.
    networks : Networks
        From `load_networks`.
    chunk : Chunk
        Events, from `PFNanoFile.chunk`. What it has read is dropped.
    acceptance : bool
        Whether jets outside the ranges of section `jets` are left without scores.

    Returns
    -------
    ak.Array
        `events * var * {NAME_NODE: float32, ...}` with the columns of a friend tree: nodes, discriminants, numbers of
        regressions. -1 for jets without scores, which are in their places, so that the array goes beside `Jet_pt`.

    Raises
    ------
    BadChunk
        When something can't be read.
    MissingBranch
        When the file lacks an input; `Networks.check` says so for all of them at once.
    """
    offsets, scores, _ = score_chunk(card, networks, chunk, acceptance)
    columns = [ak.contents.NumpyArray(values) for values in scores.values()]
    record = ak.contents.RecordArray(columns, list(scores), length=int(offsets[-1]))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(np.asarray(offsets)), record))


def scored(scores: ak.Array) -> ak.Array:
    """Return which jets have scores, `events * var * bool`.

    Parameters
    ----------
    scores : ak.Array
        From `infer`, with at least one column.
    """
    return scores[scores.fields[0]] != NO_SCORE
