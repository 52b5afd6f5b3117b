"""What a file is: layout and kind, found by looking at its branches, never by its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pfnano_tag.errors import MissingBranch, nearest
from pfnano_tag.nano.schema import FEATURES, Feature

Layout = Literal["candidates", "nano"]
Status = Literal["read", "derived", "missing"]

_CANDIDATE_MARKS = frozenset({"PFCands_pt", "JetPFCands_jetIdx", "JetPFCands_pFCandsIdx", "Jet_pt"})
_SIMULATION_MARKS = frozenset({"genWeight", "GenPart_pdgId", "Jet_hadronFlavour"})


def layout_of(branches: frozenset[str]) -> Layout:
    """Return the layout: `candidates` (PFNano collections) or `nano` (no particle-flow candidates).

    Parameters
    ----------
    branches : frozenset of str
        Branches of `Events`.
    """
    return "candidates" if branches >= _CANDIDATE_MARKS else "nano"


def kind_of(branches: frozenset[str]) -> Literal["mc", "data"]:
    """Return whether a file is simulation (`mc`: any generator branch) or `data`."""
    return "mc" if branches & _SIMULATION_MARKS else "data"


def status_of(feature: Feature, branches: frozenset[str]) -> Status:
    """Return how a feature can be had in a file: as a branch, derived, or not at all."""
    if feature.read and branches.issuperset(feature.read):
        return "read"
    if feature.derived and branches.issuperset(feature.derived):
        return "derived"
    return "missing"


def branches_of(feature: Feature, branches: frozenset[str]) -> tuple[str, ...]:
    """Return the branches that a feature is made from in a file; empty when it is missing there."""
    status = status_of(feature, branches)
    return {"read": feature.read, "derived": feature.derived, "missing": ()}[status]


def require_features(
    ids: Iterable[str], branches: frozenset[str], path: str, droppable: Iterable[str] = (), needed_by: str = "inputs"
) -> dict[str, Status]:
    """Return how each feature can be had; complain about all that can't at once.

    Parameters
    ----------
    ids : iterable of str
        Feature identifiers.
    branches : frozenset of str
        Branches of the file.
    path : str
        The file, for the message.
    droppable : iterable of str
        Features that may be missing.
    needed_by : str
        What asks for them, for the message.

    Raises
    ------
    MissingBranch
        Naming every missing branch, the features that need it and the nearest names in the file.
    """
    status = {name: status_of(FEATURES[name], branches) for name in ids}
    missing = [name for name, state in status.items() if state == "missing" and name not in set(droppable)]
    if missing:
        raise MissingBranch(_complaint(missing, branches, path, needed_by))
    return status


def require_branches(names: Iterable[str], branches: frozenset[str], path: str, needed_by: str) -> None:
    """Complain about every branch that a file lacks.

    Raises
    ------
    MissingBranch
        Naming all of them with the nearest names in the file.
    """
    missing = sorted(set(names) - branches)
    if missing:
        lines = [f"  {name}{_near(name, branches)}" for name in missing]
        raise MissingBranch(f"{path}: {needed_by} needs branches that the file lacks:\n" + "\n".join(lines))


def _complaint(features: list[str], branches: frozenset[str], path: str, needed_by: str) -> str:
    needed: dict[str, list[str]] = {}
    absent = [name for name in features if not (FEATURES[name].read or FEATURES[name].derived)]
    for name in features:
        sources = FEATURES[name].derived or FEATURES[name].read
        for branch in sources:
            if branch not in branches:
                needed.setdefault(branch, []).append(name)
    lines = [f"  {branch} (for {_some(names)}){_near(branch, branches)}" for branch, names in sorted(needed.items())]
    lines += [f"  {name}: no branch or derivation of this layout gives it" for name in absent]
    advice = "name features in inputs.droppable to go on without them, or use files that have the branches"
    return (
        f"{path}: {needed_by} can't be had from this file; missing branches:\n" + "\n".join(lines) + f"\n  ({advice})"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _near(name: str, branches: frozenset[str]) -> str:
    close = nearest(name, branches)
    return f"; nearest: {', '.join(close)}" if close else ""
