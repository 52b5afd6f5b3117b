"""Corrections of correctionlib files (schema version 2) as factors of the event weight.

Inputs come from branches, by expression, or are the same for all events. Where an input has a value per object, the
factor of an event is the product over its objects. A correction is evaluated for whole arrays; only where it refuses
one is it looked up which rows lie outside of its range (`correction_trees`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.correction_files import Correction, input_types, open_corrections
from pfnano_tag.analyze.correction_trees import Columns, Literally, Outside, keys_at, outside
from pfnano_tag.analyze.result import NOMINAL
from pfnano_tag.card.weights import CorrectionFactor
from pfnano_tag.errors import CardError, DataError, nearest
from pfnano_tag.nano.columns import Index, Jagged, list_of_row
from pfnano_tag.nano.expressions import evaluate, expression_branches
from pfnano_tag.nano.reader import Chunk

log = logging.getLogger(__name__)
Values = NDArray[np.float64]

ROUNDS = 8
"""How often values are brought to the edge of bins: bins within bins of the same input may have other ranges."""
LITERALS: dict[str, tuple[type, ...]] = {"string": (str,), "int": (int,), "real": (int, float)}
"""What the card may say for inputs of a type that are the same for all."""
OPERATIONS = {"+": np.add, "*": np.multiply, "/": np.divide}

_said: set[tuple[str, str]] = set()


@dataclass(frozen=True)
class CorrectionWeights:
    """A correction with its inputs, ready for chunks.

    Parameters
    ----------
    name : str
        Of the factor in section `weights.factors`.
    factor : CorrectionFactor
        Of the card.
    correction : Correction
        Of the file.
    """

    name: str
    factor: CorrectionFactor
    correction: Correction

    @property
    def expressions(self) -> dict[str, str]:
        """Expressions by input."""
        types = self.correction.types
        given = self.factor.inputs.items()
        return {name: value for name, value in given if isinstance(value, str) and types.get(name) != "string"}

    @property
    def literals(self) -> dict[str, Literally]:
        """Inputs with one value for all, the variation apart."""
        return {name: value for name, value in self.factor.inputs.items() if name not in self.expressions}

    @property
    def settings(self) -> dict[str, dict[str, Literally]]:
        """The input that says the variation with its value, by variation; empty without such an input."""
        variation = self.factor.variation
        if variation is None:
            return {NOMINAL: {}}
        return {way: {variation.input: getattr(variation, way)} for way in (NOMINAL, *self.factor.directions)}

    @property
    def branches(self) -> tuple[str, ...]:
        """Branches that the inputs and `where` name."""
        texts = [*self.expressions.values(), *([self.factor.where] if self.factor.where else [])]
        return tuple(dict.fromkeys(branch for text in texts for branch in expression_branches(text)))

    def problems(self) -> list[str]:
        """Return what is wrong with the inputs that the card names, one line each."""
        types, where = self.correction.types, f"weights.factors.{self.name}"
        of_file = f"correction {self.correction.name!r} of {self.correction.path}"
        variation = self.factor.variation
        asked = {name: f"inputs.{name}" for name in self.factor.inputs}
        asked |= {} if variation is None else {variation.input: "variation.input"}
        found = [
            f"{where}.{key}: {of_file} has no input {name!r}; {_hint(name, types)}"
            for name, key in asked.items()
            if name not in types
        ]
        found += [
            f"{where}.inputs: {name!r} ({kind}) is missing, {of_file} needs it"
            for name, kind in types.items()
            if name not in asked
        ]
        if not self.correction.steps:
            found.append(f"{where}.correction: {of_file} is made of no corrections")
        for name, text in self.expressions.items():
            try:
                expression_branches(text)
            except ValueError as error:
                found.append(f"{where}.inputs.{name}: {error}")
        return [*found, *self._wrong_values(where, of_file)]

    def _wrong_values(self, where: str, of_file: str) -> list[str]:
        """Return which literals have another type than their input, or a value that the correction doesn't know."""
        found = []
        for way, setting in self.settings.items():
            fixed = {**self.literals, **setting}
            for name, value in fixed.items():
                kind = self.correction.types.get(name)
                key = f"{where}.variation.{way}" if name in setting else f"{where}.inputs.{name}"
                if kind is not None and not isinstance(value, LITERALS[kind]):
                    found.append(f"{key}: found {value!r}, but input {name!r} of {of_file} is of type {kind}")
                    continue
                for _, content in self.correction.steps:
                    known = keys_at(content["data"], name, fixed) if name in input_types(content) else None
                    if known is not None and value not in known:
                        hint = _hint(str(value), map(str, known))
                        found.append(f"{key}: {of_file} has no {name} {value!r}; {hint}")
        return list(dict.fromkeys(found))

    def evaluate(self, chunk: Chunk) -> tuple[dict[str, Values], int]:
        """Return the factor of a chunk's events.

        Returns
        -------
        dict of ndarray of float64 [events]
            `nominal`, and `up` and `down` where there are. NaN where an input is not finite.
        int
            How many events or objects had an input that was brought to the edge of the correction's range.

        Raises
        ------
        DataError
            When the correction has no value for an event or object, and the card doesn't let inputs be clamped (or
            they can't be); when values of an integer input are no whole numbers, or inputs belong to objects of
            different collections.
        """
        given: dict[str, Any] = {name: evaluate(text, chunk) for name, text in self.expressions.items()}
        if self.factor.where is not None:
            given["where"] = evaluate(self.factor.where, chunk)
        offsets, flat = self._flat(given, chunk)
        rows = len(flat["where"]) if "where" in flat else (chunk.num_events if offsets is None else int(offsets[-1]))
        chosen = np.flatnonzero(flat.pop("where", np.ones(rows, dtype=np.bool_)))
        finite = np.all([np.isfinite(values[chosen]) for values in flat.values()], axis=0) if flat else True
        known = chosen[np.broadcast_to(finite, chosen.shape)]
        event = np.arange(rows) if offsets is None else list_of_row(offsets)
        inputs = {name: self._typed(name, values[known], chunk, event[known]) for name, values in flat.items()}
        result: dict[str, Values] = {}
        clamped = np.zeros(len(known), dtype=np.bool_)
        for way, setting in self.settings.items():
            values, moved = self._of_rows({**inputs, **self.literals, **setting}, chunk, event[known])
            result[way] = np.ones(chunk.num_events)
            np.multiply.at(result[way], event[known], values)
            result[way][event[np.setdiff1d(chosen, known)]] = np.nan
            clamped |= moved
        return result, int(np.count_nonzero(clamped))

    def _flat(self, given: Mapping[str, Any], chunk: Chunk) -> tuple[Index | None, dict[str, NDArray[Any]]]:
        """Return values per row, and the rows of each event: None where a row is an event."""
        lists = {name: value for name, value in given.items() if isinstance(value, Jagged)}
        if not lists:
            return None, {n: np.broadcast_to(np.asarray(v), chunk.num_events) for n, v in given.items()}
        first, offsets = next((name, value.offsets) for name, value in lists.items())
        for name, value in lists.items():
            if not np.array_equal(value.offsets, offsets):
                raise DataError(
                    f"{chunk.file.path}: weights.factors.{self.name}: {first} and {name} are of objects of two "
                    "collections; a correction takes the inputs of one"
                )
        event = list_of_row(offsets)
        return offsets, {n: v.values if isinstance(v, Jagged) else np.asarray(v)[event] for n, v in given.items()}

    def _typed(self, name: str, values: NDArray[Any], chunk: Chunk, event: Index) -> NDArray[Any]:
        if self.correction.types[name] != "int":
            return values.astype(np.float64)
        broken = np.flatnonzero(values != np.floor(values))
        if len(broken):
            raise DataError(
                f"{chunk.file.path}, entry {chunk.start + event[broken[0]]}: weights.factors.{self.name}: input "
                f"{name!r} is a whole number, but {self.expressions[name]} is {values[broken[0]]:g}"
            )
        return values.astype(np.int64)

    def _of_rows(self, columns: Columns, chunk: Chunk, event: Index) -> tuple[Values, NDArray[np.bool_]]:
        """Return the correction of rows, and which of them were clamped; compound ones step by step."""
        current = dict(columns)
        moved = np.zeros(len(event), dtype=np.bool_)
        result: Values | None = None
        compound = self.correction.compound
        for step in self.correction.steps:
            values, clamped = self._step(step, current, chunk, event)
            moved |= clamped
            for name in compound.get("inputs_update", ()):
                current[name] = OPERATIONS[compound["input_op"]](current[name], values)
            if result is None or compound["output_op"] == "last":
                result = values
            else:
                result = OPERATIONS[compound["output_op"]](result, values)
        assert result is not None  # a correction has a step
        return result, moved

    def _step(
        self, step: tuple[Any, Mapping[str, Any]], columns: Columns, chunk: Chunk, event: Index
    ) -> tuple[Values, NDArray[np.bool_]]:
        evaluator, content = step
        taken = {name: columns[name] for name in input_types(content)}
        moved = np.zeros(len(event), dtype=np.bool_)
        everywhere = np.arange(len(event))
        for _ in range(ROUNDS):
            try:
                values = evaluator.evaluate(*taken.values())
                return np.broadcast_to(np.asarray(values, dtype=np.float64), event.shape), moved
            except (RuntimeError, IndexError) as error:
                reason = str(error)
            found = list(outside(content["data"], taken, everywhere)) if len(event) else []
            refused = found if self.factor.outside == "error" else [one for one in found if one.keys]
            if refused:
                raise self._refusal(refused, taken, content["name"], chunk, event)
            for one in found:
                self._say_once(one, taken, content["name"])
                taken[one.input] = _clamped(taken[one.input], one, len(event))
                moved[one.rows] = True
            if not found:
                break
        raise DataError(f"{chunk.file.path}, {self._who(content['name'])}: correctionlib says: {reason}")

    def _say_once(self, one: Outside, columns: Columns, correction: str) -> None:
        if (self.name, one.input) not in _said:
            _said.add((self.name, one.input))
            log.warning(
                "%s: taken at the edge, here and wherever else it is so", self._found(one, columns, correction)
            )

    def _refusal(
        self, refused: list[Outside], columns: Columns, correction: str, chunk: Chunk, event: Index
    ) -> DataError:
        """Return the error that names the first value without a correction, and how many there are."""
        first = min(refused, key=lambda one: int(one.rows[0]))
        number = len(np.unique(np.concatenate([one.rows for one in refused])))
        advice = "leave such objects or events out by `where`"
        if not first.keys:
            advice += ", or set outside: clamp to take the value at the edge"
        return DataError(
            f"{chunk.file.path}, entry {chunk.start + event[first.rows[0]]} ({number} such in entries {chunk.start} "
            f"to {chunk.stop}): {self._found(first, columns, correction)}; {advice}"
        )

    def _found(self, one: Outside, columns: Columns, correction: str) -> str:
        value = columns[one.input]
        shown = value[one.rows[0]] if isinstance(value, np.ndarray) else value
        text = f"{shown:.7g}" if isinstance(shown, float) else str(shown)
        return f"{self._who(correction)} has no value at {one.input} = {text}; its range is {one.allowed}"

    def _who(self, correction: str) -> str:
        return f"weights.factors.{self.name}: correction {correction!r} of {self.correction.path}"


