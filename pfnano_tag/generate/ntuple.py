"""Layout `jets`: a plain tree `tree` with one entry per jet, as DeepNTuples make them for trainings.

Names and types of CMSDeepFlavour/DeepNTuples (DeepNtuplizer/src: ntuple_JetInfo, ntuple_pfCands, ntuple_SV,
ntuple_bTagVars) and, for the four-vectors of the Particle Transformer, of AlexDeMoor/DeepTuples: `jet_pt` is the
uncorrected pt, integers of candidates are floats, values are stored in full precision. Other than there, jets without
generator jet stay, no candidate is cut off, the event number has 64 bits (those of CMS don't fit in 32), and run,
luminosity section and the generator's weight are there too. Runs and LuminosityBlocks are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pfnano_tag.generate.branches import F, Types
from pfnano_tag.generate.flat_inputs import flat_inputs
from pfnano_tag.generate.flavour import FLAVOUR_CODES, flavour_split
from pfnano_tag.generate.ragged import Array, Table

if TYPE_CHECKING:
    from pfnano_tag.generate.simulation import Chunk

UINT = "uint32"
_VECTOR = ("pt", "eta", "phi", "px", "py", "pz", "e")
_CANDIDATE = (*_VECTOR, "ptrel", "erel", "etarel", "phirel", "deltaR", "puppiw", "drminsv")
_TRACK = (
    *("EtaRel", "PtRel", "PPar", "DeltaR", "PtRatio", "PParRatio"),
    *("Sip2dVal", "Sip2dSig", "Sip3dVal", "Sip3dSig", "JetDistVal"),
)
_VERTEX = (
    "mass",
    "etarel",
    "phirel",
    "deltaR",
    "ntracks",
    "chi2",
    "ndf",
    "normchi2",
    "dxy",
    "dxysig",
    "d3d",
    "d3dsig",
)
GROUPS: dict[str, tuple[str, ...]] = {
    "Cpfcan": (
        *_CANDIDATE,
        *("VTX_ass", "chi2", "quality", "charge", "isMu", "isEl"),
        *(f"BtagPf_track{name}" for name in _TRACK),
    ),
    "Npfcan": (*_CANDIDATE, "isGamma", "HadFrac"),
    "sv": (*_VECTOR, *_VERTEX, "costhetasvpv", "enratio"),
}
COUNTERS = {"Cpfcan": "n_Cpfcand", "Npfcan": "n_Npfcand", "sv": "n_sv"}
_NUMBERS = {"Cpfcan": "nCpfcand", "Npfcan": "nNpfcand", "sv": "nsv"}
_TAG_VARIABLES = (
    *("jetNSecondaryVertices", "trackSumJetEtRatio", "trackSumJetDeltaR", "vertexCategory"),
    *(f"track{name}AboveCharm" for name in ("Sip2dVal", "Sip2dSig", "Sip3dVal", "Sip3dSig")),
    *("jetNSelectedTracks", "jetNTracksEtaRel"),
)
_TAGS = {"trackJetPt": "DeepCSV_trackJetPt"} | {f"TagVarCSV_{k}": f"DeepCSV_{k}" for k in _TAG_VARIABLES}
_JET = {
    "jet_pt": "raw_pt",
    "jet_corr_pt": "pt",
    "jet_eta": "eta",
    "jet_phi": "phi",
    "jet_mass": "mass",
    "jet_energy": "energy",
}
_EVENT = {"npv": "PV_npvs", "rho": "fixedGridRhoFastjetAll"}
_EVENT_TRUTH = {"ntrueInt": "Pileup_nTrueInt", "genWeight": "genWeight"}
_IDENTITY = {"run_no": "run", "lumi_no": "luminosityBlock", "event_no": "event"}
_FLAGS = {f"is{name}": code for name, code in FLAVOUR_CODES.items()}


def jets_types(mode: str, fat_jets: bool = False) -> Types:
    """Types of the layout in a mode (`mc` or `data`); it has no AK8 jets."""
    scalars = {"run_no": UINT, "lumi_no": UINT, "event_no": "uint64", "jet_no": UINT}
    scalars |= dict.fromkeys((*_EVENT, *_JET, *_TAGS, *_NUMBERS.values()), F)
    if mode == "mc":
        scalars |= dict.fromkeys((*_EVENT_TRUTH, "gen_pt", "Delta_gen_pt", "jet_hflav", "jet_pflav"), F)
        scalars |= dict.fromkeys(_FLAGS, UINT)
    return Types(scalars, {group: dict.fromkeys(names, F) for group, names in GROUPS.items()})


def jets_content(chunk: Chunk) -> tuple[dict[str, Array], dict[str, Table]]:
    """Scalars `[jets]`, and the constituents of each jet."""
    jets = chunk.tables["Jet"]
    truth = "hadronFlavour" in jets.columns
    event = _IDENTITY | _EVENT | (_EVENT_TRUTH if truth else {})
    scalars = {name: chunk.scalars[source][jets.event] for name, source in event.items()}
    scalars["jet_no"] = jets.position
    scalars |= {name: jets[source] for name, source in (_JET | _TAGS).items()}
    if truth:
        scalars |= _truth(chunk, jets)
    groups = flat_inputs(chunk)
    return scalars | {_NUMBERS[group]: table.counts for group, table in groups.items()}, groups


def _truth(chunk: Chunk, jets: Table) -> dict[str, Array]:
    """Flags of the flavours, and the generator jet's pt."""
    gen_jets, local = chunk.tables["GenJet"], jets["genJetIdx"]
    matched = local >= 0
    gen_pt = np.zeros(len(jets))
    gen_pt[matched] = gen_jets["pt"][(local + gen_jets.offsets[:-1][jets.event])[matched]]
    split = flavour_split(chunk.record, jets)
    return {
        "gen_pt": gen_pt,
        "Delta_gen_pt": np.where(matched, gen_pt - jets["raw_pt"], 0.0),
        "jet_hflav": jets["hadronFlavour"],
        "jet_pflav": jets["partonFlavour"],
        **{flag: split == code for flag, code in _FLAGS.items()},
    }
