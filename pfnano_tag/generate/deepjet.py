"""Layout `deepjet`: plain NanoAOD with the flat inputs `Jet_DeepJet_*`, no particle-flow candidates.

Names, types and slots of cms-jet/PFNano (plugins/DeepJetTableProducer.cc, python/addBTV.py): 25 charged candidates,
25 neutral ones and 4 vertices per jet, each variable of each slot a branch, empty slots 0. The counts are those
before slots run out. `Jet_FlavSplit` is the truth that PFNano adds on demand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pfnano_tag.generate.branches import INT, Types, candidate_types, joined
from pfnano_tag.generate.branches import F as FLOAT
from pfnano_tag.generate.flat_inputs import flat_inputs
from pfnano_tag.generate.flavour import flavour_split
from pfnano_tag.generate.ragged import Array, Table

if TYPE_CHECKING:
    from pfnano_tag.generate.simulation import Chunk

SLOTS = {"Cpfcan": 25, "Npfcan": 25, "sv": 4}
VARIABLES: dict[str, dict[str, str]] = {
    "Cpfcan": dict.fromkeys(
        (
            "BtagPf_trackEtaRel",
            "BtagPf_trackPtRel",
            "BtagPf_trackPPar",
            "BtagPf_trackDeltaR",
            "BtagPf_trackPParRatio",
            "BtagPf_trackSip2dVal",
            "BtagPf_trackSip2dSig",
            "BtagPf_trackSip3dVal",
            "BtagPf_trackSip3dSig",
            "BtagPf_trackJetDistVal",
            "ptrel",
            "drminsv",
            "puppiw",
            "chi2",
        ),
        FLOAT,
    )
    | {"VTX_ass": INT, "quality": INT},
    "Npfcan": dict.fromkeys(("ptrel", "deltaR", "HadFrac", "drminsv", "puppiw"), FLOAT) | {"isGamma": INT},
    "sv": dict.fromkeys(
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
            "deltaR",
            "enratio",
        ),
        FLOAT,
    ),
}
_COUNTS = {"Cpfcan": "nCpfcand", "Npfcan": "nNpfcand", "sv": "nsv"}
_CANDIDATES = ("PFCands", "JetPFCands", "JetSVs")
FLAT = {f"DeepJet_{name}": INT for name in (*_COUNTS.values(), "npv")} | {
    f"DeepJet_{group}_{name}_{slot}": dtype
    for group, variables in VARIABLES.items()
    for slot in range(SLOTS[group])
    for name, dtype in variables.items()
}
"""Fields of `Jet` that the layout adds."""


def deepjet_types(mode: str, fat_jets: bool = False) -> Types:
    """Types of the layout in a mode (`mc` or `data`); it has no AK8 jets."""
    plain = candidate_types(mode)
    collections = {name: fields for name, fields in plain.collections.items() if name not in _CANDIDATES}
    truth = {"FlavSplit": INT} if mode == "mc" else {}
    return Types(plain.scalars, joined(collections, {"Jet": FLAT | truth}))


def slot_columns(table: Table, slots: int, names: dict[str, str]) -> dict[str, Array]:
    """The first `slots` rows of each jet: a column `[jets]` for each variable and slot (`ptrel_0`), 0 where empty."""
    inside = table.position < slots
    jet, slot = table.event[inside], table.position[inside]
    out: dict[str, Array] = {}
    for name in names:
        padded = np.zeros((slots, table.num_events))
        padded[slot, jet] = table[name][inside]
        out |= {f"{name}_{k}": column for k, column in enumerate(padded)}
    return out


def deepjet_content(chunk: Chunk) -> tuple[dict[str, Array], dict[str, Table]]:
    """Scalars and collections of a chunk in this layout."""
    jets = chunk.tables["Jet"]
    columns: dict[str, Array] = {"DeepJet_npv": chunk.scalars["PV_npvs"][jets.event]}
    for group, table in flat_inputs(chunk).items():
        columns[f"DeepJet_{_COUNTS[group]}"] = table.counts
        slots = slot_columns(table, SLOTS[group], VARIABLES[group])
        columns |= {f"DeepJet_{group}_{name}": values for name, values in slots.items()}
    if "hadronFlavour" in jets.columns:
        columns["FlavSplit"] = flavour_split(chunk.record, jets)
    return chunk.scalars, {**chunk.tables, "Jet": jets.with_columns(**columns)}
