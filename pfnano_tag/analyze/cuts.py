"""What the selections of regions are made of: steps, triggers, one lepton per event, jets away from it.

All arrays are flat or one value per event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.regions import JetId
from pfnano_tag.errors import MissingBranch
from pfnano_tag.nano.columns import Index, Jagged, delta_phi, list_of_row, rank_in_list
from pfnano_tag.nano.leptons import Leptons
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.selection import aligned

log = logging.getLogger(__name__)
Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

JET_ID_BITS = {"tight": 2, "tight_lepton_veto": 4}

_said: set[str] = set()


@dataclass(frozen=True)
class Selection:
    """What a region selects in a chunk.

    Parameters
    ----------
    events : ndarray of bool [events]
        Events that pass all steps.
    jets : ndarray of bool [jets of the chunk]
        Jets of these events that are filled.
    num_jets : ndarray of int64 [events]
        Jets that pass the jet selection, whether filled or not.
    steps : tuple of (name, ndarray of bool [events])
        Events left after each step.
    event_values : dict of ndarray of float64 [events]
        Quantities of events by variable name; only meaningful for selected events.
    factor : ndarray of float64 [events] or None
        The region's own part of the weight of selected events; None: 1. In the cutflow it counts in the last step.
    without_cut : dict of (ndarray of bool [events], ndarray of float64 [events])
        By quantity: events that pass all steps but the cut on that quantity, and its values (N-1).
    leading : ndarray of int64 [events]
        Row of the hardest jet that may be filled, whatever the steps; -1: none.
    """

    events: Mask
    jets: Mask
    num_jets: Index
    steps: tuple[tuple[str, Mask], ...]
    event_values: dict[str, Values] = field(default_factory=dict)
    factor: Values | None = None
    without_cut: dict[str, tuple[Mask, Values]] = field(default_factory=dict)
    leading: Index = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def weighted(self, weight: Values) -> Values:
        """Return the weights of events [events] with the region's factor."""
        return weight if self.factor is None else weight * self.factor

    def cutflow(self, weight: Values) -> list[tuple[int, float]]:
        """Return the number of events and their sum of weights after each step."""
        last = len(self.steps) - 1
        return [
            (int(np.count_nonzero(mask)), float((weight if step < last else self.weighted(weight))[mask].sum()))
            for step, (_, mask) in enumerate(self.steps)
        ]


def any_jet(selections: Mapping[str, Selection]) -> bool:
    """Return whether some region fills a jet."""
    return any(selection.jets.any() for selection in selections.values())


def something(selections: Mapping[str, Selection]) -> bool:
    """Return whether there is anything to fill: a jet, or an event that a single cut takes away."""
    cuts = [passed for selection in selections.values() for passed, _ in selection.without_cut.values()]
    return any_jet(selections) or any(passed.any() for passed in cuts)


@dataclass(frozen=True)
class Recipe:
    """How a kind of region is selected. All functions take the region's section of the card first.

    Parameters
    ----------
    select : callable
        Gives the `Selection` of a chunk, from the jets in the acceptance and the steps so far (events, trigger, event
        filters).
    steps : callable
        Gives the names of the steps that `select` adds.
    triggers : callable
        Gives the trigger paths with the defaults filled in; those with a trailing `?` may be missing.
    branches : callable
        Gives the branches that `select` reads, beside those of leptons and of the acceptance.
    leptons : callable
        Gives the branches of leptons that `select` reads of a file with some branches; `MissingBranch` where it
        lacks one.
    quantities : tuple of str
        Variables of events that `select` gives.
    cut_on : tuple of str
        Quantities with a step of their own (`Steps.add`).
    weighted : callable
        Gives whether the region may have a factor of its own in the weight (`Selection.factor`).
    any_trigger : bool
        Whether any one of the paths lets an event pass; if not, `select` knows what they mean.
    """

    select: Callable[[Any, Chunk, Mask, Steps], Selection]
    steps: Callable[[Any], tuple[str, ...]]
    triggers: Callable[[Any], tuple[str, ...]]
    branches: Callable[[Any], tuple[str, ...]] = lambda region: ()
    leptons: Callable[[Any, frozenset[str]], tuple[str, ...]] = lambda region, branches: ()
    quantities: tuple[str, ...] = ()
    cut_on: tuple[str, ...] = ()
    weighted: Callable[[Any], bool] = lambda region: False
    any_trigger: bool = True


