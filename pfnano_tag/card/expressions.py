"""Expressions in the card: arithmetic over branches, such as `sqrt(MET_pt) * (nJet > 1)`; nothing else can be said.

The language is a part of Python's: numbers, names, `+ - * / // % **`, comparisons (also chained), `& | ~` and
`and or not`, and the functions below. A text is taken apart here, and nothing of it is ever run by Python.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

ELEMENTWISE: dict[str, int] = {
    **dict.fromkeys(("abs", "sqrt", "exp", "log", "log10", "sin", "cos", "tan", "sinh", "cosh", "tanh"), 1),
    **dict.fromkeys(("floor", "isfinite"), 1),
    **dict.fromkeys(("minimum", "maximum", "hypot", "arctan2"), 2),
    "where": 3,
}
"""Functions of values, with their numbers of arguments."""

REDUCTIONS = ("sum", "count", "any", "all")
"""Functions that make one value per event of the values of its objects; `count` counts those that are true."""

CONSTANTS = ("pi",)
BINARY = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr)
UNARY = (ast.USub, ast.UAdd, ast.Invert, ast.Not)
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)


@dataclass(frozen=True)
class Parsed:
    """An expression, taken apart.

    Parameters
    ----------
    text : str
        As in the card.
    tree : ast.expr
        Of known parts alone.
    names : tuple of str
        Branches, in the order in which they stand.
    """

    text: str
    tree: ast.expr
    names: tuple[str, ...]


def parsed(text: str) -> Parsed:
    """Take an expression apart.

    Parameters
    ----------
    text : str
        Of the card.

    Raises
    ------
    ValueError
        When it is no expression, or says something that the language hasn't.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise ValueError(f"{text!r} is no expression: {reason}") from error
    names: list[str] = []
    _check(tree, text, names)
    if not names:
        raise ValueError(f"{text!r} names no branch")
    return Parsed(text, tree, tuple(dict.fromkeys(names)))


def _check(node: ast.AST, text: str, names: list[str]) -> None:
    """Walk down; note the names, refuse what is not known."""
    if isinstance(node, ast.Name):
        if node.id not in CONSTANTS:
            names.append(node.id)
        return
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        return
    parts: list[ast.expr] = []
    if isinstance(node, ast.BinOp) and isinstance(node.op, BINARY):
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, UNARY):
        parts = [node.operand]
    elif isinstance(node, ast.BoolOp):
        parts = node.values
    elif isinstance(node, ast.Compare) and all(isinstance(op, COMPARISONS) for op in node.ops):
        parts = [node.left, *node.comparators]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        _check_call(node.func.id, len(node.args), text)
        parts = node.args
    if not parts:
        raise ValueError(
            f"{text!r}: {ast.unparse(node)!r} can't be said here; there are numbers, branches, + - * / // % **, "
            f"comparisons, & | ~, and {', '.join((*ELEMENTWISE, *REDUCTIONS))}"
        )
    for part in parts:
        _check(part, text, names)


def _check_call(name: str, arguments: int, text: str) -> None:
    wanted = 1 if name in REDUCTIONS else ELEMENTWISE.get(name)
    if wanted is None:
        raise ValueError(f"{text!r}: no function {name!r}; there are {', '.join((*ELEMENTWISE, *REDUCTIONS))}")
    if arguments != wanted:
        raise ValueError(f"{text!r}: {name} takes {wanted} values, not {arguments}")


def _sound(text: str) -> str:
    parsed(text)
    return text


Expression = Annotated[str, AfterValidator(_sound)]
"""A key of the card that holds an expression."""
