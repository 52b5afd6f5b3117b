"""Flat inputs against a twin with plain loops and vectors, bounds in closed form, and the codes of the flavours."""

import math

import numpy as np
import pytest

from pfnano_tag.generate.deepjet import slot_columns
from pfnano_tag.generate.flat_inputs import bounded, flat_inputs
from pfnano_tag.generate.flavour import flavour_split
from pfnano_tag.generate.ragged import Table, table_of

PION = 0.13957


@pytest.fixture(scope="module")
def inputs(chunk):
    return flat_inputs(chunk)


@pytest.fixture(scope="module")
def chosen(chunk):
    """Jets of all kinds: the ones with most vertices, without candidates above threshold, forward, and others."""
    jets = chunk.jets.table
    vertices = np.bincount([j for j in range(len(jets)) for v in vertices_of(chunk, j)], minlength=len(jets))
    forward = np.flatnonzero(np.abs(jets["eta"]) > 3)[:3]
    return sorted({*np.argsort(-vertices)[:6].tolist(), *forward.tolist(), *range(0, len(jets), 60)})


def separation(eta1, phi1, eta2, phi2):
    phi = abs(phi1 - phi2) % (2 * math.pi)
    return math.hypot(eta1 - eta2, min(phi, 2 * math.pi - phi))


def clipped(x, low, high):
    return min(max(x, low), high)


def rows_of_event(table, event):
    return range(table.offsets[event], table.offsets[event + 1])


def vertices_of(chunk, jet):
    """(significance, row, distance) of the vertices of a jet, best first."""
    jets, found = chunk.jets.table, chunk.vertices
    out = []
    for row in rows_of_event(found, jets.event[jet]):
        distance = separation(jets["eta"][jet], jets["phi"][jet], found["eta"][row], found["phi"][row])
        if distance < 0.4:
            out.append((found["dxySig"][row], row, distance))
    return sorted(out, reverse=True)


def unit(eta, phi):
    return np.array([math.cos(phi), math.sin(phi), math.sinh(eta)]) / math.cosh(eta)


def nearest_vertex(chunk, candidate):
    """Distance to the closest vertex of the event, at most 0.4."""
    c, found = chunk.seen.candidates, chunk.vertices
    distances = [
        separation(c["eta"][candidate], c["phi"][candidate], found["eta"][row], found["phi"][row])
        for row in rows_of_event(found, c.event[candidate])
    ]
    return min([0.4, *distances])


def track_twin(chunk, candidate, jet):
    """Track variables from vectors: IPTools' definitions for a straight line."""
    c, jets = chunk.seen.candidates, chunk.jets.table
    event = jets.event[jet]
    axis, direction = unit(jets["eta"][jet], jets["phi"][jet]), unit(c["eta"][candidate], c["phi"][candidate])
    p = c["pt"][candidate] * math.cosh(c["eta"][candidate]) * direction
    size = np.linalg.norm(p)
    along = p @ axis
    energy = math.hypot(size, PION)
    d0, dz, phi = c["d0"][candidate], c["dz"][candidate], c["phi"][candidate]
    point = np.array([-d0 * math.sin(phi), d0 * math.cos(phi), dz])
    impact = point - (point @ direction) * direction
    sxy, sz = (s[event] for s in chunk.seen.sigma)
    # error of the length along the impact vector, from the errors of d0 and dz
    length = np.linalg.norm(impact)
    by_dz = dz / math.cosh(c["eta"][candidate]) ** 2
    error = math.sqrt((d0 / length) ** 2 * (c["d0Err"][candidate] ** 2 + sxy**2)
                      + (by_dz / length) ** 2 * (c["dzErr"][candidate] ** 2 + sz**2))  # fmt: skip
    sign3 = 1 if impact @ axis >= 0 else -1
    sign2 = 1 if point[:2] @ axis[:2] >= 0 else -1
    normal = np.cross(axis, direction)
    return {
        "trackEtaRel": 0.5 * math.log((energy + along) / (energy - along)),
        "trackPtRel": np.linalg.norm(np.cross(p, axis)),
        "trackPPar": along,
        "trackDeltaR": separation(c["eta"][candidate], phi, jets["eta"][jet], jets["phi"][jet]),
        "trackPParRatio": along / size,
        "trackSip2dVal": sign2 * abs(d0),
        "trackSip2dSig": sign2 * abs(d0) / math.hypot(c["d0Err"][candidate], sxy),
        "trackSip3dVal": sign3 * length,
        "trackSip3dSig": sign3 * length / error,
        "trackJetDistVal": -abs(point @ normal) / np.linalg.norm(normal),
    }


