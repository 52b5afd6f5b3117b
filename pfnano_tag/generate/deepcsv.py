"""The `Jet_DeepCSV_*` variables, from tracks and vertices by their definitions.

Selection as in CMSSW (RecoBTag/SecondaryVertex, RecoBTag/Combined): tracks with pt > 1 GeV, |d0| < 0.2 cm,
|dz| < 17 cm, chi2 < 5, dR < 0.3, distance to the axis < 0.07 cm, decay length < 5 cm, sorted by falling 2D
significance; vertices within dR 0.4, 2D flight distance 0.01 to 2.5 cm with significance above 3, mass below
6.5 GeV and not that of a K0s (0.05 GeV).  Defaults are those measured on the real file: -999 for numbers
that a jet has not, 0 for counts, and -1 for the AboveCharm variables where no track lifts the mass above
1.5 GeV.  The pairwise V0 veto on tracks is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.generate.ragged import Array, delta_r, sums
from pfnano_tag.generate.tracks import PION_MASS, momentum_variables
from pfnano_tag.nano.columns import offsets_of, rank_in_list

MISSING = -999.0
NO_CHARM = -1.0
CHARM_MASS = 1.5
TRACK_SLOTS, ETA_REL_SLOTS = 6, 4
SLOT_VARIABLES = ("DecayLenVal", "DeltaR", "JetDistVal", "PtRatio", "PtRel", "Sip2dSig", "Sip3dSig")
VERTEX_VARIABLES = (
    "flightDistance2dVal",
    "flightDistance2dSig",
    "flightDistance3dVal",
    "flightDistance3dSig",
    "vertexMass",
    "vertexJetDeltaR",
    "vertexEnergyRatio",
)
COUNTS = ("jetNSecondaryVertices", "jetNSelectedTracks", "jetNTracksEtaRel", "vertexNTracks")
ABOVE_CHARM = ("Sip2dVal", "Sip2dSig", "Sip3dVal", "Sip3dSig")


@dataclass(frozen=True)
class JetTracks:
    """Selected tracks, sorted by jet and falling Sip2dSig.

    `jet` is the flat jet row; `columns` hold pt, eta, phi and the variables of `tracks`.
    """

    jet: NDArray[np.int64]
    columns: dict[str, Array]

    def momenta(self) -> Array:
        """px, py, pz, E with the pion mass, [n, 4]."""
        pt, eta, phi = (self.columns[k] for k in ("pt", "eta", "phi"))
        energy = np.hypot(pt * np.cosh(eta), PION_MASS)
        return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy], axis=1)


def select_tracks(jet: Array, columns: dict[str, Array]) -> JetTracks:
    """Apply the DeepCSV selection to the tracks of jets and sort them."""
    c = columns
    keep = (c["pt"] > 1.0) & (np.abs(c["d0"]) < 0.2) & (np.abs(c["dz"]) < 17.0) & (c["trkChi2"] < 5.0)
    keep &= (c["DeltaR"] < 0.3) & (c["JetDistVal"] > -0.07) & (c["DecayLenVal"] < 5.0)
    rows = np.flatnonzero(keep)
    rows = rows[np.lexsort((-c["Sip2dSig"][rows], jet[rows]))]
    return JetTracks(jet[rows], {k: v[rows] for k, v in c.items()})


def slots(values: Array, jet: Array, num_jets: int, number: int) -> list[Array]:
    """The first `number` values of each jet, one array per slot, -999 where there are fewer."""
    place = rank_in_list(offsets_of(np.bincount(jet, minlength=num_jets)))
    out = []
    for k in range(number):
        slot = np.full(num_jets, MISSING)
        at = place == k
        slot[jet[at]] = values[at]
        out.append(slot)
    return out


def _running_mass(p4: Array, jet: Array, num_jets: int) -> Array:
    """Mass of the sum of a jet's first tracks up to and including each track."""
    total = np.cumsum(p4, axis=0)
    counts = np.bincount(jet, minlength=num_jets)
    first = np.cumsum(counts) - counts
    before = np.where(first[jet][:, None] > 0, total[np.maximum(first[jet] - 1, 0)], 0.0)
    running = total - before
    return np.sqrt(np.maximum(running[:, 3] ** 2 - (running[:, :3] ** 2).sum(axis=1), 0.0))


