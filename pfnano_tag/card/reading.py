"""Reading a study card: YAML 1.2, overrides from the command line, every problem at once."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pfnano_tag.card.base import strictly
from pfnano_tag.card.card import Card
from pfnano_tag.card.consistency import contradictions, raw_overrides, sound_parts
from pfnano_tag.card.problems import describe
from pfnano_tag.card.shipped import find_yaml
from pfnano_tag.card.site import find_site, with_site
from pfnano_tag.errors import CardError

SHIPPED = Path(__file__).parent / "cards"
"""Folder of the shipped cards; a card may be named without folder and ending."""


def find_card(name: str | Path) -> Path:
    """Return the path of a card: a file, or a shipped card by name (`demo`).

    Raises
    ------
    CardError
        When there is neither.
    """
    return find_yaml(name, SHIPPED, "card")


def read_card(path: str | Path, overrides: Sequence[str] = ()) -> Card:
    """Read and validate a study card.

    Parameters
    ----------
    path : str or Path
        YAML file, or the name of a shipped card.
    overrides : sequence of str
        `key.sub=value` with the value in YAML; list entries by index, or datasets by name.

    Returns
    -------
    Card

    Raises
    ------
    CardError
        With all problems, one per line.
    """
    source = find_card(path)
    content = _parse(source)
    problems = []
    for override in overrides:
        try:
            _apply(content, override)
        except CardError as error:
            problems.append(str(error))
    try:
        content = _over_its_site(content)
    except CardError as error:
        problems.append(str(error))
    return _validated(content, str(source), problems)


def _over_its_site(content: dict[str, Any]) -> dict[str, Any]:
    """Fill in the defaults of the site that the card names; a name that is no text is found out with the rest."""
    name = content.get("site")
    if not isinstance(name, str):
        return content
    path = find_site(name)
    return with_site(content, _parse(path), str(path))


def parse_yaml(text: str) -> Any:
    """Parse YAML 1.2 text: safe types only, duplicate keys are errors.

    Raises
    ------
    CardError
        When it is no YAML.
    """
    try:
        return YAML(typ="safe", pure=True).load(io.StringIO(text))
    except DuplicateKeyError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark is not None else ""
        raise CardError(f"{where}duplicate key: {str(error.problem).splitlines()[0]}") from error
    except MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark is not None else ""
        raise CardError(f"{where}not valid YAML: {error.problem or error.context}") from error
    except (YAMLError, ValueError) as error:
        raise CardError(f"not valid YAML: {error}") from error


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: can't be read: {error}") from error
    except CardError as error:
        raise CardError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        found = "empty" if content is None else f"a {type(content).__name__}"
        raise CardError(f"{path}: a card is a mapping of sections, this is {found}")
    return content


def _apply(content: dict[str, Any], override: str) -> None:
    """Set one key of the raw card; sections that are missing are made."""
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise CardError(f"override {override!r}: expected key=value, say training.epochs=3")
    try:
        value = parse_yaml(text)
    except CardError as error:
        raise CardError(f"override {override!r}: {error}") from error
    parts = _joined(content, parts)
    node: Any = content
    for depth in range(1, len(parts)):
        node = _step(node, parts[:depth], key)
    last = parts[-1]
    if isinstance(node, list):
        node[_index(node, last, key)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise CardError(f"override {override!r}: {'.'.join(parts[:-1])} is a value, not a section")


def _joined(node: Any, parts: list[str]) -> list[str]:
    """Join parts that are one key of the card, as the keys of a scan, which are dotted themselves."""
    joined = []
    while parts:
        known = node if isinstance(node, dict) else {}
        width = next((n for n in range(len(parts), 1, -1) if ".".join(parts[:n]) in known), 1)
        joined.append(".".join(parts[:width]))
        node, parts = known.get(joined[-1]), parts[width:]
    return joined


def _step(node: Any, parts: list[str], key: str) -> Any:
    """Go one level down to the last of `parts`; what is missing there begins as its default."""
    part = parts[-1]
    if isinstance(node, list):
        return node[_index(node, part, key)]
    if not isinstance(node, dict):
        raise CardError(f"override of {key}: {part!r} lies inside a value, not a section")
    if node.get(part) is None:
        node[part] = _default_at(parts)
    return node[part]


def _default_at(parts: list[str]) -> Any:
    """Return the default list or named entries at a key, so that an override changes or adds one entry."""
    field = Card.model_fields.get(parts[0])
    if field is None or field.is_required():
        return {}
    default = field.get_default(call_default_factory=True)
    if isinstance(default, dict):
        entries = {name: entry.model_dump(mode="json") for name, entry in default.items()}
        return entries if len(parts) == 1 else {}
    node: Any = default.model_dump(mode="json")
    for part in parts[1:]:
        node = node.get(part) if isinstance(node, dict) else None
    return node if isinstance(node, list) else {}


def _index(entries: list[Any], part: str, key: str) -> int:
    """Return the position of a list entry, by index or by its `name`."""
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(entries):
        return int(part)
    raise CardError(f"override of {key}: the list has {len(entries)} entries and none is called {part!r}")


def _validated(content: dict[str, Any], source: str, problems: list[str]) -> Card:
    try:
        card = strictly(Card, content)
    except ValidationError as error:
        found = describe(error, Card, content)
        if any("error" not in one.get("ctx", {}) or one["loc"] for one in error.errors(include_url=False)):
            found += contradictions(sound_parts(Card, content), raw_overrides(content))  # it saw only its fields
        problems = [*problems, *dict.fromkeys(found)]
    except (ValueError, RecursionError) as error:
        raise CardError(f"{source}: the card contains itself (a YAML alias inside its own anchor)") from error
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        raise CardError(f"{source}: {count}\n" + "\n".join(f"  {problem}" for problem in problems))
    return card
