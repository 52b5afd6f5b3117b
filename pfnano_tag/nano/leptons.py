"""Isolated muons and electrons, for overlap removal and for selections; branch names depend on the era.

Cuts are those of BTV's selections (cms-btv-pog/BTVNanoCommissioning: workflows/ctag_DY_valid_sf.py,
workflows/ttdilep_valid_sf.py, utils/selection.py): tight isolated muons, muons inside jets, electrons outside the
barrel-endcap gap that pass the 80 % working point or the tight cut-based identification.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.errors import MissingBranch, nearest
from pfnano_tag.nano.columns import Index, Jagged, list_of_row, offsets_of
from pfnano_tag.nano.reader import Chunk

log = logging.getLogger(__name__)
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

MUON_MASS, ELECTRON_MASS = 0.1056583755, 0.00051099895
"""[GeV]; PDG."""

MUON_PT, MUON_ABS_ETA, MUON_ISOLATION = 12.0, 2.4, 0.15
ELECTRON_PT, ELECTRON_ABS_ETA, ELECTRON_GAP = 15.0, 2.5, (1.4442, 1.566)
ELECTRON_IDS = ("Electron_mvaIso_WP80", "Electron_mvaFall17V2Iso_WP80")
"""Names of the 80 % working point with isolation: Run 3 first, then Run 2 legacy."""
WorkingPoint = Literal["mva80", "tight"]
TIGHT = 4
"""`Electron_cutBased`: fail, veto, loose, medium, tight."""

MUON_BRANCHES = tuple(f"Muon_{name}" for name in ("pt", "eta", "phi", "charge", "tightId", "pfRelIso04_all"))
ELECTRON_BRANCHES = tuple(f"Electron_{name}" for name in ("pt", "eta", "phi", "charge"))

_said: set[str] = set()


@dataclass(frozen=True)
class Leptons:
    """Selected leptons of one flavour of the events of a chunk, in the order of the file.

    Parameters
    ----------
    pt, eta, phi : ndarray of float64 [n]
        [GeV], pseudorapidity, azimuth.
    charge : ndarray of int64 [n]
        Electric charge.
    mass : float
        Of the particle [GeV].
    offsets : ndarray of int64 [events + 1]
        Leptons of each event.
    row : ndarray of int64 [n]
        Row in the chunk's flat collection.
    """

    pt: Values
    eta: Values
    phi: Values
    charge: Index
    mass: float
    offsets: Index
    row: Index

    @property
    def counts(self) -> Index:
        """Leptons of each event, int64 [events]."""
        return np.diff(self.offsets)

    def select(self, mask: Mask) -> Leptons:
        """Return the leptons where `mask` is true."""
        kept = np.bincount(list_of_row(self.offsets)[mask], minlength=len(self.offsets) - 1)
        pt, eta, phi = self.pt[mask], self.eta[mask], self.phi[mask]
        return Leptons(pt, eta, phi, self.charge[mask], self.mass, offsets_of(kept), self.row[mask])


def muon_branches(branches: frozenset[str]) -> tuple[str, ...]:
    """Return the branches that `muons` reads; `MissingBranch` names all that a file lacks."""
    return _present(MUON_BRANCHES, branches, "tight isolated muons")


def electron_branches(branches: frozenset[str], working_point: WorkingPoint = "mva80") -> tuple[str, ...]:
    """Return the branches that `electrons` reads; `MissingBranch` names all that a file lacks."""
    position = "Electron_superclusterEta" if "Electron_superclusterEta" in branches else "Electron_deltaEtaSC"
    if working_point == "tight":
        names = (*ELECTRON_BRANCHES, "Electron_cutBased", position)
        return _present(names, branches, "electrons with tight identification")
    identification = next((name for name in ELECTRON_IDS if name in branches), ELECTRON_IDS[0])
    return _present((*ELECTRON_BRANCHES, identification, position), branches, "electrons at the 80 % working point")


def muons(chunk: Chunk, pt: float = MUON_PT, isolation: float = MUON_ISOLATION) -> Leptons:
    """Return muons with pT above `pt`, abs(eta) < 2.4, tight identification and pfRelIso04_all <= `isolation`.

    Raises
    ------
    MissingBranch
        When the file lacks a branch.
    """
    found, isolations = _tight_muons(chunk)
    return found.select((found.pt > pt) & (isolations <= np.float32(isolation)))


def soft_muons(chunk: Chunk, pt: tuple[float, float], isolation: float) -> Leptons:
    """Return muons as from decays inside jets: abs(eta) < 2.4, tight identification, pfRelIso04_all > `isolation`.

    Parameters
    ----------
    chunk : Chunk
        Events.
    pt : (low, high)
        Range of pT, both ends left out [GeV].
    isolation : float
        Isolated muons have less than this.

    Raises
    ------
    MissingBranch
        When the file lacks a branch.
    """
    found, isolations = _tight_muons(chunk)
    return found.select((found.pt > pt[0]) & (found.pt < pt[1]) & (isolations > np.float32(isolation)))


def _tight_muons(chunk: Chunk) -> tuple[Leptons, NDArray[np.floating]]:
    """Return muons with abs(eta) < 2.4 and tight identification, and their isolation."""
    chunk.load(muon_branches(chunk.branches))
    found = _leptons(chunk, "Muon", MUON_MASS)
    tight = found.select((np.abs(found.eta) < MUON_ABS_ETA) & chunk["Muon_tightId"].values.astype(bool))
    return tight, chunk["Muon_pfRelIso04_all"].values[tight.row]


def electrons(chunk: Chunk, pt: float = ELECTRON_PT, working_point: WorkingPoint = "mva80") -> Leptons:
    """Return electrons with pT above `pt`, abs(eta) < 2.5, at a working point, outside the gap.

    The gap is cut on the pseudorapidity of the supercluster.

    Parameters
    ----------
    chunk : Chunk
        Events.
    pt : float
        Lowest transverse momentum [GeV].
    working_point : {"mva80", "tight"}
        The multivariate one of 80 % with isolation, or the tight cut-based one (`Electron_cutBased`).

    Raises
    ------
    MissingBranch
        When the file lacks a branch; the 80 % working point has another name in each era.
    """
    names = electron_branches(chunk.branches, working_point)
    chunk.load(names)
    identification, position = names[-2:]
    found = _leptons(chunk, "Electron", ELECTRON_MASS)
    supercluster = chunk[position].values.astype(np.float64)
    if position == "Electron_deltaEtaSC":
        supercluster = supercluster + found.eta
    in_gap = (np.abs(supercluster) >= ELECTRON_GAP[0]) & (np.abs(supercluster) <= ELECTRON_GAP[1])
    accepted = (found.pt > pt) & (np.abs(found.eta) < ELECTRON_ABS_ETA) & ~in_gap
    identified = chunk[identification].values >= (TIGHT if working_point == "tight" else 1)
    return found.select(accepted & identified)


def isolated_branches(branches: frozenset[str]) -> tuple[str, ...]:
    """Return the branches that `isolated_leptons` reads of a file; none of a collection that it doesn't have."""
    names: tuple[str, ...] = ()
    if "Muon_pt" in branches:
        names += muon_branches(branches)
    if "Electron_pt" in branches:
        names += electron_branches(branches)
    return names


