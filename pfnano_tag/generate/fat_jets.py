"""AK8 jets (`FatJet`) with their candidates, vertices and truth, from the same candidates as the AK4 jets.

As in NanoAOD: jets above 170 GeV, generator jets above 100 GeV. The energy correction is that of the AK4 jets with
the larger area in the pile-up offset (median response in QCD 0.993 to 0.995 from 200 to 900 GeV); substructure
variables are not made.
"""

from __future__ import annotations

import numpy as np

from pfnano_tag.generate import flavour, truth
from pfnano_tag.generate.clustering import FAT_RADIUS
from pfnano_tag.generate.jets import Jets, build_jets, match
from pfnano_tag.generate.linking import candidate_links, jet_vertices
from pfnano_tag.generate.ragged import Array, Table

MIN_PT, GEN_MIN_PT = 170.0, 100.0


def build_fat_jets(candidates: Table, ghosts: Table, offset: Array) -> Jets:
    """AK8 jets above 170 GeV; arguments as for `build_jets`."""
    return build_jets(candidates, ghosts, offset, FAT_RADIUS, MIN_PT)


def fat_jet_tables(
    candidates: Table,
    jets: Jets,
    index: Array,
    found: Table,
    sv_index: Array,
    sigma: tuple[Array, Array],
    rng: np.random.Generator,
) -> dict[str, Table]:
    """`FatJet`, `FatJetPFCands` and `FatJetSVs`.

    Parameters
    ----------
    jets : Jets
        From `build_fat_jets`.
    index, sv_index : Array
        Local indices of candidates in PFCands, and of vertices in SV.
    """
    return {
        "FatJet": jets.table,
        "FatJetPFCands": candidate_links(candidates, jets, index, sigma, rng),
        "FatJetSVs": jet_vertices(jets.table, found, sv_index, FAT_RADIUS),
    }


def add_fat_truth(
    tables: dict[str, Table], particles: Table, ghosts: Table, jets: Jets
) -> tuple[Table, Array, float]:
    """Add `GenJetAK8` and the flavours of `FatJet`, in place; return what `gen_candidates` takes for AK8 jets."""
    gen_jets, of_particle = truth.gen_jets(particles, ghosts, GEN_MIN_PT, FAT_RADIUS)
    b, c = flavour.heavy_hadrons(ghosts, jets.ghost_jet, len(jets.table))
    tables["FatJet"] = tables["FatJet"].with_columns(
        nBHadrons=b,
        nCHadrons=c,
        hadronFlavour=flavour.hadron_flavour(b, c),
        genJetAK8Idx=match(jets.table, gen_jets, FAT_RADIUS),
    )
    tables["GenJetAK8"] = gen_jets
    return gen_jets, of_particle, truth.FAT_CONSTITUENTS_PT
