"""Features on the real file: parity with the file's own branches, and with an event loop."""

import numpy as np
import pytest
import uproot

from pfnano_tag.errors import BadChunk, MissingBranch
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.features import branches_for, read_jets
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.schema import FEATURES, features_of

CAPS = {"charged": 1000, "neutral": 1000, "sv": 1000}
REAL = "pfnano_qcd_mc_2017UL_10ev.root"
IDS = features_of("constituents")


def whole(file):
    chunk = file.chunk(0, file.num_entries)
    return chunk, np.ones(len(chunk["Jet_pt"].values), dtype=bool)


@pytest.fixture(scope="module")
def real(shared_data):
    with PFNanoFile(shared_data / REAL) as file:
        yield file


def stored(path, names):
    """The branches as they lie in the file."""
    with uproot.open(path) as file:
        return file["Events"].arrays(filter_name=names)


def derived_table(path):
    """The same jets with the btag* branches out of sight: all from first principles."""
    with PFNanoFile(path) as file:
        file.__dict__["branches"] = frozenset(b for b in file.branches if not b.startswith("JetPFCands_btag"))
        chunk, mask = whole(file)
        return read_jets(chunk, IDS, mask, CAPS, 0.95)


@pytest.mark.parametrize(
    ("name", "median", "tail"),
    [
        ("trackEtaRel", 3.5e-4, 6e-3),
        ("trackPParRatio", 2.5e-4, 1e-3),
        ("trackSip3dVal", 3.5e-4, 0.15),
        ("trackJetDistVal", 1.6e-3, 0.4),  # the tail: tracks nearly parallel to the jet
    ],
)
def test_derived_features_agree_with_the_files_own(real, shared_data, name, median, tail):
    chunk, mask = whole(real)
    read, derived = read_jets(chunk, IDS, mask, CAPS, 0.95), derived_table(shared_data / REAL)
    track = ~read.default_mask(f"charged/{name}")
    a, b = read.column(f"charged/{name}")[track], derived.column(f"charged/{name}")[track]
    bounds = FEATURES[f"charged/{name}"]
    inside = (a > bounds.low) & (a < bounds.high)
    if name == "trackSip3dVal":
        # The lower bound of -1 cm hides nothing here; signs agree in all but a permille of the tracks.
        assert np.mean(np.sign(a[inside]) == np.sign(b[inside])) > 0.998
        a, b = np.abs(a), np.abs(b)
    relative = np.abs(a - b)[inside] / np.maximum(np.abs(a[inside]), 1e-9)
    assert np.median(relative) < median
    assert np.quantile(relative, 0.99) < tail


def test_derived_ip3d_significance(real, shared_data):
    chunk, mask = whole(real)
    read, derived = read_jets(chunk, IDS, mask, CAPS, 0.95), derived_table(shared_data / REAL)
    a, b = read.column("charged/trackSip3dSig"), derived.column("charged/trackSip3dSig")
    associated = (read.column("charged/VTX_ass") >= 5) & (a > 0.1) & ~read.default_mask("charged/trackSip3dSig")
    ratio = b[associated] / a[associated]
    assert 0.98 < np.median(ratio) < 1.03
    assert np.quantile(ratio, 0.05) > 0.76
    assert np.quantile(ratio, 0.95) < 1.5


def below_threshold(event):
    """Directions of the vertices that jets are linked to and that SV lacks, one by one."""
    for k in range(len(event.JetSVs_sVIdx)):
        if event.JetSVs_sVIdx[k] == -1:
            j = event.JetSVs_jetIdx[k]
            eta, phi, around = event.Jet_eta[j], event.Jet_phi[j], event.JetSVs_phirel[k]
            size = np.sqrt(max((event.JetSVs_deltaR[k] + 0.5) ** 2 - around**2, 0))
            jet_energy = np.hypot(event.Jet_pt[j] * np.cosh(eta), event.Jet_mass[j])
            energy = event.JetSVs_enration[k] * jet_energy
            pz = np.sqrt(max(energy**2 - event.JetSVs_mass[k] ** 2 - event.JetSVs_pt[k] ** 2, 0))
            sides = (eta + size, eta - size)
            yield min(sides, key=lambda side: abs(event.JetSVs_pt[k] * np.sinh(abs(side)) - pz)), phi + around


