"""Which trained model is the best one: a ranking of a study's models by any metric that is known of them.

Names of metrics:

- as in `metrics.jsonl` (`validation_loss`, `auc_BvsL`, `efficiency_BvsL_0.01`): each model's best epoch, validation
  split;
- `evaluation.auc.BvsL`, `evaluation.efficiency.BvsL.0.01`, `evaluation.accuracy`, `evaluation.loss`: test split;
- `attacks.fgsm.0.01.BvsL`: AUC under an attack of that strength through the network's own gradient, and
  `attacks.fgsm.0.01.BvsL.common_sample`: on the sample that is attacked through one network;
- `comparison.chi2ndf.BvsL`: agreement of data and simulation, mean over the regions; `....BvsL.REGION`: in one;
  `comparison.chi2ndf.mean`: over regions and discriminants. The lowest is the best.

Further metrics stand beside the one that ranks, and so do the values of a scan, as the checkpoints have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pfnano_tag.card.card import Card
from pfnano_tag.card.expansion import shown
from pfnano_tag.card.folder import check_bound, model_folder, read_results
from pfnano_tag.card.jobs import collect_results
from pfnano_tag.card.output import write_json
from pfnano_tag.errors import StudyError, nearest
from pfnano_tag.evaluate.metrics import grouped, is_known, kind_of, lower_is_better
from pfnano_tag.infer.bookkeeping import Tagger, epochs_of, find_checkpoint, load_checkpoint
from pfnano_tag.infer.discriminants import DISCRIMINANTS

COMMANDS = {"evaluation": "evaluate", "attacks": "attack", "comparison": "compare"}
"""Folder of results -> the command that makes them."""
NOMINAL, CHI2NDF = "nominal", "comparison.chi2ndf"


@dataclass(frozen=True)
class Measured:
    """A metric of a model: its value, and its error where one is known."""

    value: float
    error: float | None = None


@dataclass(frozen=True)
class Known:
    """What is known of the trained models.

    Parameters
    ----------
    taggers : mapping of Tagger
        The models at their best epochs, in the order of the card.
    metrics : mapping
        Metric -> model -> value; a model without a value is not there.
    missing : mapping
        `models` or folder of results -> what is not there, and what would make it.
    """

    taggers: Mapping[str, Tagger]
    metrics: Mapping[str, Mapping[str, Measured]]
    missing: Mapping[str, Sequence[str]]


def select(
    card: Card, metrics: str | Sequence[str], models: Sequence[str] | None = None, write: bool = True
) -> dict[str, Any]:
    """Rank trained models.

    Parameters
    ----------
    card : Card
        The study's card.
    metrics : str or sequence of str
        See above; the first one ranks, the others are shown beside it.
    models : sequence of str or None
        Names in section `models`, also of scans; None: all that are trained.
    write : bool
        Whether to write `models/selection.json`.

    Returns
    -------
    dict
        Content of `models/selection.json`: `metric`, `better` (`lower` or `higher`), `ranking` (best first; equals in
        the card's order, models without a value last; each with `beside`, metric to value and error, and `scanned`,
        dotted key to value) and `missing`.

    Raises
    ------
    StudyError
        When no model is trained, or none has such a metric; the message says what there is.
    """
    check_bound(card)
    collect_results(card)
    known = known_of(card, models)
    metric, *beside = dict.fromkeys([metrics] if isinstance(metrics, str) else metrics)
    for one in (metric, *beside):
        if one not in known.metrics:
            raise StudyError(_not_there(one, known))
    lower = _is_better_low(metric)
    found = known.metrics[metric]
    without = [name for name in known.taggers if name not in found]
    by_value = sorted((n for n in known.taggers if n in found), key=lambda n: found[n].value * (1 if lower else -1))
    stages = dict.fromkeys(["models", *(one.partition(".")[0] for one in (metric, *beside))])
    selection = {
        "metric": metric,
        "better": "lower" if lower else "higher",
        "ranking": [
            {
                "model": name,
                **_entry(found.get(name)),
                "epoch": known.taggers[name].epoch,
                "hash": known.taggers[name].hash,
                "scanned": _scanned(card, known.taggers[name]),
                "beside": {one: _entry(known.metrics[one].get(name)) for one in beside},
            }
            for name in [*by_value, *without]
        ],
        "missing": [note for stage in stages for note in known.missing.get(stage, ())],
    }
    if write:
        write_json(model_folder(card, "selection.json"), selection)
    return selection


def known_of(card: Card, models: Sequence[str] | None = None) -> Known:
    """Return all metrics of trained models; see `select`. Results of another training of a model are left out."""
    names = card.models_named(models)
    for name in names:
        card.training_of(name)
    trained = [name for name in names if epochs_of(model_folder(card, name))]
    if not trained:
        raise StudyError(f"{card.folder / 'models'}: none of {', '.join(names) or 'no models'} is trained")
    taggers = {name: load_checkpoint(find_checkpoint(card, name)) for name in trained}
    missing = {"models": [f"{name} is not trained" for name in names if name not in trained]}
    missing["models"] += [note for name, tagger in taggers.items() if (note := _other_values(card, name, tagger))]
    metrics: dict[str, dict[str, Measured]] = {}
    for name, tagger in taggers.items():
        for metric, value in tagger.training.get("metrics", {}).items():
            if kind_of(metric) not in (None, "learning_rate") and is_known(value):
                metrics.setdefault(metric, {})[name] = Measured(value)
    for stage, read in READERS.items():
        results = read_results(card.folder, stage)
        if results is None:
            missing[stage] = [f"{stage}/results.json is not there (run `{COMMANDS[stage]}`)"]
            continue
        fresh = [name for name, t in taggers.items() if results["models"].get(name, {}).get("hash") == t.hash]
        missing[stage] = [
            f"{stage}/results.json does not know the best epoch of {name} (run `{COMMANDS[stage]}` again)"
            for name in taggers
            if name not in fresh
        ]
        try:
            for metric, name, measured in read(results, fresh):
                metrics.setdefault(metric, {})[name] = measured
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            path = card.folder / stage / "results.json"
            raise StudyError(f"{path}: can't be read ({type(error).__name__} {error}); make it again") from error
    return Known(taggers, metrics, missing)


def as_table(selection: Mapping[str, Any]) -> str:
    """Return a ranking as text, best first: the metric, those beside it, what was scanned."""
    ranking = selection["ranking"]
    scanned = list(dict.fromkeys(key for entry in ranking for key in entry["scanned"]))
    beside = list(ranking[0]["beside"]) if ranking else []
    rows = [["", "model", "epoch", selection["metric"], *beside, *scanned]]
    for place, entry in enumerate(ranking, 1):
        values = [_in_cell(one) for one in (entry, *(entry["beside"][metric] for metric in beside))]
        points = [shown(entry["scanned"][key]) if key in entry["scanned"] else "" for key in scanned]
        number = f"{place}" if entry["value"] is not None else "-"
        rows.append([number, entry["model"], str(entry["epoch"]), *values, *points])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    better = f"({selection['better']} is better)"
    if beside:
        lows = ["lower" if _is_better_low(metric) else "higher" for metric in beside]
        others = ", ".join(lows)
        better = f"(ranked by {selection['metric']}: {selection['better']} is better; of the others: {others})"
    return "\n".join([*lines, better, *(f"- {note}" for note in selection["missing"])])


def _is_better_low(metric: str) -> bool:
    return metric.startswith(CHI2NDF) or lower_is_better(metric)


def _entry(measured: Measured | None) -> dict[str, float | None]:
    return {"value": None, "error": None} if measured is None else {"value": measured.value, "error": measured.error}


def _in_cell(entry: Mapping[str, Any]) -> str:
    error = "" if entry["error"] is None else f" ± {entry['error']:.4f}"
    return "not known" if entry["value"] is None else f"{entry['value']:.4f}{error}"


def _scanned(card: Card, tagger: Tagger) -> dict[str, Any]:
    """Return the values of the scanned keys, as they were in the training."""
    scanned = card.models[tagger.name].scanned if tagger.name in card.models else None
    own = {"arguments": tagger.arguments, "training": tagger.training.get("settings", {})}
    values = scanned.values if scanned is not None else {}  # the length of a training is no setting of a checkpoint
    return {key: own[key.partition(".")[0]].get(key.partition(".")[2], value) for key, value in values.items()}


def _other_values(card: Card, name: str, tagger: Tagger) -> str:
    """Return a note where a scan's training was made with other values than the card's; else nothing."""
    scanned = card.models[name].scanned
    if scanned is None:
        return ""
    trained = _scanned(card, tagger)
    other = [key for key, value in scanned.values.items() if not _same(trained[key], value)]
    values = ", ".join(f"{key} {shown(trained[key])}" for key in other)
    return f"{name} was trained with {values}, unlike the card's (`train --overwrite`)" if other else ""


def _same(trained: Any, value: Any) -> bool:
    """Whether a setting was as scanned; what a section's defaults add to a mapping does not count."""
    if isinstance(trained, Mapping) and isinstance(value, Mapping):
        return all(key in trained and _same(trained[key], one) for key, one in value.items())
    return bool(trained == value)