def _clamped(value: NDArray[Any] | Literally, one: Outside, rows: int) -> NDArray[Any]:
    """Return values with those outside of bins at their edge; the upper edge itself is outside."""
    values = np.array(value) if isinstance(value, np.ndarray) else np.full(rows, value)
    if values.dtype.kind == "i":
        low, high = int(np.ceil(one.low)), int(np.ceil(one.high)) - 1
        values[one.rows] = np.clip(values[one.rows], low, high)
    else:
        values[one.rows] = np.clip(values[one.rows], one.low, np.nextafter(one.high, -np.inf))
    return values


def _hint(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = nearest(name, names)
    return f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(names[:12]) or 'none'}"


def corrections_of(
    name: str, factor: CorrectionFactor, opened: dict[str, dict[str, Correction]]
) -> CorrectionWeights:
    """Return a factor's correction, checked against the card.

    Parameters
    ----------
    name : str
        Of the factor.
    factor : CorrectionFactor
        Of the card.
    opened : dict
        Files that were read already, by path; this one is added.

    Raises
    ------
    MissingExtra
        When correctionlib is not installed.
    CardError
        With every problem of the file and of the inputs that the card names.
    """
    where = f"weights.factors.{name}"
    try:
        there = opened.get(factor.file) or opened.setdefault(factor.file, open_corrections(factor.file))
    except CardError as error:
        raise CardError(f"{where}.file: {error}") from error
    if factor.correction not in there:
        raise CardError(
            f"{where}.correction: {factor.file} has no correction {factor.correction!r}; "
            f"{_hint(factor.correction, there)}"
        )
    found = CorrectionWeights(name, factor, there[factor.correction])
    problems = found.problems()
    if problems:
        raise CardError("\n".join(problems))
    return found