def test_candidates_of_each_jet_against_an_event_loop(real):
    """Which candidates, their order, counts and a few features, by plain loops over the events."""
    chunk, mask = whole(real)
    table = read_jets(chunk, IDS, mask, {"charged": 25, "neutral": 25, "sv": 5}, 0.95)
    ak = stored(real.path, ["Jet_*", "PFCands_*", "JetPFCands_*", "SV_*", "JetSVs_*"])
    jet = 0
    for event in ak:
        vertices = [*zip(event.SV_eta, event.SV_phi, strict=True), *below_threshold(event)]
        for j in range(len(event.Jet_pt)):
            links = [k for k in range(len(event.JetPFCands_jetIdx)) if event.JetPFCands_jetIdx[k] == j]
            charged, neutral = [], []
            for k in links:
                i = event.JetPFCands_pFCandsIdx[k]
                pt = event.PFCands_pt[i]
                if pt < 0.95:
                    continue
                nearest = min(
                    (
                        np.hypot(e - event.PFCands_eta[i], (p - event.PFCands_phi[i] + np.pi) % (2 * np.pi) - np.pi)
                        for e, p in vertices
                    ),
                    default=0.4,
                )
                raw = event.Jet_pt[j] * (1 - event.Jet_rawFactor[j])
                if event.PFCands_charge[i] != 0:
                    d0, error = event.PFCands_d0[i], event.PFCands_d0Err[i]
                    sign = -1 if d0 * np.sin(event.Jet_phi[j] - event.PFCands_phi[i]) < 0 else 1
                    sig = sign * abs(d0) / error if error > 0 else 0.0
                    charged.append((-sig, min(nearest, 0.4), -pt / raw))
                else:
                    neutral.append((min(nearest, 0.4), -pt / raw))
            assert table.jet["nCpfcand"][jet] == len(charged)
            assert table.jet["nNpfcand"][jet] == len(neutral)
            for group, expected in (("charged", charged), ("neutral", neutral)):
                o = table.groups[group].offsets
                got = slice(o[jet], o[jet + 1])
                expected = sorted(expected)[:25]
                assert o[jet + 1] - o[jet] == len(expected)
                ptrel = table.column(f"{group}/ptrel")[got]
                assert np.allclose(ptrel, [-e[-1] - 1 for e in expected], atol=2e-4)
                assert np.allclose(table.column(f"{group}/drminsv")[got], [e[-2] - 0.4 for e in expected], atol=2e-4)
                if group == "charged":
                    sig = np.clip([-e[0] for e in expected], -1, 4e4)
                    assert np.allclose(table.column("charged/trackSip2dSig")[got], sig, rtol=2e-3, atol=1e-3)
            jet += 1
    assert jet == len(table) == 64


def test_vertices_against_an_event_loop(real):
    chunk, mask = whole(real)
    table = read_jets(chunk, IDS, mask, {"charged": 25, "neutral": 25, "sv": 5}, 0.95)
    ak = stored(real.path, ["Jet_*", "SV_*", "JetSVs_*"])
    o, jet, known = table.groups["sv"].offsets, 0, 0
    for event in ak:
        for j in range(len(event.Jet_pt)):
            links = [k for k in range(len(event.JetSVs_jetIdx)) if event.JetSVs_jetIdx[k] == j]
            assert table.jet["nsv"][jet] == len(links)
            links = sorted(links, key=lambda k: -event.JetSVs_dxysig[k])[:5]
            assert np.allclose(table.column("sv/mass")[o[jet] : o[jet + 1]], [event.JetSVs_mass[k] for k in links])
            raw = 1 - event.Jet_rawFactor[j]
            expected = [event.JetSVs_enration[k] / raw for k in links]
            assert np.allclose(table.column("sv/enratio")[o[jet] : o[jet + 1]], expected, rtol=1e-5)
            for slot, k in enumerate(links):
                v = event.JetSVs_sVIdx[k]
                if v < 0:
                    continue
                known += 1
                columns = table.groups["sv"].columns
                row = o[jet] + slot
                assert np.isclose(np.arcsinh(columns["pz"][row] / np.hypot(columns["px"][row], columns["py"][row])),
                                  event.SV_eta[v], atol=1e-4)  # fmt: skip
                assert np.isclose(columns["etarel"][row],
                                  abs(event.SV_eta[v] - event.Jet_eta[j]) - 0.5, atol=1e-4)  # fmt: skip
            jet += 1
    assert known > 20


