"""One chunk of events: generator record to the content of a PFNano file, whatever its layout."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pfnano_tag.generate import event_record, fat_jets, flavour, leptons, pileup, trigger, truth, vertices
from pfnano_tag.generate.detector import PrimaryVertex, detect, reconstruct_vertex
from pfnano_tag.generate.jets import Jets, build_jets, match
from pfnano_tag.generate.linking import (
    candidate_links,
    jet_vertices,
    selected_vertices,
    stored_candidates,
    tag_variables,
)
from pfnano_tag.generate.material import interact
from pfnano_tag.generate.ragged import Array, Table, merge
from pfnano_tag.generate.response import Response
from pfnano_tag.generate.underlying_event import POWER, Pool, draw
from pfnano_tag.nano.columns import offsets_of

DATA_RUNS = (297047, 299329, 302030, 304911)


def _all_particles(
    record: Table, pool: Pool, overlay: bool, interactions: Array, response: Response, rng: np.random.Generator
) -> tuple[Table, Table, truth.GenParticles]:
    """Stable particles of hard process (source 0), underlying event (1), pile-up (2); the ghosts; and GenPart.

    Of particles, `part` is the index in GenPart of the nearest ancestor there (-1: none; without meaning for
    pile-up), `number` their row.
    """

    def labelled(table: Table, source: int) -> Table:
        return table.with_columns(source=np.full(len(table), source, np.int64))

    stable, kept = event_record.stable_particles(record), truth.gen_particles(record)
    parts = [labelled(stable.with_columns(part=kept.above[stable["row"]]), 0)]
    ghosts = [event_record.ghosts(record)]
    if overlay:
        extra, heavy, hadrons, _ = draw(pool, np.ones(record.num_events, np.int64), rng, POWER)
        shifted = np.where(extra["part"] >= 0, extra["part"] + kept.table.counts[extra.event], -1)
        parts.append(labelled(extra.with_columns(part=shifted), 1))
        ghosts.append(heavy)
        kept = replace(kept, table=truth.joined_particles(kept.table, hadrons))
    length = response.beam_spot[3]
    parts.append(labelled(pileup.charged_pileup(pool, interactions, length, rng), 2))
    particles = merge(parts)
    return particles.with_columns(number=np.arange(len(particles))), merge(ghosts), kept


@dataclass(frozen=True)
class Seen:
    """What the detector saw of a chunk, before jets are made.

    `interactions` and `mean_pileup` are [E]; `offset` [E] is the neutral pile-up pt per unit area;
    `position` [E, 3] is the reconstructed primary vertex in the detector [cm].
    """

    particles: Table
    ghosts: Table
    generated: truth.GenParticles
    candidates: Table
    vertex: PrimaryVertex
    interactions: Array
    mean_pileup: Array
    offset: Array
    position: Array

    @property
    def sigma(self) -> tuple[Array, Array]:
        """Uncertainties of the primary vertex in xy and z, [E] each."""
        return self.vertex.sigma_xy, self.vertex.sigma_z


@dataclass(frozen=True)
class Chunk:
    """A chunk of events in full precision, from which layouts take what they store.

    `scalars` are [E]; `tables` hold one table per collection of the candidates layout; `record`, `seen`, `jets` and
    `vertices` are what these were made from: the generator's record, the detector's candidates, the AK4 jets and all
    secondary vertices.
    """

    scalars: dict[str, Array]
    tables: dict[str, Table]
    record: Table
    seen: Seen
    jets: Jets
    vertices: Table

    def with_scalars(self, scalars: dict[str, Array]) -> Chunk:
        """Return the same chunk with scalars added."""
        return replace(self, scalars={**self.scalars, **scalars})


@dataclass(frozen=True)
class Choices:
    """What of the settings changes the simulation.

    `overlay`: a minimum-bias event is the underlying event; `mode`: `mc` or `data`; `all_candidates`: PFCands holds
    those outside jets too; `fat_jets`: with AK8 jets.
    """

    overlay: bool = True
    mode: str = "mc"
    all_candidates: bool = False
    fat_jets: bool = False


def see(record: Table, pool: Pool, overlay: bool, response: Response, rng: np.random.Generator) -> Seen:
    """Overlays, material, detector: everything up to the candidates."""
    events = record.num_events
    mean_pileup, interactions = pileup.interactions_of(response, events, rng)
    particles, ghosts, generated = _all_particles(record, pool, overlay, interactions, response, rng)
    after_material = interact(particles, response, rng)
    vertex = reconstruct_vertex(after_material, rng)
    candidates = detect(after_material, vertex, response, rng)
    clusters = pileup.neutral_pileup(interactions, rng)
    candidates = merge([candidates, pileup.candidates_of(clusters, candidates)])
    candidates = candidates.with_columns(**_association(candidates, rng))
    x, y, z, length = response.beam_spot
    true = np.stack([np.full(events, x), np.full(events, y), rng.normal(z, length, events)], axis=1)
    offset = pileup.offset_density(interactions.astype(np.float64))
    position = true + vertex.shift
    return Seen(particles, ghosts, generated, candidates, vertex, interactions, mean_pileup, offset, position)


def simulate(
    record: Table, weights: Array, pool: Pool, response: Response, choices: Choices, rng: np.random.Generator
) -> Chunk:
    """Detector simulation and reconstruction of one chunk.

    Parameters
    ----------
    record, weights : Table, Array
        From `event_record.read_batch`.
    pool : Pool
        Minimum-bias events for pile-up and, where they are overlaid, the underlying event.
    choices : Choices
        The AK4 jets and all else but PFCands are the same with AK8 jets and without.
    """
    seen = see(record, pool, choices.overlay, response, rng)
    candidates, sigma = seen.candidates, seen.sigma
    jets = build_jets(candidates, seen.ghosts, seen.offset)
    tracks = vertices.usable_tracks(candidates, *sigma, rng)
    found, member_track, member_vertex = vertices.find_vertices(tracks, seen.vertex.covariance())
    kept = rng.random(len(found)) < response.vertex_efficiency
    found, member_track, member_vertex = vertices.thinned(found, member_track, member_vertex, kept)
    local_jet = np.full(len(candidates), -1, np.int64)
    local_jet[jets.link_candidate] = jets.link_jet - jets.table.offsets[:-1][jets.table.event[jets.link_jet]]
    tables: dict[str, Table] = {}
    tables["Muon"] = leptons.muons(candidates, local_jet, seen.offset, sigma, response, rng)
    tables["Electron"] = leptons.electrons(candidates, local_jet, seen.offset, sigma, response, rng)
    fat = fat_jets.build_fat_jets(candidates, seen.ghosts, seen.offset) if choices.fat_jets else None
    stored = [jets, fat] if fat else [jets]
    tables["PFCands"], index = stored_candidates(candidates, stored, choices.all_candidates)
    tables["JetPFCands"] = candidate_links(candidates, jets, index, sigma, rng)
    tables["SV"], sv_index = selected_vertices(found, seen.position)
    tables["JetSVs"] = jet_vertices(jets.table, found, sv_index)
    tags = tag_variables(candidates, jets, sigma, found, tracks, member_track, member_vertex)
    indices = _lepton_indices(jets.table, tables["Muon"], tables["Electron"])
    tables["Jet"] = jets.table.with_columns(**tags, **indices)
    tables["OtherPV"] = _other_vertices(seen.interactions, response, rng)
    scalars = _event_columns(seen, tables, rng)
    in_jets = {}
    if choices.mode == "mc":
        in_jets["GenJetCands"] = _add_truth(scalars, tables, record, weights, seen, jets)
    if fat:
        tables |= fat_jets.fat_jet_tables(candidates, fat, index, found, sv_index, sigma, rng)
        if choices.mode == "mc":
            in_jets["GenFatJetCands"] = fat_jets.add_fat_truth(tables, seen.particles, seen.ghosts, fat)
    if choices.mode == "mc":
        tables |= truth.gen_candidates(seen.particles, in_jets)
    return Chunk(scalars, tables, record, seen, jets, found)


def _association(candidates: Table, rng: np.random.Generator) -> dict[str, Array]:
    """Vertex association quality and puppi weights of candidates."""
    n, track, source = len(candidates), candidates["track"], candidates["source"]
    charged = candidates["charge"] != 0
    near = np.abs(candidates["dz"]) < 0.1
    displaced = track & (np.abs(candidates["d0"]) > 3.0 * candidates["d0Err"])
    u = rng.random(n)
    quality = np.where(displaced & near, np.where(u < 0.35, 7, np.where(u < 0.75, 6, 5)), 7)
    quality = np.where(displaced & ~near, np.where(u < 0.5, 4, 1), quality)
    quality = np.where(charged & (source == 2) & ~near, np.where(u < 0.4, 7, np.where(u < 0.7, 1, 0)), quality)
    levels = np.where(source < 2, rng.beta(4.0, 0.8, n), rng.beta(0.5, 3.0, n))
    neutral = np.where(levels < 0.02, 0.0, levels)
    weight = np.where(charged, np.where(near | ~track, 1.0, 0.0), np.round(neutral * 255.0) / 255.0)
    weight = np.where(np.abs(candidates["eta"]) > 4.7, 0.0, weight)
    lepton = np.isin(np.abs(candidates["pdgId"]), (11, 13)) & (candidates["pt"] > 20.0)
    return {"pvAssocQuality": quality, "puppiWeight": weight, "puppiWeightNoLep": np.where(lepton, 0.0, weight)}


def _vertex_columns(vertex: PrimaryVertex, interactions: Array, rng: np.random.Generator) -> dict[str, Array]:
    """PV_* quality columns and numbers of vertices (70 % of the interactions are found)."""
    events = len(interactions)
    others = rng.binomial(interactions, 0.70)
    ndof = np.maximum(1.5 * vertex.tracks - 3.0, 1.0)
    return {
        "PV_ndof": ndof,
        "PV_chi2": np.clip(rng.normal(0.85, 0.12, events), 0.1, 3.0),
        "PV_score": (0.01 / vertex.sigma_xy) ** 2 * 50.0 * vertex.tracks,
        "PV_npvs": 1 + others,
        "PV_npvsGood": 1 + rng.binomial(others, 0.87),
    }


def _event_columns(seen: Seen, tables: dict[str, Table], rng: np.random.Generator) -> dict[str, Array]:
    """Scalar columns that data and simulation share, except the event's identity."""
    met_pt, met_phi, met_sum = trigger.missing_momentum(seen.candidates, tables["Jet"], seen.interactions, rng)
    bits = trigger.decisions(tables["Muon"], tables["Electron"], tables["Jet"])
    events = len(seen.interactions)
    return {
        **{f"PV_{axis}": seen.position[:, k] for k, axis in enumerate("xyz")},
        "MET_pt": met_pt,
        "MET_phi": met_phi,
        "MET_sumEt": met_sum,
        **_vertex_columns(seen.vertex, seen.interactions, rng),
        **{f"HLT_{k}": v for k, v in bits.items()},
        **{f"Flag_{k}": v for k, v in trigger.filters(events, rng).items()},
        "fixedGridRhoFastjetAll": 0.62 * seen.interactions + rng.normal(1.5, 1.0, events),
    }


