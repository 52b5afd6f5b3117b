"""Layout `btvnano`: names and types of Run 3, NanoAOD v15 with the BTV customisation.

Types of cms-sw/cmssw, PhysicsTools/NanoAOD: python/jetsAK4_Puppi_cff, jetMC_cff, jetsAK8_cff, muons_cff,
electrons_cff, met_cff, vertices_cff, genparticles_cff; what the customisation adds: custom_btv_cff, btvMC_cff and
plugins/JetConstituentTableProducer.cc, BTVMCFlavourTableProducer.cc, GenCandMotherTableProducer.cc;
TableOutputBranches.cc: counters are signed.
Other than in the Run 2 legacy files: integers of 8 and 16 bits, `Rho_fixedGridRhoFastjetAll`, `PuppiMET` and `PFMET`,
`Electron_superclusterEta`, the jet-based `Jet_DeepCSV_*` alone, `Jet_FlavSplit`; no `Jet_jetId`, `Jet_puId` and no
prefiring weights. The jets are those of the other layouts (the detector has no PUPPI jets); what the detector can't
tell (hits, track algorithms) is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pfnano_tag.generate import branches
from pfnano_tag.generate.branches import INT, B, F, Types, U, joined
from pfnano_tag.generate.deepcsv import ABOVE_CHARM, COUNTS, VERTEX_VARIABLES
from pfnano_tag.generate.flavour import flavour_split
from pfnano_tag.generate.linking import track_variables
from pfnano_tag.generate.ragged import Array, Table, sums

if TYPE_CHECKING:
    from pfnano_tag.generate.simulation import Chunk

INT16 = "int16"
_RENAMED = {"fixedGridRhoFastjetAll": "Rho_fixedGridRhoFastjetAll"}
_DROPPED = ("MET_pt", "MET_phi", "MET_sumEt", "L1PreFiringWeight_Nom", "L1PreFiringWeight_Up", "L1PreFiringWeight_Dn")
_MET = {"PuppiMET_pt": "MET_pt", "PuppiMET_phi": "MET_phi", "PuppiMET_sumEt": "MET_sumEt"}
_MET |= {"PFMET_pt": "MET_pt", "PFMET_phi": "MET_phi"}
_SMALL_SCALARS = {"PV_npvs": U, "PV_npvsGood": U}

DEEPCSV = (
    *("trackJetPt", "vertexCategory", "trackSumJetEtRatio", "trackSumJetDeltaR"),
    *(f"track{name}AboveCharm" for name in ABOVE_CHARM),
    *COUNTS,
    *VERTEX_VARIABLES,
)
_FRACTIONS = ("chHEF", "neHEF", "chEmEF", "neEmEF", "muEF", "hfHEF", "hfEmEF")
_INDICES = ("muonIdx1", "muonIdx2", "electronIdx1", "electronIdx2")
JET = (
    dict.fromkeys(("pt", "eta", "phi", "mass", "rawFactor", *_FRACTIONS, "Proba"), F)
    | dict.fromkeys(("nConstituents", "chMultiplicity", "neMultiplicity", "nMuons", "nElectrons"), U)
    | dict.fromkeys(_INDICES, INT16)
    | {f"DeepCSV_{name}": INT if name in COUNTS else F for name in DEEPCSV}
)
JET_TRUTH = {"hadronFlavour": U, "partonFlavour": INT16, "genJetIdx": INT16}
JET_TRUTH |= dict.fromkeys(("nBHadrons", "nCHadrons", "FlavSplit"), INT)
PF_CANDS = branches.PF_CANDS | dict.fromkeys(("trkP", "trkPt", "trkEta", "trkPhi"), F) | {"trkHighPurity": B}
JET_PF_CANDS = branches.JET_PF_CANDS | dict.fromkeys(
    ("dzFromPV", "dxyFromPV", "dzErrFromPV", "dxyErrFromPV", "btagDecayLenVal"), F
)
MUON = branches.MUON | {"jetIdx": INT16}
ELECTRON = {k: v for k, v in branches.ELECTRON.items() if k != "deltaEtaSC" and not k.startswith("mva")}
ELECTRON |= {"jetIdx": INT16, "cutBased": U, "superclusterEta": F, "mvaIso_WP80": B, "mvaIso_WP90": B}
LEPTON_TRUTH = {"genPartIdx": INT16, "genPartFlav": U}
GEN_PART = branches.GEN_PART | {"genPartIdxMother": INT16, "statusFlags": "uint16"}
GEN_PART |= dict.fromkeys(("vx", "vy", "vz"), F)
GEN_CANDS = dict.fromkeys(("pt", "eta", "phi", "mass"), F) | dict.fromkeys(
    ("charge", "pdgId", "genPartMotherIdx"), INT
)
GEN_JET_CANDS = dict.fromkeys(("jetIdx", "genCandsIdx"), INT)
GEN_JET = branches.GEN_JET | {"partonFlavour": INT16}
FAT_JET = dict.fromkeys(("pt", "eta", "phi", "mass", "rawFactor", *_FRACTIONS), F)
FAT_JET |= {"nConstituents": U, "chMultiplicity": INT16, "neMultiplicity": INT16}

COLLECTIONS = {
    "PFCands": PF_CANDS,
    "JetPFCands": JET_PF_CANDS,
    "JetSVs": branches.JET_SVS,
    "SV": branches.SV,
    "Jet": JET,
    "Muon": MUON,
    "Electron": ELECTRON,
    "OtherPV": {"z": F},
}
TRUTH_COLLECTIONS = {
    "Jet": JET_TRUTH,
    "Muon": LEPTON_TRUTH,
    "Electron": LEPTON_TRUTH,
    "GenPart": GEN_PART,
    "GenJet": GEN_JET,
    "GenCands": GEN_CANDS,
    "GenJetCands": GEN_JET_CANDS,
}
FAT_COLLECTIONS = {"FatJet": FAT_JET, "FatJetPFCands": JET_PF_CANDS, "FatJetSVs": branches.JET_SVS}
FAT_TRUTH = dict.fromkeys(("hadronFlavour", "nBHadrons", "nCHadrons"), U) | {"genJetAK8Idx": INT16}
FAT_TRUTH_COLLECTIONS = {"FatJet": FAT_TRUTH, "GenJetAK8": GEN_JET, "GenFatJetCands": GEN_JET_CANDS}
_LINKS = {"JetPFCands": "Jet", "FatJetPFCands": "FatJet"}


def btvnano_types(mode: str, fat_jets: bool = False) -> Types:
    """Types of the layout in a mode (`mc` or `data`), with AK8 jets or without."""
    scalars = branches.EVENT | (branches.EVENT_TRUTH if mode == "mc" else {})
    scalars = {_RENAMED.get(k, k): _SMALL_SCALARS.get(k, v) for k, v in scalars.items() if k not in _DROPPED}
    collections = joined(COLLECTIONS, FAT_COLLECTIONS if fat_jets else {})
    if mode == "mc":
        collections = joined(collections, TRUTH_COLLECTIONS, FAT_TRUTH_COLLECTIONS if fat_jets else {})
    return Types(scalars | dict.fromkeys(_MET, F), collections)


def btvnano_content(chunk: Chunk) -> tuple[dict[str, Array], dict[str, Table]]:
    """Scalars and collections of a chunk in this layout."""
    scalars = {_RENAMED.get(name, name): values for name, values in chunk.scalars.items()}
    scalars |= {name: scalars[source] for name, source in _MET.items()}
    tables = dict(chunk.tables)
    for links, jets in _LINKS.items():
        if links in tables:
            tables[links] = _with_track_details(chunk, tables[links], tables[jets])
            tables[jets] = _with_multiplicities(tables["PFCands"], tables[links], tables[jets])
    if "hadronFlavour" in tables["Jet"].columns:
        tables["Jet"] = tables["Jet"].with_columns(FlavSplit=flavour_split(chunk.record, tables["Jet"]))
    tables["PFCands"] = _with_tracks(tables["PFCands"])
    electrons = tables["Electron"]
    tables["Electron"] = electrons.with_columns(
        superclusterEta=electrons["eta"] + electrons["deltaEtaSC"],
        mvaIso_WP80=electrons["mvaFall17V2Iso_WP80"],
        mvaIso_WP90=electrons["mvaFall17V2Iso_WP90"],
    )
    return scalars, tables


def _with_tracks(candidates: Table) -> Table:
    """Add momenta of tracks (those of the candidates; -1 without track) and the high-purity flag (quality bit 2)."""
    track = candidates["track"]
    momentum = candidates["pt"] * np.cosh(candidates["eta"])
    columns = {"trkP": momentum} | {f"trk{k.capitalize()}": candidates[k] for k in ("pt", "eta", "phi")}
    columns = {name: np.where(track, values, -1.0) for name, values in columns.items()}
    return candidates.with_columns(**columns, trkHighPurity=(candidates["trkQuality"].astype(np.int64) & 4) > 0)


def _linked_rows(links: Table, jets: Table, candidates: Table) -> tuple[Array, Array]:
    """Flat rows of the jet and of the candidate of each link."""
    jet = links["jetIdx"] + jets.offsets[:-1][links.event]
    return jet, links["pFCandsIdx"] + candidates.offsets[:-1][links.event]


def _with_track_details(chunk: Chunk, links: Table, jets: Table) -> Table:
    """Add impact parameters with respect to the primary vertex, its uncertainty included, and decay lengths."""
    candidates = chunk.tables["PFCands"]
    jet, row = _linked_rows(links, jets, candidates)
    track, event = candidates["track"][row], links.event
    sigma_xy, sigma_z = (s[event] for s in chunk.seen.sigma)
    columns = {
        "dxyFromPV": candidates["d0"][row],
        "dzFromPV": candidates["dz"][row],
        "dxyErrFromPV": np.hypot(candidates["d0Err"][row], sigma_xy),
        "dzErrFromPV": np.hypot(candidates["dzErr"][row], sigma_z),
    }
    columns = {name: np.where(track, values, -1.0) for name, values in columns.items()}
    length = np.zeros(len(links))
    length[track] = track_variables(candidates, jets, row[track], jet[track], chunk.seen.sigma)["DecayLenVal"]
    return links.with_columns(**columns, btagDecayLenVal=length)


def _with_multiplicities(candidates: Table, links: Table, jets: Table) -> Table:
    """Add numbers of charged and neutral particles, and the energy fractions of the forward calorimeter."""
    n = len(jets)
    jet, row = _linked_rows(links, jets, candidates)
    charged, pdg = candidates["charge"][row] != 0, candidates["pdgId"][row]
    energy = candidates["pt"][row] * np.cosh(candidates["eta"][row])
    forward = {name: sums(energy * (pdg == code), jet, n) for name, code in (("hfHEF", 1), ("hfEmEF", 2))}
    return jets.with_columns(
        chMultiplicity=np.bincount(jet[charged], minlength=n),
        neMultiplicity=np.bincount(jet[~charged], minlength=n),
        **{name: np.clip(values / jets["raw_energy"], 0.0, 1.0) for name, values in forward.items()},
    )
