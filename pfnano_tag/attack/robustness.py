"""Robustness: AUC against attack strength, for the networks of a study, on the same jets.

Two set-ups, which must not be confused (both are in the published study, arXiv:2203.13890):

- `white_box`: each network is attacked with its own gradient, the worst case for each;
- `common_sample`: one attacked sample, made with the gradient of one network (the source), for all of them.

Attacks without a gradient (noise, systematic shifts) make the same sample for every network: one computation
stands under both names.

Shape suffixes: J jets, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pfnano_tag.attack.registry import NEEDS_GRADIENT, make
from pfnano_tag.attack.shifts import InputShifts
from pfnano_tag.card.attacks import Attack
from pfnano_tag.errors import CheckpointError
from pfnano_tag.evaluate.auc import Auc, auc_with_replicas
from pfnano_tag.evaluate.discriminants import compared
from pfnano_tag.evaluate.roc import rank
from pfnano_tag.infer.bookkeeping import Tagger
from pfnano_tag.infer.discriminants import discriminant
from pfnano_tag.infer.prediction import Distortion, predict
from pfnano_tag.models.batch import Batch, FlatInputs

WHITE_BOX, COMMON_SAMPLE = SETUPS = ("white_box", "common_sample")
Nodes = NDArray[np.float32]


@dataclass(frozen=True, order=True)
class Variant:
    """A network under an attack: which, set up how, how strong (strength 0: the nominal inputs)."""

    model: str
    attack: str = ""
    setup: str = ""
    strength: float = 0.0


@dataclass(frozen=True)
class Campaign:
    """What is attacked, and how.

    Parameters
    ----------
    taggers : mapping of Tagger
        Networks that are evaluated.
    source_name : str
        Name of the network that the common sample is made with.
    source : Tagger
        That network; it need not be among the others.
    attacks : mapping of Attack
        Of the card.
    seed : int
        Of noise and random starts.
    """

    taggers: Mapping[str, Tagger]
    source_name: str
    source: Tagger
    attacks: Mapping[str, Attack]
    seed: int = 0

    def strengths(self, attack: str) -> tuple[float, ...]:
        """Return the strengths of an attack's scan, ascending, without 0."""
        return tuple(sorted(set(self.attacks[attack].scan) - {0.0}))

    def check(self) -> None:
        """Refuse networks that can't share an attacked sample.

        Raises
        ------
        CheckpointError
            When a network has other inputs than the source.
        """
        other = [name for name, tagger in self.taggers.items() if tagger.inputs != self.source.inputs]
        if other:
            raise CheckpointError(
                f"{', '.join(other)}: other inputs or scaling than {self.source_name}, so they can't share a sample "
                "attacked with its gradient; choose another --source, or attack them apart (--model)"
            )


def variants(campaign: Campaign) -> list[Variant]:
    """Return everything that is computed, nominal inputs first; what equals another variant is not among it."""
    found = [Variant(model) for model in campaign.taggers]
    for name, attack in campaign.attacks.items():
        for model in campaign.taggers:
            setups = [COMMON_SAMPLE]
            if attack.kind in NEEDS_GRADIENT:
                setups = [WHITE_BOX] if model == campaign.source_name else [WHITE_BOX, COMMON_SAMPLE]
            found += [Variant(model, name, s, e) for s in setups for e in campaign.strengths(name)]
    return found


def computed(campaign: Campaign, wanted: Variant) -> Variant:
    """Return the variant that a wanted one is computed as (itself, or its equal)."""
    if wanted.strength == 0:
        return Variant(wanted.model)
    if campaign.attacks[wanted.attack].kind not in NEEDS_GRADIENT:
        return Variant(wanted.model, wanted.attack, COMMON_SAMPLE, wanted.strength)
    if wanted.model == campaign.source_name:
        return Variant(wanted.model, wanted.attack, WHITE_BOX, wanted.strength)
    return wanted


