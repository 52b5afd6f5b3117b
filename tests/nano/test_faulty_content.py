"""Content that makes no sense: a named error with file and entries, or counted placeholders; never a wrong number."""

import math
import re
import tracemalloc

import awkward as ak
import numpy as np
import pytest
import uproot

from pfnano_tag.errors import BadChunk
from pfnano_tag.nano.features import branches_for, read_jets
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.schema import FEATURES, features_of
from tests.nano.small_events import branches, make_events, write_events

IDS = features_of("constituents")
CAPS = {"charged": 25, "neutral": 25, "sv": 5}
EVENTS = make_events(seed=5, events=20)
CONTENT = branches(EVENTS)
REAL_VALUED = sorted(
    name for name, values in CONTENT.items() if values.ndim == 2 and ak.to_numpy(ak.flatten(values)).dtype == "f4"
)
"""Every real-valued branch."""


def read(path, start=0, stop=None, ids=IDS):
    with PFNanoFile(path) as file:
        chunk = file.chunk(start, stop or file.num_entries)
        return read_jets(chunk, ids, np.ones(len(chunk["Jet_pt"].values), dtype=bool), CAPS, 0.95)


def with_value(column, entry, value, dtype=None):
    """A branch with another value in the first place of an entry."""
    counts = ak.num(column)
    content = ak.to_numpy(ak.flatten(column)).copy()
    content = content if dtype is None else content.astype(dtype)
    content[int(ak.sum(counts[:entry]))] = value
    return ak.unflatten(content, counts)


def entry_with(key, more=lambda event: True):
    return next(i for i, event in enumerate(EVENTS) if i > 3 and event[key] and more(event))


@pytest.mark.parametrize(
    ("branch", "value"),
    [
        ("JetPFCands_jetIdx", 99), ("JetPFCands_jetIdx", -1), ("JetPFCands_jetIdx", -(2**31)),
        ("JetPFCands_pFCandsIdx", 10**6), ("JetPFCands_pFCandsIdx", -1), ("JetSVs_jetIdx", 4), ("JetSVs_jetIdx", -7),
        ("JetSVs_sVIdx", 50), ("JetSVs_sVIdx", -2),
    ],
)  # fmt: skip
def test_index_out_of_range_names_file_branch_value_and_entry(tmp_path, branch, value):
    entry = entry_with("links" if "PFCands" in branch else "jet_vertices", lambda e: len(e["vertices"]) < 50)
    path = write_events(tmp_path / "bad.root", EVENTS, **{branch: with_value(CONTENT[branch], entry, value)})
    with pytest.raises(BadChunk, match=re.escape(f"{branch} is {value} in entry {entry}, which has")) as caught:
        read(path)
    assert str(path) in str(caught.value)
    good = write_events(tmp_path / "good.root", EVENTS)
    assert len(read(path, 0, entry)) == len(read(good, 0, entry))  # the other entries can be read


def test_index_that_would_be_right_in_the_next_event(tmp_path):
    """A link to the first candidate behind the event's last: in range of the file, but of another event."""
    entry = entry_with("links")
    index = len(EVENTS[entry]["candidates"])
    name = "JetPFCands_pFCandsIdx"
    path = write_events(tmp_path / "bad.root", EVENTS, **{name: with_value(CONTENT[name], entry, index)})
    with pytest.raises(BadChunk, match=f"{name} is {index} in entry {entry}, which has {index} candidates"):
        read(path)


@pytest.mark.parametrize("branch", ["JetPFCands_jetIdx", "JetPFCands_pFCandsIdx", "JetSVs_jetIdx", "JetSVs_sVIdx"])
def test_index_of_another_type(tmp_path, branch):
    path = write_events(tmp_path / "bad.root", EVENTS, **{branch: ak.values_astype(CONTENT[branch], np.float32)})
    with pytest.raises(BadChunk, match=f"{branch} holds float32, expected integers"):
        read(path)


@pytest.mark.parametrize("value", [2**32 - 1, 2**31, 300], ids=str)
def test_unsigned_index_does_not_wrap_around(tmp_path, value):
    entry = entry_with("links")
    name = "JetPFCands_jetIdx"
    path = write_events(tmp_path / "bad.root", EVENTS, **{name: with_value(CONTENT[name], entry, value, "u4")})
    with pytest.raises(BadChunk, match=f"{name} is {value} in entry {entry}"):
        read(path)


