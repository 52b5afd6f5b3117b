"""Jet flavour by ghost association, as CMSSW's JetFlavourClustering does it.

Hadron flavour: 5 with any b hadron, else 4 with any c hadron, else 0.  Parton flavour: the hardest b parton,
else the hardest c parton, else the hardest parton (0 without any); where the two disagree, the hadron
flavour wins, and a light jet gets its hardest light parton.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.generate.event_record import kinematics
from pfnano_tag.generate.ragged import Array, Table, delta_r, nearest, table_of


def heavy_hadrons(ghosts: Table, jet: Array, num_jets: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of b and of c hadrons in each jet, two int64 `[num_jets]`."""
    inside = jet >= 0
    b = np.bincount(jet[inside & (ghosts["label"] == 5)], minlength=num_jets)
    c = np.bincount(jet[inside & (ghosts["label"] == 4)], minlength=num_jets)
    return b, c


def hadron_flavour(b_hadrons: Array, c_hadrons: Array) -> NDArray[np.int64]:
    """5, 4 or 0 by the hadrons in the jet."""
    return np.where(b_hadrons > 0, 5, np.where(c_hadrons > 0, 4, 0))


def _hardest(pt: Array, pdg: Array, jet: Array, num_jets: int) -> NDArray[np.int64]:
    """PDG number of the hardest parton of each jet, 0 where there is none."""
    order = np.lexsort((pt, jet))
    out = np.zeros(num_jets, np.int64)
    out[jet[order]] = pdg[order]  # the last assignment, of the largest pt, stays
    return out


def parton_flavour(ghosts: Table, jet: Array, hadron: Array) -> NDArray[np.int64]:
    """Signed PDG number of the jet's parton by the rules above, int64 `[num_jets]`."""
    n = len(hadron)
    parton = (ghosts["label"] == 0) & (jet >= 0)
    pt, pdg, of = ghosts["pt"][parton], ghosts["id"][parton], jet[parton]
    light = ~np.isin(np.abs(pdg), (4, 5))
    hardest_light = _hardest(pt[light], pdg[light], of[light], n)
    out = hardest_light
    for flavour in (4, 5):
        chosen = np.abs(pdg) == flavour
        heavy = _hardest(pt[chosen], pdg[chosen], of[chosen], n)
        out = np.where(heavy != 0, heavy, out)
    disagrees = (hadron != 0) & (np.abs(out) != hadron)
    out = np.where(disagrees, hadron, out)
    return np.where((hadron == 0) & np.isin(np.abs(out), (4, 5)), hardest_light, out)


#: DeepNTuples' names of the codes of `FlavSplit` (cms-sw/cmssw: PhysicsTools/NanoAOD/plugins/
#: BTVMCFlavourTableProducer.cc)
FLAVOUR_CODES = {
    "G": 0, "UD": 1, "S": 2, "C": 400, "CC": 410, "GCC": 411, "B": 500, "BB": 510, "GBB": 511, "LeptonicB": 520,
    "LeptonicB_C": 521, "PU": 999, "Undefined": 1000,
}  # fmt: skip


def flavour_split(record: Table, jets: Table) -> NDArray[np.int64]:
    """Fine flavour of jets as DeepNTuples and NanoAOD's `Jet_FlavSplit` define it, int64 `[num_jets]`.

    Neutrinos count whose mother is a b hadron (520) or a c hadron (521), and gluons (status 21 to 59) with two
    daughters, a heavy quark and its antiquark within 0.4 of each other; both within 0.4 of the jet. Tau jets (600)
    have no code of their own, as in the source.

    Parameters
    ----------
    record : Table
        The generator's record (`event_record.read_batch`).
    jets : Table
        eta, phi, hadronFlavour, partonFlavour, nBHadrons, nCHadrons, genJetIdx.
    """
    hadron, parton = jets["hadronFlavour"], np.abs(jets["partonFlavour"])
    b, c, codes = jets["nBHadrons"], jets["nCHadrons"], FLAVOUR_CODES
    from_b, from_c = _neutrinos(record, 5), _neutrinos(record, 4)
    lepton = np.where(
        _near(jets, from_b), codes["LeptonicB"], np.where(_near(jets, from_c), codes["LeptonicB_C"], 500)
    )
    bottom = np.where(_near(jets, _splitting_gluons(record, 5)), codes["GBB"], codes["BB"])
    charm = np.where(_near(jets, _splitting_gluons(record, 4)), codes["GCC"], codes["CC"])
    cases: list[tuple[Array, Array | int]] = [
        (jets["genJetIdx"] < 0, np.where(parton == 0, codes["PU"], codes["Undefined"])),
        ((hadron == 5) & (b > 1), bottom),
        ((hadron == 5) & (b == 1), lepton),
        ((hadron == 4) & (c > 1), charm),
        (hadron == 4, codes["C"]),
        ((hadron == 5) | (b > 0) | (c > 0), codes["Undefined"]),
        (parton == 21, codes["G"]),
        (parton == 3, codes["S"]),
        ((parton == 1) | (parton == 2), codes["UD"]),
    ]
    values = [np.broadcast_to(value, len(jets)) for _, value in cases]
    return np.select([case for case, _ in cases], values, codes["Undefined"]).astype(np.int64)


def _near(jets: Table, particles: Table) -> NDArray[np.bool_]:
    """Whether any of the particles is within 0.4 of a jet."""
    return nearest(jets, particles, 0.4)[0] >= 0


def _at(record: Table, keep: Array) -> Table:
    """Directions of the rows of the record where `keep` is true."""
    rows = np.flatnonzero(keep)
    _, eta, phi = kinematics(*(record[k][rows] for k in ("px", "py", "pz")))
    return table_of(record.event[rows], record.num_events, eta=eta, phi=phi)


def _neutrinos(record: Table, quark: int) -> Table:
    """Stable neutrinos whose mother is a c hadron (`quark` 4: PDG 401 to 499, 4001 to 4999) or a b hadron (5)."""
    mother = record["mother1"]
    parent = np.abs(record["id"][mother])
    heavy = ((parent > 100 * quark) & (parent < 100 * (quark + 1))) | (
        (parent > 1000 * quark) & (parent < 1000 * (quark + 1))
    )
    return _at(record, np.isin(np.abs(record["id"]), (12, 14, 16)) & (record["status"] > 0) & (mother >= 0) & heavy)


def _splitting_gluons(record: Table, quark: int) -> Table:
    """Gluons of the hard process and the shower that split into a close pair of heavy quarks."""
    status, first, second = np.abs(record["status"]), record["daughter1"], record["daughter2"]
    # Pythia: a rising pair is a range, a falling one are two separate daughters
    two = (first >= 0) & (second >= 0) & ((second == first + 1) | (second < first))
    rows = np.flatnonzero((record["id"] == 21) & (status >= 21) & (status <= 59) & two)
    ids = [record["id"][daughter[rows]] for daughter in (first, second)]
    (_, eta1, phi1), (_, eta2, phi2) = (
        kinematics(*(record[k][daughter[rows]] for k in ("px", "py", "pz"))) for daughter in (first, second)
    )
    pair = (np.abs(ids[0]) == quark) & (ids[0] == -ids[1]) & (delta_r(eta1, phi1, eta2, phi2) < 0.4)
    keep = np.zeros(len(record), np.bool_)
    keep[rows[pair]] = True
    return _at(record, keep)