def candidates_of(chunk, jet, charged):
    """Rows of the candidates of a jet above 0.95 GeV, and the link of each."""
    c = chunk.seen.candidates
    return [
        (row, link)
        for link, (owner, row) in enumerate(zip(chunk.jets.link_jet, chunk.jets.link_candidate, strict=True))
        if owner == jet and c["pt"][row] >= 0.95 and (c["charge"][row] != 0) == charged
    ]


def assert_list(table, jet, name, expected):
    found = table[name][table.offsets[jet] : table.offsets[jet + 1]]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7, err_msg=f"{name} of jet {jet}")


BOUNDS = {
    "trackEtaRel": (-5, 15), "trackPtRel": (-1, 4), "trackPPar": (-1e5, 1e5), "trackDeltaR": (-5, 5),
    "trackPParRatio": (-10, 100), "trackSip2dVal": (-1, 70), "trackSip2dSig": (-1, 4e4), "trackSip3dVal": (-1, 1e5),
    "trackSip3dSig": (-1, 4e4), "trackJetDistVal": (-20, 1),
}  # fmt: skip


def test_charged_candidates(chunk, inputs, chosen):
    c, jets, table = chunk.seen.candidates, chunk.jets.table, inputs["Cpfcan"]
    broken, clips = 0, set()
    for jet in chosen:
        found = []
        for row, link in candidates_of(chunk, jet, charged=True):
            assert c["track"][row]
            variables = track_twin(chunk, row, jet)
            if np.isnan(chunk.tables["JetPFCands"]["btagSip3dSig"][link]):
                variables["trackSip3dSig"] = 0.0
                broken += 1
            key = (-variables["trackSip2dSig"], nearest_vertex(chunk, row), -c["pt"][row])
            found.append((key, row, variables))
        found.sort(key=lambda entry: entry[0])
        assert table.counts[jet] == len(found)
        for name, (low, high) in BOUNDS.items():
            plain = [variables[name] for _, _, variables in found]
            clips |= {name} if any(x < low or x > high for x in plain) else set()
            assert_list(table, jet, f"BtagPf_{name}", [clipped(x, low, high) for x in plain])
        rows = [row for _, row, _ in found]
        assert_list(table, jet, "drminsv", [nearest_vertex(chunk, row) - 0.4 for row in rows])
        assert_list(table, jet, "ptrel", [clipped(c["pt"][row] / jets["raw_pt"][jet] - 1, -1, 0) for row in rows])
        for ours, theirs in (("VTX_ass", "pvAssocQuality"), ("puppiw", "puppiWeight"), ("quality", "trkQuality")):
            assert_list(table, jet, ours, [c[theirs][row] for row in rows])
        assert_list(table, jet, "chi2", [clipped(c["trkChi2"][row], -1, 300) for row in rows])
        assert_list(table, jet, "pz", [c["pt"][row] * math.sinh(c["eta"][row]) for row in rows])
        momenta = [math.hypot(c["pt"][row] * math.cosh(c["eta"][row]), c["mass"][row]) for row in rows]
        assert_list(table, jet, "e", momenta)
    assert {"trackSip2dSig", "trackSip3dSig"} <= clips