def test_four_vectors_sum_to_the_raw_jet(real):
    """All constituents of all momenta give the uncorrected jet's pT."""
    chunk, mask = whole(real)
    ids = ["charged/ptrel", "neutral/ptrel"]
    table = read_jets(chunk, ids, mask, CAPS, 0.0)
    sums = {}
    for axis in ("px", "py"):
        groups = [table.groups[g] for g in ("charged", "neutral")]
        sums[axis] = sum(
            np.bincount(np.repeat(np.arange(len(table)), g.counts), g.columns[axis], len(table)) for g in groups
        )
    raw = chunk["Jet_pt"].values * (1 - chunk["Jet_rawFactor"].values)
    assert np.allclose(np.hypot(sums["px"], sums["py"]), raw, rtol=5e-3)


def test_nan_becomes_a_counted_default(real):
    chunk, mask = whole(real)
    table = read_jets(chunk, IDS, mask, CAPS, 0.95)
    stored = chunk["JetPFCands_btagSip3dSig"].values
    assert np.isnan(stored).sum() == 2
    assert table.non_finite["charged/trackSip3dSig"] == table.default_mask("charged/trackSip3dSig").sum()
    assert all(np.isfinite(table.column(i)).all() for i in IDS)


def test_no_track_details_are_defaults(real):
    """Below 0.5 GeV candidates have no track: with a low threshold their track features are placeholders."""
    chunk, mask = whole(real)
    table = read_jets(chunk, IDS, mask, CAPS, 0.0)
    default = table.default_mask("charged/chi2")
    assert default.any()
    assert set(table.column("charged/chi2")[default]) == {-1}
    assert set(table.column("charged/quality")[default]) == {1}
    assert set(table.column("charged/trackSip2dVal")[default]) == {0}
    assert not table.default_mask("charged/trackEtaRel").any()
    assert (table.column("charged/trackEtaRel")[default] != 0).all()


def test_no_vertex_nearby_is_a_default_at_the_bound(real):
    chunk, mask = whole(real)
    table = read_jets(chunk, IDS, mask, CAPS, 0.95)
    for group in ("charged", "neutral"):
        values, default = table.column(f"{group}/drminsv"), table.default_mask(f"{group}/drminsv")
        assert set(values[default]) == {0}
        assert (values[~default] < 0).all()
        assert 0 < default.mean() < 1


def test_chunks_give_the_same_jets(real):
    chunk, mask = whole(real)
    one = read_jets(chunk, IDS, mask, CAPS, 0.95)
    first, second = real.chunk(0, 4), real.chunk(4, 10)
    parts = [read_jets(c, IDS, np.ones(len(c["Jet_pt"].values), bool), CAPS, 0.95) for c in (first, second)]
    joined = type(one).concatenate(parts)
    for name in IDS:
        assert np.array_equal(joined.column(name), one.column(name))
        assert np.array_equal(joined.default_mask(name), one.default_mask(name))


def test_selected_jets_are_the_rows_of_all(real):
    chunk, mask = whole(real)
    every = read_jets(chunk, IDS, mask, CAPS, 0.95)
    some = chunk["Jet_pt"].values > 50
    few = read_jets(chunk, IDS, some, CAPS, 0.95)
    picked = every.select(some)
    assert np.array_equal(few.row, picked.row)
    assert np.array_equal(few.event, picked.event)
    for name in IDS:
        assert np.array_equal(few.column(name), picked.column(name)), name


def test_hadfrac_is_named_and_droppable(real):
    chunk, mask = whole(real)
    with pytest.raises(MissingBranch, match="neutral/HadFrac: no branch or derivation"):
        read_jets(chunk, features_of("deepjet"), mask, CAPS, 0.95)
    table = read_jets(chunk, features_of("deepjet"), mask, CAPS, 0.95, droppable=["neutral/HadFrac"])
    assert table.default_mask("neutral/HadFrac").all()


