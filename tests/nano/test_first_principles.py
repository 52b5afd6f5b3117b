"""Every feature of every constituent against the twin in plain loops, for stored and for derived track quantities."""

import math

import numpy as np
import pytest

from pfnano_tag.nano.features import read_jets
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.schema import INPUT_SETS, features_of
from tests.nano import small_events
from tests.nano.plain_features import jets_of
from tests.nano.small_events import make_events, write_events

IDS = features_of("constituents")
CAPS = {"charged": 5, "neutral": 4, "sv": 2}
LOWEST_PT = 0.95
BTAG = "JetPFCands_btag"
BTAG_NAMES = [f"btag{name}" for name in small_events.BTAG]


def wrap(phi):
    return small_events.single(math.remainder(phi, 2 * math.pi))


def table_of(path, hidden="nothing", caps=CAPS, lowest_pt=LOWEST_PT, lowest_jet_pt=0.0):
    """All jets of a file in one chunk; branches that begin with `hidden` are out of sight."""
    with PFNanoFile(path) as file:
        file.__dict__["branches"] = frozenset(name for name in file.branches if not name.startswith(hidden))
        chunk = file.chunk(0, file.num_entries)
        return read_jets(chunk, IDS, chunk["Jet_pt"].values > lowest_jet_pt, caps, lowest_pt)


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "derived"])
@pytest.mark.parametrize(("caps", "lowest_pt"), [(CAPS, LOWEST_PT), (dict.fromkeys(CAPS, 100), 0.0)])
def test_features_order_and_numbers_against_plain_loops(tmp_path, stored, caps, lowest_pt):
    events = make_events(seed=7, events=60)
    table = table_of(write_events(tmp_path / "a.root", events), "nothing" if stored else BTAG, caps, lowest_pt)
    expected = jets_of(events, caps, lowest_pt, stored)
    assert len(table) == len(expected) > 60
    for name in ("nCpfcand", "nNpfcand", "nsv"):
        assert table.jet[name].tolist() == [jet["counts"][name] for jet in expected]
    for group, found in table.groups.items():
        assert found.counts.tolist() == [len(jet[group]) for jet in expected]
        rows = [row for jet in expected for row in jet[group]]
        assert len(rows) > 40
        names = INPUT_SETS["constituents"][group] + (("px", "py", "pz", "energy") if group != "sv" else ())
        for name in names:
            wanted = np.array([row[name] for row in rows])
            energy = np.array([row.get("energy", 1.0) for row in rows])
            error = np.abs(found.columns[name] - wanted) / scale_of(name, wanted, energy)
            assert error.max() < 1e-6, (group, name, error.max())


def scale_of(name, wanted, energy):
    """What single precision is precise to: the momentum for its components, 1 for angles, else the value."""
    if name in ("px", "py", "pz", "energy", "trackPtRel", "trackPPar"):
        return energy
    if "Sip" in name or name == "trackJetDistVal":
        return np.maximum(np.abs(wanted), 1e-9)
    return np.maximum(np.abs(wanted), 1)


def test_collinear_and_displaced_tracks_in_closed_form(tmp_path):
    """One jet along x; tracks at known angles and impact points."""
    jet = {"pt": 50.0, "eta": 0.0, "phi": 0.0, "mass": 5.0, "rawFactor": 0.2}
    common = {"mass": 0.0, "charge": 1, "pdgId": 211, "puppiWeight": 1.0, "trkChi2": 1.0, "pvAssocQuality": 7,
              "trkQuality": 5, "dzErr": 0.01, "d0Err": 0.01, "dz": 0.0}  # fmt: skip
    angle = 0.1
    tracks = [
        {"pt": 8.0, "eta": 0.0, "phi": 0.0, "d0": 0.02},  # along the jet: distance to it is its impact parameter
        {"pt": 4.0, "eta": 0.0, "phi": angle, "d0": -0.05},  # meets the jet axis in front of the vertex
        {"pt": 2.0, "eta": 0.0, "phi": -angle, "d0": -0.05},  # behind it
        {"pt": 3.0, "eta": 0.0, "phi": angle, "d0": -1.0},  # -1 cm is a distance like any other
    ]
    links = [{"jetIdx": 0, "pFCandsIdx": i} | dict.fromkeys(BTAG_NAMES, 0.0) for i in range(len(tracks))]
    event = {"jets": [jet], "candidates": [common | track for track in tracks], "links": links}
    event |= {"vertices": [], "jet_vertices": []}
    table = table_of(write_events(tmp_path / "a.root", [event]), BTAG)
    order = {round(float(v), 4): i for i, v in enumerate(table.column("charged/ptrel"))}
    row = [order[round(t["pt"] / 40 - 1, 4)] for t in tracks]  # 40 GeV: the jet before corrections

    def got(name):
        return table.column(f"charged/{name}")[row]

    momenta = np.array([t["pt"] for t in tracks])
    angles = np.array([0, angle, angle, angle])
    assert np.allclose(got("trackPPar"), momenta * np.cos(angles), rtol=1e-6)
    assert np.allclose(got("trackPtRel"), momenta * np.sin(angles), rtol=1e-6, atol=1e-9)
    assert np.allclose(got("trackPParRatio"), np.cos(angles), rtol=1e-6)
    assert np.allclose(got("trackDeltaR"), angles, atol=1e-7)
    assert np.allclose(got("trackSip2dVal"), [0.02, 0.05, -0.05, 1.0], rtol=1e-6)
    assert np.allclose(got("trackSip2dSig"), [2, 5, -1, 100], rtol=1e-6)  # bounded at -1
    assert np.allclose(got("trackSip3dVal"), [0.02, 0.05, -0.05, 1.0], rtol=1e-6)
    assert np.allclose(got("trackJetDistVal"), [-0.02, 0, 0, 0], atol=1e-8)  # in the plane of the jet lines meet
    assert not table.default_mask("charged/trackSip2dVal").any()
    assert (got("drminsv") == 0).all()
    assert table.default_mask("charged/drminsv").all()


