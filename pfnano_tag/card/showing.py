"""Showing a card: the resolved YAML, and the meaning of a key."""

from __future__ import annotations

import inspect
import io

from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from pfnano_tag.card.allowed import allowed, sections_in
from pfnano_tag.card.base import Section
from pfnano_tag.card.card import Card
from pfnano_tag.errors import CardError, nearest


def resolved_yaml(card: Card) -> str:
    """Return the card with every default filled in, as YAML that reads back to the same card."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.width = 10_000
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(card.model_dump(mode="json"), stream)
    return stream.getvalue()


def all_keys() -> dict[str, list[tuple[type[Section], FieldInfo]]]:
    """Return every dotted key, with the field (several where sections are alternatives, as regions are).

    Entries of lists and of named sections share the key of the list or mapping: `models.architecture`.
    """
    found: dict[str, list[tuple[type[Section], FieldInfo]]] = {}
    _collect(Card, "", found)
    return found


def explain(key: str) -> str:
    """Return the meaning, what is allowed, and the default of a dotted key.

    Parameters
    ----------
    key : str
        Such as `training.epochs`; names of entries and list indices may be left out or given
        (`models.architecture`, `models.deepsets.architecture`).

    Raises
    ------
    CardError
        When there is no such key, with the nearest ones.
    """
    table = all_keys()
    plain = _without_names(key.split("."), table)
    if plain is None:
        hint = nearest(key, table, count=5)
        raise CardError(f"the card has no key {key!r}; " + ("nearest: " + ", ".join(hint or list(Card.model_fields))))
    fields = table[plain]
    return "\n".join(_explained(key, section, field, several=len(fields) > 1) for section, field in fields)


def _explained(key: str, section: type[Section], field: FieldInfo, several: bool) -> str:
    where = f" ({_alternative(section)})" if several else ""
    lines = [f"{key}{where}: {_line(field)}"]
    inner = sections_in(field.annotation)
    for one in inner:
        lines.append(f"  {inspect.cleandoc(one.__doc__ or '')}")
        lines += [f"    {name}: {_line(part)}" for name, part in one.model_fields.items()]
    if not inner:
        lines.append(f"  allowed: {allowed(field)}")
    lines.append(f"  default: {_default_of(field)}")
    return "\n".join(lines)


def _alternative(section: type[Section]) -> str:
    """Return the key and value that choose a section among alternatives (`selection: dy`)."""
    name, field = next(iter(section.model_fields.items()))
    return f"{name}: {allowed(field).removeprefix('one of ')}"


def _line(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _collect(model: type[Section], prefix: str, found: dict[str, list[tuple[type[Section], FieldInfo]]]) -> None:
    for name, field in model.model_fields.items():
        found.setdefault(prefix + name, []).append((model, field))
        for section in sections_in(field.annotation):
            _collect(section, f"{prefix}{name}.", found)


def _without_names(parts: list[str], table: dict[str, list[tuple[type[Section], FieldInfo]]]) -> str | None:
    """Drop list indices and names of entries (`models.deepsets.training` -> `models.training`)."""
    plain = ""
    for part in parts:
        longer = f"{plain}.{part}" if plain else part
        if longer in table:
            plain = longer
        elif not plain or not any(_holds_entries(field) for _, field in table[plain]):
            return None
    return plain or None


def _holds_entries(field: FieldInfo) -> bool:
    """Whether a field is a list or mapping of sections, so that a name may follow it in a key."""
    return bool(sections_in(field.annotation)) and not isinstance(field.annotation, type)


def _default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "none, this key is needed"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Section):
        return "that of its keys"
    if isinstance(default, dict):
        return ", ".join(default) or "empty"
    if isinstance(default, (tuple, list)):
        return f"[{', '.join(str(item) for item in default)}]"
    if isinstance(default, bool):  # before numbers: 1 == True
        return str(default).lower()
    return "null" if default is None else str(default)
