"""Resampling: the jets of an epoch are drawn by weight, as an alternative to weights in the loss.

A jet of weight q (its weight, or its class's share) is drawn mu = c q times on average; c follows from the number of
jets per epoch, which is fixed, and so is the number of steps. Two ways:

- without replacement a jet is kept with probability p = min(1, mu): rejection, each jet at most once;
- with replacement it comes in k copies, k from the Poisson distribution of mean mu.

What drawing can't do stays as weight in the loss: max(1, mu) of a jet that is kept for certain, and with `balanced`
the jet's weight over the mean of its class. So E[copies x loss weight] is proportional to the target for every jet.

The number of jets that is drawn fluctuates. An epoch ends when it has its number of jets; when the last chunk does
not bring it there, it goes through its chunks again, with draws of their own: without replacement those jets whose
random number lies in [p, 2p), so that no jet comes twice (jets with p > 1/2 are rarer there: a shift of the target
below 1 / sqrt(jets per epoch)). A draw depends on the seed, the epoch and the jet's place
in its chunk, not on who reads it, or when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pfnano_tag.card.resampling import Resampling
from pfnano_tag.errors import CardError
from pfnano_tag.nano.columns import Index
from pfnano_tag.prepare.reweighting import WeightTables
from pfnano_tag.train.decoding import ChunkOfFile
from pfnano_tag.train.order import seed_of

Floats = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]
Weights = NDArray[np.floating[Any]]

Draw = Callable[[int, ChunkOfFile, Labels, Weights], Index]
"""Gives the rows of the jets that are drawn of a chunk, rising, from the number of times that it came before, the
chunk, and class and weight of its jets."""


@dataclass(frozen=True)
class Population:
    """Training jets by class and weight. Shapes: N sorts of jets.

    Parameters
    ----------
    label_N : ndarray of int64
        Class.
    weight_N : ndarray of float64
        Training weight.
    count_N : ndarray of int64
        Jets, at least one.
    classes : int
        Number of classes, also of those without jets.
    """

    label_N: Labels
    weight_N: Floats
    count_N: Labels
    classes: int

    @classmethod
    def of_tables(cls, tables: WeightTables) -> Population:
        """Return the training jets of a prepared study; those outside the bins, without a weight, are left out."""
        there = tables.counts > 0
        weights = tables.weights.astype(np.float32).astype(np.float64)  # as the stream has them
        return cls(np.nonzero(there)[0], weights[there], tables.counts[there], len(there))

    @classmethod
    def of_jets(cls, label: Labels, weight: Weights, classes: int) -> Population:
        """Return jets one by one."""
        return cls(label, np.asarray(weight, dtype=np.float64), np.ones(len(label), dtype=np.int64), classes)

    @property
    def drawable_N(self) -> Labels:
        """Jets that have a weight."""
        drawable: Labels = np.where(self.weight_N > 0, self.count_N, 0)
        return drawable

    def per_class(self, values_N: NDArray[Any]) -> Floats:
        """Return the sum of values by class, float64 [K]."""
        sums: Floats = np.bincount(self.label_N, values_N, self.classes).astype(np.float64)
        return sums


@dataclass(frozen=True)
class Drawing:
    """How jets are drawn. Shapes: K classes, J jets.

    Parameters
    ----------
    replacement : bool
        Whether a jet may come several times.
    by_weight : bool
        Whether a jet is drawn in proportion to its weight; else to its class's factor alone.
    jets : int
        Jets per epoch.
    factor_K : ndarray of float64
        Expected copies per epoch of a jet of weight 1 (`by_weight`), or of any jet with a weight.
    mean_K : ndarray of float64
        Mean weight of the class's jets.
    population : Population
        What is drawn from.
    """

    replacement: bool
    by_weight: bool
    jets: int
    factor_K: Floats
    mean_K: Floats
    population: Population

    def expected(self, label_J: Labels, weight_J: Weights) -> Floats:
        """Return the expected copies of jets in a pass over all chunks; 0 for jets without a weight."""
        share_J = weight_J if self.by_weight else weight_J > 0
        copies_J: Floats = self.factor_K[label_J] * share_J
        return copies_J if self.replacement else np.minimum(copies_J, 1)

    def loss_weight(self, label_J: Labels, weight_J: Weights) -> NDArray[np.float32]:
        """Return the weights that jets have in the loss once they are drawn."""
        rest_J = np.ones(len(label_J)) if self.by_weight else weight_J / self.mean_K[label_J]
        if not self.replacement:
            rest_J = rest_J * np.maximum(self.factor_K[label_J] * (weight_J if self.by_weight else 1), 1)
        return rest_J.astype(np.float32)

    def target(self, label_J: Labels, weight_J: Weights) -> NDArray[np.float32]:
        """Return the weights that all jets would have in a loss without drawing: those of the validation."""
        if self.by_weight:
            return np.asarray(weight_J, dtype=np.float32)
        drawable_K = self.population.per_class(self.population.drawable_N)
        balance_K = drawable_K.sum() / np.count_nonzero(drawable_K) * _inverse(drawable_K)
        return (balance_K[label_J] * weight_J / self.mean_K[label_J]).astype(np.float32)

    def draw(self, seed: int, epoch: int) -> Draw:
        """Return the function that draws the jets of an epoch, chunk by chunk."""

        def rows(lap: int, chunk: ChunkOfFile, label_J: Labels, weight_J: Weights) -> Index:
            expected_J = self.expected(label_J, weight_J)
            generator = torch.Generator()
            if self.replacement:
                generator.manual_seed(seed_of(seed, "resampling", epoch, *chunk, lap))
                copies_J = torch.poisson(torch.from_numpy(expected_J), generator=generator).numpy()
                return np.repeat(np.arange(len(label_J)), copies_J.astype(np.int64))
            generator.manual_seed(seed_of(seed, "resampling", epoch, *chunk))
            random_J = torch.rand(len(label_J), generator=generator, dtype=torch.float64).numpy()
            return np.flatnonzero((random_J >= lap * expected_J) & (random_J < (lap + 1) * expected_J))

        return rows

    def in_words(self, classes: Sequence[str]) -> str:
        """Return what an epoch consists of: jets by class, different jets, effective sample size.

        Parameters
        ----------
        classes : sequence of str
            Names of the K classes.
        """
        label, weight, count = self.population.label_N, self.population.weight_N, self.population.count_N
        expected = self.expected(label, weight)
        numbers = self.population.per_class(count * expected)
        by_class = ", ".join(f"{name} {number:.0f}" for name, number in zip(classes, numbers, strict=True))
        different = count @ (-np.expm1(-expected) if self.replacement else expected)
        how = f"{'with' if self.replacement else 'without'} replacement"
        what = "by weight" if self.by_weight else "balanced classes"
        rest = self.loss_weight(label, weight)[expected > 0]
        loss = "no weights" if np.allclose(rest, rest[0], rtol=1e-5) else "the rest as weights"
        return (
            f"resampling {how}, {what}: {self.jets} jets per epoch ({by_class}), {different:.0f} different ones of "
            f"{count.sum()}, {loss} in the loss; effective sample size {self.effective_size():.0f} per epoch, "
            f"{effective_size(self.target(label, weight), count):.0f} of all jets with their weights in the loss"
        )

    def effective_size(self) -> float:
        """Return the expected effective sample size of an epoch, the copies of a jet counted as one jet.

        `(sum k v)^2 / sum (k v)^2` with k copies of loss weight v; E[k^2] is p (kept or not), or mu + mu^2 (Poisson).
        """
        label, weight, count = self.population.label_N, self.population.weight_N, self.population.count_N
        expected, rest = self.expected(label, weight), self.loss_weight(label, weight).astype(np.float64)
        squared = expected + expected**2 if self.replacement else expected
        return float((count @ (expected * rest)) ** 2 / (count @ (squared * rest**2)))


def effective_size(weight: Weights, count: Labels) -> float:
    """Return `(sum w)^2 / sum w^2` over jets of which `count` have each weight (Kish)."""
    wide = np.asarray(weight, dtype=np.float64)
    return float((count @ wide) ** 2 / (count @ wide**2))


def drawing_of(settings: Resampling, population: Population, name: str = "") -> Drawing:
    """Return how the jets of a training are drawn.

    Parameters
    ----------
    settings : Resampling
        Key `training.resampling`.
    population : Population
        All training jets.
    name : str
        Of the model, for messages.

    Raises
    ------
    CardError
        When so many jets can't be drawn, or all would be.
    """
    label, weight, drawable = population.label_N, population.weight_N, population.drawable_N
    key = f"training.resampling (model {name})" if name else "training.resampling"
    total = int(drawable.sum())
    if not total:
        raise CardError(f"{key}: no training jet has a weight in section reweighting, so none can be drawn")
    by_weight, replacement = settings.target == "weights", settings.mode == "with_replacement"
    drawable_K = population.per_class(drawable)
    mean_K = np.where(drawable_K > 0, population.per_class(drawable * weight) * _inverse(drawable_K), 1)
    per_jet_K = np.ones_like(mean_K) if by_weight else _inverse(drawable_K)
    share = per_jet_K[label] * (weight if by_weight else np.sign(weight))
    jets = settings.jets
    if jets is None:
        jets = total if replacement else max(1, int(drawable @ share / share.max() * (1 + 1e-12)))
    if not replacement and jets > total:
        raise CardError(
            f"{key}: jets: found {jets}, but {total} training jets have a weight, and without replacement each comes "
            "once; ask for fewer, or set mode: with_replacement"
        )
    factor = jets / (drawable @ share) if replacement else _factor(share, drawable, jets)
    if not replacement and (factor * share[drawable > 0] >= 1 - 1e-9).all():
        raise CardError(
            f"{key}: has no effect: all {total} jets with a weight would come in every epoch; ask for fewer jets, "
            "set mode: with_replacement, or take it out"
        )
    return Drawing(replacement, by_weight, jets, factor * per_jet_K, mean_K, population)


def _inverse(values: Floats) -> Floats:
    """Return 1 over values; 0 for 0."""
    return np.divide(1, values, out=np.zeros_like(values), where=values > 0)


def _factor(share_N: Floats, count_N: Labels, jets: int) -> float:
    """Return c such that the sum of `count min(1, c share)` is `jets`, at most the number of jets with a share."""
    kept = np.flatnonzero((share_N > 0) & (count_N > 0))
    order = kept[np.argsort(-share_N[kept], kind="stable")]
    share, count = share_N[order], count_N[order]
    certain = np.concatenate([[0], np.cumsum(count)[:-1]])  # jets with a larger share, which come for certain
    left = np.cumsum((count * share)[::-1])[::-1]
    factors = (jets - certain) / left
    fits = np.flatnonzero(factors * share <= 1 + 1e-12)
    return float(factors[fits[0]]) if len(fits) else float(1 / share[-1])