def needed():
    """Branches whose values are used where btag* branches are stored, but for those that others are held against."""
    others = {"Jet_pt", "PFCands_pt", "SV_eta", "JetPFCands_jetIdx", "JetSVs_jetIdx"}
    unused = {"JetPFCands_btagPtRatio", "PFCands_dz", "PFCands_dzErr"}
    return sorted(name for name in CONTENT if CONTENT[name].ndim == 2 and name not in others | unused)


@pytest.fixture(scope="module")
def path_of_good(tmp_path_factory):
    return write_events(tmp_path_factory.mktemp("good") / "good.root", EVENTS)


@pytest.mark.parametrize("branch", needed())
def test_branches_of_one_collection_that_differ_in_length(path_of_good, monkeypatch, branch):
    """One value more in one event, one less in another: rows would be taken from the wrong object."""
    with PFNanoFile(path_of_good) as file:
        chunk = file.chunk(0, file.num_entries)
        chunk.load(branches_for(IDS, file.contents))
        column = chunk[branch]
        filled = np.flatnonzero(column.counts > 0)
        offsets = column.offsets.copy()
        offsets[filled[0] + 1 : filled[-1] + 1] -= 1
        broken = type(column)(column.values, offsets)
        read_one = type(chunk).__getitem__
        monkeypatch.setattr(type(chunk), "__getitem__", lambda c, n: broken if n == branch else read_one(c, n))
        every = np.ones(len(chunk["Jet_pt"].values), dtype=bool)
        with pytest.raises(BadChunk, match=f"{branch} has .* different lengths"):
            read_jets(chunk, IDS, every, CAPS, 0.95)


@pytest.fixture(scope="module")
def good(path_of_good):
    return read(path_of_good)


@pytest.mark.parametrize("branch", REAL_VALUED)
def test_values_that_are_no_numbers_stay_in_their_event_and_are_placeholders(tmp_path, good, branch):
    values = {"Jet": "jets", "PFCands": "links", "JetPFCands": "links", "SV": "vertices", "JetSVs": "jet_vertices"}
    key = values[branch.partition("_")[0]]
    entries = [i for i, event in enumerate(EVENTS) if event[key]][:4]
    content = CONTENT[branch]
    for entry, value in zip(entries, (np.nan, np.inf, -np.inf, 3e38), strict=True):
        content = with_value(content, entry, value)
    bad = read(write_events(tmp_path / "bad.root", EVENTS, **{branch: content}))
    assert bad.event.tolist() == good.event.tolist()
    for name in IDS:
        assert np.isfinite(bad.column(name)).all(), name
        assert set(bad.column(name)[bad.default_mask(name)].tolist()) <= allowed(name), name
    for table in bad.groups.values():
        assert all(np.isfinite(values).all() for values in table.columns.values())
        assert (table.columns["energy"] >= 0).all()
    others = ~np.isin(good.event, entries)
    assert others.sum() > 5
    a, b = good.select(others), bad.select(others)
    for name in IDS:
        assert np.array_equal(a.column(name), b.column(name)), name
        assert np.array_equal(a.default_mask(name), b.default_mask(name)), name


def allowed(name):
    """Placeholders of a feature."""
    return {FEATURES[name].default, FEATURES[name].replacement}


@pytest.mark.parametrize(
    ("name", "value"), [("pt", math.inf), ("pt", math.nan), ("eta", math.nan), ("phi", math.nan)]
)
def test_candidates_that_can_not_be_ordered_come_last_and_change_no_others(tmp_path, name, value):
    clean, broken = make_events(seed=31, events=25), make_events(seed=31, events=25)
    per_jet = []
    for event in broken:
        added = [0] * len(event["jets"])
        # nearness is known to be unknown only where there are vertices
        for j in {link["jetIdx"] for link in event["links"]} if event["vertices"] else ():
            link = next(link for link in event["links"] if link["jetIdx"] == j)
            for charge in (0, 1):
                bad = event["candidates"][link["pFCandsIdx"]] | {
                    "pt": 99.0,
                    "charge": charge,
                    "d0Err": -1.0,
                    name: value,
                }
                event["links"].insert(0, link | {"pFCandsIdx": len(event["candidates"])})
                event["candidates"].append(bad)
            added[j] = 1
        per_jet += added
    a, b = (read(write_events(tmp_path / f"{i}.root", events)) for i, events in enumerate((clean, broken)))
    assert sum(per_jet) > 10
    for group in ("charged", "neutral"):
        x, y = a.groups[group], b.groups[group]
        assert (y.counts - x.counts).tolist() == per_jet
        last = np.zeros(y.offsets[-1], dtype=bool)
        last[y.offsets[1:][np.array(per_jet) > 0] - 1] = True
        if group == "charged":
            last = np.zeros(y.offsets[-1], dtype=bool)
            last[b.default_mask("charged/ptrel") | b.default_mask("charged/trackDeltaR")] = True
        for column, values in x.columns.items():
            assert values.tobytes() == y.columns[column][~last].tobytes(), (group, column)


