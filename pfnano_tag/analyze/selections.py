"""Selections of control regions: which events, and which of their jets.

`dy`: DY+jets, enriched in light jets (cms-btv-pog/BTVNanoCommissioning: workflows/ctag_DY_valid_sf.py). `all_jets`:
every event with a jet in the acceptance. All arrays are flat or one value per event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.regions import AllJets, DrellYan, Region
from pfnano_tag.errors import MissingBranch
from pfnano_tag.nano.columns import Index, Jagged, delta_phi, list_of_row
from pfnano_tag.nano.layouts import require_branches
from pfnano_tag.nano.leptons import Leptons, electron_branches, electrons, muon_branches, muons
from pfnano_tag.nano.reader import Chunk

log = logging.getLogger(__name__)
Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

TRIGGERS = {
    "muon": ("HLT_Mu17_TrkIsoVVL_Mu8_TrkIsoVVL_DZ_Mass8",),
    "electron": ("HLT_Ele23_Ele12_CaloIdL_TrackIdL_IsoVL",),
}
"""Double-lepton paths of 2017."""

LEADING_PT = {"muon": 20.0, "electron": 26.0}
SUBLEADING_PT = {"muon": 12.0, "electron": 15.0}
OTHER = {"muon": "electron", "electron": "muon"}
READERS: dict[str, Callable[..., Leptons]] = {"muon": muons, "electron": electrons}
JET_ID_BITS = {"tight": 2, "tight_lepton_veto": 4}
LEPTON_JET_DISTANCE = 0.4
"""Delta R between a jet and each of the two selected leptons."""

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
    """

    events: Mask
    jets: Mask
    num_jets: Index
    steps: tuple[tuple[str, Mask], ...]
    event_values: dict[str, Values] = field(default_factory=dict)


def steps_of(region: Region) -> tuple[str, ...]:
    """Return the names of a region's steps, in order; the first is all events that enter the job."""
    first = ("events", "trigger") if triggers_of(region) else ("events",)
    if isinstance(region, AllJets):
        return (*first, "jets")
    return (*first, "event filters", "lepton pair", "no other lepton", "mass", "pair pT", "jets")


def triggers_of(region: Region) -> tuple[str, ...]:
    """Return a region's trigger paths, with the defaults filled in; those with a trailing `?` may be missing."""
    if isinstance(region, DrellYan) and region.triggers is None:
        return TRIGGERS[region.lepton]
    return region.triggers or ()


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
    paths = _there(triggers_of(region), branches)
    if triggers_of(region) and not paths:
        raise MissingBranch(f"{path}: none of the triggers {', '.join(triggers_of(region))} is in the file")
    if isinstance(region, AllJets):
        require_branches(paths, branches, path, "region all_jets")
        return paths
    filters = _there(region.met_filters, branches)
    jet_id = () if region.jet_id == "none" else ("Jet_jetId",)
    needed = (*paths, *filters, *jet_id)
    require_branches(needed, branches, path, f"region dy ({region.lepton}s)")
    try:
        return (*needed, *muon_branches(branches), *electron_branches(branches))
    except MissingBranch as error:
        raise MissingBranch(f"{path}: region dy: {error}") from error


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
    steps = _Steps(used)
    if triggers_of(region):
        steps.add("trigger", _any_of(chunk, _there(triggers_of(region), chunk.branches)))
    if isinstance(region, DrellYan):
        return _drell_yan(region, chunk, acceptance, steps)
    return _with_jets(region, chunk, acceptance, steps, {})


class _Steps:
    """The steps so far; each mask contains the one before."""

    def __init__(self, used: Mask) -> None:
        self.all: list[tuple[str, Mask]] = [("events", used)]

    @property
    def events(self) -> Mask:
        return self.all[-1][1]

    def add(self, name: str, passed: Mask) -> None:
        self.all.append((name, self.events & passed))


