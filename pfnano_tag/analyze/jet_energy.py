"""Jets with another energy: their pT and mass, what is stored relative to them, and missing momentum.

The uncorrected jet stays (`Jet_rawFactor` follows), so that features relative to it stay too; of the inputs only the
jet's own pT moves. Missing momentum takes up what jets above `MET_JET_PT` change.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.draws import Draws
from pfnano_tag.card.systematics import JetEnergyResolution, JetEnergyScale
from pfnano_tag.nano.columns import Jagged, delta_phi, list_of_row
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.selection import aligned, linked_rows

Columns = dict[str, "Jagged | NDArray[Any]"]

MET_JET_PT = 15.0
"""Jets below this pT [GeV] leave missing momentum as it is, as in CMS's type-1 correction."""

GEN_DISTANCE = 0.2
"""Largest distance of a jet to its generator jet: half the radius, as in CMS's scaling method for the resolution."""

MET = ("MET", "PuppiMET", "METFixEE2017", "PFMET")
OF_JETS = ("Jet_pt", "Jet_phi")
GENERATED = ("Jet_genJetIdx", "GenJet_pt", "GenJet_eta", "GenJet_phi")


def scale_branches(systematic: JetEnergyScale, branches: frozenset[str]) -> tuple[str, ...]:
    """Return the branches that `scale` reads."""
    followed = ("Jet_mass", "Jet_rawFactor") if "JetPFCands_jetIdx" in branches else ()
    return (*OF_JETS, *followed)


def resolution_branches(systematic: JetEnergyResolution, branches: frozenset[str]) -> tuple[str, ...]:
    """Return the branches that `resolution` reads."""
    followed = ("Jet_mass", "Jet_rawFactor") if "JetPFCands_jetIdx" in branches else ()
    return (*OF_JETS, "Jet_eta", *followed, *GENERATED)


def scale(systematic: JetEnergyScale, chunk: Chunk, draws: Draws, read: frozenset[str]) -> Columns:
    """Return the columns of jets whose energy is (1 + shift) times the nominal one."""
    pt: Jagged = chunk["Jet_pt"]
    return _with_energies(chunk, np.full(len(pt.values), 1 + systematic.shift), read)


def resolution(systematic: JetEnergyResolution, chunk: Chunk, draws: Draws, read: frozenset[str]) -> Columns:
    """Return the columns of jets with pT' = pT(gen) + factor (pT - pT(gen)), at least a hundredth of pT.

    Jets without a generator jet nearby keep their energy.
    """
    jets: Jagged = chunk["Jet_pt"]
    pt = jets.values.astype(np.float64)
    generated = _generated_pt(chunk, jets)
    wanted = np.maximum(generated + systematic.factor * (pt - generated), 0.01 * pt)
    return _with_energies(chunk, np.where(np.isfinite(generated) & (pt > 0), wanted / pt, 1.0), read)


def _generated_pt(chunk: Chunk, jets: Jagged) -> NDArray[np.float64]:
    """Return the pT of the generator jet of each jet [GeV]; NaN without one nearby."""
    generated: Jagged = chunk["GenJet_pt"]
    there, row = linked_rows(chunk, "Jet_genJetIdx", jets, generated)
    d_eta = aligned(chunk, "Jet_eta", jets)[there] - aligned(chunk, "GenJet_eta", generated)[row]
    d_phi = delta_phi(aligned(chunk, "Jet_phi", jets)[there], aligned(chunk, "GenJet_phi", generated)[row])
    near = d_eta**2 + d_phi**2 < GEN_DISTANCE**2
    found = np.full(len(jets.values), np.nan)
    found[there[near]] = generated.values[row[near]]
    return found


def _with_energies(chunk: Chunk, factor: NDArray[np.float64], read: frozenset[str]) -> Columns:
    """Return the columns of jets whose energies are multiplied by a factor [jets of the chunk]."""
    jets: Jagged = chunk["Jet_pt"]

    def column(name: str) -> NDArray[np.float64]:
        return aligned(chunk, name, jets).astype(np.float64)

    def changed(name: str, values: NDArray[np.floating]) -> Jagged:
        return Jagged(values.astype(chunk[name].values.dtype), jets.offsets)

    columns: Columns = {"Jet_pt": changed("Jet_pt", column("Jet_pt") * factor)}
    if "Jet_mass" in chunk.branches:
        columns["Jet_mass"] = changed("Jet_mass", column("Jet_mass") * factor)
    if "Jet_rawFactor" in chunk.branches:
        columns["Jet_rawFactor"] = changed("Jet_rawFactor", 1 - (1 - column("Jet_rawFactor")) / factor)
    if "JetSVs_enration" in read:  # energies of vertices over those of jets
        links: Jagged = chunk["JetSVs_jetIdx"]
        rows, jet = linked_rows(chunk, "JetSVs_jetIdx", links, jets)
        ratio = aligned(chunk, "JetSVs_enration", links).copy()
        ratio[rows] = ratio[rows] / factor[jet]
        columns["JetSVs_enration"] = Jagged(ratio, links.offsets)
    return columns | _missing_momentum(chunk, factor, read)


def _missing_momentum(chunk: Chunk, factor: NDArray[np.float64], read: frozenset[str]) -> Columns:
    """Return all missing momenta that the job reads, with what the jets' energies do to them."""
    jets: Jagged = chunk["Jet_pt"]
    event, phi = list_of_row(jets.offsets), aligned(chunk, "Jet_phi", jets).astype(np.float64)
    pt = jets.values.astype(np.float64)
    change = np.where(np.isfinite(pt) & (np.maximum(pt, pt * factor) > MET_JET_PT), pt * (factor - 1), 0.0)
    dx, dy = (np.bincount(event, change * way, chunk.num_events) for way in (np.cos(phi), np.sin(phi)))
    columns: Columns = {}
    for name in (name for name in MET if {f"{name}_pt", f"{name}_phi"} & read):
        met, angle = (np.asarray(chunk[f"{name}_{what}"], dtype=np.float64) for what in ("pt", "phi"))
        x, y = met * np.cos(angle) - dx, met * np.sin(angle) - dy
        columns[f"{name}_pt"] = np.hypot(x, y).astype(chunk[f"{name}_pt"].dtype)
        columns[f"{name}_phi"] = np.arctan2(y, x).astype(chunk[f"{name}_phi"].dtype)
    return columns