def test_neutral_candidates(chunk, inputs, chosen):
    c, jets, table = chunk.seen.candidates, chunk.jets.table, inputs["Npfcan"]
    for jet in chosen:
        rows = [row for row, _ in candidates_of(chunk, jet, charged=False)]
        rows.sort(key=lambda row: (nearest_vertex(chunk, row), -c["pt"][row]))
        assert table.counts[jet] == len(rows)
        eta, phi = jets["eta"][jet], jets["phi"][jet]
        distances = [separation(c["eta"][row], c["phi"][row], eta, phi) for row in rows]
        assert_list(table, jet, "deltaR", [clipped(d - 0.6, -0.6, 0) for d in distances])
        assert_list(table, jet, "etarel", [clipped(abs(c["eta"][row] - eta) - 0.5, -2, 0) for row in rows])
        assert_list(table, jet, "phirel", [separation(0, c["phi"][row], 0, phi) - 0.5 for row in rows])
        assert_list(table, jet, "ptrel", [clipped(c["pt"][row] / jets["raw_pt"][jet] - 1, -1, 0) for row in rows])
        assert_list(table, jet, "drminsv", [nearest_vertex(chunk, row) - 0.4 for row in rows])
        assert_list(table, jet, "isGamma", [abs(c["pdgId"][row]) == 22 for row in rows])
        assert_list(table, jet, "puppiw", [c["puppiWeight"][row] for row in rows])
        assert_list(table, jet, "HadFrac", [0.0] * len(rows))


def test_vertices(chunk, inputs, chosen):
    jets, found, table = chunk.jets.table, chunk.vertices, inputs["sv"]
    assert table.counts.max() > 1
    for jet in chosen:
        links = vertices_of(chunk, jet)
        rows = [row for _, row, _ in links]
        assert table.counts[jet] == len(rows)
        assert_list(table, jet, "deltaR", [distance - 0.5 for _, _, distance in links])
        assert_list(table, jet, "dxysig", [min(significance, 800) for significance, _, _ in links])
        assert_list(table, jet, "d3dsig", [min(found["dlenSig"][row], 800) for row in rows])
        raw = jets["energy"][jet] * (1 - jets["rawFactor"][jet])
        energy = [math.hypot(found["pt"][r] * math.cosh(found["eta"][r]), found["mass"][r]) for r in rows]
        assert_list(table, jet, "enratio", [e / raw for e in energy])
        assert_list(table, jet, "normchi2", [found["chi2"][row] / found["ndof"][row] for row in rows])
        flights = [np.array([found[k][row] for k in "xyz"]) for row in rows]
        cosines = [
            f @ unit(found["eta"][r], found["phi"][r]) / np.linalg.norm(f) for f, r in zip(flights, rows, strict=True)
        ]
        assert_list(table, jet, "costhetasvpv", cosines)
        assert_list(table, jet, "d3d", [np.linalg.norm(flight) for flight in flights])
        assert_list(table, jet, "dxy", [np.linalg.norm(flight[:2]) for flight in flights])
        for ours, theirs in (
            ("pt", "pt"),
            ("mass", "mass"),
            ("chi2", "chi2"),
            ("ntracks", "ntracks"),
            ("ndf", "ndof"),
        ):
            assert_list(table, jet, ours, [found[theirs][row] for row in rows])


def test_every_jet_has_its_lists(chunk, inputs):
    hard = chunk.seen.candidates["pt"][chunk.jets.link_candidate] >= 0.95
    assert len(inputs["Cpfcan"]) + len(inputs["Npfcan"]) == hard.sum()
    for table in inputs.values():
        assert table.num_events == len(chunk.jets.table)
        assert all(np.isfinite(column).all() for column in table.columns.values())


def test_bounds_replace_shift_and_clip():
    values = np.array([0.3, np.nan, np.inf, -np.inf, 2e32, 5.0, -5.0])
    assert bounded(values, 1.0, -2.0, 2.0).tolist() == [0.3, 1.0, 1.0, 1.0, 1.0, 2.0, -2.0]
    np.testing.assert_allclose(bounded(values, 0.0, -0.6, 0.0, -0.6), [-0.3, -0.6, -0.6, -0.6, -0.6, 0.0, -0.6])


def test_slots_cut_and_pad():
    table = table_of(np.array([0, 0, 0, 2]), 3, x=np.array([3.0, 2.0, 1.0, 9.0]))
    assert {k: v.tolist() for k, v in slot_columns(table, 2, {"x": ""}).items()} == {
        "x_0": [3, 0, 9],
        "x_1": [2, 0, 0],
    }