def _drell_yan(region: DrellYan, chunk: Chunk, acceptance: Mask, steps: _Steps) -> Selection:
    steps.add("event filters", _all_of(chunk, _there(region.met_filters, chunk.branches)))
    low = SUBLEADING_PT[region.lepton] if region.subleading_pt is None else region.subleading_pt
    high = LEADING_PT[region.lepton] if region.leading_pt is None else region.leading_pt
    leptons, others = READERS[region.lepton](chunk, low), READERS[OTHER[region.lepton]](chunk)
    positive = leading(leptons.pt, leptons.offsets, leptons.charge > 0)
    negative = leading(leptons.pt, leptons.offsets, leptons.charge < 0)
    pair = np.stack([positive, negative])
    found = (pair >= 0).all(axis=0)
    hardest = np.max(_picked(leptons.pt, pair), axis=0, initial=0.0)
    steps.add("lepton pair", found & (hardest > high))
    steps.add("no other lepton", others.counts == 0)
    mass, pair_pt = pair_kinematics(leptons, pair)
    steps.add("mass", (mass > region.mass[0]) & (mass < region.mass[1]))
    steps.add("pair pT", pair_pt > region.dilepton_pt)
    good = acceptance & ~_near(chunk, leptons, pair)
    if region.jet_id != "none":
        good &= (chunk["Jet_jetId"].values.astype(np.int64) & JET_ID_BITS[region.jet_id]) > 0
    return _with_jets(region, chunk, good, steps, {"dilepton_mass": mass, "dilepton_pt": pair_pt})


def _with_jets(region: Region, chunk: Chunk, good: Mask, steps: _Steps, values: dict[str, Values]) -> Selection:
    pt: Jagged = chunk["Jet_pt"]
    event = list_of_row(pt.offsets)
    num_jets = np.bincount(event[good], minlength=chunk.num_events)
    steps.add("jets", num_jets > 0)
    filled = good & steps.events[event]
    if region.jets == "leading":
        first = leading(pt.values, pt.offsets, filled)
        filled = np.zeros(len(filled), dtype=np.bool_)
        filled[first[first >= 0]] = True
    return Selection(steps.events, filled, num_jets, tuple(steps.all), values)


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
    rows = np.flatnonzero(mask)
    event = list_of_row(offsets)[rows]
    order = np.lexsort((-pt[rows], event))
    rows, event = rows[order], event[order]
    events, first = np.unique(event, return_index=True)
    found = np.full(len(offsets) - 1, -1, dtype=np.int64)
    found[events] = rows[first]
    return found


def pair_kinematics(leptons: Leptons, pair: Index) -> tuple[Values, Values]:
    """Return mass and transverse momentum [GeV] of the lepton pair of each event; 0 where there is none.

    Parameters
    ----------
    leptons : Leptons
        One flavour.
    pair : ndarray of int64 [2, events]
        Rows of the two leptons; -1: none.
    """
    pt, eta, phi = (_picked(values, pair) for values in (leptons.pt, leptons.eta, leptons.phi))
    px, py, pz = (pt * np.cos(phi)).sum(axis=0), (pt * np.sin(phi)).sum(axis=0), (pt * np.sinh(eta)).sum(axis=0)
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + leptons.mass**2).sum(axis=0)
    found = (pair >= 0).all(axis=0)
    mass = np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0))
    return np.where(found, mass, 0.0), np.where(found, np.hypot(px, py), 0.0)


def _picked(values: Values, pair: Index) -> Values:
    """Return the values of both leptons [2, events]; 0 where there is none."""
    padded = np.append(values, 0.0)
    return padded[pair]


def _near(chunk: Chunk, leptons: Leptons, pair: Index) -> Mask:
    """Return which jets are close to one of the two leptons of their event."""
    chunk.load(("Jet_eta", "Jet_phi"))
    eta: Jagged = chunk["Jet_eta"]
    event = list_of_row(eta.offsets)
    near = np.zeros(len(event), dtype=np.bool_)
    for rows in pair[:, event]:
        d_eta = eta.values - np.append(leptons.eta, np.inf)[rows]
        d_phi = delta_phi(chunk["Jet_phi"].values, np.append(leptons.phi, 0.0)[rows])
        near |= d_eta**2 + d_phi**2 <= LEPTON_JET_DISTANCE**2
    return near


def _there(names: tuple[str, ...], branches: frozenset[str]) -> tuple[str, ...]:
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


def _any_of(chunk: Chunk, names: tuple[str, ...]) -> Mask:
    return np.any([chunk[name].astype(np.bool_) for name in names], axis=0)


def _all_of(chunk: Chunk, names: tuple[str, ...]) -> Mask:
    passed = np.ones(chunk.num_events, dtype=np.bool_)
    for name in names:
        passed &= chunk[name].astype(np.bool_)
    return passed
