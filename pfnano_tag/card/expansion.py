"""From a scan to its trainings: models of the study, with names that stay when the scan grows.

A grid's training is named after its values, in the alphabetical order of the keys: neither further values nor another
order in the card change it. A drawn training has a number, and each of its values depends on nothing but the study's
seed, the scan's name, that number and the key.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from pfnano_tag.card.base import strictly
from pfnano_tag.card.models import Model
from pfnano_tag.card.problems import Inconsistent, describe, known_keys
from pfnano_tag.card.scan import LARGEST, Range, Scan, Scanned
from pfnano_tag.card.training import Training

SHORT = {"learning_rate": "lr", "weight_decay": "wd", "batch_size": "batch"}
"""What keys are called in names; others keep theirs."""


def expanded(models: Mapping[str, Model], seed: int) -> dict[str, Model]:
    """Return the models with each scan replaced by its trainings.

    Parameters
    ----------
    models : mapping
        Section `models`.
    seed : int
        Of the study, for what is drawn.

    Raises
    ------
    Inconsistent
        When a scan names keys or values that its model does not take, or names that are taken.
    """
    found: dict[str, Model] = {}
    maker: dict[str, str] = {}
    problems: list[str] = []
    for name, model in models.items():
        wrong = [*_misplaced(name, model), *(() if model.scan is None else _wrong(name, model, model.scan))]
        problems += wrong
        if model.scan is None:
            found[name] = model
        elif not wrong:
            for point, training in _trainings(name, model, model.scan, seed):
                rival = point if point in models else maker.get(point)
                if rival is not None:
                    problems.append(_collision(name, point, rival))
                maker[point], found[point] = name, training
    if problems:
        raise Inconsistent(list(dict.fromkeys(problems)))
    return found


def in_words(model: Model) -> str:
    """Return the scanned values of a model, `blocks 4, learning_rate 0.001`; empty for a model of no scan."""
    values = {} if model.scanned is None else model.scanned.values
    return ", ".join(f"{key.partition('.')[2]} {shown(value)}" for key, value in values.items())


def shown(value: Any) -> str:
    """Return a scanned value as people write it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def trainings_of(models: Mapping[str, Model], scan: str) -> list[str]:
    """Return the trainings of a scan by name; none where there is no such scan."""
    return [name for name, model in models.items() if model.scanned is not None and model.scanned.scan == scan]


def sharing(models: Mapping[str, Model], name: str, key: str) -> list[str]:
    """Return the models that have a training key from the same place of the card: of this one's scan, or it alone."""
    scanned = models[name].scanned
    if scanned is None or f"training.{key}" in scanned.values:
        return [name]
    return trainings_of(models, scanned.scan)


def as_written(problems: Sequence[str], models: Mapping[str, Model]) -> list[str]:
    """Return problems of a scan's trainings under the keys that the card has, each once."""
    lines = []
    for problem in problems:
        key, colon, rest = problem.partition(": ")
        for name, model in models.items():
            if model.scanned is not None and key.startswith(f"models.{name}."):
                inner = key.removeprefix(f"models.{name}.")
                where = f"scan.{model.scanned.kind}." if inner in model.scanned.values else ""
                key = f"models.{model.scanned.scan}.{where}{inner}"
                break
        lines.append(f"{key}{colon}{rest}")
    return list(dict.fromkeys(lines))


def name_of(scan: str, values: Mapping[str, Any]) -> str:
    """Return the name of a grid's training.

    Parameters
    ----------
    scan : str
        Name of the scan.
    values : mapping
        Dotted key -> value. Numbers are written as `512`, or the shorter of `0p05` and `5em2`: only the value counts,
        not how the card writes it.
    """
    parts = [scan]
    for key in sorted(values):
        label, text = key.partition(".")[2], _in_name(values[key])
        parts.append(f"{SHORT.get(label, label)}{'' if text[:1].isdigit() else '_'}{text}")
    return "_".join(parts)


def draw(choice: Range | Sequence[Any], seed: int, scan: str, number: int, key: str) -> Any:
    """Return the value of a key in a drawn training.

    Parameters
    ----------
    choice : Range or sequence
        What it is drawn from.
    seed, scan, number, key
        All that the value depends on: seed of the study, name of the scan, number of the training from 1, dotted key.
    """
    text = f"{seed}/scan/{scan}/{number}/{key}"
    share = (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11) / 2**53  # in [0, 1)
    if not isinstance(choice, Range):
        return choice[int(share * len(choice))]
    low, high = (choice.low, choice.high + 1) if choice.whole else (choice.low, choice.high)
    value = low * (high / low) ** share if choice.log else low + share * (high - low)
    if choice.whole:
        return min(math.floor(value), int(choice.high))
    return min(max(float(f"{value:.3g}"), choice.low), choice.high)


