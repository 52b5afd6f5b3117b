"""Expressions of the card, evaluated on the columns of a chunk.

A value per event meets values per object by being repeated for the objects of its event; objects of two collections
don't meet. Whole numbers and flags keep their meaning, all else is worked out in double precision: powers, and what
is divided by zero. In arithmetic a flag is 0 or 1.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.expressions import REDUCTIONS, parsed
from pfnano_tag.errors import BadChunk, CardError
from pfnano_tag.nano.columns import Jagged, list_of_row
from pfnano_tag.nano.reader import Chunk

Values = NDArray[Any]


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that takes flags for 0 and 1: NumPy's sum of two flags is a flag, its root a half float."""

    def counted(*values: Any) -> Any:
        arrays = [np.asarray(value) for value in values]
        return function(*(one.astype(np.int64) if one.dtype == np.bool_ else one for one in arrays))

    return counted


def _doubled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a division that is done in doubles where whole numbers are divided by zero, which NumPy takes for 0."""

    def divided(first: Values, second: Values) -> Any:
        whole = not np.all(second) and np.result_type(first, second).kind in "iu"
        return function(first.astype(np.float64), second) if whole else function(first, second)

    return _counted(divided)


def _power(base: Values, exponent: Values) -> Any:
    return np.power(base.astype(np.float64), exponent)


OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _counted(np.add),
    ast.Sub: _counted(np.subtract),
    ast.Mult: _counted(np.multiply),
    ast.Div: _counted(np.divide),
    ast.FloorDiv: _doubled(np.floor_divide),
    ast.Mod: _doubled(np.mod),
    ast.Pow: _counted(_power),
    ast.BitAnd: np.bitwise_and,
    ast.BitOr: np.bitwise_or,
    ast.And: np.logical_and,
    ast.Or: np.logical_or,
    ast.USub: _counted(np.negative),
    ast.UAdd: _counted(np.positive),
    ast.Invert: np.invert,
    ast.Not: np.logical_not,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}


def expression_branches(text: str) -> tuple[str, ...]:
    """Return the branches that an expression names."""
    return parsed(text).names


def check_expression(text: str, chunk: Chunk) -> str | None:
    """Return the collection whose objects an expression has values for; None where it has one value per event.

    Parameters
    ----------
    text : str
        Of the card.
    chunk : Chunk
        Of the file; an empty one tells all.

    Raises
    ------
    CardError
        When the expression makes no sense for the file: objects of two collections meet, `sum` and its like are
        taken of a value per event, `& | ~` of numbers that are not whole.
    """
    try:
        evaluate(text, chunk)
    except BadChunk as error:
        raise CardError(error.reason) from error
    return collection_of(text, chunk)


def collection_of(text: str, chunk: Chunk) -> str | None:
    """Return the collection whose objects an expression has values for, by the names of its branches."""
    return _collection(parsed(text).tree, text, chunk)


def _collection(node: ast.expr, text: str, chunk: Chunk) -> str | None:
    if isinstance(node, ast.Name):
        return node.id.partition("_")[0] if node.id != "pi" and isinstance(chunk[node.id], Jagged) else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REDUCTIONS:
        _collection(node.args[0], text, chunk)  # what is inside must make sense, too
        return None
    parts = node.args if isinstance(node, ast.Call) else list(ast.iter_child_nodes(node))
    found = [_collection(part, text, chunk) for part in parts if isinstance(part, ast.expr)]
    names = sorted({name for name in found if name is not None})
    if len(names) > 1:
        raise CardError(f"{text!r} mixes objects of two collections, {names[0]} and {names[1]}")
    return names[0] if names else None


def evaluate(text: str, chunk: Chunk) -> Jagged | NDArray[Any]:
    """Return the value of an expression for a chunk: one per event, or per object of a collection.

    Parameters
    ----------
    text : str
        Of the card.
    chunk : Chunk
        Events.

    Raises
    ------
    MissingBranch
        When the file lacks a branch.
    BadChunk
        When something can't be read, objects of two collections meet, or whole numbers and flags are asked for and
        others are there (`& | ~`).
    """
    expression = parsed(text)
    chunk.load(expression.names)
    with np.errstate(all="ignore"):  # what is not finite is for the caller to judge
        try:
            found = _Evaluation(chunk, text).of(expression.tree)
        except TypeError as error:
            raise chunk.bad(f"{text!r}: {error}") from error
    return found


class _Evaluation:
    """The walk through one expression."""

    def __init__(self, chunk: Chunk, text: str) -> None:
        self.chunk, self.text = chunk, text

    def of(self, node: ast.expr) -> Any:
        """Return the value of a node: `Jagged`, an array with a value per event, or a number."""
        if isinstance(node, ast.Name):
            return np.pi if node.id == "pi" else self._branch(node.id)
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.BinOp):
            return self._apply(OPERATORS[type(node.op)], [node.left, node.right])
        if isinstance(node, ast.UnaryOp):
            return self._apply(OPERATORS[type(node.op)], [node.operand])
        if isinstance(node, ast.BoolOp):
            return self._chain([self.of(value) for value in node.values], OPERATORS[type(node.op)])
        if isinstance(node, ast.Compare):
            sides = [self.of(side) for side in (node.left, *node.comparators)]
            pairs = zip(node.ops, sides[:-1], sides[1:], strict=True)
            compared = [self._elementwise(OPERATORS[type(op)], [left, right]) for op, left, right in pairs]
            return self._chain(compared, np.logical_and)
        assert isinstance(node, ast.Call)  # nothing else is let through
        assert isinstance(node.func, ast.Name)
        if node.func.id in REDUCTIONS:
            return self._reduce(node.func.id, self.of(node.args[0]))
        function = getattr(np, node.func.id)
        return self._apply(function if node.func.id == "where" else _counted(function), node.args)

    def _branch(self, name: str) -> Any:
        column = self.chunk[name]
        values = column.values if isinstance(column, Jagged) else column
        wide = values.astype(np.float64) if values.dtype.kind == "f" else values
        # unsigned numbers would wrap around in differences
        wide = wide.astype(np.int64) if wide.dtype.kind in "iu" else wide
        return Jagged(wide, column.offsets) if isinstance(column, Jagged) else wide

    def _apply(self, function: Callable[..., Any], nodes: list[ast.expr]) -> Any:
        return self._elementwise(function, [self.of(node) for node in nodes])

    def _chain(self, values: list[Any], function: Callable[..., Any]) -> Any:
        result = values[0]
        for value in values[1:]:
            result = self._elementwise(function, [result, value])
        return result

    def _elementwise(self, function: Callable[..., Any], values: list[Any]) -> Any:
        """Apply a function; values per event are repeated for the objects that they meet."""
        jagged = [value for value in values if isinstance(value, Jagged)]
        if not jagged:
            return function(*values)
        offsets = jagged[0].offsets
        for other in jagged[1:]:
            if other.offsets is not offsets and not np.array_equal(other.offsets, offsets):
                raise self.chunk.bad(f"{self.text!r} mixes objects of two collections")
        event = list_of_row(offsets)
        flat = [
            value.values if isinstance(value, Jagged) else value[event] if isinstance(value, np.ndarray) else value
            for value in values
        ]
        return Jagged(function(*flat), offsets)

    def _reduce(self, name: str, value: Any) -> NDArray[Any]:
        if not isinstance(value, Jagged):
            raise self.chunk.bad(f"{self.text!r}: {name} is taken of a value that events have once")
        event, events = list_of_row(value.offsets), len(value)
        if name == "sum":
            return np.bincount(event, value.values.astype(np.float64), events)
        true = np.bincount(event[value.values.astype(np.bool_)], minlength=events)
        return {"count": true, "any": true > 0, "all": true == value.counts}[name]
