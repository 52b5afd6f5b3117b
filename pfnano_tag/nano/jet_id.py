"""Jet identification from the energy fractions, for files that lack `Jet_jetId` (NanoAOD v15).

The working points are those of AK4 PUPPI jets at 13.6 TeV since 2024, as cms-btv-pog/BTVNanoCommissioning applies
them (utils/selection.py: `jet_id`, campaigns Winter24 and Summer24); their form is that of `RUN3WINTER22PUPPI` in
cms-sw/cmssw (PhysicsTools/SelectorUtils/interface/PFJetIDSelectionFunctor.h), with tighter limits beyond abs(eta)
2.7. That code's veto of leptons is kept: 0.8 for muons and for electrons, up to 2.7.
Bits are NanoAOD's: 2 tight, 4 tight with lepton veto.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BRANCHES = (
    "Jet_eta",
    "Jet_neHEF",
    "Jet_neEmEF",
    "Jet_chHEF",
    "Jet_chEmEF",
    "Jet_muEF",
    "Jet_chMultiplicity",
    "Jet_neMultiplicity",
)
"""What `jet_id` takes, in its order."""

TIGHT, LEPTON_VETO = 2, 4


def jet_id(
    eta: NDArray[Any],
    neutral_hadron: NDArray[Any],
    neutral_em: NDArray[Any],
    charged_hadron: NDArray[Any],
    charged_em: NDArray[Any],
    muon: NDArray[Any],
    num_charged: NDArray[Any],
    num_neutral: NDArray[Any],
) -> NDArray[np.uint8]:
    """Return `Jet_jetId`: 0 (fails), 2 (tight) or 6 (tight, and no lepton that makes up the jet).

    =================  ==================================================================================
    abs(eta)           tight
    =================  ==================================================================================
    up to 2.6          neHEF < 0.99, neEmEF < 0.9, more than one particle, chHEF > 0.01, a charged particle
    2.6 to 2.7         neHEF < 0.9, neEmEF < 0.99
    2.7 to 3.0         neHEF < 0.99
    above 3.0          neEmEF < 0.4, at least two neutral particles
    =================  ==================================================================================

    The lepton veto asks for muEF < 0.8 and chEmEF < 0.8 up to 2.7, and for nothing more beyond.

    Parameters
    ----------
    eta : ndarray [jets]
        Pseudorapidity.
    neutral_hadron, neutral_em, charged_hadron, charged_em, muon : ndarray [jets]
        Fractions of the uncorrected energy.
    num_charged, num_neutral : ndarray of integers [jets]
        Numbers of particles; of any type (the files' uint8 would overflow in their sum).

    Returns
    -------
    ndarray of uint8 [jets]
    """
    position = np.abs(eta)
    charged, neutral = num_charged.astype(np.int64), num_neutral.astype(np.int64)
    central = (neutral_hadron < 0.99) & (neutral_em < 0.9) & (charged_hadron > 0.01)
    central &= (charged > 0) & (charged + neutral > 1)
    ranges = [position <= 2.6, position <= 2.7, position <= 3.0]
    working_points = [central, (neutral_hadron < 0.9) & (neutral_em < 0.99), neutral_hadron < 0.99]
    tight = np.select(ranges, working_points, (neutral_em < 0.4) & (neutral >= 2))
    no_lepton = tight & ((position > 2.7) | ((muon < 0.8) & (charged_em < 0.8)))
    return (TIGHT * tight + LEPTON_VETO * no_lepton).astype(np.uint8)
