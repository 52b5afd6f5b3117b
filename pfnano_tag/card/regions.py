"""Section `regions`: control regions of the data/MC comparison."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from pfnano_tag.card.base import Section

MET_FILTERS = (
    "Flag_goodVertices",
    "Flag_globalSuperTightHalo2016Filter",
    "Flag_HBHENoiseFilter",
    "Flag_HBHENoiseIsoFilter",
    "Flag_EcalDeadCellTriggerPrimitiveFilter",
    "Flag_BadPFMuonFilter",
    "Flag_eeBadScFilter",
    "Flag_ecalBadCalibFilter",
)
"""Noise filters of Run 2 legacy (2017)."""

PFJET_WINDOWS: dict[str, tuple[float, float | None]] = {
    "HLT_PFJet40": (45.0, 80.0),
    "HLT_PFJet60": (80.0, 110.0),
    "HLT_PFJet80": (110.0, 180.0),
    "HLT_PFJet140": (180.0, 250.0),
    "HLT_PFJet200": (250.0, 310.0),
    "HLT_PFJet260": (310.0, 380.0),
    "HLT_PFJet320": (380.0, 460.0),
    "HLT_PFJet400": (460.0, 520.0),
    "HLT_PFJet450": (520.0, 580.0),
    "HLT_PFJet500": (580.0, None),
}
"""Windows of the leading jet's pT [GeV] in which a path is efficient."""

Positive = Annotated[float, Field(ge=0)]
JetId = Literal["tight", "tight_lepton_veto", "none"]
Met = Literal["MET", "PuppiMET", "METFixEE2017"]


def _not_falling(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"must be a range of two numbers that don't fall, not {list(ends)}")
    return ends


Range = Annotated[tuple[float, float], AfterValidator(_not_falling)]
Filled = Annotated[int, Field(ge=1)] | Literal["all"]


class AllJets(Section):
    """Every event, every jet in the acceptance of section `jets`."""

    selection: Literal["all_jets"]
    """Every event, every jet in the acceptance of section `jets`."""

    triggers: tuple[str, ...] = ()
    """HLT paths, any of which is asked for; empty: no trigger. A path ending in `?` may be missing in a file."""

    jets: Literal["leading", "all"] = "all"
    """Jets that are filled: the leading one in pT, or all."""


class DrellYan(Section):
    """DY+jets, enriched in light jets: two muons or electrons of opposite charge in the Z window."""

    selection: Literal["dy"]
    """DY+jets, enriched in light jets (two leptons of opposite charge in the Z window, at least one jet)."""

    lepton: Literal["muon", "electron"] = "muon"
    """Flavour of the two leptons."""

    triggers: tuple[str, ...] | None = None
    """HLT paths, any of which is asked for [default: the double-lepton path of 2017]. A path ending in `?` may
    be missing in a file."""

    met_filters: tuple[str, ...] = MET_FILTERS
    """Event filters, all of which are asked for. A name ending in `?` may be missing in a file."""

    leading_pt: Annotated[float, Field(ge=0)] | None = None
    """Lowest pT of the leading lepton [GeV] [default: 20 for muons, 26 for electrons]."""

    subleading_pt: Annotated[float, Field(ge=0)] | None = None
    """Lowest pT of the second lepton [GeV] [default: 12 for muons, 15 for electrons]."""

    mass: Range = (61.0, 121.0)
    """Window of the dilepton mass [GeV]."""

    dilepton_pt: Annotated[float, Field(ge=0)] = 15.0
    """Lowest pT of the lepton pair [GeV]."""

    jet_id: Literal["tight", "tight_lepton_veto", "none"] = "tight_lepton_veto"
    """Identification of the jets (`Jet_jetId`)."""

    jets: Literal["leading", "all"] = "leading"
    """Jets that are filled: the leading one in pT, or all."""


class TopPairDilepton(Section):
    """Top pairs in muon and electron, enriched in b jets: one tight lepton each, opposite charges, two jets."""

    selection: Literal["ttbar_dilepton"]
    """Top pairs with two leptons, enriched in b jets (one muon and one electron of opposite charge, two jets)."""

    triggers: tuple[str, ...] = (
        "HLT_Mu23_TrkIsoVVL_Ele12_CaloIdL_TrackIdL_IsoVL_DZ",
        "HLT_Mu12_TrkIsoVVL_Ele23_CaloIdL_TrackIdL_IsoVL_DZ",
        "HLT_Mu8_TrkIsoVVL_Ele23_CaloIdL_TrackIdL_IsoVL_DZ",
    )
    """HLT paths, any of which is asked for; empty: no trigger. A path ending in `?` may be missing in a file."""

    met_filters: tuple[str, ...] = ()
    """Event filters, all of which are asked for. A name ending in `?` may be missing in a file."""

    muon_pt: Positive = 25.0
    """Lowest pT of the muon, with tight identification and isolation [GeV]; there is exactly one above it."""

    electron_pt: Positive = 25.0
    """Lowest pT of the electron, with tight cut-based identification [GeV]; there is exactly one above it."""

    jet_id: JetId = "tight_lepton_veto"
    """Identification of the jets (`Jet_jetId`)."""

    lepton_jet_distance: Positive = 0.4
    """Jets at most this far from one of the two leptons don't count (Delta R)."""

    min_jets: Annotated[int, Field(ge=1)] = 2
    """Least number of jets."""

    jets: Filled = 2
    """Jets that are filled: so many, hardest first, or all."""


