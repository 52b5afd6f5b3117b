"""Which model agrees better with data: differences of two models with errors, and the sentence that follows.

A model's overall agreement in a region is the mean of chi2 / ndf over the discriminants that all models have there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any, NamedTuple

from pfnano_tag.analyze.result import NOMINAL
from pfnano_tag.compare.agreement import SIGNIFICANT, Agreement, Difference, Reduced, difference, mean_of
from pfnano_tag.compare.distances import Distance


class Subject(NamedTuple):
    """What is compared with data.

    Parameters
    ----------
    region, variable, model, variant : str
        As in the results: `region/variable/model/variant`.
    """

    region: str
    variable: str
    model: str
    variant: str

    @property
    def key(self) -> str:
        """The subject's key in the results."""
        return "/".join(self)


Agreements = Mapping[Subject, Agreement | None]


def overall(agreements: Agreements) -> dict[tuple[str, str], dict[str, Reduced]]:
    """Return the mean agreement of each model, by (region, variant).

    Parameters
    ----------
    agreements : mapping
        Of discriminants. Those that a model lacks (too few jets, say) are left out for all models.
    """
    means: dict[tuple[str, str], dict[str, Reduced]] = {}
    for region, variant in dict.fromkeys((subject.region, subject.variant) for subject in agreements):
        here = {s: a for s, a in agreements.items() if (s.region, s.variant) == (region, variant)}
        models = list(dict.fromkeys(subject.model for subject in here))
        found = {
            variable: [here.get(Subject(region, variable, model, variant)) for model in models]
            for variable in dict.fromkeys(subject.variable for subject in here)
        }
        known = [[one.reduced for one in row if one is not None] for row in found.values() if None not in row]
        if known:
            means[region, variant] = {model: mean_of([row[i] for row in known]) for i, model in enumerate(models)}
    return means


def differences(
    agreements: Agreements, distances: Mapping[Subject, Mapping[str, Distance]] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the differences of all pairs of models in chi2 / ndf, first minus second.

    Parameters
    ----------
    agreements : mapping
        Of discriminants.
    distances : mapping or None
        Of the same subjects.

    Returns
    -------
    dict
        "region/variable/variant" (variable `mean`: over the discriminants) -> "first - second" ->
        {difference, error, significance, better}; `better` is a model's name or null (not significant). Under
        `distances` the same for each distance.
    """
    groups: dict[str, dict[str, Reduced]] = {}
    far: dict[str, dict[str, dict[str, Reduced]]] = {}
    for subject, one in agreements.items():
        if one is not None:
            key = f"{subject.region}/{subject.variable}/{subject.variant}"
            groups.setdefault(key, {})[subject.model] = one.reduced
            for name, distance in (distances or {}).get(subject, {}).items():
                far.setdefault(key, {}).setdefault(name, {})[subject.model] = distance.reduced
    for (region, variant), means in overall(agreements).items():
        groups[f"{region}/mean/{variant}"] = means
    found = {key: pairs for key, models in groups.items() if (pairs := _pairs(models))}
    for key, by_name in far.items():
        for name, models in by_name.items():
            for pair, between in _pairs(models).items():
                found.get(key, {}).get(pair, {}).setdefault("distances", {})[name] = between
    return found


def _pairs(models: Mapping[str, Reduced]) -> dict[str, Any]:
    found = {}
    for first, second in combinations(models, 2):
        between = difference(models[first], models[second])
        if between is not None:
            better = {"first": first, "second": second, None: None}[between.better]
            found[f"{first} - {second}"] = as_json(between) | {"better": better}
    return found


def as_json(between: Difference) -> dict[str, float]:
    """Return a difference as JSON content."""
    return {"difference": between.value, "error": between.error, "significance": between.significance}


def agreement_sentences(agreements: Agreements) -> list[str]:
    """Return, per region, which model agrees better with data on nominal inputs, with significance."""
    return [
        _sentence(region, models)
        for (region, variant), models in overall(agreements).items()
        if variant == NOMINAL and models
    ]


def _sentence(region: str, models: Mapping[str, Reduced]) -> str:
    order = sorted(models, key=lambda name: models[name].value)
    best = order[0]
    value = _with_error(models[best].value, models[best].error)
    start = f"Region {region}: {best} has the lowest mean chi2/ndf of its discriminants ({value})"
    if len(order) == 1:
        return f"{start}; there is no other model to compare with."
    others = [(name, difference(models[name], models[best])) for name in order[1:]]
    better = [_against(name, d) for name, d in others if d is not None and d.better == "second"]
    same = [_against(name, d) for name, d in others if d is not None and d.better is None]
    unknown = [name for name, d in others if d is None]
    parts = [f"it agrees better with data than {_listed(better)}"] if better else []
    parts += [f"no significant difference from {_listed(same)}"] if same else []
    parts += [f"no error on the difference from {_listed(unknown)}"] if unknown else []
    return f"{start}; {'; '.join(parts)}."


def _against(name: str, between: Difference) -> str:
    return f"{name} (difference {_with_error(between.value, between.error)}, {abs(between.significance):.1f} sigma)"


def simulation_sentence(evaluation: Mapping[str, Any], models: Iterable[str]) -> str:
    """Return which model is better in simulation, discriminant by discriminant, with significance.

    Parameters
    ----------
    evaluation : mapping
        Content of `evaluation/results.json`.
    models : iterable of str
        Models to be compared.
    """
    aucs = {name: evaluation["models"][name]["auc"] for name in models if name in evaluation["models"]}
    if not aucs:
        return "Simulation: none of these models is in evaluation/results.json."
    names = list(dict.fromkeys(discriminant for found in aucs.values() for discriminant in found))
    return "Simulation (AUC, test split): " + "; ".join(_best_in(evaluation, aucs, name) for name in names) + "."


def _best_in(evaluation: Mapping[str, Any], aucs: Mapping[str, Any], discriminant: str) -> str:
    values = {
        model: found[discriminant][0]
        for model, found in aucs.items()
        if discriminant in found and found[discriminant][0] is not None
    }
    if not values:
        return f"{discriminant}: no AUC"
    best = max(values, key=lambda name: values[name])
    better: list[str] = []
    same: list[str] = []
    for other in values:
        between = _auc_difference(evaluation, best, other, discriminant)
        if other == best or between is None:
            continue
        text = f"{other} (by {_with_error(*between, digits=4)})"
        clear = between[1] is not None and between[0] > SIGNIFICANT * between[1]
        (better if clear else same).append(text)
    parts = ([f"better than {_listed(better)}"] if better else []) + (
        [f"not significantly different from {_listed(same)}"] if same else []
    )
    return f"{discriminant}: {best} is highest" + (f", {', '.join(parts)}" if parts else "")


def _auc_difference(
    evaluation: Mapping[str, Any], first: str, second: str, discriminant: str
) -> tuple[float, float | None] | None:
    """Return first minus second and its error from the evaluation, which holds each pair once."""
    for key, sign in ((f"{first} - {second}", 1.0), (f"{second} - {first}", -1.0)):
        found = evaluation.get("differences", {}).get(key, {}).get(discriminant)
        if found is not None and found[0] is not None:
            return sign * found[0], found[1]
    return None


def _with_error(value: float, error: float | None, digits: int = 2) -> str:
    return f"{value:.{digits}f}" + ("" if error is None else f" +- {error:.{digits}f}")


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
