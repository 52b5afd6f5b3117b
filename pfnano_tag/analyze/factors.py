"""Factors of the event weight: section `weights.factors` of the card, nominal and varied, per event of a chunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.correction_files import Correction
from pfnano_tag.analyze.corrections import corrections_of
from pfnano_tag.analyze.pileup import read_pileup
from pfnano_tag.analyze.result import NOMINAL
from pfnano_tag.card import Card
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.card.hashing import file_hash
from pfnano_tag.card.weights import BranchFactor, ExpressionFactor, Factor, PileupFactor
from pfnano_tag.errors import CardError, DataError
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.expressions import evaluate, expression_branches
from pfnano_tag.nano.reader import Chunk

Values = NDArray[np.float64]


@dataclass(frozen=True)
class ReadyFactor:
    """A factor with all that it needs beside the events.

    Parameters
    ----------
    branches : tuple of str
        Branches that it is made from.
    evaluate : callable
        Gives the factor of a chunk's events, float64 [events], as `nominal`, and `up` and `down` where it has them;
        and how many values were brought to the edge of a correction's range.
    texts : mapping of str
        Its expressions, by their keys.
    """

    branches: tuple[str, ...]
    evaluate: Callable[[Chunk], tuple[dict[str, Values], int]]
    texts: Mapping[str, str] = field(default_factory=dict)


def ready_factors(card: Card, dataset: Dataset) -> dict[str, ReadyFactor]:
    """Return the factors that a dataset has, by name, their files read and checked; data have none.

    Raises
    ------
    MissingExtra
        When a factor needs a package that is not installed.
    CardError
        With every problem of all factors' files.
    """
    found: dict[str, ReadyFactor] = {}
    problems: list[str] = []
    opened: dict[str, dict[str, Correction]] = {}
    for name, factor in card.weights.factors.items():
        if dataset.kind == "mc" and (factor.datasets is None or dataset.name in factor.datasets):
            try:
                found[name] = _ready(name, factor, opened)
            except CardError as error:
                problems.append(str(error))
    if problems:
        raise CardError("\n".join(problems))
    return found


def _ready(name: str, factor: Factor, opened: dict[str, dict[str, Correction]]) -> ReadyFactor:
    if isinstance(factor, BranchFactor):
        names = {NOMINAL: factor.nominal, **_varied(factor)}
        return ReadyFactor(tuple(names.values()), lambda chunk: (_of_branches(names, chunk), 0))
    if isinstance(factor, ExpressionFactor):
        texts = {NOMINAL: factor.nominal, **_varied(factor)}
        branches = dict.fromkeys(branch for text in texts.values() for branch in expression_branches(text))
        return ReadyFactor(tuple(branches), lambda chunk: (_of_expressions(name, texts, chunk), 0), texts)
    if isinstance(factor, PileupFactor):
        weights, branch = read_pileup(name, factor), factor.branch
        return ReadyFactor((branch,), lambda chunk: (weights.of(np.asarray(chunk[branch], dtype=np.float64)), 0))
    correction = corrections_of(name, factor, opened)
    asked = {f"inputs.{key}": text for key, text in correction.expressions.items()}
    asked |= {"where": correction.factor.where} if correction.factor.where else {}
    return ReadyFactor(correction.branches, correction.evaluate, asked)


def _varied(factor: BranchFactor | ExpressionFactor) -> dict[str, str]:
    return {way: str(getattr(factor, way)) for way in factor.directions}


def _of_branches(names: Mapping[str, str], chunk: Chunk) -> dict[str, Values]:
    return {way: np.asarray(chunk[branch], dtype=np.float64) for way, branch in names.items()}


def _of_expressions(name: str, texts: Mapping[str, str], chunk: Chunk) -> dict[str, Values]:
    found = {}
    for way, text in texts.items():
        value = evaluate(text, chunk)
        if isinstance(value, Jagged):
            raise DataError(
                f"{chunk.file.path}: weights.factors.{name}.{way}: {text!r} has a value per object, an event has one "
                "weight; use sum, count, any or all"
            )
        found[way] = np.asarray(value, dtype=np.float64)
    return found


def factor_files(card: Card) -> dict[str, list[str]]:
    """Return the SHA-256 of the files that each factor is read from; a changed file is another weight.

    Raises
    ------
    CardError
        Naming every file that can't be read.
    """
    found: dict[str, list[str]] = {}
    problems = []
    for name, factor in card.weights.factors.items():
        for file in factor.files:
            try:
                found.setdefault(name, []).append(file_hash(Path(file)))
            except OSError as error:
                problems.append(
                    f"weights.factors.{name}: {file}: can't be read: {error.strerror} (seen from {Path.cwd()})"
                )
    if problems:
        raise CardError("\n".join(problems))
    return found


def varied_weights(
    weight: Values, factors: Mapping[str, Mapping[str, Values]], variations: tuple[str, ...]
) -> dict[str, Values]:
    """Return the weight with all factors: nominal, and one factor at a time varied.

    Parameters
    ----------
    weight : ndarray of float64 [events]
        Without the factors.
    factors : mapping
        Values of each factor that the events have: `nominal`, and `up` and `down` where it has them.
    variations : tuple of str
        FACTOR_up and FACTOR_down of all factors of the card; of a factor that the events don't have they are the
        nominal weight.

    Returns
    -------
    dict of ndarray of float64 [events]
        `nominal`, then the variations.
    """
    nominal = weight
    for values in factors.values():
        nominal = nominal * values[NOMINAL]
    found = {NOMINAL: nominal, **dict.fromkeys(variations, nominal)}
    for name, values in factors.items():
        others = weight
        for other, of_other in factors.items():
            if other != name:
                others = others * of_other[NOMINAL]
        found |= {f"{name}_{way}": others * values[way] for way in values if way != NOMINAL}
    return found
