"""Section `regions`: control regions of the data/MC comparison."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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

    mass: tuple[float, float] = (61.0, 121.0)
    """Window of the dilepton mass [GeV]."""

    dilepton_pt: Annotated[float, Field(ge=0)] = 15.0
    """Lowest pT of the lepton pair [GeV]."""

    jet_id: Literal["tight", "tight_lepton_veto", "none"] = "tight_lepton_veto"
    """Identification of the jets (`Jet_jetId`)."""

    jets: Literal["leading", "all"] = "leading"
    """Jets that are filled: the leading one in pT, or all."""


Region = Annotated[AllJets | DrellYan, Field(discriminator="selection")]
