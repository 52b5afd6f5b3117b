"""Working points: thresholds from `evaluate`, moved to the nearest edge of a histogram."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pfnano_tag.analyze.result import NO_MODEL, Array
from pfnano_tag.card.card import Card
from pfnano_tag.card.folder import read_results
from pfnano_tag.errors import CardError, StudyError, nearest
from pfnano_tag.evaluate.performance import STORED_AS
from pfnano_tag.nano.taggers import STORED_TAGGERS


@dataclass(frozen=True)
class Score:
    """One discriminant of one tagger.

    Parameters
    ----------
    tagger, discriminant : str
        Names, as in `evaluation/results.json`.
    model : str
        In categories: the network, or `none`.
    variable : str
        Histogram that the working points are counted in.
    undefined_in : str
        Histogram whose underflow has the jets without a score; empty: the same.
    thresholds : dict
        By working point (its mistag rate, as text); None where it has no threshold.
    """

    tagger: str
    discriminant: str
    model: str
    variable: str
    undefined_in: str
    thresholds: Mapping[str, float | None]


def scores_of(card: Card, models: Mapping[str, Mapping[str, Any]], variables: Iterable[str]) -> list[Score]:
    """Return the discriminants that are to be calibrated.

    Parameters
    ----------
    card : Card
        Section `calibration`; its folder has `evaluation/results.json`.
    models : mapping
        Networks of the job outputs: name -> {`hash`, ...}.
    variables : iterable of str
        Variables of the job outputs.

    Raises
    ------
    StudyError
        When there is no evaluation, or it is of other networks than the job outputs.
    CardError
        When the card names a tagger or discriminant that is not there.
    """
    content = read_results(card.folder, "evaluation")
    if content is None:
        raise StudyError(
            f"{card.folder / 'evaluation' / 'results.json'}: not there; working points come from it: run `evaluate`"
        )
    have = set(variables)
    found = [*_of_networks(content["models"], models, have), *_of_stored(content.get("stored", {}), have)]
    asked = card.calibration
    _check_names("taggers", asked.taggers, {score.tagger for score in found})
    _check_names("discriminants", asked.discriminants, {score.discriminant for score in found})
    chosen = [score for score in found if _asked_for(score.tagger, asked.taggers)]
    chosen = [score for score in chosen if _asked_for(score.discriminant, asked.discriminants)]
    for score in chosen:
        if score.model != NO_MODEL and content["models"][score.tagger].get("hash") != models[score.model].get("hash"):
            raise StudyError(
                f"network {score.tagger}: evaluation/results.json is of another training than the job outputs; "
                "run `evaluate` and `analyze` again"
            )
    if not chosen:
        raise StudyError(
            "nothing to calibrate: no tagger has both working points in evaluation/results.json "
            f"({', '.join(content['models'])}) and histograms in the job outputs ({', '.join(models) or 'none'})"
        )
    return chosen


def _asked_for(name: str, asked: tuple[str, ...] | str) -> bool:
    return asked == "all" or name in asked


def _check_names(key: str, asked: tuple[str, ...] | str, known: set[str]) -> None:
    for name in () if isinstance(asked, str) else asked:
        if name not in known:
            hint = nearest(name, known) or sorted(known)
            raise CardError(
                f"calibration.{key}: {name!r} is not both in evaluation/results.json and in the job outputs; "
                f"nearest: {', '.join(hint) or 'none'}"
            )


def _of_networks(evaluated: Mapping[str, Any], models: Mapping[str, Any], variables: set[str]) -> Iterator[Score]:
    for name in models:
        for discriminant, points in evaluated.get(name, {}).get("working_points", {}).items():
            fine = f"agreement_{discriminant}"
            if fine in variables:
                yield Score(name, discriminant, name, fine, discriminant, _thresholds(points))


def _of_stored(evaluated: Mapping[str, Any], variables: set[str]) -> Iterator[Score]:
    for tagger, content in evaluated.items():
        branches = {STORED_AS.get(kind, kind): branch for kind, branch in STORED_TAGGERS.get(tagger, {}).items()}
        for discriminant, points in content.get("working_points", {}).items():
            variable = f"stored_{branches.get(discriminant)}"
            if variable in variables:
                yield Score(tagger, discriminant, NO_MODEL, variable, "", _thresholds(points))


def _thresholds(points: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    return {f"{point['mistag']:g}": point["threshold"] for point in points}


def cut_at(lower_X: Array, threshold: float) -> tuple[int, float] | None:
    """Return the bin whose lower edge is nearest to a threshold, in ln(D / (1 - D)), and that edge.

    Parameters
    ----------
    lower_X : ndarray of float64 [X]
        Lower edges of the bins, in units of the score; -inf for bins that no threshold can open (jets without
        a score, underflow).
    threshold : float
        In 0 to 1.

    Returns
    -------
    (int, float) or None
        None where no edge lies between 0 and 1.
    """
    inner = (lower_X > 0) & (lower_X < 1)
    if not inner.any():
        return None
    bounded = np.clip(threshold, 1e-15, 1 - 1e-15)
    safe = np.where(inner, lower_X, 0.5)
    distance = np.abs(np.log(safe / (1 - safe)) - np.log(bounded / (1 - bounded)))
    place = int(np.argmin(np.where(inner, distance, np.inf)))
    return place, float(lower_X[place])
