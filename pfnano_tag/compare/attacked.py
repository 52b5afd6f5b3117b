"""Nominal against attacked inputs: agreement with data and performance in simulation, by region and discriminant.

The attack that simulation and data see in the data/MC job is that of the card's strength, with the network's own most
probable class as label; the AUC is that of `attack` at the same strength, where the label is the truth (white box).
Variants of one network share events and replicas, hence the error of their difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pfnano_tag.analyze.result import NOMINAL
from pfnano_tag.compare.agreement import Reduced, difference
from pfnano_tag.compare.distances import Distance
from pfnano_tag.compare.verdicts import Agreements, Subject, as_json, overall

MEAN = "mean"
Entry = dict[str, Any]
Nested = dict[str, dict[str, dict[str, dict[str, Entry]]]]
"""Region -> discriminant (or `mean`, over those that all models have) -> model -> variant -> numbers."""


def nominal_against_attacked(
    agreements: Agreements,
    distances: Mapping[Subject, Mapping[str, Distance]],
    evaluation: Mapping[str, Any] | None,
    attacks: Mapping[str, Any] | None,
    strengths: Mapping[str, float],
) -> Nested:
    """Return agreement and AUC of nominal and attacked inputs, nominal first.

    Parameters
    ----------
    agreements, distances : mapping
        Of the discriminants.
    evaluation, attacks : mapping or None
        Content of `evaluation/results.json` and `attacks/results.json`, of these trainings.
    strengths : mapping
        Strength of each attack in the card.

    Returns
    -------
    dict
        Region -> discriminant (`mean`: over those that all models have) -> model -> variant -> {`auc`, `chi2ndf`,
        `ks`: [value, error] or null; `minus_nominal`: difference of chi2 / ndf, or null}; empty without variants.
    """
    if all(subject.variant == NOMINAL for subject in agreements):
        return {}
    reduced = {subject: one.reduced for subject, one in agreements.items() if one is not None}
    for (region, variant), models in overall(agreements).items():
        reduced |= {Subject(region, MEAN, model, variant): one for model, one in models.items()}
    order = dict.fromkeys([*agreements, *reduced])
    found: Nested = {}
    for subject in sorted(order, key=lambda one: one.variant != NOMINAL):
        region, variable, model, variant = subject
        nominal = reduced.get(Subject(region, variable, model, NOMINAL))
        ks = distances.get(subject, {}).get("ks")
        found.setdefault(region, {}).setdefault(variable, {}).setdefault(model, {})[variant] = {
            "auc": auc_of(evaluation, attacks, strengths, subject),
            "chi2ndf": _pair(reduced.get(subject)),
            "ks": None if ks is None else _pair(ks.reduced),
            "minus_nominal": None if variant == NOMINAL else _minus(reduced.get(subject), nominal),
        }
    return found


def _pair(one: Reduced | None) -> list[float | None] | None:
    return None if one is None else [one.value, one.error]


def _minus(one: Reduced | None, nominal: Reduced | None) -> dict[str, float] | None:
    between = None if one is None or nominal is None else difference(one, nominal)
    return None if between is None else as_json(between)


def auc_of(
    evaluation: Mapping[str, Any] | None,
    attacks: Mapping[str, Any] | None,
    strengths: Mapping[str, float],
    subject: Subject,
) -> list[float | None] | None:
    """Return a discriminant's AUC and its error in simulation: nominal, or at the card's strength of the attack.

    None where `evaluate` or `attack` did not measure it.
    """
    _, discriminant, model, variant = subject
    if variant == NOMINAL:
        found = (evaluation or {}).get("models", {}).get(model, {}).get("auc", {})
        return found.get(discriminant)
    about = (attacks or {}).get("attacks", {}).get(variant)
    if about is None or strengths.get(variant) not in about["strengths"]:
        return None
    place = about["strengths"].index(strengths[variant])
    curves = (attacks or {})["models"].get(model, {}).get("attacks", {}).get(variant, {}).get("white_box", {})
    curve = curves.get("auc", {}).get(discriminant)
    return None if curve is None else curve[place]


HEADER = ("discriminant", "model", "inputs", "AUC", "chi2/ndf", "minus nominal", "KS distance")
NOTHING = "–"


def rows_of_region(models_by_variable: Mapping[str, Mapping[str, Mapping[str, Entry]]]) -> list[list[str]]:
    """Return the cells of one region's table, under `HEADER`."""
    rows = []
    for variable, models in models_by_variable.items():
        if variable == MEAN and len(models_by_variable) == 2:
            continue  # of one discriminant
        for model, variants in models.items():
            for variant, entry in variants.items():
                minus = entry["minus_nominal"]
                clear = "" if minus is None else f" ({abs(minus['significance']):.1f} sigma)"
                change = None if minus is None else [minus["difference"], minus["error"]]
                cells = [_cell(entry["auc"], 4), _cell(entry["chi2ndf"], 2), _cell(change, 2, "+") + clear]
                rows.append([variable, model, variant, *cells, _cell(entry["ks"], 3)])
    return rows


def _cell(pair: list[float | None] | None, digits: int, sign: str = "") -> str:
    if pair is None or pair[0] is None:
        return NOTHING
    error = "" if len(pair) < 2 or pair[1] is None else f" ± {pair[1]:.{digits}f}"
    return f"{pair[0]:{sign}.{digits}f}{error}"
