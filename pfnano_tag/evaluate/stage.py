"""The evaluation as a whole: apply the networks to the test split, compute, write, draw."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.card import Card
from pfnano_tag.card.folder import bind, model_folder, prepared_path, sample_text
from pfnano_tag.card.jobs import collect_results
from pfnano_tag.card.output import write_json, write_whole
from pfnano_tag.evaluate import pictures
from pfnano_tag.evaluate.inputs import InputSurvey
from pfnano_tag.evaluate.loss import read_course
from pfnano_tag.evaluate.performance import of_networks, of_stored, stored_branches
from pfnano_tag.evaluate.properties import as_markdown, properties
from pfnano_tag.evaluate.results import Evaluated, Performances, as_json
from pfnano_tag.evaluate.scores import collect, load_taggers
from pfnano_tag.infer.bookkeeping import Tagger
from pfnano_tag.infer.conversion import union_of_features
from pfnano_tag.prepare.inputs import InputFeature
from pfnano_tag.prepare.prepared import read_prepared

log = logging.getLogger(__name__)


def folder_of(card: Card) -> Path:
    """Return the folder of the evaluation's results."""
    return card.folder / "evaluation"


def plan(card: Card, models: Sequence[str] | None = None) -> str:
    """Return what `run` would do, as text: networks, files, jets, branches beside the inputs, memory."""
    prepared = read_prepared(prepared_path(card), card)
    taggers = load_taggers(card, models, prepared.classes)
    jets = prepared.total("test")
    stored = stored_branches(card.evaluation)
    per_jet = 4 * len(prepared.classes) * len(taggers) + 4 * len(stored) + 2 * card.evaluation.replicas + 64
    features = union_of_features(tagger.inputs for tagger in taggers.values())
    return "\n".join(
        [
            f"networks: {', '.join(f'{name} (epoch {tagger.epoch})' for name, tagger in taggers.items())}",
            f"jets of the test split: {jets:,} in {len(prepared.files)} files",
            f"inputs: {', '.join(features)}",
            f"stored scores, where the files have them: {', '.join(stored) or 'none'}",
            f"memory for scores and replicas: {jets * per_jet / 1e6:.0f} MB, beside one chunk of events",
            f"writes: {folder_of(card)}",
        ]
    )


def run(card: Card, models: Sequence[str] | None = None) -> dict[str, Any]:
    """Evaluate networks on the test split.

    Parameters
    ----------
    card : Card
        The study's card.
    models : sequence of str or None
        `name` or `name:epoch`; None: all of the card at their best epoch.

    Returns
    -------
    dict
        Content of `evaluation/results.json`.

    Raises
    ------
    StudyError
        When the study is not prepared, or belongs to another card.
    CheckpointError
        When a network is not there or does not fit.
    DataError
        When the test split has no jets.
    """
    bind(card)
    collect_results(card)
    prepared = read_prepared(prepared_path(card), card)
    taggers = load_taggers(card, models, prepared.classes)
    survey = InputSurvey(_features(taggers), prepared.classes)
    scores = collect(
        card, prepared, taggers, stored_branches(card.evaluation), lambda jets: survey.add(jets.table, jets.label)
    )
    log.info("%d jets of the test split", len(scores))
    weights_RJ = scores.replica_weights(card.evaluation.replicas)
    edges = pt_edges(card)
    found = Evaluated(
        of_networks(scores, card.evaluation, edges, weights_RJ),
        of_stored(scores, card.evaluation, edges, weights_RJ),
        taggers,
        {name: read_course(model_folder(card, tagger.name)) for name, tagger in taggers.items()},
        edges,
    )
    folder = folder_of(card)
    listed = {name: properties(tagger, survey) for name, tagger in taggers.items()}
    write_json(folder / "properties.json", listed)
    with write_whole(folder / "properties.md") as temporary:
        temporary.write_text(as_markdown(listed), encoding="utf-8")
    pictures.draw(folder, sample_text(card, "train"), card.evaluation, scores, found, survey)
    results = as_json(card, prepared, scores, found)
    write_json(folder / "results.json", results)  # last: when it is there, all of it is there
    _log_table(found.networks, found.stored)
    return results


def pt_edges(card: Card) -> NDArray[np.float64]:
    """Return the bin edges in pT [GeV]: those of the reweighting, inside the acceptance of the jets."""
    low, high = card.jets.pt
    inner = [edge for edge in card.reweighting.pt_edges if low < edge < high]
    return np.array([low, *inner, high], dtype=np.float64)


def _features(taggers: Mapping[str, Tagger]) -> list[InputFeature]:
    """Return the inputs of all networks, each once, in the order of the feature table."""
    by_id = {feature.id: feature for tagger in taggers.values() for feature in tagger.inputs.features}
    return [by_id[name] for name in union_of_features(tagger.inputs for tagger in taggers.values())]


def _log_table(networks: Performances, stored: Performances) -> None:
    """Log the AUCs."""
    for name, found in {**networks, **stored}.items():
        aucs = ", ".join(
            f"{d} {p.auc.value:.4f}" + ("" if p.auc.error is None else f" ± {p.auc.error:.4f}")
            for d, p in found.items()
        )
        log.info("%s: AUC %s", name, aucs or "no discriminant has jets on both sides")
