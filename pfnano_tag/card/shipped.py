"""YAML files that come with the package, cards and sites, which are called by their name alone."""

from __future__ import annotations

from pathlib import Path

from pfnano_tag.errors import CardError


def find_yaml(name: str | Path, shipped: Path, what: str) -> Path:
    """Return the path of a YAML file: one that is there, or a shipped one by name, without folder and ending.

    Parameters
    ----------
    name : str or Path
        What the user wrote.
    shipped : Path
        Folder of the shipped ones.
    what : str
        What it is, for the message.

    Raises
    ------
    CardError
        When there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    ours = shipped / f"{path.name}.yaml"
    if path.parent == Path() and not path.suffix and ours.is_file():
        return ours
    names = ", ".join(sorted(one.stem for one in shipped.glob("*.yaml")))
    raise CardError(f"{name}: no such {what}; give a YAML file, or the name of a shipped {what} ({names})")
