"""Selections of control regions: which events, and which of their jets.

`all_jets`: every event with a jet in the acceptance. The others have a file per family: `drell_yan`, `top_pairs`,
`w_charm`, `multijets`.
"""

from __future__ import annotations

from pfnano_tag.analyze.cuts import (
    Mask,
    Recipe,
    Selection,
    Steps,
    all_of,
    any_of,
    jets_per_event,
    there,
    triggers_there,
)
from pfnano_tag.analyze.drell_yan import DRELL_YAN
from pfnano_tag.analyze.multijets import QCD, QCD_MUON
from pfnano_tag.analyze.top_pairs import DILEPTON, SEMILEPTONIC
from pfnano_tag.analyze.w_charm import W_CHARM
from pfnano_tag.card.regions import AllJets, Region
from pfnano_tag.errors import MissingBranch
from pfnano_tag.nano.layouts import require_branches
from pfnano_tag.nano.reader import Chunk


def _all_jets(region: AllJets, chunk: Chunk, acceptance: Mask, steps: Steps) -> Selection:
    steps.add("jets", jets_per_event(chunk, acceptance) > 0)
    return steps.selection(chunk, acceptance, 1 if region.jets == "leading" else "all", {})


RECIPES: dict[str, Recipe] = {
    "all_jets": Recipe(_all_jets, lambda region: ("jets",), lambda region: region.triggers),
    "dy": DRELL_YAN,
    "ttbar_dilepton": DILEPTON,
    "ttbar_semileptonic": SEMILEPTONIC,
    "w_c": W_CHARM,
    "qcd": QCD,
    "qcd_muon": QCD_MUON,
}
"""By the name that the card gives as `selection`."""


def steps_of(region: Region) -> tuple[str, ...]:
    """Return the names of a region's steps, in order; the first is all events that enter the job."""
    recipe = RECIPES[region.selection]
    trigger = ("trigger",) if recipe.any_trigger and recipe.triggers(region) else ()
    filters = ("event filters",) if _filters_of(region) else ()
    return ("events", *trigger, *filters, *recipe.steps(region))


def quantities_of(region: Region) -> tuple[str, ...]:
    """Return the variables of events that a region has beside those of all regions."""
    return RECIPES[region.selection].quantities


def cut_quantities_of(region: Region) -> tuple[str, ...]:
    """Return the quantities that a region cuts on, each in a step of its own."""
    return RECIPES[region.selection].cut_on


def has_factor(region: Region) -> bool:
    """Return whether a region may have a part of its own in the weight (opposite minus same sign, prescales)."""
    return RECIPES[region.selection].weighted(region)


def selection_branches(region: Region, branches: frozenset[str], path: str) -> tuple[str, ...]:
    """Return the branches that a region reads beside those of the jets' acceptance.

    Parameters
    ----------
    region : Region
        A region of the card.
    branches : frozenset of str
        Branches of the file.
    path : str
        The file, for messages.

    Raises
    ------
    MissingBranch
        Naming every branch that the file lacks (those marked `?` apart).
    """
    recipe = RECIPES[region.selection]
    paths = triggers_there(recipe.triggers(region), branches, path)
    needed = (*paths, *there(_filters_of(region), branches), *recipe.branches(region))
    require_branches(needed, branches, path, f"region {region.selection}")
    try:
        return (*needed, *recipe.leptons(region, branches))
    except MissingBranch as error:
        raise MissingBranch(f"{path}: region {region.selection}: {error}") from error


def select(region: Region, chunk: Chunk, acceptance: Mask, used: Mask) -> Selection:
    """Apply a region's selection.

    Parameters
    ----------
    region : Region
        A region of the card.
    chunk : Chunk
        Events.
    acceptance : ndarray of bool [jets of the chunk]
        Jets that section `jets` of the card accepts.
    used : ndarray of bool [events]
        Events that enter at all.
    """
    chunk.load((*selection_branches(region, chunk.branches, chunk.file.path), "Jet_pt"))
    recipe = RECIPES[region.selection]
    steps = Steps(used)
    paths = recipe.triggers(region)
    if recipe.any_trigger and paths:
        steps.add("trigger", any_of(chunk, there(paths, chunk.branches)))
    filters = _filters_of(region)
    if filters:
        steps.add("event filters", all_of(chunk, there(filters, chunk.branches)))
    return recipe.select(region, chunk, acceptance, steps)


def _filters_of(region: Region) -> tuple[str, ...]:
    return () if isinstance(region, AllJets) else region.met_filters
