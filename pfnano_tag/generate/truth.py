"""Generator-level collections: GenPart with remapped mothers, GenCands, GenJet, GenMET.

GenPart keeps what the flavour definition of jets needs: every b and c hadron, the neutrinos and charged
leptons from them, and of the hard process the outgoing partons, bosons, top quarks and leptons; of the overlaid
underlying event the b and c hadrons.  The mother is the nearest kept ancestor (-1: none); hadrons made in
hadronisation have none.

GenCands holds the stable particles in generator jets, each with its nearest ancestor in GenPart.  CMS's generators
leave long-lived strange hadrons to the detector simulation, so that GenCands has them, and not what they decay to;
here they are decayed, and neither is in GenCands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.generate.clustering import RADIUS, cluster
from pfnano_tag.generate.event_record import (
    decay_mothers,
    has_ancestor,
    kinematics,
    nearest_ancestor,
)
from pfnano_tag.generate.flavour import hadron_flavour, heavy_hadrons, parton_flavour
from pfnano_tag.generate.ragged import Array, Table, merge, sums, table_of
from pfnano_tag.nano.hadrons import has_quark, is_hadron

GEN_JET_PT = 10.0
#: constituents of generator jets above are stored (cms-sw/cmssw: PhysicsTools/NanoAOD/python/btvMC_cff.py)
CONSTITUENTS_PT, FAT_CONSTITUENTS_PT = 20.0, 100.0


def _kept(record: Table, mother: Array) -> NDArray[np.bool_]:
    """Rows that go to GenPart."""
    pdg, status = record["id"], np.abs(record["status"])
    a, final = np.abs(pdg), record["status"] > 0
    pt = np.hypot(record["px"], record["py"])
    heavy = has_quark(pdg, 5) | has_quark(pdg, 4)
    keep = heavy | ((status >= 21) & (status <= 29))
    keep |= (status >= 71) & (status <= 73) & ((a <= 5) | (a == 21)) & (pt > 15.0)
    keep |= a == 15
    boson = np.isin(a, (6, 23, 24))
    keep |= boson & (record["status"] < 0) & (status > 40)
    rows = np.flatnonzero(final & (a >= 11) & (a <= 16))
    wanted = has_ancestor(rows, mother, heavy) | ~has_ancestor(rows, mother, is_hadron(pdg))
    keep[rows[wanted]] = True
    keep[rows[(pt[rows] > 3.0) & np.isin(a[rows], (11, 13))]] = True
    same = np.flatnonzero(keep & boson)
    # of the many copies of a boson or top in the shower only hard-process ones and the last stay
    daughter = record["daughter1"][same]
    has_copy = (daughter >= 0) & (pdg[np.maximum(daughter, 0)] == pdg[same])
    keep[same[has_copy & (status[same] > 40)]] = False
    return keep


def status_flags(record: Table, rows: Array, mother: Array) -> NDArray[np.int64]:
    """NanoAOD's statusFlags, bits 0 (prompt), 2, 3 (tau), 6 (hadron decay), 7, 8 (hard process), 12, 13 (copies)."""
    pdg, status = record["id"], np.abs(record["status"])
    hadron = is_hadron(pdg)
    from_hadron = has_ancestor(rows, mother, hadron)
    from_tau = has_ancestor(rows, mother, np.abs(pdg) == 15)
    direct = (mother[rows] >= 0) & hadron[np.maximum(mother[rows], 0)]
    prompt = ~from_hadron & ~hadron[rows]
    hard = (status >= 21) & (status <= 29)
    from_hard = prompt & has_ancestor(rows, record["mother1"], hard)
    same_mother = (record["mother1"][rows] >= 0) & (pdg[record["mother1"][rows]] == pdg[rows])
    daughter = record["daughter1"][rows]
    same_daughter = (daughter >= 0) & (pdg[np.maximum(daughter, 0)] == pdg[rows])
    bits = {
        0: prompt & ~from_tau,
        2: from_tau,
        3: from_tau & ~from_hadron,
        6: direct,
        7: hard[rows],
        8: from_hard | hard[rows],
        12: ~same_mother,
        13: ~same_daughter,
    }
    return np.sum([value.astype(np.int64) << bit for bit, value in bits.items()], axis=0)


@dataclass(frozen=True)
class GenParticles:
    """GenPart, and what of the record went there.

    `table` is GenPart; `local` [record rows] is the index in GenPart of each row (-1: not kept); `above` [record
    rows] that of its nearest kept ancestor (-1: none).
    """

    table: Table
    local: NDArray[np.int64]
    above: NDArray[np.int64]


