"""Cleaning: which jets are fit to train on; every drop is counted by its reason.

Acceptance in pT and eta, no isolated lepton nearby, finite event weight. (Ranges:
AIS:may_21/preparations/clean.py of A. Stein; NaN is found by `isfinite`, never by comparison.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.jets import Jets
from pfnano_tag.errors import MissingBranch
from pfnano_tag.nano.columns import Jagged, delta_phi, list_of_row, pairs_within
from pfnano_tag.nano.leptons import isolated_branches, isolated_leptons
from pfnano_tag.nano.reader import Chunk

REASONS = ("weight_not_finite", "not_finite", "pt", "eta", "lepton", "label")
"""Why a jet is dropped, in the order in which it is asked; `not_finite` is NaN or infinity in pT, eta or phi."""

KINEMATICS = ("Jet_pt", "Jet_eta", "Jet_phi")

Cutflow = dict[str, int]


@dataclass(frozen=True)
class Cleaned:
    """Which jets of a chunk are kept, and why the others are not.

    Parameters
    ----------
    kept : ndarray of bool [jets]
        Over the chunk's flat jet collection.
    cutflow : dict of int
        `jets` (all), one count per reason, `kept`.
    """

    kept: NDArray[np.bool_]
    cutflow: Cutflow


def cleaning_branches(branches: frozenset[str], jets: Jets, path: str) -> tuple[str, ...]:
    """Return the branches that cleaning reads of a file.

    Raises
    ------
    MissingBranch
        When a lepton collection is there but can't be used.
    """
    if jets.lepton_overlap == 0:
        return KINEMATICS
    try:
        return (*KINEMATICS, *isolated_branches(branches))
    except MissingBranch as error:
        raise MissingBranch(
            f"{path}: cleaning drops jets near leptons: {error}; with jets.lepton_overlap=0 it doesn't"
        ) from error


def clean(chunk: Chunk, jets: Jets, weight: NDArray[np.float64], labelled: NDArray[np.bool_]) -> Cleaned:
    """Return which jets of a chunk are kept.

    Parameters
    ----------
    chunk : Chunk
        Events.
    jets : Jets
        The card's acceptance.
    weight : ndarray of float64 [events]
        Event weights; jets of an event without a finite one are dropped.
    labelled : ndarray of bool [jets]
        Whether the jet has a flavour class.
    """
    chunk.load(cleaning_branches(chunk.branches, jets, chunk.file.path))
    pt, eta, phi = (chunk[name].values for name in KINEMATICS)
    event = list_of_row(chunk["Jet_pt"].offsets)
    lepton = near_lepton(chunk, jets.lepton_overlap) if jets.lepton_overlap > 0 else np.zeros(len(pt), dtype=np.bool_)
    failed = {
        "weight_not_finite": ~np.isfinite(weight)[event],
        "not_finite": ~(np.isfinite(pt) & np.isfinite(eta) & np.isfinite(phi)),
        "pt": ~((pt >= np.float32(jets.pt[0])) & (pt <= np.float32(jets.pt[1]))),
        "eta": ~(np.abs(eta) <= np.float32(jets.abs_eta)),
        "lepton": lepton,
        "label": ~labelled,
    }
    kept = np.ones(len(pt), dtype=np.bool_)
    cutflow: Cutflow = {"jets": len(pt)}
    for reason in REASONS:
        cutflow[reason] = int(np.count_nonzero(kept & failed[reason]))
        kept &= ~failed[reason]
    cutflow["kept"] = int(np.count_nonzero(kept))
    return Cleaned(kept, cutflow)


def near_lepton(chunk: Chunk, radius: float) -> NDArray[np.bool_]:
    """Return which jets have an isolated lepton closer than `radius` (Delta R).

    Parameters
    ----------
    chunk : Chunk
        Events.
    radius : float
        Distance in eta and phi.

    Returns
    -------
    ndarray of bool [jets]
        Over the chunk's flat jet collection.
    """
    lepton_eta, lepton_phi = isolated_leptons(chunk)
    jet_eta: Jagged = chunk["Jet_eta"]
    jet, lepton, _ = pairs_within(jet_eta.offsets, lepton_eta.offsets)
    d_eta = jet_eta.values[jet] - lepton_eta.values[lepton]
    d_phi = delta_phi(chunk["Jet_phi"].values[jet], lepton_phi.values[lepton])
    near = np.zeros(len(jet_eta.values), dtype=np.bool_)
    near[jet[d_eta * d_eta + d_phi * d_phi < radius * radius]] = True
    return near