Found = Iterator[tuple[str, str, Measured]]
"""Metric, model, value."""


def _of_evaluation(results: Mapping[str, Any], models: Sequence[str]) -> Found:
    for name in models:
        about = results["models"][name]
        for discriminant, pair in about["auc"].items():
            yield from _measured(f"evaluation.auc.{discriminant}", name, *pair)
        for discriminant, points in about["working_points"].items():
            for point in points:
                metric = f"evaluation.efficiency.{discriminant}.{point['mistag']:g}"
                yield from _measured(metric, name, point["efficiency"], point["error"])
        for metric in ("loss", "accuracy"):
            yield from _measured(f"evaluation.{metric}", name, about[metric], None)


def _of_attacks(results: Mapping[str, Any], models: Sequence[str]) -> Found:
    for name in models:
        for attack, setups in results["models"][name]["attacks"].items():
            strengths = results["attacks"][attack]["strengths"]
            for setup, suffix in (("white_box", ""), ("common_sample", ".common_sample")):
                for discriminant, pairs in setups[setup]["auc"].items():
                    for strength, pair in zip(strengths, pairs, strict=True):
                        yield from _measured(f"attacks.{attack}.{strength:g}.{discriminant}{suffix}", name, *pair)


def _of_comparison(results: Mapping[str, Any], models: Sequence[str]) -> Found:
    """Yield chi2/ndf per region, and means over what all models have."""
    found: dict[tuple[str, str], dict[str, Measured]] = {}
    for key, entry in results.items():
        region, variable, model, variant = key.split("/") if key.count("/") == 3 else ("", "", "", "")
        if variant == NOMINAL and variable in DISCRIMINANTS and model in models and entry["chi2"] is not None:
            error = (entry["bootstrap"] or {}).get("error")
            found.setdefault((variable, region), {})[model] = Measured(entry["chi2"] / entry["ndf"], error)
    for (variable, region), by_model in found.items():
        for name, measured in by_model.items():
            yield f"{CHI2NDF}.{variable}.{region}", name, measured
    everywhere = {place: by_model for place, by_model in found.items() if len(by_model) == len(models)}
    for metric in [*dict.fromkeys(variable for variable, _ in everywhere), "mean"]:
        places = [by_model for (variable, _), by_model in everywhere.items() if metric in (variable, "mean")]
        for name in models if places else ():
            yield f"{CHI2NDF}.{metric}", name, _mean([by_model[name] for by_model in places])


def _mean(measured: Sequence[Measured]) -> Measured:
    """Return the mean; its error is the largest it can be, that of fully correlated values (the same events)."""
    errors = [one.error for one in measured if one.error is not None]
    error = sum(errors) / len(errors) if len(errors) == len(measured) else None
    return Measured(sum(one.value for one in measured) / len(measured), error)


def _measured(metric: str, model: str, value: float | None, error: float | None) -> Found:
    if value is not None:
        yield metric, model, Measured(value, error)


READERS: dict[str, Callable[[Mapping[str, Any], Sequence[str]], Found]] = {
    "evaluation": _of_evaluation,
    "attacks": _of_attacks,
    "comparison": _of_comparison,
}


def _not_there(metric: str, known: Known) -> str:
    near = nearest(metric, known.metrics)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    missing = "".join(f"; {note}" for notes in known.missing.values() for note in notes)
    there = "\n  ".join(grouped(known.metrics))
    return f"--select: {metric!r} is not known of any model{hint}{missing}; there is:\n  {there}"