def isolated_leptons(chunk: Chunk) -> tuple[Jagged, Jagged]:
    """Return directions of the isolated muons (pT > 12 GeV) and electrons (pT > 15 GeV) of each event.

    A file without one of the collections has none of them; that is said once.

    Returns
    -------
    eta, phi : Jagged of float64
        Muons of an event first, then its electrons.

    Raises
    ------
    MissingBranch
        When a collection is there but lacks a branch.
    """
    found = []
    for name, reader in (("Muon", muons), ("Electron", electrons)):
        if f"{name}_pt" in chunk.branches:
            found.append(reader(chunk))
        elif name not in _said:
            _said.add(name)
            log.warning("no %s collection in the file: no overlap removal with it", name)
    if not found:
        nothing = Jagged(np.zeros(0), np.zeros(chunk.num_events + 1, dtype=np.int64))
        return nothing, nothing
    order = np.argsort(np.concatenate([list_of_row(some.offsets) for some in found]), kind="stable")
    offsets = offsets_of(np.sum([some.counts for some in found], axis=0))
    eta, phi = (np.concatenate([getattr(some, name) for some in found])[order] for name in ("eta", "phi"))
    return Jagged(eta, offsets), Jagged(phi, offsets)


def _leptons(chunk: Chunk, collection: str, mass: float) -> Leptons:
    pt, eta, phi, charge = (chunk[f"{collection}_{name}"] for name in ("pt", "eta", "phi", "charge"))
    momentum = [column.values.astype(np.float64) for column in (pt, eta, phi)]
    charges, rows = charge.values.astype(np.int64), np.arange(len(pt.values))
    return Leptons(momentum[0], momentum[1], momentum[2], charges, mass, pt.offsets, rows)


def _present(names: tuple[str, ...], branches: frozenset[str], what: str) -> tuple[str, ...]:
    missing = [name for name in names if name not in branches]
    if missing:
        hints = [f"{name} (nearest: {', '.join(nearest(name, branches)) or 'none'})" for name in missing]
        raise MissingBranch(f"the file lacks branches for {what}: {'; '.join(hints)}")
    return names
