"""What a key of the card may be, in words; for error messages and `--explain`."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from pfnano_tag.card.base import Section

PLAIN = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", Any: "anything"}
SIGNS = {
    annotated_types.Ge: (">=", "ge"),
    annotated_types.Gt: (">", "gt"),
    annotated_types.Le: ("<=", "le"),
    annotated_types.Lt: ("<", "lt"),
}


def allowed(field: FieldInfo) -> str:
    """Return what the value of a field may be, such as `whole number >= 1`."""
    return _with_bounds(_words(field.annotation), field.metadata)


def sections_in(annotation: Any) -> list[type[Section]]:
    """Return the sections inside an annotation: itself, or those in its mapping, list or alternatives."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_in(part)]


def alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union without None; of anything else, itself; `Annotated` is looked through."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return [member for part in parts for member in alternatives(part)]
    return [annotation]


def _words(annotation: Any) -> str:
    if annotation in (None, type(None)):
        return "null"
    if annotation in PLAIN:
        return PLAIN[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _with_bounds(_words(arguments[0]), list(arguments[1:]))
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        return _choices(annotation)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"list of {len(arguments)}: " + ", ".join(_words(part) for part in arguments)
    if origin is tuple:
        return f"list of {_several(_words(arguments[0]))}"
    if origin is dict:
        return f"mapping of names to {_several(_words(arguments[1]))}"
    return "section with " + ", ".join(sorted({name for one in sections_in(annotation) for name in one.model_fields}))


def _choices(annotation: Any) -> str:
    """Return the alternatives of a union; several sections are told apart by their first key."""
    parts = get_args(annotation)
    if all(sections_in(part) for part in parts):
        return "section with " + " | ".join(", ".join(section.model_fields) for section in sections_in(annotation))
    return " or ".join(_words(part) for part in parts)


def _several(words: str) -> str:
    for one, many in (("section", "sections"), ("number", "numbers"), ("text", "texts")):
        words = words.replace(one, many, 1) if words.startswith((one, f"whole {one}")) else words
    return words


def _with_bounds(words: str, metadata: list[Any]) -> str:
    return " and ".join([" ".join([words, *list(_bounds(metadata))[:1]]), *list(_bounds(metadata))[1:]])


def _bounds(metadata: list[Any]) -> Iterator[str]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from _bounds(item.metadata)
        elif type(item) in SIGNS:
            sign, attribute = SIGNS[type(item)]
            yield f"{sign} {getattr(item, attribute)}"
        elif isinstance(item, annotated_types.MinLen):
            yield f"(at least {item.min_length})"
        elif getattr(item, "pattern", None):
            yield f"like {item.pattern}"