def attacked_nodes(
    campaign: Campaign,
    flat: FlatInputs,
    label_J: NDArray[np.int64],
    batch_size: int,
    shifts: Mapping[str, InputShifts] | None = None,
) -> dict[Variant, Nodes]:
    """Return the output nodes of all variants for some jets.

    Parameters
    ----------
    campaign : Campaign
        What is attacked, and how.
    flat : FlatInputs
        Inputs of the jets, the same for all networks.
    label_J : ndarray of int64 [J]
        True classes, which the attacks lead away from.
    batch_size : int
        Jets at once.
    shifts : mapping of InputShifts or None
        By attack: sees the inputs of the source's attack at the largest strength.

    Returns
    -------
    dict of ndarray of float32 [J, K]
    """
    label = torch.from_numpy(label_J)
    found: dict[Variant, Nodes] = {}
    for variant in variants(campaign):
        tagger = campaign.taggers[variant.model]
        attack = None
        if variant.strength > 0:
            attack = _distortion(campaign, variant)
            survey = (shifts or {}).get(variant.attack)
            if survey is not None and _is_watched(campaign, variant):
                attack = _watched(attack, survey)
        found[variant] = predict(tagger, flat, batch_size, attack, label)
    return found


def robustness(
    nodes: Mapping[Variant, Nodes],
    discriminants: Sequence[str],
    label_J: NDArray[np.int64],
    classes: Sequence[str],
    weights_RJ: NDArray[np.uint8],
) -> dict[Variant, dict[str, Auc]]:
    """Return variant -> discriminant -> AUC with replicas; discriminants without jets on both sides are left out."""
    found: dict[Variant, dict[str, Auc]] = {variant: {} for variant in nodes}
    for name in discriminants:
        chosen, signal = compared(name, label_J, classes)
        if not signal.any() or not (chosen & ~signal).any():
            continue
        weights = np.ascontiguousarray(weights_RJ[:, chosen])
        for variant, nodes_JK in nodes.items():
            ranking = rank(discriminant(name, nodes_JK[chosen], classes), signal[chosen])
            found[variant][name] = auc_with_replicas(ranking, weights)
    return found


def flips(nominal_JK: Nodes, attacked_JK: Nodes) -> float:
    """Return the share of jets whose most probable class changes."""
    return float((nominal_JK.argmax(axis=1) != attacked_JK.argmax(axis=1)).mean())


def joined(parts: Iterable[Mapping[Variant, Nodes]]) -> dict[Variant, Nodes]:
    """Return the nodes of several parts, one part after the other."""
    listed = list(parts)
    return {variant: np.concatenate([part[variant] for part in listed]) for variant in listed[0]}


def curve_of(campaign: Campaign, model: str, attack: str, setup: str) -> Iterator[Variant]:
    """Yield the computed variants along a robustness curve, strength 0 first."""
    for strength in (0.0, *campaign.strengths(attack)):
        yield computed(campaign, Variant(model, attack, setup, strength))


def _distortion(campaign: Campaign, variant: Variant) -> Distortion:
    """Return the attack of a variant; a common sample is made with the source, whatever network looks at it."""
    attack = campaign.attacks[variant.attack]
    distort = make(attack, campaign.source.inputs, strength=variant.strength, seed=campaign.seed)
    if variant.setup == WHITE_BOX:
        return distort
    source = campaign.source.module
    return lambda _, batch: distort(source, batch)


def _is_watched(campaign: Campaign, variant: Variant) -> bool:
    """Whether this variant's inputs are looked at: the sample of the source, at the largest strength, once."""
    at = campaign.source_name if campaign.source_name in campaign.taggers else next(iter(campaign.taggers))
    strongest = campaign.strengths(variant.attack)[-1]
    return variant == computed(campaign, Variant(at, variant.attack, COMMON_SAMPLE, strongest))


def _watched(distort: Distortion, survey: InputShifts) -> Callable[[nn.Module, Batch], Batch]:
    def both(module: nn.Module, batch: Batch) -> Batch:
        attacked = distort(module, batch)
        survey.add(batch, attacked)
        return attacked

    return both