def test_plain_nano_names_what_networks_lack(shared_data):
    with PFNanoFile(shared_data / "nano_dy_mc_40ev.root") as file:
        chunk, mask = whole(file)
        with pytest.raises(MissingBranch) as caught:
            read_jets(chunk, IDS, mask, CAPS, 0.95)
    message = str(caught.value)
    assert all(name in message for name in ("PFCands_pt", "JetPFCands_jetIdx", "JetSVs_jetIdx", "PFCands_d0Err"))


@pytest.mark.parametrize(
    ("branch", "value"),
    [("JetPFCands_jetIdx", 99), ("JetPFCands_jetIdx", -1), ("JetPFCands_pFCandsIdx", 10**6), ("JetSVs_sVIdx", 77)],
)
def test_index_out_of_range_is_a_bad_chunk(real, branch, value):
    chunk, mask = whole(real)
    chunk.load(branches_for(IDS, chunk.file.contents))
    column = chunk[branch]
    broken = column.values.copy()
    broken[3] = value
    chunk._stored[branch] = Jagged(broken, column.offsets)
    with pytest.raises(BadChunk, match=f"{branch} is {value} in entry"):
        read_jets(chunk, IDS, mask, CAPS, 0.95)


def test_links_of_different_lengths_are_a_bad_chunk(real):
    chunk, mask = whole(real)
    chunk.load(branches_for(IDS, chunk.file.contents))
    column = chunk["JetPFCands_pFCandsIdx"]
    offsets = column.offsets.copy()
    offsets[-1] -= 1
    chunk._stored["JetPFCands_pFCandsIdx"] = Jagged(column.values[:-1], offsets)
    with pytest.raises(BadChunk, match="different lengths"):
        read_jets(chunk, IDS, mask, CAPS, 0.95)


def test_raw_factor_one_gives_defaults_not_infinities(real):
    chunk, mask = whole(real)
    chunk.load(["Jet_rawFactor"])
    column = chunk["Jet_rawFactor"]
    broken = column.values.copy()
    broken[0] = 1.0
    chunk._stored["Jet_rawFactor"] = Jagged(broken, column.offsets)
    table = read_jets(chunk, IDS, mask, CAPS, 0.95)
    first = slice(0, table.groups["charged"].offsets[1])
    assert table.default_mask("charged/ptrel")[first].all()
    assert np.isfinite(table.column("charged/ptrel")).all()


def test_candidates_and_vertices_that_are_not_finite_leave_finite_vectors_and_are_counted(real):
    """One NaN four-vector would reach all scores of a jet through a transformer's attention."""
    chunk, mask = whole(real)
    for name, value in (("PFCands_pt", np.nan), ("PFCands_eta", -np.inf), ("SV_phi", np.nan), ("JetSVs_pt", np.inf)):
        column = chunk[name]
        broken = column.values.copy()
        broken[::5] = value
        chunk._stored[name] = Jagged(broken, column.offsets)
    table = read_jets(chunk, IDS, mask, CAPS, 0.95)
    for group in table.groups.values():
        assert all(np.isfinite(values).all() for values in group.columns.values())
    energy = table.groups["charged"].columns["energy"]
    assert 0 < (energy == 0).sum() < len(energy)
    assert table.non_finite["charged/ptrel"] > 0
    assert table.default_mask("charged/ptrel").sum() >= table.non_finite["charged/ptrel"]


@pytest.mark.parametrize(("branch", "group"), [("PFCands_d0", "charged"), ("SV_eta", "charged")])
def test_what_orders_a_group_is_named_with_what_its_features_need(shared_data, branch, group):
    with PFNanoFile(shared_data / REAL) as file:
        file.__dict__["branches"] = file.branches - {branch}
        chunk, mask = whole(file)
        with pytest.raises(MissingBranch, match=rf"{branch} \(for {group}/"):
            read_jets(chunk, IDS, mask, CAPS, 0.95)
        jets = read_jets(chunk, ["jet/pt"], mask, CAPS, 0.95)
        assert len(jets) == 64