@pytest.mark.parametrize("jet_phi", [0.0, 3.0, -3.1], ids=str)
def test_nearest_vertex_may_be_far_from_the_jet(tmp_path, jet_phi):
    """Seen from the jet, a vertex beyond 0.4 is near a candidate on its side; azimuths go around the corner."""
    jet = {"pt": 50.0, "eta": 0.5, "phi": jet_phi, "mass": 5.0, "rawFactor": 0.0}
    away = [-0.39, 0.0, 0.2, 0.39]
    candidate = {"mass": 0.0, "charge": 0, "pdgId": 22, "puppiWeight": 1.0, "trkChi2": -1.0, "pvAssocQuality": 7,
                 "trkQuality": 0, "dzErr": -1.0, "d0Err": -1.0, "dz": -1.0, "d0": -1.0, "eta": 0.5}  # fmt: skip
    event = {
        "jets": [jet],
        "candidates": [candidate | {"pt": 1.0 + i, "phi": wrap(jet_phi + x)} for i, x in enumerate(away)],
        "vertices": [{"eta": 0.5, "phi": wrap(jet_phi + 0.75)}, {"eta": 0.5, "phi": wrap(jet_phi - 1.5)}],
        "jet_vertices": [],
        "links": [{"jetIdx": 0, "pFCandsIdx": i} | dict.fromkeys(BTAG_NAMES, 0.0) for i in range(len(away))],
    }
    table = table_of(write_events(tmp_path / "a.root", [event]))
    pt = np.round((table.column("neutral/ptrel") + 1) * 50).astype(int)
    found = dict(zip(pt.tolist(), table.column("neutral/drminsv").tolist(), strict=True))
    assert pt.tolist() == [4, 3, 2, 1]  # the one near the vertex, then by momentum
    assert np.allclose([found[i] for i in (1, 2, 3, 4)], [0, 0, 0, 0.36 - 0.4], atol=1e-6)
    assert table.default_mask("neutral/drminsv").tolist() == [False, True, True, True]


def test_energy_fraction_and_momentum_fraction_are_of_the_uncorrected_jet(tmp_path):
    events = make_events(seed=3, events=20)
    plain = table_of(write_events(tmp_path / "a.root", events))
    for event in events:
        for jet in event["jets"]:
            jet["rawFactor"] = 0.0
    corrected = table_of(write_events(tmp_path / "b.root", events))
    raw = 1 - np.array([j["rawFactor"] for e in make_events(seed=3, events=20) for j in e["jets"]])
    for group in ("charged", "neutral"):
        factor = np.repeat(raw, plain.groups[group].counts)
        a, b = plain.column(f"{group}/ptrel"), corrected.column(f"{group}/ptrel")
        inside = (a < 0) & (b < 0)
        assert np.allclose(((a + 1) * factor)[inside], (b + 1)[inside], rtol=1e-5)
    factor = np.repeat(raw, plain.groups["sv"].counts)
    assert np.allclose(plain.column("sv/enratio") * factor, corrected.column("sv/enratio"), rtol=1e-6)


def test_vertices_that_nanoaod_cut_away_take_no_others_direction(tmp_path):
    """sVIdx = -1 must not mean the last vertex of the event: its direction comes from the vertex itself."""
    events = make_events(seed=11, events=40)
    unknown = [row for event in events for row in event["jet_vertices"] if row["sVIdx"] < 0]
    table = table_of(write_events(tmp_path / "a.root", events), caps=dict.fromkeys(CAPS, 100))
    assert len(unknown) > 10
    found = {round(float(pt), 5): i for i, pt in enumerate(table.column("sv/pt"))}
    columns = table.groups["sv"].columns
    for row in unknown:
        i = found[round(row["pt"], 5)]
        assert np.isclose(columns["phirel"][i], abs(row["phirel"]) - 0.5, atol=1e-6)
        distance = np.hypot(columns["phirel"][i] + 0.5, columns["etarel"][i] + 0.5)
        assert np.isclose(distance, row["deltaR"] + 0.5, atol=1e-6)
        assert np.isclose(np.hypot(columns["px"][i], columns["py"][i]), row["pt"], rtol=1e-5)


def test_stored_chi2_of_a_vertex_is_not_the_reduced_one_of_the_table_sv(tmp_path):
    """JetSVs_chi2 is the sum, JetSVs_normchi2 the reduced one; SV_chi2, reduced already, is not read at all."""
    events = make_events(seed=4, events=10)
    with PFNanoFile(write_events(tmp_path / "a.root", events)) as file:
        chunk = file.chunk(0, file.num_entries)
        every = np.ones(len(chunk["Jet_pt"].values), dtype=bool)
        table = read_jets(chunk, ["sv/chi2", "sv/normchi2"], every, {"sv": 100}, LOWEST_PT)
    rows = [row for event in events for row in event["jet_vertices"]]
    pairs = sorted(zip(table.column("sv/chi2").tolist(), table.column("sv/normchi2").tolist(), strict=True))
    assert pairs == sorted((row["chi2"], row["normchi2"]) for row in rows)
