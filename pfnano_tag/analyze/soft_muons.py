"""Muons inside jets, as from decays of b and c hadrons: for W+c and muon-enriched multijets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pfnano_tag.analyze.cuts import Mask
from pfnano_tag.nano.columns import Index, Jagged, delta_phi, list_of_row
from pfnano_tag.nano.leptons import Leptons
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.selection import integers

BRANCHES = ("Muon_jetIdx",)


@dataclass(frozen=True)
class MuonsInJets:
    """Which muons lie in which jets.

    Parameters
    ----------
    inside : ndarray of bool [muons]
        Muons that lie in the jet they are linked to.
    jet : ndarray of int64 [muons]
        Row of that jet in the chunk's flat collection; -1 where there is none.
    """

    inside: Mask
    jet: Index

    def jets(self, mask: Mask, number: int) -> Mask:
        """Return which of `number` jets hold a muon of a mask [muons]."""
        found = np.zeros(number, dtype=np.bool_)
        found[self.jet[mask & self.inside]] = True
        return found


def muons_in_jets(chunk: Chunk, muons: Leptons, distance: float) -> MuonsInJets:
    """Return the jets of muons: those they are linked to (`Muon_jetIdx`) and at most `distance` (Delta R) from.

    Raises
    ------
    BadChunk
        When a link points outside the event's jets.
    """
    jet = linked_jets(chunk, "Muon", muons)
    chunk.load(("Jet_eta", "Jet_phi"))
    d_eta = muons.eta - np.append(chunk["Jet_eta"].values, np.inf)[jet]
    d_phi = delta_phi(muons.phi, np.append(chunk["Jet_phi"].values, 0.0)[jet])
    return MuonsInJets((jet >= 0) & (d_eta**2 + d_phi**2 <= distance**2), jet)


def linked_jets(chunk: Chunk, collection: str, leptons: Leptons) -> Index:
    """Return the rows of the jets that leptons are linked to (`jetIdx`), int64 [n]; -1: none.

    Raises
    ------
    BadChunk
        When a link points outside the event's jets.
    """
    branch = f"{collection}_jetIdx"
    chunk.load((branch, f"{collection}_pt", "Jet_pt"))
    pt: Jagged = chunk["Jet_pt"]
    index = integers(chunk, branch, chunk[f"{collection}_pt"], leptons.row).astype(np.int64)
    event = list_of_row(leptons.offsets)
    outside = np.flatnonzero(index >= pt.counts[event])
    if len(outside):
        where = int(outside[0])
        raise chunk.bad(
            f"{branch} is {index[where]} in entry {chunk.start + event[where]}, which has "
            f"{pt.counts[event[where]]} jets ({len(outside)} such links)"
        )
    return np.where(index < 0, -1, pt.offsets[event] + index)
