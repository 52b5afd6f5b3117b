"""Names and types of the branches of the candidates layout, and the mantissa rounding NanoAOD applies.

The table is held against the real 2017 PFNano file by a test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pfnano_tag.generate import deepcsv, trigger
from pfnano_tag.generate.ragged import Array

F, INT, B, U = "float32", "int32", "bool", "uint8"
#: bits of the mantissa kept; angles keep more
MANTISSA_BITS, ANGLE_BITS = 10, 12

_TRACK = ("d0", "d0Err", "dz", "dzErr")
PF_CANDS = dict.fromkeys(
    ("pt", "eta", "phi", "mass", *_TRACK, "puppiWeight", "puppiWeightNoLep", "trkChi2", "vtxChi2"), F
) | dict.fromkeys(("charge", "lostInnerHits", "pdgId", "pvAssocQuality", "trkQuality"), INT)
JET_PF_CANDS = dict.fromkeys(
    ("pt", "btagEtaRel", "btagPtRatio", "btagPParRatio", "btagSip3dVal", "btagSip3dSig", "btagJetDistVal"), F
) | dict.fromkeys(("pFCandsIdx", "jetIdx"), INT)
JET_SVS = dict.fromkeys(
    (
        "mass",
        "pt",
        "ntracks",
        "chi2",
        "normchi2",
        "dxy",
        "dxysig",
        "d3d",
        "d3dsig",
        "costhetasvpv",
        "phirel",
        "ptrel",
        "deltaR",
        "enration",
    ),
    F,
) | dict.fromkeys(("jetIdx", "sVIdx"), INT)
SV = dict.fromkeys(
    ("dlen", "dlenSig", "dxy", "dxySig", "pAngle", "chi2", "eta", "mass", "ndof", "phi", "pt", "x", "y", "z"), F
) | {"ntracks": U}
JET = (
    dict.fromkeys(
        ("pt", "eta", "phi", "mass", "rawFactor", "chHEF", "neHEF", "chEmEF", "neEmEF", "muEF", "puIdDisc", "Proba"),
        F,
    )
    | dict.fromkeys(
        (
            "nConstituents",
            "jetId",
            "puId",
            "nMuons",
            "nElectrons",
            "muonIdx1",
            "muonIdx2",
            "electronIdx1",
            "electronIdx2",
        ),
        INT,
    )
    | {f"DeepCSV_{k}": INT if k in deepcsv.COUNTS else F for k in deepcsv.column_names()}
)
JET_TRUTH = dict.fromkeys(("hadronFlavour", "partonFlavour", "nBHadrons", "nCHadrons", "genJetIdx"), INT)
_LEPTON = dict.fromkeys(
    ("pt", "eta", "phi", "mass", "dxy", "dxyErr", "dz", "dzErr", "ip3d", "sip3d", "pfRelIso03_all", "pfRelIso03_chg"),
    F,
) | dict.fromkeys(("charge", "pdgId", "jetIdx"), INT)
MUON = _LEPTON | {"pfRelIso04_all": F} | dict.fromkeys(("looseId", "mediumId", "tightId"), B)
ELECTRON = (
    _LEPTON | {"deltaEtaSC": F, "cutBased": INT} | dict.fromkeys(("mvaFall17V2Iso_WP80", "mvaFall17V2Iso_WP90"), B)
)
LEPTON_TRUTH = {"genPartIdx": INT, "genPartFlav": U}
GEN_PART = dict.fromkeys(("pt", "eta", "phi", "mass"), F) | dict.fromkeys(
    ("genPartIdxMother", "pdgId", "status", "statusFlags"), INT
)
GEN_JET = dict.fromkeys(("pt", "eta", "phi", "mass"), F) | {"hadronFlavour": U, "partonFlavour": INT}

EVENT = (
    {"run": "uint32", "luminosityBlock": "uint32", "event": "uint64"}
    | dict.fromkeys(
        (
            "PV_x",
            "PV_y",
            "PV_z",
            "PV_ndof",
            "PV_chi2",
            "PV_score",
            "MET_pt",
            "MET_phi",
            "MET_sumEt",
            "fixedGridRhoFastjetAll",
        ),
        F,
    )
    | dict.fromkeys(("PV_npvs", "PV_npvsGood"), INT)
    | {f"HLT_{k}": B for k in trigger.path_names()}
    | {f"Flag_{k}": B for k in trigger.FILTERS}
)
EVENT_TRUTH = dict.fromkeys(
    (
        "genWeight",
        "Generator_weight",
        "Pileup_nTrueInt",
        "L1PreFiringWeight_Nom",
        "L1PreFiringWeight_Up",
        "L1PreFiringWeight_Dn",
        "GenMET_pt",
        "GenMET_phi",
    ),
    F,
) | {"Pileup_nPU": INT}
#: weights are stored in full
_FULL_PRECISION = {"genWeight", "Generator_weight"}

#: AK8 jets and what is linked to them
FAT_COLLECTIONS: dict[str, dict[str, str]] = {
    "FatJet": dict.fromkeys(("pt", "eta", "phi", "mass", "rawFactor"), F) | {"jetId": INT},
    "FatJetPFCands": JET_PF_CANDS,
    "FatJetSVs": JET_SVS,
}
FAT_TRUTH_COLLECTIONS: dict[str, dict[str, str]] = {
    "FatJet": dict.fromkeys(("hadronFlavour", "genJetAK8Idx"), INT) | dict.fromkeys(("nBHadrons", "nCHadrons"), U),
    "GenJetAK8": GEN_JET,
}

COLLECTIONS: dict[str, dict[str, str]] = {
    "PFCands": PF_CANDS,
    "JetPFCands": JET_PF_CANDS,
    "JetSVs": JET_SVS,
    "SV": SV,
    "Jet": JET,
    "Muon": MUON,
    "Electron": ELECTRON,
    "OtherPV": {"z": F},
}
TRUTH_COLLECTIONS: dict[str, dict[str, str]] = {
    "Jet": JET_TRUTH,
    "Muon": LEPTON_TRUTH,
    "Electron": LEPTON_TRUTH,
    "GenPart": GEN_PART,
    "GenJet": GEN_JET,
}


@dataclass(frozen=True)
class Types:
    """Types of the branches of a tree: of scalars by name, and of each collection's fields."""

    scalars: dict[str, str]
    collections: dict[str, dict[str, str]]