def gen_particles(record: Table, heavy_only: bool = False) -> GenParticles:
    """GenPart of a record; of b and c hadrons alone where `heavy_only` is set."""
    pdg, decay = record["id"], decay_mothers(record)
    keep = has_quark(pdg, 5) | has_quark(pdg, 4) if heavy_only else _kept(record, decay)
    rows = np.flatnonzero(keep)
    hadronised = is_hadron(pdg) & (decay < 0)
    mothers = np.where(hadronised, -1, record["mother1"])
    ancestor = nearest_ancestor(np.arange(len(record)), mothers, keep)
    event = record.event[rows]
    table = table_of(event, record.num_events)
    local = np.full(len(record), -1, np.int64)
    local[rows] = np.arange(len(rows)) - table.offsets[:-1][event]
    above = np.where(ancestor >= 0, local[np.maximum(ancestor, 0)], -1)
    pt, eta, phi = kinematics(*(record[k][rows] for k in ("px", "py", "pz")))
    status = record["status"][rows]
    decayed = (status < 0) & (is_hadron(pdg[rows]) | (np.abs(pdg[rows]) == 15))
    columns = {
        "pt": pt,
        "eta": eta,
        "phi": phi,
        "mass": record["m"][rows],
        "pdgId": pdg[rows],
        "status": np.where(status > 0, 1, np.where(decayed, 2, -status)),
        "statusFlags": status_flags(record, rows, decay),
        "genPartIdxMother": above[rows],
        **{k: record[k][rows] for k in ("vx", "vy", "vz")},
    }
    return GenParticles(Table(columns, table.offsets), local, above)


def joined_particles(hard: Table, underlying: Table) -> Table:
    """GenPart of the hard process followed, event by event, by that of the underlying event."""
    mother, shift = underlying["genPartIdxMother"], hard.counts[underlying.event]
    return merge([hard, underlying.with_columns(genPartIdxMother=np.where(mother >= 0, mother + shift, -1))])


def gen_jets(
    particles: Table, ghosts: Table, min_pt: float = GEN_JET_PT, radius: float = RADIUS
) -> tuple[Table, NDArray[np.int64]]:
    """Generator jets above `min_pt` [GeV] from stable particles but neutrinos, with their flavours.

    Returns
    -------
    jets
        Sorted by falling pt.
    of_particle
        int64 `[particles]`, flat jet row of each particle, -1 where in no jet.
    """
    visible = ~np.isin(np.abs(particles["id"]), (12, 14, 16))
    visible &= (particles["source"] < 2) & (np.abs(particles["eta"]) < 5.0)
    inputs = particles.select(visible)
    jets, of_input, of_ghost = cluster(inputs.with_columns(mass=_mass(inputs)), ghosts, min_pt, radius)
    b, c = heavy_hadrons(ghosts, of_ghost, len(jets))
    hadron = hadron_flavour(b, c)
    of_particle = np.full(len(particles), -1, np.int64)
    of_particle[visible] = of_input
    jets = jets.with_columns(hadronFlavour=hadron, partonFlavour=parton_flavour(ghosts, of_ghost, hadron))
    return jets, of_particle


def _mass(particles: Table) -> Array:
    return np.sqrt(np.maximum(particles["e"] ** 2 - (particles["pt"] * np.cosh(particles["eta"])) ** 2, 0.0))


def gen_candidates(particles: Table, jets: dict[str, tuple[Table, Array, float]]) -> dict[str, Table]:
    """GenCands, and the links from generator jets.

    Parameters
    ----------
    particles : Table
        Stable ones with `part`, the index in GenPart of the nearest ancestor there.
    jets : dict
        Links' name -> jets, flat jet row of each particle, and pt above which a jet's constituents are kept [GeV].

    Returns
    -------
    dict of Table
        `GenCands` (`number` is the row of the particle), and a table for each name in `jets`.
    """
    inside = {name: _in_hard_jets(particles, *entry) for name, entry in jets.items()}
    keep = np.any([of >= 0 for of in inside.values()], axis=0) & ~particles["from_strange"]
    kept = particles.select(keep)
    lepton = np.isin(np.abs(kept["id"]), (11, 13))
    charged = lepton | np.isin(np.abs(kept["id"]), (211, 321, 2212))
    columns = {k: kept[k] for k in ("pt", "eta", "phi")} | {"mass": _mass(kept), "pdgId": kept["id"]}
    columns["charge"] = np.where(charged, np.where(lepton, -1, 1) * np.sign(kept["id"]), 0)
    columns |= {"genPartMotherIdx": kept["part"], "number": np.flatnonzero(keep)}
    tables = {"GenCands": Table(columns, kept.offsets)}
    for name, (table, _, _) in jets.items():
        rows = np.flatnonzero(inside[name][keep] >= 0)
        jet = inside[name][keep][rows]
        order = np.lexsort((rows, jet))
        rows, jet = rows[order], jet[order]
        event = table.event[jet]
        links = {"jetIdx": jet - table.offsets[:-1][event], "genCandsIdx": rows - kept.offsets[:-1][event]}
        tables[name] = table_of(event, table.num_events, **links)
    return tables


def _in_hard_jets(particles: Table, jets: Table, of_particle: Array, min_pt: float) -> NDArray[np.int64]:
    """Flat row of the jet above `min_pt` that each particle is in, -1 for others."""
    if not len(jets):
        return np.full(len(particles), -1, np.int64)
    return np.where((of_particle >= 0) & (jets["pt"][of_particle] > min_pt), of_particle, -1)


def gen_met(particles: Table) -> tuple[Array, Array]:
    """Give pt and phi of the sum of neutrinos of the hard event."""
    neutrino = np.isin(np.abs(particles["id"]), (12, 14, 16)) & (particles["source"] < 2)
    pt, phi, event = (v[neutrino] for v in (particles["pt"], particles["phi"], particles.event))
    x, y = (sums(pt * f(phi), event, particles.num_events) for f in (np.cos, np.sin))
    return np.hypot(x, y), np.arctan2(y, x)