class Steps:
    """The steps so far; each mask contains the one before.

    Parameters
    ----------
    used : ndarray of bool [events]
        Events that enter at all: the first step.
    """

    def __init__(self, used: Mask) -> None:
        self.all: list[tuple[str, Mask]] = [("events", used)]
        self._passed: list[Mask] = [used]
        self._cuts: dict[str, tuple[int, Values]] = {}

    @property
    def events(self) -> Mask:
        """Events that are left."""
        return self.all[-1][1]

    def add(self, name: str, passed: Mask, quantity: str = "", values: NDArray[Any] | None = None) -> None:
        """Ask for one thing more.

        Parameters
        ----------
        name : str
            Of the step.
        passed : ndarray of bool [events]
            Whether an event passes, whatever the other steps say.
        quantity : str
            What is cut on, if it is one quantity: it is histogrammed without this cut.
        values : ndarray [events]
            The quantity.
        """
        if values is not None:
            self._cuts[quantity] = len(self.all), values.astype(np.float64)
        self.all.append((name, self.events & passed))
        self._passed.append(passed)

    def without(self, step: int) -> Mask:
        """Return the events that pass all steps but one."""
        return np.all([passed for place, passed in enumerate(self._passed) if place != step], axis=0)

    def selection(
        self,
        chunk: Chunk,
        good: Mask,
        filled: int | Literal["all"],
        values: dict[str, Values],
        num_jets: Index | None = None,
        factor: Values | None = None,
    ) -> Selection:
        """Return what is selected: of the events that are left, the hardest good jets.

        Parameters
        ----------
        chunk : Chunk
            Events.
        good : ndarray of bool [jets of the chunk]
            Jets that may be filled.
        filled : int or "all"
            How many jets of an event are, hardest first.
        values, num_jets, factor
            As in `Selection`; `num_jets` None: the good ones.
        """
        pt: Jagged = chunk["Jet_pt"]
        chosen = good & self.events[list_of_row(pt.offsets)]
        if filled != "all":
            chosen = hardest(pt.values, pt.offsets, chosen, filled)
        count = jets_per_event(chunk, good) if num_jets is None else num_jets
        open_cuts = {name: (self.without(step), of_events) for name, (step, of_events) in self._cuts.items()}
        first = leading(pt.values, pt.offsets, good)
        return Selection(self.events, chosen, count, tuple(self.all), values, factor, open_cuts, first)


@dataclass(frozen=True)
class OnePerEvent:
    """One lepton of each event, or none.

    Parameters
    ----------
    found : ndarray of bool [events]
        Whether there is one; all else is 0 where not.
    pt, eta, phi : ndarray of float64 [events]
        [GeV], pseudorapidity, azimuth.
    charge : ndarray of int64 [events]
        Electric charge.
    row : ndarray of int64 [events]
        Row in the chunk's flat collection.
    mass : float
        Of the particle [GeV].
    """

    found: Mask
    pt: Values
    eta: Values
    phi: Values
    charge: Index
    row: Index
    mass: float

    @classmethod
    def of(cls, leptons: Leptons, rows: Index) -> OnePerEvent:
        """Return the leptons of given rows [events]; -1: none."""
        columns = (leptons.pt, leptons.eta, leptons.phi, leptons.charge, leptons.row)
        pt, eta, phi, charge, row = (np.append(column, 0)[rows] for column in columns)
        return cls(rows >= 0, pt, eta, phi, charge, row, leptons.mass)

    @classmethod
    def leading(cls, leptons: Leptons) -> OnePerEvent:
        """Return the hardest of each event."""
        return cls.of(leptons, leading(leptons.pt, leptons.offsets, np.ones(len(leptons.pt), dtype=np.bool_)))


def leading(pt: NDArray[np.floating], offsets: Index, mask: Mask) -> Index:
    """Return the row of the hardest entry of each event under a mask; -1 where there is none.

    Parameters
    ----------
    pt : ndarray [n]
        Transverse momentum; of equal ones the first is taken.
    offsets : ndarray of int64 [events + 1]
        Entries of each event.
    mask : ndarray of bool [n]
        Entries that count.
    """
    rows = np.flatnonzero(hardest(pt, offsets, mask, 1))
    found = np.full(len(offsets) - 1, -1, dtype=np.int64)
    found[list_of_row(offsets)[rows]] = rows
    return found


