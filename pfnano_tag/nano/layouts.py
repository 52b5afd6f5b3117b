"""What a file is: layout, jet type and kind, found by looking at its branches, never by its name.

The feature table (`schema`) says of each feature where each layout has it; this module asks it for a file:

============  =====================================================================================================
layout        a constituent's feature is
============  =====================================================================================================
`candidates`  read from, or derived of, the collections PFCands, JetPFCands, JetSVs and SV (`Feature.read`, `derived`)
`btvnano`     the same in NanoAOD of Run 3: other types, some other names (`names`), more branches
`deepjet`     read from `Jet_DeepJet_<Feature.flat>_<slot>`, clipped and ordered already
`jets`        read from the branch that the card's `jets.tree` names, by default `Feature.flat` as in DeepNTuples
`nano`        not available: plain NanoAOD
============  =====================================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pfnano_tag.errors import DataError, MissingBranch, nearest
from pfnano_tag.nano.names import ntuple_branches
from pfnano_tag.nano.schema import FEATURES, Feature

Layout = Literal["candidates", "btvnano", "deepjet", "jets", "nano"]
JetType = Literal["CHS", "PUPPI", "AK8", "unknown"]
Status = Literal["read", "derived", "missing"]

DEEPJET_CANDIDATE_PT = 0.95
"""Lowest transverse momentum of the candidates in the flat DeepJet layout [GeV] (`min_candidate_pt`)."""

_CANDIDATE_MARKS = frozenset({"PFCands_pt", "JetPFCands_jetIdx", "JetPFCands_pFCandsIdx", "Jet_pt"})
_RUN3_MARKS = frozenset({"JetPFCands_dxyFromPV", "PFCands_trkHighPurity", "Rho_fixedGridRhoFastjetAll"})
_SIMULATION_MARKS = frozenset({"genWeight", "GenPart_pdgId", "Jet_hadronFlavour"})
_SLOT = re.compile(r"^Jet_DeepJet(?:Extra)?_((?:Cpfcan|Npfcan|sv)_.+)_(\d+)$")


@dataclass(frozen=True)
class Contents:
    """What can be had from a file.

    Parameters
    ----------
    path : str
        The file, for messages.
    layout : str
        How it keeps the constituents of jets.
    branches : frozenset of str
        Canonical names (see `names`); in the layout `jets` also identifiers of features.
    candidate_pt : float or None
        Lowest transverse momentum of the candidates where that was fixed when the file was made [GeV].
    """

    path: str
    layout: Layout
    branches: frozenset[str]
    candidate_pt: float | None = None

    @cached_property
    def slots(self) -> Mapping[str, tuple[str, ...]]:
        """Branches of the flat DeepJet layout by the feature's flat name: slot 0, 1, ... without a gap."""
        return deepjet_slots(self.branches)

    def status(self, feature: Feature) -> Status:
        """Return how a feature can be had: as a branch, derived, or not at all."""
        if self.layout == "jets":
            return "read" if feature.id in self.branches else "missing"
        if self.layout == "deepjet" and (feature.group != "jet" or _flat_count(feature) in self.branches):
            return "read" if feature.group == "jet" or feature.flat in self.slots else "missing"
        if feature.read and self.branches.issuperset(feature.read):
            return "read"
        if feature.derived and self.branches.issuperset(feature.derived):
            return "derived"
        return "missing"

    def branches_of(self, feature: Feature) -> tuple[str, ...]:
        """Return the branches that a feature is made from; empty when it is missing."""
        status = self.status(feature)
        if status == "missing":
            return ()
        if self.layout == "jets":
            return (feature.id,)
        if self.layout == "deepjet" and feature.group != "jet":
            return self.slots[feature.flat]
        if self.layout == "deepjet" and _flat_count(feature) in self.branches:
            return (_flat_count(feature),)
        return feature.read if status == "read" else feature.derived

    def wanted_of(self, feature: Feature) -> tuple[str, ...]:
        """Return the branches that would give a feature in this layout; empty where none would."""
        if self.layout == "jets":
            return (feature.id,)
        if self.layout == "deepjet" and feature.group != "jet":
            return (f"Jet_DeepJet_{feature.flat}_0",)
        return feature.derived or feature.read


def source_in(feature: Feature, layout: Layout) -> str:
    """Return in words where a layout has a feature: its branch, `derived`, or `-` where it has none.

    Parameters
    ----------
    feature : Feature
        Of the feature table.
    layout : str
        `btvnano` is as `candidates`, with the same canonical names.
    """
    if layout == "nano":
        return feature.read[-1] if feature.group == "jet" and feature.read else "-"
    if layout == "jets":
        return ntuple_branches().get(feature.id) or "-"
    if layout == "deepjet" and feature.group != "jet":
        extra = "Extra" if feature.name in ("etarel", "phirel") else ""
        return f"Jet_DeepJet{extra}_{feature.flat}_<i>"
    if layout == "deepjet" and feature.derived:
        return _flat_count(feature)
    if feature.read and feature.derived:
        return f"{feature.read[-1]}, or derived"
    return feature.read[-1] if feature.read else "derived" if feature.derived else "-"