class TopPairSemileptonic(Section):
    """Top pairs with one lepton, enriched in b jets: one tight isolated muon, missing momentum, four jets."""

    selection: Literal["ttbar_semileptonic"]
    """Top pairs with one lepton, enriched in b jets (one isolated muon, missing momentum, four jets)."""

    triggers: tuple[str, ...] = ("HLT_IsoMu24",)
    """HLT paths, any of which is asked for; empty: no trigger. In 2017 most data need `HLT_IsoMu27`. A path ending in
    `?` may be missing in a file."""

    met_filters: tuple[str, ...] = MET_FILTERS
    """Event filters, all of which are asked for. A name ending in `?` may be missing in a file."""

    muon_pt: Positive = 30.0
    """Lowest pT of the muon, with tight identification [GeV]; there is exactly one above it."""

    muon_isolation: Positive = 0.12
    """Largest relative isolation of the muon (`Muon_pfRelIso04_all`), included."""

    met: Met = "MET"
    """Missing transverse momentum: `MET` (since NanoAOD v15 called PFMET), `PuppiMET`, or `METFixEE2017`."""

    met_pt: Positive = 50.0
    """Lowest missing transverse momentum [GeV]."""

    jet_id: JetId = "tight_lepton_veto"
    """Identification of the jets (`Jet_jetId`)."""

    lepton_jet_distance: Positive = 0.4
    """Jets at most this far from the muon don't count (Delta R)."""

    min_jets: Annotated[int, Field(ge=1)] = 4
    """Least number of jets."""

    jets: Filled = 4
    """Jets that are filled: so many, hardest first, or all."""


class WCharm(Section):
    """W+c, enriched in c jets: an isolated lepton from the W, and a jet with a soft muon of the opposite charge.

    Backgrounds have both signs alike: events whose charges are equal count with weight -1.
    """

    selection: Literal["w_c"]
    """W+c, enriched in c jets (isolated lepton, jet with a soft muon; opposite minus same sign)."""

    lepton: Literal["muon", "electron"] = "muon"
    """Flavour of the isolated lepton."""

    triggers: tuple[str, ...] | None = None
    """HLT paths, any of which is asked for [default: HLT_IsoMu27 and HLT_IsoMu24 for muons,
    HLT_Ele32_WPTight_Gsf_L1DoubleEG for electrons]. A path ending in `?` may be missing in a file."""

    met_filters: tuple[str, ...] = ()
    """Event filters, all of which are asked for. A name ending in `?` may be missing in a file."""

    lepton_pt: Positive | None = None
    """Lowest pT of the isolated lepton [GeV] [default: 30 for muons, 34 for electrons]."""

    lepton_isolation: Positive = 0.05
    """Upper end of the lepton's relative isolation (muons `pfRelIso04_all`, electrons `pfRelIso03_all`), left out."""

    lepton_dz: Positive | None = None
    """Upper end of the lepton's abs(dz) [cm] [default: 0.01 for muons, 0.02 for electrons]."""

    lepton_dxy: Positive | None = None
    """Upper end of the lepton's abs(dxy) [cm] [default: 0.002 for muons, 0.01 for electrons]."""

    lepton_sip3d: Positive | None = None
    """Upper end of the lepton's `sip3d` [default: 2 for muons, 2.5 for electrons]."""

    lepton_jet_pt_ratio: Positive = 0.75
    """Least pT of the lepton over that of the jet that it belongs to (`jetIdx`); without such a jet it passes."""

    soft_muon_pt: Range = (0.0, 25.0)
    """Range of the soft muon's pT, ends left out [GeV]."""

    soft_muon_isolation: Positive = 0.2
    """Relative isolation (`Muon_pfRelIso04_all`) that the soft muon exceeds."""

    soft_muon_dxy_significance: Positive | None = None
    """abs(dxy / dxyErr) that the soft muon exceeds [default: 1 with muons, 0 with electrons]."""

    soft_muon_distance: Positive = 0.4
    """Largest Delta R of the soft muon and the jet that it belongs to (`Muon_jetIdx`)."""

    soft_muon_pt_ratio: Positive | None = None
    """Upper end of the soft muon's pT over that of its jet [default: 0.4 with muons, 0.6 with electrons]."""

    energy_fraction: Positive | None = None
    """Upper end of the jet's energy fraction of muons and photons, muEF + neEmEF, left out [default: 0.7 with muons,
    1 with electrons]."""

    pair_mass: Positive | None = None
    """Mass of the isolated lepton and the soft muon that is exceeded [GeV] [default: 12 with muons, 0 with
    electrons]."""

    veto_mass: Range | None = None
    """Range of that mass that is left out, ends included [GeV] [default: 80 to 100 with muons, none with
    electrons]."""

    met: Met = "MET"
    """Missing transverse momentum: `MET` (since NanoAOD v15 called PFMET), `PuppiMET`, or `METFixEE2017`."""

    transverse_mass: Positive = 55.0
    """Transverse mass of lepton and missing momentum that is exceeded [GeV]."""

    jet_id: JetId = "tight_lepton_veto"
    """Identification of the jets (`Jet_jetId`)."""

    lepton_jet_distance: Positive = 0.5
    """Jets at most this far from the isolated lepton don't count (Delta R)."""

    num_jets: Annotated[tuple[int, int], AfterValidator(_not_falling)] = (1, 3)
    """Least and largest number of jets."""

    subtract_same_sign: bool = True
    """Whether events with equal charges enter, with weight -1; if not, they are dropped."""