def _trainings(name: str, model: Model, scan: Scan, seed: int) -> Iterator[tuple[str, Model]]:
    if scan.grid is not None:
        keys = sorted(scan.grid)
        for values in itertools.product(*(scan.grid[key] for key in keys)):
            point = dict(zip(keys, values, strict=True))
            yield name_of(name, point), _with(name, model, scan, point)
    for number in range(1, (scan.trainings or 0) + 1):
        random = scan.random or {}
        point = {key: draw(random[key], seed, name, number, key) for key in sorted(random)}
        yield f"{name}_{number:02d}", _with(name, model, scan, point)


def _with(name: str, model: Model, scan: Scan, values: dict[str, Any]) -> Model:
    own = {"arguments": dict(model.arguments), "training": dict(model.training)}
    for key, value in values.items():
        section, _, inner = key.partition(".")
        own[section][inner] = value
    scanned = Scanned(scan=name, kind=scan.kind, values=values)
    return Model(architecture=model.architecture, **own, scanned=scanned)


def _wrong(name: str, model: Model, scan: Scan) -> Iterator[str]:
    """Yield what is wrong with the keys and values of a scan, each under its dotted key."""
    choices: Mapping[str, Range | Sequence[Any]] = scan.random if scan.grid is None else scan.grid  # type: ignore[assignment]
    for key, choice in choices.items():
        where = f"models.{name}.scan.{scan.kind}.{key}"
        section, _, inner = key.partition(".")
        if section not in ("training", "arguments") or not inner:
            yield f"{where}: unknown key; a scan takes training.KEY (a key of section training) and arguments.NAME"
        elif section == "training" and inner not in Training.model_fields:
            advice = known_keys(inner, [Training])
            if inner.partition(".")[0] in Training.model_fields:
                advice = f"scan training.{inner.partition('.')[0]}, with whole values"
            yield f"{where}: unknown key; {advice}"
        elif inner in getattr(model, section):
            yield f"{where}: stands in models.{name}.{section} too, where nothing would use it; take one out"
        elif section == "training":
            yield from _wrong_values(where.removesuffix(inner), inner, choice)
        if scan.grid is not None:
            yield from (f"{where}: {pair} give trainings of the same name; take one out" for pair in _alike(choice))
    if scan.grid is not None and math.prod(map(len, scan.grid.values())) > LARGEST:
        yield f"models.{name}.scan.grid: has more than {LARGEST} combinations; take values out, or draw some (random)"


def _wrong_values(prefix: str, key: str, choice: Range | Sequence[Any]) -> Iterator[str]:
    number = int if isinstance(choice, Range) and choice.whole else float
    for value in (number(choice.low), number(choice.high)) if isinstance(choice, Range) else choice:
        try:
            strictly(Training, {key: value})
        except ValidationError as error:
            yield from (prefix + line for line in describe(error, Training))


def _misplaced(name: str, model: Model) -> Iterator[str]:
    """Yield what a card says of a scan's training that is not so."""
    if model.scanned is None:
        return
    if model.scan is not None:
        yield f"models.{name}.scanned: stands beside a scan; the card writes it for each training of it"
    for key, value in model.scanned.values.items():
        section, _, inner = key.partition(".")
        own = {"training": model.training, "arguments": model.arguments}.get(section, {})
        if own.get(inner, ...) != value:
            yield f"models.{name}.scanned.values.{key}: found {value!r}, but models.{name}.{key} is something else"


def _alike(values: Range | Sequence[Any]) -> Iterator[str]:
    """Yield pairs of values that are the same in names."""
    seen: dict[str, Any] = {}
    for value in () if isinstance(values, Range) else values:
        text = _in_name(value)
        if text in seen:
            yield f"{shown(seen[text])!r} and {shown(value)!r}".replace("'", "")
        seen[text] = value


def _collision(name: str, point: str, rival: str) -> str:
    where = f"models.{name}.scan: a training of it is called {point!r}, as is"
    other = f"models.{point}" if rival == point else f"one of models.{rival}"
    return f"{where} {'another' if rival == name else other}; give one of them another name"


def _in_name(value: Any) -> str:
    """Return a value in letters, digits and `_`."""
    if value is None or isinstance(value, (bool, str)):
        return re.sub(r"[^A-Za-z0-9_]", "_", "none" if value is None else str(value).lower()) or "empty"
    if isinstance(value, Mapping):
        return "_".join(f"{key}{_in_name(one)}" for key, one in sorted(value.items())) or "default"
    if isinstance(value, Sequence):
        return "x".join(map(_in_name, value)) or "none"
    number = Decimal(repr(value)).normalize()
    fixed = format(number, "f")
    if number == number.to_integral_value() and abs(number) < Decimal("1e7"):
        return fixed.replace("-", "m")
    digits = "".join(map(str, number.as_tuple().digits))
    sign, point = "-" if number < 0 else "", "." if len(digits) > 1 else ""
    scientific = f"{sign}{digits[0]}{point}{digits[1:]}e{number.adjusted()}"
    return min(fixed, scientific, key=len).replace("-", "m").replace(".", "p")