def record_of(rows):
    """A record with one event from (id, status, mother, daughter1, daughter2, eta, phi); momenta of 10 GeV."""
    names = ("id", "status", "mother1", "daughter1", "daughter2", "eta", "phi")
    c = {k: np.array(column) for k, column in zip(names, zip(*rows, strict=True), strict=True)}
    momenta = {"px": 10 * np.cos(c["phi"]), "py": 10 * np.sin(c["phi"]), "pz": 10 * np.sinh(c["eta"])}
    return Table({**c, **momenta}, np.array([0, len(rows)]))


def test_flavour_codes_in_closed_form():
    record = record_of([
        (90, 0, -1, -1, -1, 0, 0),
        (21, -51, -1, 2, 3, 1.0, 0.0),  # splits into a close b pair at (1, 0)
        (5, -51, 1, -1, -1, 1.0, 0.1), (-5, -51, 1, -1, -1, 1.0, -0.1),
        (21, -51, -1, 5, 6, -1.0, 0.0),  # a wide c pair: no g -> cc
        (4, -51, 4, -1, -1, -1.0, 0.3), (-4, -51, 4, -1, -1, -1.0, -0.3),
        (21, -61, -1, 8, 9, 2.0, 0.0),  # beyond status 59
        (4, -71, 7, -1, -1, 2.0, 0.1), (-4, -71, 7, -1, -1, 2.0, -0.1),
        (511, -83, -1, 11, 12, 0.0, 2.0), (-14, 91, 10, -1, -1, 0.0, 2.1), (411, -91, 10, 13, 13, 0.0, 2.0),
        (-12, 91, 12, -1, -1, 0.0, 1.5),  # from the c hadron, at 0.5 from the one from the b hadron
    ])  # fmt: skip
    # eta, phi, hadronFlavour, partonFlavour, nB, nC, genJetIdx, code
    jets = [
        (1.0, 0.0, 5, 5, 2, 1, 0, 511), (1.0, 1.0, 5, -5, 2, 0, 0, 510),
        (-1.0, 0.0, 4, 4, 0, 2, 0, 410), (2.0, 0.0, 4, 4, 0, 2, 0, 410), (0.0, 0.0, 4, 21, 0, 1, 0, 400),
        (0.0, 2.2, 5, 5, 1, 1, 0, 520), (0.0, 1.3, 5, 5, 1, 0, 0, 521), (0.0, -1.0, 5, 5, 1, 0, 0, 500),
        (0.0, 1.3, 4, 4, 0, 1, 0, 400), (0.0, 0.0, 0, 21, 0, 0, 0, 0), (0.0, 0.0, 0, -3, 0, 0, 0, 2),
        (0.0, 0.0, 0, 1, 0, 0, 0, 1), (0.0, 0.0, 0, -2, 0, 0, 0, 1), (0.0, 0.0, 0, 4, 0, 0, 0, 1000),
        (0.0, 0.0, 0, 0, 0, 0, 0, 1000), (0.0, 0.0, 0, 21, 0, 1, 0, 1000), (0.0, 0.0, 0, 0, 0, 0, -1, 999),
        (0.0, 2.0, 5, 5, 1, 0, -1, 1000),
    ]  # fmt: skip
    names = ("eta", "phi", "hadronFlavour", "partonFlavour", "nBHadrons", "nCHadrons", "genJetIdx", "code")
    table = table_of(
        np.zeros(len(jets), int), 1, **dict(zip(names, map(np.array, zip(*jets, strict=True)), strict=True))
    )
    assert flavour_split(record, table).tolist() == table["code"].tolist()


def test_flavour_codes_agree_with_the_coarse_flavour(chunk):
    jets = chunk.tables["Jet"]
    codes = flavour_split(chunk.record, jets)
    matched = jets["genJetIdx"] >= 0
    assert np.array_equal(codes >= 999, ~matched | (codes == 1000))
    for flavour in (4, 5):
        assert np.array_equal((codes // 100 == flavour), matched & (jets["hadronFlavour"] == flavour))
    single = matched & (jets["hadronFlavour"] == 5) & (jets["nBHadrons"] == 1)
    # a neutrino with a b hadron for a mother: 2 x 10.5 % (e, mu) + 2.5 % (tau) of all, in the cone or not
    assert 0.10 < (codes[single] == 520).mean() < 0.35
    assert 0.03 < (codes[single] == 521).mean() < 0.25
