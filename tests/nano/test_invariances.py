"""What must not change a JetTable: the order of objects in events, the chunks, the choice of jets, integer types."""

import random
from itertools import pairwise

import awkward as ak
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pfnano_tag.nano.features import read_jets
from pfnano_tag.nano.jets import JetTable
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.schema import features_of
from tests.nano.small_events import INTEGERS, branches, make_events, write_events
from tests.prepare.candidates_file import write

IDS = features_of("constituents")
CAPS = {"charged": 6, "neutral": 5, "sv": 2}


def read(path, start=0, stop=None, chosen=lambda pt: pt > 0, caps=CAPS):
    with PFNanoFile(path) as file:
        chunk = file.chunk(start, file.num_entries if stop is None else stop)
        return read_jets(chunk, IDS, chosen(chunk["Jet_pt"].values), caps, 0.95)


def assert_same(a, b):
    """Equal to the last bit: values, offsets, masks, counts of broken values."""
    assert len(a) == len(b)
    for name in a.jet:
        assert np.array_equal(a.jet[name], b.jet[name]), name
    for group, table in a.groups.items():
        assert np.array_equal(table.offsets, b.groups[group].offsets), group
        for name, values in table.columns.items():
            assert values.dtype == b.groups[group].columns[name].dtype == np.float32
            assert values.tobytes() == b.groups[group].columns[name].tobytes(), (group, name)
    for name in IDS:
        assert np.array_equal(a.default_mask(name), b.default_mask(name)), name
    assert {k: n for k, n in a.non_finite.items() if n} == {k: n for k, n in b.non_finite.items() if n}


def shuffled(events, seed, what):
    """The events with the objects of some collections in another order, indices following; and where jets went."""
    rng = random.Random(seed)
    moved, jets = [], []
    for event in events:
        new = {name: [dict(row) for row in rows] for name, rows in event.items()}
        for collection, index, users in (
            ("jets", "jetIdx", ("links", "jet_vertices")),
            ("candidates", "pFCandsIdx", ("links",)),
            ("vertices", "sVIdx", ("jet_vertices",)),
        ):
            order = list(range(len(event[collection])))
            if collection in what:
                rng.shuffle(order)
            new[collection] = [dict(event[collection][i]) for i in order]
            for row in (row for user in users for row in new[user]):
                row[index] = order.index(row[index]) if row[index] >= 0 else -1
            if collection == "jets":
                first = len(jets)
                jets += [first + i for i in order]
        for collection in {"links", "jet_vertices"} & what:
            rng.shuffle(new[collection])
        moved.append(new)
    return moved, np.array(jets)


@pytest.fixture(scope="module")
def events():
    return make_events(seed=21, events=30)


@pytest.fixture(scope="module")
def reference(events, tmp_path_factory):
    path = write_events(tmp_path_factory.mktemp("events") / "a.root", events)
    return path, read(path)


@pytest.mark.parametrize(
    "what",
    [{"links"}, {"candidates"}, {"jets"}, {"vertices", "jet_vertices"},
     {"jets", "candidates", "links", "vertices", "jet_vertices"}],
    ids=lambda what: "+".join(sorted(what)),
)  # fmt: skip
def test_order_of_objects_in_an_event(events, reference, tmp_path, what):
    for seed in range(3):
        moved, jets = shuffled(events, seed, what)
        table = read(write_events(tmp_path / f"{seed}.root", moved))
        assert_same(table, reference[1].select(jets))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(cuts=st.sets(st.integers(1, 29), max_size=5))
def test_any_chunks_give_the_same_jets_to_the_last_bit(reference, cuts):
    path, whole = reference
    edges = [0, *sorted(cuts), 30]
    parts = [read(path, *edge) for edge in pairwise(edges)]
    assert_same(JetTable.concatenate(parts), whole)


def test_blocks_give_the_same_jets_to_the_last_bit(reference, monkeypatch):
    path, whole = reference
    for rows in (1, 7, 100):
        monkeypatch.setattr("pfnano_tag.nano.links.BLOCK", rows)
        assert_same(read(path), whole)


def test_chosen_jets_are_the_rows_of_all(reference):
    path, whole = reference
    for chosen in (lambda pt: pt > 60, lambda pt: np.arange(len(pt)) % 3 == 1, lambda pt: pt < 0):
        some = read(path, chosen=chosen)
        with PFNanoFile(path) as file:
            mask = chosen(file.chunk(0, file.num_entries)["Jet_pt"].values)
        picked = whole.select(mask)
        assert np.array_equal(some.row, picked.row)
        assert np.array_equal(some.event, picked.event)
        some.non_finite.update(picked.non_finite)
        assert_same(some, picked)


def test_smaller_caps_keep_the_first(reference):
    path, _ = reference
    everything, few = read(path, caps=dict.fromkeys(CAPS, 1000)), read(path)
    for group, table in everything.groups.items():
        rank = np.arange(table.offsets[-1]) - np.repeat(table.offsets[:-1], table.counts)
        for name, values in table.columns.items():
            assert values[rank < CAPS[group]].tobytes() == few.groups[group].columns[name].tobytes()


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "u4", "i8", "u8"])
def test_integer_types_of_newer_nanoaod(events, reference, tmp_path, dtype):
    """Indices and codes as int16 or uint8 give the same table; sVIdx, charge and pdgId keep their sign."""
    content = branches(events)
    for name, values in content.items():
        key = name.partition("_")[2]
        signed = key in ("sVIdx", "charge", "pdgId")
        if key in INTEGERS and not (signed and dtype[0] == "u") and not (key == "pdgId" and dtype == "i1"):
            content[name] = ak.values_astype(values, np.dtype(dtype))
    assert_same(read(write(tmp_path / "a.root", content, cluster=5)), reference[1])


def test_events_without_jets_and_jets_without_candidates(events, reference, tmp_path):
    empty = {name: [] for name in events[0]}
    alone = {**empty, "jets": events[0]["jets"] or [dict(next(j for e in events for j in e["jets"]))]}
    table = read(write_events(tmp_path / "a.root", [empty, *events, empty, alone, empty]))
    last = len(table) - len(alone["jets"])
    assert_same(table.select(np.arange(last)), reference[1])
    for group in table.groups.values():
        assert (group.counts[last:] == 0).all()
    nothing = read(write_events(tmp_path / "b.root", [empty] * 3))
    assert len(nothing) == 0
    assert set(nothing.groups) == set(table.groups)
