"""Files of correctionlib (schema version 2): the corrections that they hold, as evaluators and as content."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pfnano_tag.errors import CardError, MissingExtra


@dataclass(frozen=True)
class Correction:
    """One correction of a file.

    Parameters
    ----------
    path, name : str
        File, and name therein.
    types : dict
        Input -> `real`, `int` or `string`, in the order of the correction's arguments.
    steps : tuple of (evaluator, dict)
        correctionlib's object and the JSON content: one of a plain correction, several of a compound one.
    compound : dict
        JSON content of the compound correction; empty for a plain one.
    """

    path: str
    name: str
    types: dict[str, str]
    steps: tuple[tuple[Any, Mapping[str, Any]], ...]
    compound: Mapping[str, Any] = field(default_factory=dict)


def open_corrections(path: str) -> dict[str, Correction]:
    """Return the corrections of a file by name, compound ones among them.

    Raises
    ------
    MissingExtra
        When correctionlib is not installed.
    CardError
        When the file can't be read, or correctionlib doesn't take it.
    """
    try:
        from correctionlib.highlevel import CorrectionSet
    except ImportError as error:
        raise MissingExtra(
            "weights.factors of kind correctionlib need the package correctionlib; install it with: "
            "pip install 'pfnano_tag[cms]'"
        ) from error
    try:
        raw = Path(path).read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except FileNotFoundError as error:
        raise CardError(f"{path}: no such file (seen from {Path.cwd()})") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CardError(f"{path}: the corrections can't be read: {error}") from error
    try:
        evaluators, content = CorrectionSet.from_string(text), json.loads(text)
    except (RuntimeError, ValueError, IndexError, KeyError) as error:
        raise CardError(f"{path}: not a file of correctionlib, schema version 2: {error}") from error
    plain = {
        one["name"]: Correction(path, one["name"], input_types(one), ((evaluators[one["name"]], one),))
        for one in content["corrections"]
    }
    compound = {
        one["name"]: Correction(
            path, one["name"], input_types(one), tuple(plain[n].steps[0] for n in one["stack"]), one
        )
        for one in content.get("compound_corrections") or ()
    }
    return {**plain, **compound}


def input_types(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the inputs of a correction's JSON content, with their types, in the order of its arguments."""
    return {one["name"]: one["type"] for one in content["inputs"]}
