"""The robustness study as a whole: attack the test split, evaluate, write, draw.

Keys of `attacks/results.json`: `models` (per network and attack: `white_box` and `common_sample`, each with `auc` as
discriminant -> [value, error] per strength, `flips` and `accuracy` per strength), `attacks` (kind and strengths, 0
first), `source` (whose gradient made the common sample), `differences` of networks, and `input_shifts`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pfnano_tag.attack import pictures
from pfnano_tag.attack.registry import NEEDS_GRADIENT
from pfnano_tag.attack.robustness import (
    SETUPS,
    Campaign,
    Nodes,
    Variant,
    attacked_nodes,
    curve_of,
    flips,
    joined,
    robustness,
    variants,
)
from pfnano_tag.attack.shifts import InputShifts
from pfnano_tag.card.card import Card
from pfnano_tag.card.folder import bind, prepared_path, sample_text
from pfnano_tag.card.jobs import collect_results
from pfnano_tag.card.output import write_json
from pfnano_tag.errors import CardError, DataError
from pfnano_tag.evaluate.auc import Auc, differences
from pfnano_tag.evaluate.bootstrap import replica_weights
from pfnano_tag.evaluate.confusion import accuracy
from pfnano_tag.evaluate.scores import chunks_of_test_jets, load_taggers
from pfnano_tag.infer.bookkeeping import Tagger
from pfnano_tag.infer.networks import use_resources
from pfnano_tag.prepare.prepared import Prepared, read_prepared
from pfnano_tag.prepare.splitting import mixed, uniform

log = logging.getLogger(__name__)

# Which events are taken when not all are asked for: a word of its own, independent of split and bootstrap.
_WORD = np.uint64(0xA77AC4ED)


@dataclass(frozen=True)
class Attacked:
    """Test jets and what the networks say of them under each variant."""

    label_J: NDArray[np.int64]
    event_id_J: NDArray[np.uint64]
    nodes: dict[Variant, Nodes]
    shifts: dict[str, InputShifts]


def folder_of(card: Card) -> Path:
    """Return the folder of the results."""
    return card.folder / "attacks"


def plan(card: Card, models: Sequence[str] | None = None, source: str | None = None, jets: int | None = None) -> str:
    """Return what `run` would do, as text."""
    prepared = read_prepared(prepared_path(card), card)
    campaign = campaign_of(card, prepared, models, source)
    count = prepared.total("test") if jets is None else min(jets, prepared.total("test"))
    evaluated = variants(campaign)
    per_jet = 4 * len(prepared.classes) * len(evaluated) + card.evaluation.replicas
    scans = "; ".join(
        f"{name} ({attack.kind}) at {', '.join(f'{e:g}' for e in campaign.strengths(name))}"
        for name, attack in card.attacks.items()
    )
    return "\n".join(
        [
            f"networks: {', '.join(f'{name} (epoch {tagger.epoch})' for name, tagger in campaign.taggers.items())}",
            f"attacks: {scans}; the common sample is made with {campaign.source_name}",
            f"jets: about {count:,} of the {prepared.total('test'):,} of the test split",
            f"{len(evaluated)} passes over them, one per network, attack, set-up and strength",
            f"memory for scores: {count * per_jet / 1e6:.0f} MB, beside one chunk of events",
            f"writes: {folder_of(card)}",
        ]
    )


def run(
    card: Card, models: Sequence[str] | None = None, source: str | None = None, jets: int | None = None
) -> dict[str, Any]:
    """Measure the robustness of networks on the test split.

    Parameters
    ----------
    card : Card
        The study's card; section `attacks` says which attacks and strengths.
    models : sequence of str or None
        `name` or `name:epoch`; None: all of the card at their best epoch.
    source : str or None
        Network whose gradient makes the common sample; None: the first that was trained without an attack.
    jets : int or None
        About how many jets to take (whole events, chosen by their identity); None: all.

    Returns
    -------
    dict
        Content of `attacks/results.json`.

    Raises
    ------
    CardError
        When the card has no attacks.
    CheckpointError
        When a network is not there, or has other inputs than the source.
    DataError
        When there are no jets.
    """
    bind(card)
    collect_results(card)
    prepared = read_prepared(prepared_path(card), card)
    campaign = campaign_of(card, prepared, models, source)
    attacked = _attack(card, prepared, campaign, jets)
    log.info("%d jets, %d variants", len(attacked.label_J), len(attacked.nodes))
    weights_RJ = replica_weights(attacked.event_id_J, card.evaluation.replicas)
    aucs = robustness(attacked.nodes, card.evaluation.discriminants, attacked.label_J, prepared.classes, weights_RJ)
    results = _results(card, prepared, campaign, attacked, aucs)
    pictures.draw(folder_of(card), sample_text(card, "train"), results, attacked.shifts)
    write_json(folder_of(card) / "results.json", results)  # last: when it is there, all of it is there
    _log_table(results)
    return results


def campaign_of(card: Card, prepared: Prepared, models: Sequence[str] | None, source: str | None) -> Campaign:
    """Load the networks and choose the source of the common sample; see `run`."""
    if not any(any(strength > 0 for strength in attack.scan) for attack in card.attacks.values()):
        raise CardError("attacks: no attack with a strength above 0 in its scan, so there is nothing to do")
    attacks = {name: attack for name, attack in card.attacks.items() if any(e > 0 for e in attack.scan)}
    taggers = load_taggers(card, models, prepared.classes)
    if source is None:
        name = next(
            (name for name, tagger in taggers.items() if not tagger.training.get("attack")), next(iter(taggers))
        )
        maker = taggers[name]
    else:
        ((name, maker),) = load_taggers(card, [source], prepared.classes).items()
    campaign = Campaign(taggers, name, maker, attacks, card.study.seed)
    campaign.check()
    return campaign


def _attack(card: Card, prepared: Prepared, campaign: Campaign, jets: int | None) -> Attacked:
    """Attack the test split chunk by chunk."""
    use_resources(card)
    total = prepared.total("test")
    share = 1.0 if jets is None or total == 0 else min(1.0, jets / total)
    shifts = {name: InputShifts(campaign.source.inputs) for name in campaign.attacks}
    labels, events, nodes = [], [], []
    taggers: dict[str, Tagger] = {campaign.source_name: campaign.source}  # all have the same inputs
    vectors = any(tagger.module.needs_vectors for tagger in campaign.taggers.values())
    for labelled, flats in chunks_of_test_jets(card, prepared, taggers, vectors=vectors):
        taken = np.flatnonzero(_taken(labelled.event_id, share))
        if len(taken):
            flat = flats[campaign.source_name].select(torch.from_numpy(taken))
            label = labelled.label[taken]
            nodes.append(attacked_nodes(campaign, flat, label, card.resources.batch_size, shifts))
            labels.append(label)
            events.append(labelled.event_id[taken])
    if not labels:
        raise DataError("no jets to attack: the test split is empty, or --jets is too small")
    return Attacked(np.concatenate(labels), np.concatenate(events), joined(nodes), shifts)


def _taken(event_id: NDArray[np.uint64], share: float) -> NDArray[np.bool_]:
    if share >= 1:
        return np.ones(len(event_id), dtype=np.bool_)
    return uniform(mixed(event_id ^ _WORD)) < share


def _results(
    card: Card, prepared: Prepared, campaign: Campaign, attacked: Attacked, aucs: Mapping[Variant, dict[str, Auc]]
) -> dict[str, Any]:
    names = [name for name in card.evaluation.discriminants if all(name in found for found in aucs.values())]
    return {
        "study": card.study.name,
        "card": card.hash(),
        "split": "test",
        "complete": prepared.complete,
        "jets": len(attacked.label_J),
        "jets_of_split": prepared.total("test"),
        "replicas": card.evaluation.replicas,
        "discriminants": names,
        "source": campaign.source_name,
        "attacks": {
            name: {
                **attack.model_dump(mode="json", exclude={"scan", "epsilon"}),
                "needs_gradient": attack.kind in NEEDS_GRADIENT,
                "strengths": [0.0, *campaign.strengths(name)],
            }
            for name, attack in campaign.attacks.items()
        },
        "models": {
            model: {
                "epoch": tagger.epoch,
                "hash": tagger.hash,
                "trained_with": tagger.training.get("attack"),
                "attacks": {
                    name: {setup: _along(campaign, (model, name, setup), attacked, aucs, names) for setup in SETUPS}
                    for name in campaign.attacks
                },
            }
            for model, tagger in campaign.taggers.items()
        },
        "differences": {
            name: {setup: _differences(campaign, name, setup, aucs) for setup in SETUPS} for name in campaign.attacks
        },
        "input_shifts": {
            name: {"strength": campaign.strengths(name)[-1], "features": _shifts(survey)}
            for name, survey in attacked.shifts.items()
        },
    }


def _along(
    campaign: Campaign,
    which: tuple[str, str, str],
    attacked: Attacked,
    aucs: Mapping[Variant, Mapping[str, Auc]],
    names: Sequence[str],
) -> dict[str, Any]:
    """Return what changes along a curve of rising strength, 0 first."""
    curve = list(curve_of(campaign, *which))
    nominal = attacked.nodes[curve[0]]
    return {
        "auc": {name: [[aucs[v][name].value, aucs[v][name].error] for v in curve] for name in names},
        "flips": [flips(nominal, attacked.nodes[v]) for v in curve],
        "accuracy": [accuracy(attacked.nodes[v], attacked.label_J) for v in curve],
    }


def _differences(
    campaign: Campaign, attack: str, setup: str, aucs: Mapping[Variant, Mapping[str, Auc]]
) -> dict[str, dict[str, list[Any]]]:
    """Return "first - second" -> discriminant -> [difference, error] per strength."""
    curves = {model: list(curve_of(campaign, model, attack, setup)) for model in campaign.taggers}
    found: dict[str, dict[str, list[Any]]] = {}
    for place in range(1 + len(campaign.strengths(attack))):
        here = differences({model: aucs[curve[place]] for model, curve in curves.items()})
        for pair, by_name in here.items():
            for name, value in by_name.items():
                found.setdefault(pair, {}).setdefault(name, []).append(value)
    return found


def _shifts(survey: InputShifts) -> dict[str, dict[str, float]]:
    """Return per input how far it was moved (scaled units), how often, and how much its distribution changed."""
    return {
        name: {
            "mean_shift": shift.total / shift.values if shift.values else 0.0,
            "moved_share": shift.moved / shift.values if shift.values else 0.0,
            "distance": shift.distance,
        }
        for name, shift in survey.shifts.items()
    }


def _log_table(results: Mapping[str, Any]) -> None:
    """Log the AUCs of the first discriminant against strength."""
    for name in results["discriminants"][:1]:
        for attack, about in results["attacks"].items():
            for model, found in results["models"].items():
                values = [f"{value:.4f}" for value, _ in found["attacks"][attack]["white_box"]["auc"][name]]
                strengths = ", ".join(f"{e:g}: {v}" for e, v in zip(about["strengths"], values, strict=True))
                log.info("%s under %s, AUC %s by strength: %s", model, attack, name, strengths)
