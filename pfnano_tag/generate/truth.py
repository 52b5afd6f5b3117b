"""Generator-level collections: GenPart with remapped mothers, GenJet, GenMET.

GenPart keeps what the flavour definition of jets needs: every b and c hadron, the neutrinos and charged
leptons from them, and of the hard process the outgoing partons, bosons, top quarks and leptons.  The mother
is the nearest kept ancestor (-1: none); hadrons made in hadronisation have none.  Heavy hadrons of the
overlaid underlying event are in the ghosts (hadron flavour, counts), not in GenPart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.generate.clustering import RADIUS, cluster
from pfnano_tag.generate.event_record import (
    decay_mothers,
    has_ancestor,
    has_quark,
    is_hadron,
    kinematics,
    nearest_ancestor,
)
from pfnano_tag.generate.flavour import hadron_flavour, heavy_hadrons, parton_flavour
from pfnano_tag.generate.ragged import Array, Table, sums, table_of

GEN_JET_PT = 10.0


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


def gen_particles(record: Table) -> tuple[Table, NDArray[np.int64]]:
    """GenPart, and the local GenPart index of each record row (-1: not kept)."""
    decay = decay_mothers(record)
    keep = _kept(record, decay)
    rows = np.flatnonzero(keep)
    hadronised = is_hadron(record["id"]) & (decay < 0)
    mothers = np.where(hadronised, -1, record["mother1"])
    ancestor = nearest_ancestor(rows, mothers, keep)
    event = record.event[rows]
    table = table_of(event, record.num_events)
    local = np.full(len(record), -1, np.int64)
    local[rows] = np.arange(len(rows)) - table.offsets[:-1][event]
    pt, eta, phi = kinematics(*(record[k][rows] for k in ("px", "py", "pz")))
    status = record["status"][rows]
    decayed = (status < 0) & (is_hadron(record["id"][rows]) | (np.abs(record["id"][rows]) == 15))
    columns = {
        "pt": pt,
        "eta": eta,
        "phi": phi,
        "mass": record["m"][rows],
        "pdgId": record["id"][rows],
        "status": np.where(status > 0, 1, np.where(decayed, 2, -status)),
        "statusFlags": status_flags(record, rows, decay),
        "genPartIdxMother": np.where(ancestor >= 0, local[np.maximum(ancestor, 0)], -1),
    }
    return Table(columns, table.offsets), local


def gen_jets(particles: Table, ghosts: Table, min_pt: float = GEN_JET_PT, radius: float = RADIUS) -> Table:
    """Generator jets above `min_pt` [GeV] from stable particles but neutrinos, with their flavours."""
    visible = particles.select(
        ~np.isin(np.abs(particles["id"]), (12, 14, 16)) & (particles["source"] < 2) & (np.abs(particles["eta"]) < 5.0)
    )
    momentum = np.maximum(visible["e"] ** 2 - (visible["pt"] * np.cosh(visible["eta"])) ** 2, 0.0)
    jets, _, of_ghost = cluster(visible.with_columns(mass=np.sqrt(momentum)), ghosts, min_pt, radius)
    b, c = heavy_hadrons(ghosts, of_ghost, len(jets))
    hadron = hadron_flavour(b, c)
    return jets.with_columns(hadronFlavour=hadron, partonFlavour=parton_flavour(ghosts, of_ghost, hadron))


def gen_met(particles: Table) -> tuple[Array, Array]:
    """Give pt and phi of the sum of neutrinos of the hard event."""
    neutrino = np.isin(np.abs(particles["id"]), (12, 14, 16)) & (particles["source"] < 2)
    pt, phi, event = (v[neutrino] for v in (particles["pt"], particles["phi"], particles.event))
    x, y = (sums(pt * f(phi), event, particles.num_events) for f in (np.cos, np.sin))
    return np.hypot(x, y), np.arctan2(y, x)
