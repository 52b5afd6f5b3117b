"""What every section of the card has in common: frozen, no unknown keys, no silent conversions."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

Validated = TypeVar("Validated")


class Section(BaseModel):
    """One section of the card: immutable, every key known, values checked also for defaults."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def strictly(target: type[Validated] | TypeAdapter[Validated], content: Any) -> Validated:
    """Validate raw content without conversions: the text `no` is no boolean, `"3"` no number.

    JSON's rules do just that, and still take lists for tuples and text for paths.

    Parameters
    ----------
    target : type or pydantic.TypeAdapter
        What the content is to be.
    content : object
        From YAML: mappings, lists and scalars (dates count as the text they were).

    Raises
    ------
    pydantic.ValidationError
        With every problem.
    """
    adapter = target if isinstance(target, TypeAdapter) else TypeAdapter(target)
    return adapter.validate_json(json.dumps(content, default=str), strict=True)