def deepjet_slots(branches: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the branches of each flat DeepJet feature, slot by slot; how many there are differs between productions.

    Parameters
    ----------
    branches : iterable of str
        Branches of a file.
    """
    found: dict[str, dict[int, str]] = {}
    for name in branches:
        match = _SLOT.match(name)
        if match:
            found.setdefault(match[1], {})[int(match[2])] = name
    return {
        flat: tuple(slots[i] for i in range(next((i for i in range(len(slots)) if i not in slots), len(slots))))
        for flat, slots in found.items()
        if 0 in slots
    }


def _flat_count(feature: Feature) -> str:
    """Return the branch of a number of constituents in the flat DeepJet layout."""
    return f"Jet_DeepJet_{feature.flat}"


def layout_of(branches: frozenset[str]) -> Layout:
    """Return the layout of a tree of events.

    Files with candidates and flat inputs count as files with candidates, from which more can be made.

    Parameters
    ----------
    branches : frozenset of str
        Canonical names of the branches of `Events`.
    """
    if branches >= _CANDIDATE_MARKS:
        return "btvnano" if branches & _RUN3_MARKS else "candidates"
    return "deepjet" if deepjet_slots(branches) else "nano"


def jet_type_of(title: str, collection: str, branches: frozenset[str]) -> JetType:
    """Return the pile-up treatment of the jets, from the title of their counter or the branches that only CHS has.

    Parameters
    ----------
    title : str
        Of the branch `nJet`, such as "slimmedJets, i.e. ak4 PFJets CHS with JECs applied, ...".
    collection : str
        `Jet` or `FatJet`.
    branches : frozenset of str
        Canonical names.
    """
    if collection == "FatJet":
        return "AK8"
    if "puppi" in title.lower():
        return "PUPPI"
    return "CHS" if "CHS" in title or "Jet_puId" in branches else "unknown"


def kind_of(branches: frozenset[str]) -> Literal["mc", "data"]:
    """Return whether a file is simulation (`mc`: any generator branch) or `data`."""
    return "mc" if branches & _SIMULATION_MARKS else "data"


def require_inputs(
    contents: Contents,
    ids: Iterable[str],
    caps: Mapping[str, int],
    candidate_pt: float,
    droppable: Iterable[str] = (),
    needed_by: str = "inputs",
) -> dict[str, Status]:
    """Return how each feature can be had; complain about all that can't at once, and about what was cut too short.

    Parameters
    ----------
    contents : Contents
        Of the file.
    ids : iterable of str
        Feature identifiers.
    caps : mapping
        Constituents kept per jet, by group.
    candidate_pt : float
        Lowest transverse momentum of a candidate [GeV].
    droppable : iterable of str
        Features that may be missing.
    needed_by : str
        What asks for them, for the message.

    Raises
    ------
    MissingBranch
        Naming every missing branch, the features that need it and the nearest names in the file.
    DataError
        When the file was made with fewer constituents, or another threshold, than are asked for.
    """
    status = {name: contents.status(FEATURES[name]) for name in ids}
    allowed = set(droppable)
    missing = [name for name, state in status.items() if state == "missing" and name not in allowed]
    if missing:
        raise MissingBranch(_complaint(missing, contents, needed_by))
    if contents.candidate_pt is not None and contents.candidate_pt != candidate_pt:
        raise DataError(
            f"{contents.path}: its constituents were selected with pT > {contents.candidate_pt:g} GeV when the file "
            f"was made, {needed_by} want inputs.candidate_pt={candidate_pt:g}: use that value, or other files"
        )
    if contents.layout == "deepjet":
        _require_slots(contents, [name for name, state in status.items() if state == "read"], caps, needed_by)
    return status


def _require_slots(contents: Contents, ids: Iterable[str], caps: Mapping[str, int], needed_by: str) -> None:
    stored: dict[str, set[int]] = {}
    for name in ids:
        feature = FEATURES[name]
        if feature.group != "jet":
            stored.setdefault(feature.group, set()).add(len(contents.slots[feature.flat]))
    for group, lengths in stored.items():
        if min(lengths) < caps[group]:
            raise DataError(
                f"{contents.path}: holds {min(lengths)} constituents of group {group} per jet (flat DeepJet inputs), "
                f"{needed_by} want {caps[group]}: set inputs.caps.{group}={min(lengths)} or less, or use other files"
            )


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


def _complaint(features: list[str], contents: Contents, needed_by: str) -> str:
    needed: dict[str, list[str]] = {}
    absent = [name for name in features if not contents.wanted_of(FEATURES[name])]
    for name in features:
        for branch in dict.fromkeys(contents.wanted_of(FEATURES[name])):
            if branch not in contents.branches:
                needed.setdefault(branch, []).append(name)
    lines = [
        f"  {branch} (for {_some(names)}){_near(branch, contents.branches)}"
        for branch, names in sorted(needed.items())
    ]
    lines += [f"  {name}: no branch or derivation of this layout gives it" for name in absent]
    advice = "name features in inputs.droppable to go on without them, or use files that have the branches"
    if contents.layout == "jets":
        advice = "name their branches in jets.tree.branches; else " + advice
    return (
        f"{contents.path}: {needed_by} can't be had from this file (layout {contents.layout}); missing branches:\n"
        + "\n".join(lines)
        + f"\n  ({advice})"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _near(name: str, branches: frozenset[str]) -> str:
    close = nearest(name, branches)
    return f"; nearest: {', '.join(close)}" if close else ""
