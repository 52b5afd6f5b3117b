"""Truth targets made from a btvNano file against the generator's own record, which the reader never sees."""

import numpy as np
import pytest

from pfnano_tag.card.jets import Jets
from pfnano_tag.errors import BadChunk
from pfnano_tag.nano.columns import Jagged, list_of_row
from pfnano_tag.nano.features import read_jets
from pfnano_tag.nano.hadrons import LONG_LIVED
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.targets import ORIGINS, TARGETS
from pfnano_tag.nano.truth import candidate_truth, has_truth

PT = 0.95


@pytest.fixture(scope="module")
def found(chunk, write):
    """Truth of the candidates as read back, and rows of those that are charged, above threshold and known of."""
    with PFNanoFile(write("btvnano")) as file:
        events = file.chunk(0, chunk.record.num_events)
        truth = candidate_truth(events)
        row = np.arange(len(events["Jet_pt"].values))
        known = has_truth(events, row, list_of_row(events["Jet_pt"].offsets))
    links, candidates = chunk.tables["JetPFCands"], chunk.tables["PFCands"]
    jet = links["jetIdx"].astype(int) + chunk.tables["Jet"].offsets[:-1][links.event]
    rows = (links["pFCandsIdx"] + candidates.offsets[:-1][links.event]).astype(int)[known[jet]]
    return truth, np.unique(rows[(candidates["pt"][rows] > PT) & (candidates["charge"][rows] != 0)])


def particle_of(chunk):
    """Row in GenCands of the particle that made each candidate; -1: none, or it is not there."""
    gen = chunk.tables["GenCands"]
    where = np.full(len(chunk.seen.particles) + 1, -1)
    where[gen["number"].astype(int)] = np.arange(len(gen))
    return where[chunk.tables["PFCands"]["number"].astype(int)]  # -1 picks the last entry


def test_candidates_find_the_particles_that_made_them(chunk, found):
    truth, rows = found
    made_by = particle_of(chunk)[rows]
    there, matched = made_by >= 0, truth.generated[rows] >= 0
    assert len(rows) > 2000
    assert np.mean((truth.generated[rows] == made_by)[there]) > 0.99  # efficiency
    assert np.mean((truth.generated[rows] == made_by)[matched]) > 0.99  # purity
    # without a particle: what the detector adds, what lies outside of generator jets, pile-up
    candidates = chunk.tables["PFCands"]
    added = (candidates["number"] < 0) | candidates["from_strange"].astype(bool) | (candidates["source"] == 2)
    assert added[rows][~matched].mean() > 0.85
    assert 0.03 < (~matched).mean() < 0.15
    assert set(truth.origin[rows][~matched].tolist()) == {ORIGINS.index("other")}
    assert set(truth.vertex[rows][~matched].tolist()) == {-1}


