"""Scores of networks as a friend tree, aligned with `Events`: all events kept, all jets in place."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag import __version__
from pfnano_tag.card import Card
from pfnano_tag.card.command import progress
from pfnano_tag.card.jobs import collect_results
from pfnano_tag.card.output import check_output
from pfnano_tag.errors import BadChunk, CheckpointError, Incomplete
from pfnano_tag.infer.conversion import to_inputs
from pfnano_tag.infer.discriminants import discriminant
from pfnano_tag.infer.networks import Networks, load_networks, use_resources
from pfnano_tag.infer.prediction import predict_with_regressions
from pfnano_tag.infer.regressions import regression_columns
from pfnano_tag.nano.columns import Index, Jagged, offsets_of
from pfnano_tag.nano.identity import with_events
from pfnano_tag.nano.plan import Plan
from pfnano_tag.nano.reader import Chunk, PFNanoFile, open_file
from pfnano_tag.nano.writer import friend_tree, protect_events
from pfnano_tag.prepare.cleaning import KINEMATICS, clean

log = logging.getLogger(__name__)
NO_SCORE = np.float32(-1.0)
TREE = "Friends"
SHOWN = 20
"""How many of the lost chunks the last message names."""


def run(card: Card, file: str, models: Sequence[str] | None, output: str | Path, acceptance: bool = False) -> None:
    """Write the friend tree of a file.

    Parameters
    ----------
    card : Card
        Discriminants, chunk and batch size, ranges of the jets; the file need not be in its datasets.
    file : str
        PFNano file.
    models : sequence of str or None
        As for `networks.load_networks`.
    output : str or Path
        ROOT file with the tree `Friends`.
    acceptance : bool
        Only jets in the ranges of section `jets` get scores; else all with finite pT and eta do, also where the
        networks were not trained.

    Raises
    ------
    UserError
        When file, checkpoints or output don't do; nothing is written.
    Incomplete
        After the tree is written, when chunks could not be read: their jets have no score.
    """
    check_output(output, [file])
    protect_events(output)
    use_resources(card)
    collect_results(card)
    networks = _some_networks(card, models)
    with open_file(file, card) as source:
        networks.check(source)
        source.require(KINEMATICS, "infer")
        plan = plan_of(card, networks, source)
        lost = _write(card, networks, source, plan, Path(output), acceptance)
    if lost:
        named = [str(error) for error in lost[:SHOWN]]
        more = [f"and {len(lost) - SHOWN} more"] if len(lost) > SHOWN else []
        raise Incomplete(
            f"{output}: {len(lost)} of {len(plan)} chunks have no scores (-1):\n  " + "\n  ".join([*named, *more])
        )


def plan_of(card: Card, networks: Networks, source: PFNanoFile) -> Plan:
    """Return the chunks of a file."""
    return source.plan(networks.branches(source), card.resources.chunk_bytes)


def describe(card: Card, file: str, models: Sequence[str] | None) -> str:
    """Return what a run would do: plan, branches, columns."""
    networks = _some_networks(card, models)
    with open_file(file, card) as source:
        networks.check(source)
        plan = plan_of(card, networks, source)
        branches = sorted(networks.branches(source))
        lines = [f"{file}: {source.num_entries} events in {len(plan)} chunks", f"branches: {', '.join(branches)}"]
    return "\n".join(
        [*lines, f"columns: {', '.join(f'{card.jets.collection}_{name}' for name in columns_of(card, networks))}"]
    )


def columns_of(card: Card, networks: Networks) -> tuple[str, ...]:
    """Return the names of the columns: `<model>_<node>`, `<model>_<discriminant>`, and those of regressions.

    Raises
    ------
    CheckpointError
        When a regression has the name of a discriminant, or of another column of the model.
    """
    found: list[str] = []
    for name, tagger in networks.taggers.items():
        columns = (*tagger.classes, *card.histograms.discriminants, *regression_columns(tagger.module))
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise CheckpointError(
                f"model {name!r} would have two columns {', '.join(twice)}: give its task another name "
                "(models.NAME.arguments.tasks) and train it again"
            )
        found += [f"{name}_{column}" for column in columns]
    return tuple(found)


def _some_networks(card: Card, models: Sequence[str] | None) -> Networks:
    networks = load_networks(card, models)
    if not networks.taggers:
        raise CheckpointError("no network to apply: the card's section models is empty; name a checkpoint by --model")
    return networks


def _write(
    card: Card, networks: Networks, source: PFNanoFile, plan: Plan, output: Path, acceptance: bool
) -> list[BadChunk]:
    lost: list[BadChunk] = []
    columns = columns_of(card, networks)
    scored = jets = non_finite = 0
    with friend_tree(output, TREE, card.jets.collection, columns) as writer:
        for start, stop in progress(plan, total=len(plan), description="infer", unit="chunks"):
            chunk = source.chunk(start, stop)
            try:
                offsets, scores, broken = score_chunk(card, networks, chunk, acceptance)
                non_finite += broken
            except BadChunk as error:
                lost.append(with_events(error, source))
                log.warning("lost: %s", lost[-1])
                offsets, scores = _without_scores(chunk, columns)
            writer.extend(offsets, scores)
            jets += int(offsets[-1])
            scored += int(np.count_nonzero(scores[columns[0]] != NO_SCORE)) if columns else 0
        writer.note(_provenance(card, networks, source, lost))
    if non_finite:
        log.warning("inputs of networks that were not finite and became placeholders: %d", non_finite)
    log.info("%s: %d events, %d jets, %d of them scored", output, source.num_entries, jets, scored)
    return lost


def score_chunk(
    card: Card, networks: Networks, chunk: Chunk, acceptance: bool = False
) -> tuple[Index, dict[str, NDArray[np.float32]], int]:
    """Return the offsets of the jets of a chunk, their scores, and how many inputs were not finite.

    Parameters
    ----------
    card : Card
        Sections `jets` (ranges in pT and eta), `histograms.discriminants`, `resources.batch_size`.
    networks : Networks
        Networks.
    chunk : Chunk
        Events.
    acceptance : bool
        Whether jets outside the ranges of section `jets` are left out.

    Returns
    -------
    offsets : ndarray of int64 [events + 1]
        Jets of each event.
    scores : dict of ndarray of float32 [jets]
        By column; -1 for jets left out and for discriminants that are not defined.
    non_finite : int
        Inputs that became placeholders.
    """
    chunk.load(KINEMATICS)
    pt: Jagged = chunk["Jet_pt"]
    kept = _kept(card, chunk, pt, acceptance)
    scores = {name: np.full(len(kept), NO_SCORE, dtype=np.float32) for name in columns_of(card, networks)}
    table = networks.read(chunk, kept)
    chunk.drop()
    for name, tagger in networks.taggers.items():
        flat = to_inputs(table, tagger.inputs, vectors=bool(tagger.module.needs_vectors))
        probabilities, regressions = predict_with_regressions(tagger, flat, card.resources.batch_size)
        for index, node in enumerate(tagger.classes):
            scores[f"{name}_{node}"][table.row] = probabilities[:, index]
        for which in card.histograms.discriminants:
            scores[f"{name}_{which}"][table.row] = discriminant(which, probabilities, tagger.classes)
        for column, values in regressions.items():
            scores[f"{name}_{column}"][table.row] = values
    return pt.offsets, scores, sum(table.non_finite.values())


def _kept(card: Card, chunk: Chunk, pt: Jagged, acceptance: bool) -> NDArray[np.bool_]:
    if not acceptance:
        return np.logical_and.reduce([np.isfinite(chunk[name].values) for name in KINEMATICS])
    ranges = card.jets.model_copy(update={"lepton_overlap": 0.0})
    return clean(chunk, ranges, np.ones(chunk.num_events), np.ones(len(pt.values), dtype=np.bool_)).kept


def _without_scores(chunk: Chunk, columns: Sequence[str]) -> tuple[Index, dict[str, NDArray[np.float32]]]:
    """Return -1 for all jets of a chunk; events without jets where not even their number can be read."""
    try:
        offsets = chunk["Jet_pt"].offsets
    except BadChunk as error:
        log.warning("%s: the friend tree has no jets for these events", error)
        offsets = offsets_of(np.zeros(chunk.num_events, dtype=np.int64))
    return offsets, {name: np.full(int(offsets[-1]), NO_SCORE, dtype=np.float32) for name in columns}


def _provenance(card: Card, networks: Networks, source: PFNanoFile, lost: Sequence[BadChunk]) -> dict[str, Any]:
    return {
        "format": "pfnano_tag friend tree",
        "code_version": __version__,
        "study": card.study.name,
        "card": card.hash(),
        "file": {"path": source.path, "identity": source.identity, "entries": source.num_entries},
        "models": {name: tagger.description() for name, tagger in networks.taggers.items()},
        "backend": card.resources.backend,
        "lost": [error.to_json() for error in lost],
    }
