"""Properties of a network: what it is, how it was trained, and a table of its inputs with units and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pfnano_tag.evaluate.inputs import InputSurvey
from pfnano_tag.infer.bookkeeping import Tagger


def properties(tagger: Tagger, survey: InputSurvey) -> dict[str, Any]:
    """Return a network's properties as JSON content.

    Parameters
    ----------
    tagger : Tagger
        The network.
    survey : InputSurvey
        What was seen of the inputs (test split).

    Returns
    -------
    dict
        Architecture, arguments, number of parameters, training, and per input: unit, bounds, range and mean of the
        values seen, share of placeholders, transform and scaling, what an attack may do to it.
    """
    return {
        "epoch": tagger.epoch,
        "hash": tagger.hash,
        "architecture": tagger.architecture,
        "arguments": tagger.arguments,
        "parameters": sum(parameter.numel() for parameter in tagger.module.parameters()),
        "classes": list(tagger.classes),
        "training": tagger.training,
        "input_set": tagger.inputs.set,
        "caps": dict(tagger.inputs.caps),
        "inputs": [_input(feature.id, tagger, survey) for feature in tagger.inputs.features],
    }


def _input(identifier: str, tagger: Tagger, survey: InputSurvey) -> dict[str, Any]:
    feature = next(f for f in tagger.inputs.features if f.id == identifier)
    seen = survey.seen[identifier]
    total = seen.values + seen.placeholders
    return {
        "name": identifier,
        "unit": feature.unit,
        "bounds": [feature.low, feature.high],
        "range": [seen.low, seen.high] if seen.values else None,
        "mean": seen.total / seen.values if seen.values else None,
        "values": seen.values,
        "default_share": seen.placeholders / total if total else None,
        "transform": feature.transform,
        "scaling": [feature.mean, feature.std],
        "default": feature.default,
        "live": feature.live,
        "integer": feature.integer,
        "attacked": feature.live and not feature.protected,
    }


def as_markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the properties of several networks as a page; networks with the same inputs share a table.

    Parameters
    ----------
    found : mapping
        Model -> what `properties` returns.
    """
    lines = [
        "# Properties of the networks",
        "",
        "| model | architecture | parameters | epoch | hash |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {p['architecture']} | {p['parameters']:,} | {p['epoch']} | {p['hash'][:12]} |"
        for name, p in found.items()
    ]
    tables: dict[str, list[str]] = {}
    for name, model in found.items():
        tables.setdefault(_table(model["inputs"]), []).append(name)
    for table, names in tables.items():
        lines += ["", f"## Inputs of {', '.join(names)}", "", table]
    return "\n".join(lines) + "\n"


def _table(inputs: list[dict[str, Any]]) -> str:
    """Return the table of inputs; ranges and shares are those of the test split."""
    header = "| input | unit | range seen | mean | placeholders | transform | scaled by (mean, std) | attacked |"
    rows = [header, "|---|---|---|---|---|---|---|---|"]
    for row in inputs:
        seen = row["range"]
        span = "none" if seen is None else f"{seen[0]:.4g} to {seen[1]:.4g}"
        mean = "-" if row["mean"] is None else f"{row['mean']:.4g}"
        share = "-" if row["default_share"] is None else f"{100 * row['default_share']:.1f} %"
        scaling = f"{row['scaling'][0]:.4g}, {row['scaling'][1]:.4g}" if row["live"] else "constant: switched off"
        attacked = "yes" if row["attacked"] else "no"
        rows.append(
            f"| {row['name']} | {row['unit'] or '1'} | {span} | {mean} | {share} | {row['transform']} | {scaling} "
            f"| {attacked} |"
        )
    return "\n".join(rows)
