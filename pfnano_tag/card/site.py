"""Section `site`: defaults of a batch system that many studies share, in a small file of their own.

A site file has the sections `submit` and `resources` of a card; what the card says itself wins, key by key.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pfnano_tag.card.base import Section, strictly
from pfnano_tag.card.problems import describe
from pfnano_tag.card.resources import Resources
from pfnano_tag.card.shipped import find_yaml
from pfnano_tag.card.submit import Submit
from pfnano_tag.errors import CardError

SHIPPED = Path(__file__).parent / "sites"
"""Folder of the shipped site files; one may be named without folder and ending."""


class Site(Section):
    """What a site file may say."""

    submit: Submit = Submit()
    """As in a card."""

    resources: Resources = Resources()
    """As in a card."""


def find_site(name: str) -> Path:
    """Return the path of a site file: a file, or a shipped one by name (`lxplus`).

    Raises
    ------
    CardError
        When there is neither.
    """
    return find_yaml(name, SHIPPED, "site")


def with_site(content: Mapping[str, Any], site: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the raw content of a card over that of its site.

    Parameters
    ----------
    content, site : mapping
        From YAML.
    source : str
        Of the site, for messages.

    Raises
    ------
    CardError
        When the site's content is not what a site file may say.
    """
    try:
        strictly(Site, dict(site))
    except ValidationError as error:
        raise CardError(f"{source}: " + "; ".join(describe(error, Site, dict(site)))) from error
    return merged(site, content)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested mappings as one; where both have a value, that of `over`."""
    found = dict(under)
    for key, value in over.items():
        below = found.get(key)
        found[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return found