def above_charm(tracks: JetTracks, num_jets: int) -> dict[str, Array]:
    """Impact parameters of the first track that lifts the summed mass above 1.5 GeV."""
    counts = np.bincount(tracks.jet, minlength=num_jets)
    above = np.flatnonzero(_running_mass(tracks.momenta(), tracks.jet, num_jets) > CHARM_MASS)
    out = {}
    for name in ABOVE_CHARM:
        value = np.where(counts > 0, NO_CHARM, MISSING)
        value[tracks.jet[above[::-1]]] = tracks.columns[name][above[::-1]]  # the first one is written last
        out[f"track{name}AboveCharm"] = value
    return out


def _jet_sums(tracks: JetTracks, jets: dict[str, Array], num_jets: int) -> dict[str, Array]:
    """trackJetPt, trackSumJetEtRatio, trackSumJetDeltaR."""
    px, py, pz, e = (sums(p, tracks.jet, num_jets) for p in tracks.momenta().T)
    has = np.bincount(tracks.jet, minlength=num_jets) > 0
    pt = np.hypot(px, py)
    eta = np.arcsinh(pz / np.maximum(pt, 1e-9))
    et = e / np.cosh(eta)
    jet_et = jets["raw_energy"] / np.cosh(jets["eta"])
    distance = delta_r(eta, np.arctan2(py, px), jets["eta"], jets["phi"])
    values = {"trackJetPt": pt, "trackSumJetEtRatio": et / jet_et, "trackSumJetDeltaR": distance}
    return {k: np.where(has, v, MISSING) for k, v in values.items()}


def good_vertex(v: dict[str, Array]) -> NDArray[np.bool_]:
    """Vertices that DeepCSV accepts."""
    good = (v["dxy"] > 0.01) & (v["dxy"] < 2.5) & (v["dxySig"] > 3.0) & (v["mass"] < 6.5)
    return np.asarray(good & (np.abs(v["mass"] - 0.4976) > 0.05) & (v["deltaR"] < 0.4))


def deepcsv_variables(
    tracks: JetTracks,
    jets: dict[str, Array],
    vertex_jet: Array,
    vertices: dict[str, Array],
    member_jet: Array,
    members: dict[str, Array],
) -> dict[str, Array]:
    """All `Jet_DeepCSV_*` columns (names without that prefix), each `[J]`.

    Parameters
    ----------
    tracks : JetTracks
        From `select_tracks`.
    jets : dict[str, Array]
        eta, phi, raw_energy of the jets.
    vertex_jet, vertices : Array, dict[str, Array]
        Jet of each (jet, vertex) link, sorted by jet and falling dxySig, and the vertex columns there.
    member_jet, members : Array, dict[str, Array]
        Tracks of each jet's leading accepted vertex: jet; pt, eta, phi and the vertex direction
        (axis_eta, axis_phi).
    """
    n = len(jets["eta"])
    count = np.bincount(tracks.jet, minlength=n)
    out = _jet_sums(tracks, jets, n) | above_charm(tracks, n)
    for name in SLOT_VARIABLES:
        for k, values in enumerate(slots(tracks.columns[name], tracks.jet, n, TRACK_SLOTS)):
            out[f"track{name}_{k}"] = values
    good = good_vertex(vertices)
    reco = np.bincount(vertex_jet[good], minlength=n)
    displaced = tracks.columns["Sip2dSig"] > 2.0
    pseudo = (reco == 0) & (np.bincount(tracks.jet[displaced], minlength=n) >= 2)
    category = np.where(reco > 0, 0.0, np.where(pseudo, 1.0, 2.0))
    out["vertexCategory"] = np.where((count > 0) | (reco > 0), category, MISSING)
    out["jetNSecondaryVertices"], out["jetNSelectedTracks"] = reco, count
    out.update(_reconstructed(vertex_jet[good], {k: v[good] for k, v in vertices.items()}, n))
    in_pseudo = displaced & pseudo[tracks.jet]
    out.update(_pseudo(tracks, in_pseudo, pseudo, jets, out))
    all_energy = sums(tracks.momenta()[:, 3], tracks.jet, n)
    energy = out.pop("vertexEnergy")
    ratio = energy / np.maximum(all_energy, 1e-9)
    out["vertexEnergyRatio"] = np.where((energy > 0) & (all_energy > 0), np.minimum(ratio, 10.0), MISSING)
    return out | _eta_rel(tracks, in_pseudo, jets, member_jet, members, n)