def _other_vertices(interactions: Array, response: Response, rng: np.random.Generator) -> Table:
    """Positions z of up to three further vertices."""
    counts = np.minimum(interactions, 3)
    return Table({"z": rng.normal(*response.beam_spot[2:], int(counts.sum()))}, offsets_of(counts))


def _lepton_indices(jets: Table, muons: Table, electrons: Table) -> dict[str, Array]:
    """muonIdx1, muonIdx2, electronIdx1, electronIdx2 of jets."""
    out = {}
    for name, table in (("muonIdx", muons), ("electronIdx", electrons)):
        out[f"{name}1"], out[f"{name}2"] = leptons.indices_in_jets(table, jets)
    return out


def _add_truth(
    scalars: dict[str, Array], tables: dict[str, Table], record: Table, weights: Array, seen: Seen, jets: Jets
) -> tuple[Table, Array, float]:
    """Add generator-level columns and collections, in place; return what `gen_candidates` takes for AK4 jets."""
    local = seen.generated.local
    gen_jet, of_particle = truth.gen_jets(seen.particles, seen.ghosts)
    b, c = flavour.heavy_hadrons(seen.ghosts, jets.ghost_jet, len(jets.table))
    hadron = flavour.hadron_flavour(b, c)
    tables["Jet"] = tables["Jet"].with_columns(
        nBHadrons=b,
        nCHadrons=c,
        hadronFlavour=hadron,
        partonFlavour=flavour.parton_flavour(seen.ghosts, jets.ghost_jet, hadron),
        genJetIdx=match(jets.table, gen_jet),
    )
    for name in ("Muon", "Electron"):
        row = tables[name]["row"].astype(np.int64)
        tables[name] = tables[name].with_columns(genPartIdx=np.where(row >= 0, local[np.maximum(row, 0)], -1))
    tables["GenPart"], tables["GenJet"] = _in_the_detector(seen), gen_jet
    met_pt, met_phi = truth.gen_met(seen.particles)
    one = np.ones(len(weights))
    # prefiring weights: forward jets in the ECAL transition make the trigger fire early
    table = tables["Jet"]
    forward = (np.abs(table["eta"]) > 2.0) & (np.abs(table["eta"]) < 3.0) & (table["pt"] > 40.0)
    count = np.bincount(table.event[forward], minlength=record.num_events)
    scalars.update(
        Pileup_nTrueInt=seen.mean_pileup,
        Pileup_nPU=seen.interactions,
        genWeight=weights,
        Generator_weight=weights,
        GenMET_pt=met_pt,
        GenMET_phi=met_phi,
        L1PreFiringWeight_Nom=one * 0.992**count,
        L1PreFiringWeight_Up=one * 0.9904**count,
        L1PreFiringWeight_Dn=one * 0.9936**count,
    )
    return gen_jet, of_particle, truth.CONSTITUENTS_PT


def _in_the_detector(seen: Seen) -> Table:
    """GenPart with production vertices in the detector's coordinates [cm]."""
    table, shift = seen.generated.table, seen.position - seen.vertex.shift
    return table.with_columns(**{k: table[k] + shift[table.event, i] for i, k in enumerate(("vx", "vy", "vz"))})


def identity(
    mode: str, sample_number: int, file_index: int, start: int, events: int, file_events: int
) -> dict[str, Array]:
    """run, luminosityBlock, event of a chunk, unique over the files of a sample (data: over all samples).

    Parameters
    ----------
    sample_number : int
        A number below 4096 that the samples of a production share with no other.
    start : int
        First event of the chunk in its file.
    """
    number = start + np.arange(events, dtype=np.uint64)
    per_lumi = max(500, -(-file_events // 100))
    lumi = 1 + 100 * file_index + number // per_lumi
    run = DATA_RUNS[file_index % len(DATA_RUNS)] if mode == "data" else 1
    event = number + 1 + (np.uint64(file_index) << np.uint64(24))
    if mode == "data":
        event = event + (np.uint64(sample_number) << np.uint64(44))
    return {"run": np.full(events, run), "luminosityBlock": lumi, "event": event}