def weak_decays(record, row):
    """Kinds and rows of the weak decays that lead to a particle, nearest first: a walk through Pythia's record."""
    chain = []
    while True:
        if not 91 <= abs(record["status"][row]) <= 99:
            return chain
        row = record["mother1"][row]
        code = abs(record["id"][row])
        daughters = np.abs(record["id"][np.flatnonzero(record["mother1"] == row)])
        digits = [int(d) for d in f"{code:07d}"]
        for kind in (5, 4):
            heavy = code > 100 and (digits[3] == kind or (digits[4] == kind and digits[5] != kind and digits[5] > 0))
            again = [d for d in daughters if d > 100 and (d // 100 % 10 == kind or d // 1000 % 10 == kind)]
            if heavy and not again:
                chain.append(("b" if kind == 5 else "c", row))
                break
        if code == 15 or code in LONG_LIVED:
            chain.append(("other", row))


def test_origins_and_vertices_are_those_of_the_generators_record(chunk, found):
    truth, rows = found
    candidates = chunk.tables["PFCands"]
    hard = rows[(truth.generated[rows] >= 0) & (candidates["row"][rows] >= 0)]
    names = {
        frozenset(): "primary", frozenset("b"): "from_b", frozenset("bc"): "from_bc", frozenset("c"): "from_c",
    }  # fmt: skip
    vertices = {}
    seen = set()
    for row in hard[::3]:
        chain = weak_decays(chunk.record, int(candidates["row"][row]))
        kinds = frozenset(kind for kind, _ in chain if kind != "other")
        expected = names[kinds] if kinds or not chain else "other"
        assert ORIGINS[truth.origin[row]] == expected
        seen.add(expected)
        event = int(candidates.event[row])
        vertices.setdefault((event, chain[0][1] if chain else -1), set()).add(int(truth.vertex[row]))
    assert seen >= {"primary", "from_b", "from_bc", "from_c", "other"}
    assert all(len(ids) == 1 for ids in vertices.values())
    numbered = {(event, next(iter(ids))) for (event, _), ids in vertices.items()}
    assert len(numbered) == len(vertices)
    assert all(ids == {0} for (_, decayed), ids in vertices.items() if decayed < 0)


def test_heavy_hadrons_of_the_underlying_event_are_known_too(chunk, found):
    truth, rows = found
    candidates = chunk.tables["PFCands"]
    under = rows[(truth.generated[rows] >= 0) & (candidates["source"][rows] == 1)]
    heavy = candidates["from_c"].astype(bool) | candidates["from_b"].astype(bool)
    named = np.isin(truth.origin, [ORIGINS.index(name) for name in ("from_b", "from_bc", "from_c")])
    assert heavy[under].any()
    assert heavy[under][named[under]].all()
    assert named[under][heavy[under]].mean() > 0.6  # the rest: D* -> pion, at the primary vertex


def test_particles_of_one_vertex_come_from_one_place(chunk, found):
    truth, rows = found
    matched = rows[truth.generated[rows] >= 0]
    particles = chunk.seen.particles
    number = chunk.tables["PFCands"]["number"][matched].astype(int)
    place = np.stack([particles[name][number] for name in ("vx", "vy", "vz")], axis=1)
    keys = np.stack([chunk.tables["PFCands"].event[matched], truth.vertex[matched]], axis=1)
    _, index, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    index = index.ravel()
    mean = np.stack([np.bincount(index, place[:, i]) for i in range(3)], axis=1) / counts[:, None]
    assert np.abs(place - mean[index]).max() < 0.01
    assert (np.abs(place - mean[index]) < 1e-3).mean() > 0.999  # 10 um: only Dalitz pairs of a fast pi0 are farther
    displaced = keys[:, 1] > 0
    assert np.median(np.linalg.norm(place[displaced], axis=1)) > 0.05
    assert np.abs(place[~displaced]).max() < 0.01
    assert (counts[np.unique(index[displaced])] > 1).mean() > 0.4


def test_production_vertices_are_in_the_detectors_coordinates(chunk):
    part, vertex = chunk.tables["GenPart"], chunk.seen.position
    prompt = part["genPartIdxMother"] < 0
    for i, name in enumerate(("vx", "vy", "vz")):
        distance = part[name] - vertex[part.event, i]
        assert np.abs(distance[prompt]).max() < 0.05  # the resolution of the reconstructed vertex
    flown = part["genPartIdxMother"] >= 0
    mother = (part["genPartIdxMother"] + part.offsets[:-1][part.event])[flown]
    from_b = (np.abs(part["pdgId"][mother]) == 521) & (np.abs(part["pdgId"][flown]) != 521)
    length = np.hypot(part["vx"][flown] - part["vx"][mother], part["vy"][flown] - part["vy"][mother])
    assert np.median(length[from_b]) > 0.05


def test_links_lead_to_the_constituents_of_generator_jets(chunk):
    jets, gen, links = (chunk.tables[name] for name in ("GenJet", "GenCands", "GenJetCands"))
    jet = links["jetIdx"].astype(int) + jets.offsets[:-1][links.event]
    row = links["genCandsIdx"].astype(int) + gen.offsets[:-1][links.event]
    assert (jets["pt"][jet] > 20).all()
    assert set(np.flatnonzero(jets["pt"] > 20)) >= set(jet.tolist())
    px = np.bincount(jet, gen["pt"][row] * np.cos(gen["phi"][row]), len(jets))
    py = np.bincount(jet, gen["pt"][row] * np.sin(gen["phi"][row]), len(jets))
    hard = np.unique(jet)
    share = np.hypot(px, py)[hard] / jets["pt"][hard]
    assert np.median(share) > 0.9  # the rest: products of strange hadrons, which CMS's generators don't decay
    assert share.max() < 1.1


def test_ak8_jets_have_truth_too(write):
    with PFNanoFile(write("btvnano", fat_jets=True), Jets(collection="FatJet")) as file:
        events = file.chunk(0, file.num_entries)
        every = np.ones(len(events["Jet_pt"].values), dtype=bool)
        targets = ("charged/origin", "jet/pt_ratio")
        table = read_jets(events, ["charged/ptrel"], every, {"charged": 100}, PT, targets=targets)
        matched = events["Jet_genJetIdx"].values >= 0
    assert len(table) > 20
    known = np.bincount(
        list_of_row(table.groups["charged"].offsets), table.targets["charged/origin"] >= 0, len(table)
    )
    assert ((known > 0) == matched).all()
    assert 0.9 < np.nanmedian(table.targets["jet/pt_ratio"]) < 1.1


@pytest.mark.parametrize(
    ("branch", "value", "message"),
    [
        (
            "GenCands_genPartMotherIdx",
            5000,
            r"GenCands_genPartMotherIdx is 5000 in entry \d+, which has \d+ generated",
        ),
        ("Jet_genJetIdx", 400, r"Jet_genJetIdx is 400 in entry \d+, which has \d+ generator jets"),
    ],
)
def test_indices_that_lead_nowhere_are_named(write, branch, value, message):
    with PFNanoFile(write("btvnano")) as file:
        events = file.chunk(0, 40)
        events[branch].values[7] = value
        every = np.ones(len(events["Jet_pt"].values), dtype=bool)
        with pytest.raises(BadChunk, match=message):
            read_jets(events, ["charged/ptrel"], every, {"charged": 25}, PT, targets=list(TARGETS))


def test_columns_of_different_lengths_are_named(write):
    with PFNanoFile(write("btvnano")) as file:
        events = file.chunk(0, 40)
        pt = events["GenCands_pt"]
        shorter = pt.offsets.copy()
        shorter[5:] -= 1
        events._stored["GenCands_eta"] = Jagged(pt.values[:-1], shorter)
        with pytest.raises(BadChunk, match="GenCands_eta has .* values in entry 4.*different lengths"):
            candidate_truth(events)