def hardest(pt: NDArray[np.floating], offsets: Index, mask: Mask, number: int) -> Mask:
    """Return which entries are among the hardest of their event under a mask, as a mask.

    Parameters
    ----------
    pt, offsets, mask
        As for `leading`.
    number : int
        How many of each event; all where there are fewer.
    """
    rows = np.flatnonzero(mask)
    event = list_of_row(offsets)[rows]
    rows = rows[np.lexsort((-pt[rows], event))]
    counts = np.bincount(event, minlength=len(offsets) - 1)
    ranks = rank_in_list(np.concatenate([[0], np.cumsum(counts)]))
    kept = np.zeros(len(mask), dtype=np.bool_)
    kept[rows[ranks < number]] = True
    return kept


def pair_kinematics(first: OnePerEvent, second: OnePerEvent) -> tuple[Values, Values]:
    """Return mass and transverse momentum [GeV] of two leptons of each event; 0 where one is missing."""
    px = first.pt * np.cos(first.phi) + second.pt * np.cos(second.phi)
    py = first.pt * np.sin(first.phi) + second.pt * np.sin(second.phi)
    pz = first.pt * np.sinh(first.eta) + second.pt * np.sinh(second.eta)
    energy = np.hypot(first.pt * np.cosh(first.eta), first.mass) + np.hypot(
        second.pt * np.cosh(second.eta), second.mass
    )
    found = first.found & second.found
    mass = np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0))
    return np.where(found, mass, 0.0), np.where(found, np.hypot(px, py), 0.0)


def transverse_mass(lepton: OnePerEvent, met: Values, met_phi: Values) -> Values:
    """Return sqrt(2 pT MET (1 - cos(delta phi))) of each event [GeV], lepton and neutrino without mass."""
    return np.sqrt(2 * lepton.pt * met * (1 - np.cos(lepton.phi - met_phi)))


def near(chunk: Chunk, leptons: tuple[OnePerEvent, ...], distance: float) -> Mask:
    """Return which jets of the chunk are at most `distance` (Delta R) from one of the leptons of their event."""
    chunk.load(("Jet_eta", "Jet_phi"))
    eta: Jagged = chunk["Jet_eta"]
    phi = chunk["Jet_phi"].values
    event = list_of_row(eta.offsets)
    found = np.zeros(len(event), dtype=np.bool_)
    for lepton in leptons:
        d_eta, d_phi = eta.values - lepton.eta[event], delta_phi(phi, lepton.phi[event])
        found |= lepton.found[event] & (d_eta**2 + d_phi**2 <= distance**2)
    return found


def identified(chunk: Chunk, jet_id: JetId) -> Mask:
    """Return which jets of the chunk have an identification."""
    pt: Jagged = chunk["Jet_pt"]
    if jet_id == "none":
        return np.ones(len(pt.values), dtype=np.bool_)
    return (aligned(chunk, "Jet_jetId", pt).astype(np.int64) & JET_ID_BITS[jet_id]) > 0


def jet_id_branches(jet_id: JetId) -> tuple[str, ...]:
    """Return the branches that `identified` reads."""
    return () if jet_id == "none" else ("Jet_jetId",)


def jets_per_event(chunk: Chunk, good: Mask) -> Index:
    """Return how many jets of a mask [jets of the chunk] each event has, int64 [events]."""
    pt: Jagged = chunk["Jet_pt"]
    return np.bincount(list_of_row(pt.offsets)[good], minlength=chunk.num_events)


def there(names: tuple[str, ...], branches: frozenset[str]) -> tuple[str, ...]:
    """Return names without the optional ones that the file lacks; say once what is left out."""
    kept = []
    for name in names:
        branch = name.removesuffix("?")
        if name != branch and branch not in branches:
            if branch not in _said:
                _said.add(branch)
                log.warning("%s is not in the file; the card marks it as optional: left out", branch)
            continue
        kept.append(branch)
    return tuple(kept)


def triggers_there(names: tuple[str, ...], branches: frozenset[str], path: str) -> tuple[str, ...]:
    """Return the trigger paths of the card that a file has; it must have one, if any is asked for.

    Raises
    ------
    MissingBranch
        When all are optional and the file has none.
    """
    paths = there(names, branches)
    if names and not paths:
        raise MissingBranch(f"{path}: none of the triggers {', '.join(names)} is in the file")
    return paths


def any_of(chunk: Chunk, names: tuple[str, ...]) -> Mask:
    """Return the events in which one of some flags is set."""
    return np.any([chunk[name].astype(np.bool_) for name in names], axis=0)


def all_of(chunk: Chunk, names: tuple[str, ...]) -> Mask:
    """Return the events in which all of some flags are set; all events without any."""
    passed = np.ones(chunk.num_events, dtype=np.bool_)
    for name in names:
        passed &= chunk[name].astype(np.bool_)
    return passed
