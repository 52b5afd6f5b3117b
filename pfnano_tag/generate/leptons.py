"""Muons and electrons: identification, isolation, and their place in jets.

Identification is drawn per lepton from efficiencies for prompt leptons, leptons in b and c hadron decays,
and misidentified hadrons; working points are nested.  Isolation is computed from the candidates around.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.generate.ragged import Array, Table, delta_r, pairs, sums
from pfnano_tag.generate.response import Response
from pfnano_tag.generate.tracks import significance_3d


def select_leptons(candidates: Table, flavour: int, min_pt: float, max_eta: float) -> Table:
    """Candidates with |pdgId| = `flavour` and a track, sorted by pt; `cand`: flat candidate row."""
    keep = (np.abs(candidates["pdgId"]) == flavour) & candidates["track"] & (candidates["pt"] > min_pt)
    keep &= np.abs(candidates["eta"]) < max_eta
    found = candidates.with_columns(cand=np.arange(len(candidates))).select(keep)
    return found.permute(found.order(-found["pt"]))


def isolation(leptons: Table, candidates: Table, offset: Array, radius: float) -> tuple[Array, Array]:
    """Relative isolation (all, charged only) from candidates within `radius`.

    Charged candidates within 1 mm of the vertex, and neutral ones less the expected neutral pile-up
    (`offset` [GeV] per unit area and event) in the cone, not below zero.
    """
    i, j = pairs(leptons, candidates)
    dr = delta_r(leptons["eta"][i], leptons["phi"][i], candidates["eta"][j], candidates["phi"][j])
    near = (dr < radius) & (j != leptons["cand"][i])
    i, j = i[near], j[near]
    pt, charged = candidates["pt"][j], candidates["charge"][j] != 0
    lepton_like = np.isin(np.abs(candidates["pdgId"][j]), (11, 13))
    close = charged & ~lepton_like & (np.abs(candidates["dz"][j]) < 0.1)
    n = len(leptons)
    charged_sum = sums(pt * close, i, n)
    neutral_sum = sums(pt * (~charged & (pt > 0.5)), i, n)
    neutral_sum = np.maximum(neutral_sum - offset[leptons.event] * np.pi * radius**2, 0.0)
    return (charged_sum + neutral_sum) / leptons["pt"], charged_sum / leptons["pt"]


def origin(leptons: Table, flavour: int) -> NDArray[np.int64]:
    """`genPartFlav`: 1 prompt, 15 prompt tau, 5 b, 4 c, 3 light hadron, 0 not a lepton in truth."""
    true = np.abs(leptons["id"]) == flavour
    kinds = [~true, leptons["prompt"] & leptons["from_tau"], leptons["prompt"], leptons["from_b"], leptons["from_c"]]
    return np.select(kinds, [0, 15, 1, 5, 4], 3)


def _common(leptons: Table, flavour: int, jet_of_candidate: Array, sigma: tuple[Array, Array]) -> dict[str, Array]:
    """Columns that muons and electrons share."""
    event = leptons.event
    sig = significance_3d(leptons, sigma[0][event], sigma[1][event])
    ip3d = np.hypot(leptons["d0"], leptons["dz"] / np.cosh(leptons["eta"]))
    return {
        "dxy": leptons["d0"],
        "dxyErr": leptons["d0Err"],
        "dzErr": leptons["dzErr"],
        "ip3d": ip3d,
        "sip3d": sig,
        "jetIdx": jet_of_candidate[leptons["cand"]],
        "genPartFlav": origin(leptons, flavour),
    }


def muons(
    candidates: Table,
    jet_of_candidate: Array,
    offset: Array,
    sigma: tuple[Array, Array],
    response: Response,
    rng: np.random.Generator,
) -> Table:
    """Muons with pt > 3 GeV, |eta| < 2.4.

    Parameters
    ----------
    jet_of_candidate : Array
        Local index of the jet each candidate is in (-1: none).
    sigma : tuple[Array, Array]
        Uncertainty of the primary vertex in xy and z, two arrays [E].
    """
    m = select_leptons(candidates, 13, 3.0, 2.4)
    c = _common(m, 13, jet_of_candidate, sigma)
    c["pfRelIso04_all"], _ = isolation(m, candidates, offset, 0.4)
    c["pfRelIso03_all"], c["pfRelIso03_chg"] = isolation(m, candidates, offset, 0.3)
    real = c["genPartFlav"] > 0
    tight = np.where(real, response.muon_efficiency * np.where(m["pt"] < 5.0, 0.85, 1.0), 0.35)
    u = rng.random(len(m))
    c["tightId"] = (u < tight) & (np.abs(m["d0"]) < 0.2) & (np.abs(m["dz"]) < 0.5)
    c["mediumId"] = u < np.where(real, 0.98, 0.5)
    c["looseId"] = np.ones(len(m), np.bool_)
    c["hlt"] = rng.random(len(m)) < response.trigger_efficiency
    return m.with_columns(**c)


def electrons(
    candidates: Table,
    jet_of_candidate: Array,
    offset: Array,
    sigma: tuple[Array, Array],
    response: Response,
    rng: np.random.Generator,
) -> Table:
    """Electrons with pt > 5 GeV, |eta| < 2.5; parameters as for `muons`.

    The multivariate working points contain isolation: electrons in jets rarely pass.
    """
    e = select_leptons(candidates, 11, 5.0, 2.5)
    c = _common(e, 11, jet_of_candidate, sigma)
    c["pfRelIso03_all"], c["pfRelIso03_chg"] = isolation(e, candidates, offset, 0.3)
    isolated = np.clip(1.0 - c["pfRelIso03_all"] / 1.5, 0.15, 1.0)
    quality = np.where(c["genPartFlav"] > 0, isolated, 0.3 * isolated)
    u = rng.random(len(e))
    wp80 = response.electron_efficiency
    c["mvaFall17V2Iso_WP80"] = u < wp80 * quality
    c["mvaFall17V2Iso_WP90"] = u < min(wp80 + 0.10, 1.0) * quality
    steps = [u < (wp80 + shift) * quality for shift in (0.15, 0.10, 0.0, -0.10)]
    c["cutBased"] = np.sum(steps, axis=0)
    c["deltaEtaSC"] = rng.normal(0.0, 0.01, len(e))
    c["hlt"] = rng.random(len(e)) < response.trigger_efficiency
    return e.with_columns(**c)


def indices_in_jets(leptons: Table, jets: Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Local index of the first and second lepton in each jet (-1: none); leptons are sorted by pt."""
    inside = leptons["jetIdx"] >= 0
    flat = leptons["jetIdx"][inside] + jets.offsets[:-1][leptons.event[inside]]
    local = leptons.position[inside]
    order = np.lexsort((local, flat))
    flat, local = flat[order], local[order]
    first = np.ones(len(flat), np.bool_)
    first[1:] = flat[1:] != flat[:-1]
    second = np.zeros(len(flat), np.bool_)
    second[1:] = first[:-1] & ~first[1:]
    out = []
    for chosen in (first, second):
        index = np.full(len(jets), -1, np.int64)
        index[flat[chosen]] = local[chosen]
        out.append(index)
    return out[0], out[1]
