"""Wording what is wrong with a card: dotted key, what was found, what is allowed, nearest known key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from pfnano_tag.card.allowed import allowed, alternatives, sections_in
from pfnano_tag.card.base import Section
from pfnano_tag.errors import nearest

LONGEST_VALUE = 60


class Inconsistent(ValueError):
    """Sections of a card, each right in itself, contradict each other.

    Parameters
    ----------
    problems : sequence of str
        One per contradiction, each beginning with its dotted key.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class _Place:
    """Where in the card a problem lies: dotted key, the field there, the sections around it and inside it."""

    key: str
    field: FieldInfo | None
    around: tuple[type[Section], ...]
    inside: tuple[type[Section], ...]


def describe(error: ValidationError, model: type[Section], content: Any = None) -> list[str]:
    """Turn a validation error into one line per problem.

    Parameters
    ----------
    error : pydantic.ValidationError
        What pydantic found.
    model : type
        The section that was validated, to find fields and nearest known keys.
    content : object
        What was validated, so that entries of a list can be called by their name.

    Returns
    -------
    list of str
        Each problem once, in the order of the card.
    """
    lines: dict[str, str] = {}
    problems = error.errors(include_url=False)
    for problem in problems:
        if problem["type"] == "too_short" and _holds_another(problem["loc"], problems):
            continue  # only the entries that are right were counted
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, Inconsistent):
            lines |= {line: line for line in cause.problems}
            continue
        place = _place_of(problem["loc"], model, content)
        if place.key not in lines:  # each member of a union complains of the same value
            lines[place.key] = _line(dict(problem), place)
    return list(lines.values())


def _holds_another(location: tuple[Any, ...], problems: Sequence[Any]) -> bool:
    depth = len(location)
    return any(len(other["loc"]) > depth and other["loc"][:depth] == location for other in problems)


def _line(problem: dict[str, Any], place: _Place) -> str:
    if problem["type"] == "extra_forbidden":
        return f"{place.key}: unknown key; {known_keys(str(problem['loc'][-1]), place.around)}"
    if problem["type"] == "missing":
        return f"{place.key}: this key is needed and has no default{_may_be(place)}"
    if problem["type"].startswith("union_tag"):
        name, choices = _tags(place.inside)
        found = _shown(problem["ctx"]["tag"]) if "tag" in problem["ctx"] else "nothing, but this key is needed"
        return f"{place.key}.{name}: found {found}; allowed: {choices}"
    if "error" in problem.get("ctx", {}):
        return f"{place.key}: {problem['ctx']['error']}"
    return f"{place.key}: found {_shown(problem['input'])}{_may_be(place) or '; ' + problem['msg']}"


def known_keys(key: str, sections: Iterable[type[Section]]) -> str:
    """Return the known keys nearest to an unknown one, or all when none is near."""
    known = sorted({name for section in sections for name in section.model_fields})
    hint = nearest(key, known)
    return f"nearest: {', '.join(hint)}" if hint else f"known: {', '.join(known)}"


def _may_be(place: _Place) -> str:
    return f"; allowed: {allowed(place.field)}" if place.field is not None else ""


def _shown(value: Any) -> str:
    if isinstance(value, (dict, Section)):
        return "a mapping"
    text = "null" if value is None else repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _tags(sections: Sequence[type[Section]]) -> tuple[str, str]:
    """Return the key that tells alternative sections apart, and its choices."""
    name = next(iter(sections[0].model_fields))
    return name, ", ".join(allowed(section.model_fields[name]).removeprefix("one of ") for section in sections)


def _place_of(location: Sequence[Any], model: type[Section], content: Any) -> _Place:
    """Follow a location of pydantic through the annotations; labels of union members are no part of the key."""
    keys: list[str] = []
    annotation: Any = model
    field: FieldInfo | None = None
    around: list[type[Section]] = [model]
    for part in location:
        members = alternatives(annotation)
        if len(members) > 1:
            tagged = [section for section in sections_in(annotation) if _has_tag(section, part)]
            if not tagged:  # the label of one member of a union of plain types: all share the key
                around = sections_in(annotation) or around
                break
            annotation, around = tagged[0], tagged
            continue
        annotation = members[0]
        sections = sections_in(annotation) if isinstance(annotation, type) else []
        keys.append(_name_of(content, part))
        content = _inside(content, part)
        if sections:
            around = sections
            field = sections[0].model_fields.get(str(part))
            annotation = field.annotation if field is not None else None
        elif get_origin(annotation) in (dict, tuple):
            annotation = get_args(annotation)[1 if get_origin(annotation) is dict else 0]
            field = None if sections_in(annotation) else field
    return _Place(".".join(keys) or "card", field, tuple(around), tuple(sections_in(annotation)))


def _has_tag(section: type[Section], tag: Any) -> bool:
    first = next(iter(section.model_fields.values()))
    return tag in get_args(first.annotation)


def _name_of(content: Any, part: Any) -> str:
    """Return a list entry's name where it tells the entries apart, as overrides take it; else the index."""
    if isinstance(part, int) and isinstance(content, list):
        names = [entry.get("name") if isinstance(entry, dict) else None for entry in content]
        if part < len(names) and isinstance(names[part], str) and names.count(names[part]) == 1:
            return str(names[part])
    return str(part)


def _inside(content: Any, part: Any) -> Any:
    if isinstance(content, dict):
        return content.get(part)
    return content[part] if isinstance(content, list) and isinstance(part, int) and part < len(content) else None