@pytest.mark.parametrize("branch", ["PFCands_pt", "PFCands_eta", "PFCands_phi", "Jet_pt", "Jet_eta", "Jet_phi"])
def test_a_candidate_without_direction_or_momentum_has_no_features_made_of_them(tmp_path, branch):
    """NaN goes through every formula that uses it: nothing that is left looks like a measurement."""
    events = make_events(seed=9, events=6)
    content = branches(events)
    content[branch] = ak.full_like(content[branch], np.nan)
    table = read(write_events(tmp_path / "bad.root", events, **content))
    parts = {"pt": ["ptrel"], "eta": ["trackDeltaR", "trackPtRel", "trackPPar"], "phi": ["trackDeltaR", "trackPtRel"]}
    names = parts[branch.partition("_")[2]]
    if branch.endswith("phi"):
        names = [*names, "trackSip2dVal", "trackSip2dSig"]  # without a direction there is no sign
    assert table.groups["charged"].offsets[-1] > 3
    for name in names:
        assert table.default_mask(f"charged/{name}").all(), name
        if not name.startswith("trackSip"):
            assert table.non_finite[f"charged/{name}"] == table.groups["charged"].offsets[-1]
    if branch.startswith("PFCands"):
        assert all((table.groups["charged"].columns[axis] == 0).all() for axis in ("px", "py", "pz", "energy"))


def test_ten_thousand_candidates_in_a_jet(tmp_path):
    """Right order and numbers, and memory that grows with the candidates, not with their square."""
    peaks = []
    for count in (5000, 10_000):
        events = make_events(seed=2, events=3, most_jets=3)
        event = next(e for e in events if e["links"] and e["vertices"])
        rng = np.random.default_rng(count)
        link, candidate = dict(event["links"][0]), dict(event["candidates"][0])
        candidate |= {"charge": 0, "pdgId": 22, "d0Err": -1.0, "d0": -1.0}
        pts = np.float32(rng.uniform(1, 50, count))
        first = len(event["candidates"])
        event["candidates"] += [candidate | {"pt": float(pt), "eta": 3.0} for pt in pts]
        event["links"] += [link | {"pFCandsIdx": first + i} for i in range(count)]
        path = write_events(tmp_path / f"{count}.root", events)
        with PFNanoFile(path) as file:
            chunk = file.chunk(0, file.num_entries)
            chunk.load(branches_for(IDS, file.contents))
            every = np.ones(len(chunk["Jet_pt"].values), dtype=bool)
            read_jets(chunk, IDS, every, CAPS, 0.95)
            tracemalloc.start()
            table = read_jets(chunk, IDS, every, dict.fromkeys(CAPS, 10**6), 0.95)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        jet = int(np.argmax(table.groups["neutral"].counts))
        assert table.jet["nNpfcand"][jet] >= count
        rows = slice(*table.groups["neutral"].offsets[jet : jet + 2])
        far = table.default_mask("neutral/drminsv")[rows]
        assert far.sum() >= count
        assert (np.diff(table.column("neutral/ptrel")[rows][far]) <= 0).all()
    assert peaks[1] < 2.5 * peaks[0]


@pytest.mark.parametrize("branch", ["Jet_pt", "Jet_eta", "PFCands_phi", "SV_eta"])
def test_whole_numbers_where_momenta_or_angles_are_expected(tmp_path, branch):
    path = write_events(tmp_path / "bad.root", EVENTS, **{branch: ak.values_astype(CONTENT[branch], np.int32)})
    with pytest.raises(BadChunk, match=f"{branch} holds int32, expected real numbers"):
        read(path)


@pytest.mark.parametrize(("dtype", "is_refused"), [("f4", True), ("?", True), ("f8", False), ("i4", False)])
def test_identity_of_events_must_keep_all_its_digits(tmp_path, dtype, is_refused):
    with uproot.recreate(tmp_path / "a.root") as file:
        file["Events"] = {"event": np.arange(5).astype(dtype)}
    with PFNanoFile(tmp_path / "a.root") as file:
        chunk = file.chunk(0, 5)
        if is_refused:
            with pytest.raises(BadChunk, match=f"event holds {np.dtype(dtype)}, expected integers"):
                chunk["event"]
        else:
            assert chunk["event"].tolist() == [0, 1, 2, 3, 4]