def _reconstructed(jet: Array, v: dict[str, Array], n: int) -> dict[str, Array]:
    """Variables of the leading accepted vertex of each jet."""
    first = rank_in_list(offsets_of(np.bincount(jet, minlength=n))) == 0
    names = {
        "flightDistance2dVal": "dxy",
        "flightDistance2dSig": "dxySig",
        "flightDistance3dVal": "dlen",
        "flightDistance3dSig": "dlenSig",
        "vertexMass": "mass",
        "vertexJetDeltaR": "deltaR",
    }
    out = {name: np.full(n, MISSING) for name in names}
    for name, source in names.items():
        out[name][jet[first]] = v[source][first]
    out["vertexNTracks"], out["vertexEnergy"] = np.zeros(n, np.int64), np.zeros(n)
    out["vertexNTracks"][jet[first]] = v["ntracks"][first]
    out["vertexEnergy"][jet[first]] = v["energy"][first]
    return out


def _pseudo(
    tracks: JetTracks, inside: Array, pseudo: Array, jets: dict[str, Array], out: dict[str, Array]
) -> dict[str, Array]:
    """Mass, distance, energy and number of tracks of pseudo-vertices, where a jet has one."""
    n = len(pseudo)
    px, py, pz, e = (sums(p, tracks.jet[inside], n) for p in tracks.momenta()[inside].T)
    pt = np.hypot(px, py)
    eta = np.arcsinh(pz / np.maximum(pt, 1e-9))
    mass = np.sqrt(np.maximum(e**2 - pt**2 - pz**2, 0.0))
    distance = delta_r(eta, np.arctan2(py, px), jets["eta"], jets["phi"])
    number = np.bincount(tracks.jet[inside], minlength=n)
    new = {"vertexMass": mass, "vertexJetDeltaR": distance, "vertexEnergy": e, "vertexNTracks": number}
    return {k: np.where(pseudo, v, out[k]) for k, v in new.items()}


def _eta_rel(
    tracks: JetTracks, inside: Array, jets: dict[str, Array], member_jet: Array, members: dict[str, Array], n: int
) -> dict[str, Array]:
    """trackEtaRel_0 to _3 (rising) of vertex tracks, along the flight or the jet direction, and their number."""
    jet = tracks.jet[inside]
    p = {k: tracks.columns[k][inside] for k in ("pt", "eta", "phi")}
    pseudo = momentum_variables(p["pt"], p["eta"], p["phi"], jets["eta"][jet], jets["phi"][jet])["EtaRel"]
    real = momentum_variables(*(members[k] for k in ("pt", "eta", "phi", "axis_eta", "axis_phi")))["EtaRel"]
    values, owner = np.concatenate([real, pseudo]), np.concatenate([member_jet, jet])
    order = np.lexsort((values, owner))
    filled = slots(values[order], owner[order], n, ETA_REL_SLOTS)
    out = {f"trackEtaRel_{k}": v for k, v in enumerate(filled)}
    return out | {"jetNTracksEtaRel": np.bincount(owner, minlength=n)}


def column_names() -> list[str]:
    """All 65 names, counts last."""
    names = [f"track{v}_{k}" for v in SLOT_VARIABLES for k in range(TRACK_SLOTS)]
    names += [f"trackEtaRel_{k}" for k in range(ETA_REL_SLOTS)]
    names += ["trackJetPt", "trackSumJetEtRatio", "trackSumJetDeltaR"]
    names += [f"track{v}AboveCharm" for v in ABOVE_CHARM]
    return [*names, "vertexCategory", *VERTEX_VARIABLES, *COUNTS]