def candidate_types(mode: str, fat_jets: bool = False) -> Types:
    """Types of the candidates layout in a mode (`mc` or `data`), with AK8 jets or without."""
    collections = joined(COLLECTIONS, FAT_COLLECTIONS if fat_jets else {})
    if mode == "data":
        return Types(dict(EVENT), collections)
    collections = joined(collections, TRUTH_COLLECTIONS, FAT_TRUTH_COLLECTIONS if fat_jets else {})
    return Types(EVENT | EVENT_TRUTH, collections)


def joined(*parts: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Collections of several tables in one, fields of the same collection side by side."""
    out: dict[str, dict[str, str]] = {}
    for part in parts:
        for name, fields in part.items():
            out[name] = out.get(name, {}) | fields
    return out


def rounded(values: Array, bits: int) -> Array:
    """float32 with the mantissa rounded to `bits` bits (to nearest); infinities and NaN stay."""
    raw = np.asarray(values, np.float32).view(np.uint32)
    shift = 23 - bits
    half = np.uint32(1 << (shift - 1))
    mask = np.uint32(0xFFFFFFFF << shift & 0xFFFFFFFF)
    finite = (raw & np.uint32(0x7F800000)) != np.uint32(0x7F800000)
    return np.where(finite, (raw + half) & mask, raw).astype(np.uint32).view(np.float32)


def stored(name: str, values: Array, dtype: str) -> Array:
    """A column as NanoAOD stores it: in its type, and for floats with its precision."""
    if dtype != F or name in _FULL_PRECISION:
        return np.ascontiguousarray(values, dtype=dtype)
    angle = name.endswith(("eta", "phi"))
    return rounded(values, ANGLE_BITS if angle else MANTISSA_BITS)