class Qcd(Section):
    """Multijets: the leading jet lies in the pT window of a jet trigger that has fired."""

    selection: Literal["qcd"]
    """Multijets (the leading jet in the pT window of a jet trigger that has fired)."""

    windows: dict[str, tuple[Positive, Positive | None]] = Field(default_factory=lambda: dict(PFJET_WINDOWS))
    """HLT path -> window of the leading jet's pT [GeV], upper end left out; null: no upper end. Windows don't
    overlap. A path ending in `?` may be missing in a file: its window is then empty."""

    prescales: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """HLT path -> average prescale, by which data in its window are weighted; those not named have 1."""

    met_filters: tuple[str, ...] = ()
    """Event filters, all of which are asked for. A name ending in `?` may be missing in a file."""

    jet_id: JetId = "tight_lepton_veto"
    """Identification of the jets (`Jet_jetId`)."""

    jets: Filled = "all"
    """Jets that are filled: so many, hardest first, or all."""

    @model_validator(mode="after")
    def _windows(self) -> Qcd:
        if not self.windows:
            raise ValueError("windows must name a trigger; without one, use the selection all_jets")
        ends = sorted((low, math.inf if high is None else high, path) for path, (low, high) in self.windows.items())
        for low, high, path in ends:
            if low >= high:
                raise ValueError(f"windows.{path} must be a range of two rising numbers, not {[low, high]}")
        for (_, end, path), (start, _, other) in pairwise(ends):
            if start < end:
                raise ValueError(f"windows.{other} starts at {start}, inside windows.{path} that ends at {end}")
        for path in self.prescales:
            if path not in self.windows:
                raise ValueError(f"prescales.{path}: no such trigger in windows ({', '.join(self.windows)})")
        return self


class QcdMuon(Section):
    """Multijets enriched in muons, and so in b and c jets: jets with a soft muon inside."""

    selection: Literal["qcd_muon"]
    """Multijets enriched in heavy flavour (jets with a soft muon inside)."""

    triggers: tuple[str, ...] = ("HLT_BTagMu_AK4DiJet40_Mu5",)
    """HLT paths, any of which is asked for; empty: no trigger. A path ending in `?` may be missing in a file."""

    met_filters: tuple[str, ...] = ()
    """Event filters, all of which are asked for. A name ending in `?` may be missing in a file."""

    soft_muon_pt: Range = (5.0, 25.0)
    """Range of the soft muon's pT, ends left out [GeV]."""

    soft_muon_isolation: Positive = 0.2
    """Relative isolation (`Muon_pfRelIso04_all`) that the soft muon exceeds."""

    soft_muon_distance: Positive = 0.4
    """Largest Delta R of the soft muon and the jet that it belongs to (`Muon_jetIdx`)."""

    jet_id: JetId = "tight_lepton_veto"
    """Identification of the jets (`Jet_jetId`)."""

    jets: Filled = 1
    """Jets with a soft muon that are filled: so many, hardest first, or all."""


Region = Annotated[
    AllJets | DrellYan | TopPairDilepton | TopPairSemileptonic | WCharm | Qcd | QcdMuon,
    Field(discriminator="selection"),
]
