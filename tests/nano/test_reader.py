"""Reader: plans, errors, each basket once."""

import itertools
import logging
import struct

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from pfnano_tag.card.jets import Jets
from pfnano_tag.errors import BadChunk, FileError, MissingBranch, OutputError
from pfnano_tag.nano.plan import parts_of, plan_chunks
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.writer import protect_events


def write(path, events=30, per_cluster=10, extra=()):
    """A small tree in NanoAOD's form: jagged Jet_pt, scalars."""
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 4, events)
    pt = ak.unflatten(rng.uniform(20, 90, counts.sum()).astype(np.float32), counts)
    with uproot.recreate(path) as file:
        types = {"Jet": "var * {pt: float32}", "run": "uint32", **dict.fromkeys(extra, "float32")}
        file.mktree("Events", types, counter_name=lambda c: "n" + c, field_name=lambda o, i: f"{o}_{i}" if o else i)
        for start in range(0, events, per_cluster):
            part = slice(start, start + per_cluster)
            n = len(counts[part])
            file["Events"].extend(
                {
                    "Jet": ak.zip({"pt": pt[part]}),
                    "run": np.full(n, 1, np.uint32),
                    **{e: np.ones(n, np.float32) for e in extra},
                }
            )
    return pt


def test_chunks_together_give_the_whole(tmp_path):
    path = tmp_path / "a.root"
    pt = write(path)
    with PFNanoFile(path) as file:
        plan = file.plan(["Jet_pt", "run"], chunk_bytes=120)
        assert plan == ((0, 10), (10, 20), (20, 30))
        columns = [file.chunk(*ends)["Jet_pt"] for ends in plan]
        assert np.concatenate([c.values for c in columns]).tolist() == np.concatenate([list(e) for e in pt]).tolist()
        assert np.concatenate([c.counts for c in columns]).tolist() == [len(e) for e in pt]
        assert file.plan(["Jet_pt", "run"], chunk_bytes=1e9) == ((0, 30),)
        assert file.kind == "data"
        assert file.layout == "nano"


def test_a_branch_is_read_once_per_chunk(tmp_path, monkeypatch):
    path = tmp_path / "a.root"
    write(path)
    calls = []
    with PFNanoFile(path) as file:
        original = type(file.tree).arrays
        monkeypatch.setattr(type(file.tree), "arrays", lambda s, n, *r: calls.append(n) or original(s, n, *r))
        chunk = file.chunk(0, 10)
        chunk.load(["Jet_pt"])
        chunk.load(["Jet_pt", "run"])
        assert len(chunk["run"]) == 10
    assert calls == [["Jet_pt"], ["run"]]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 60))
def test_plan_covers_all_entries_in_order(sizes, wanted):
    edges = np.cumsum(sizes).tolist()
    plan = plan_chunks(edges, wanted)
    assert plan[0][0] == 0
    assert plan[-1][1] == edges[-1]
    assert all(a[1] == b[0] for a, b in itertools.pairwise(plan))
    assert all(start < stop for start, stop in plan)
    largest = max([wanted, *(s for s in sizes if s <= 4 * wanted)])
    assert all(stop - start <= max(largest, 4 * wanted) for start, stop in plan)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 60), st.data())
def test_parts_cover_a_chunk_and_cut_no_cluster(sizes, wanted, data):
    edges = np.cumsum(sizes).tolist()
    start = data.draw(st.integers(0, edges[-1] - 1))
    stop = data.draw(st.integers(start + 1, edges[-1]))
    parts = parts_of(start, stop, edges, wanted)
    assert (parts[0][0], parts[-1][1]) == (start, stop)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
    assert {edge for part in parts for edge in part} <= {start, stop, *edges}
    for first, last in parts:
        assert last - first <= wanted or not any(first < edge < last for edge in edges)


def test_named_errors(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        PFNanoFile(tmp_path / "absent.root")
    text = tmp_path / "text.root"
    text.write_text("this is not ROOT" * 100)
    with pytest.raises(FileError, match=r"text\.root: can't be opened as a ROOT file"):
        PFNanoFile(text)
    empty = tmp_path / "empty.root"
    empty.write_bytes(b"")
    with pytest.raises(FileError, match="can't be opened"):
        PFNanoFile(empty)
    other = tmp_path / "other.root"
    with uproot.recreate(other) as file:
        file["tree"] = {"x": np.arange(3)}
    with pytest.raises(
        FileError, match=r"no tree 'Events'.*its tree 'tree' holds no jets: it has no branch 'jet_corr_pt'"
    ):
        PFNanoFile(other)


def test_ak8_jets_asked_of_a_file_without(tmp_path):
    write(tmp_path / "a.root")
    with pytest.raises(MissingBranch, match=r"a\.root: no AK8 jets .* it has Jet_pt, but no FatJet_pt"):
        PFNanoFile(tmp_path / "a.root", Jets(collection="FatJet"))


def test_truncated_file(tmp_path):
    path = tmp_path / "a.root"
    write(path, events=3000, per_cluster=1000)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(FileError, match="can't be opened"):
        PFNanoFile(path)


def test_a_truncated_file_is_named_when_it_is_opened_and_is_another_file(tmp_path, caplog):
    path = tmp_path / "short.root"
    write(path)
    with PFNanoFile(path) as file:
        whole, size = file.identity, file.size
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING), PFNanoFile(path) as file:
        assert file.size == size - 1
        assert file.identity != whole
    assert f"short.root: truncated: it has {size - 1} bytes, its header says {size}" in caplog.text


def test_a_damaged_description_of_a_branch_is_named(tmp_path):
    path = tmp_path / "header.root"
    write(path)
    content = bytearray(path.read_bytes())
    last_basket_ends = content.index(struct.pack(">q", 30), content.rindex(b"\x06Jet_pt"))
    content[last_basket_ends + 6] ^= 1
    path.write_bytes(content)
    with PFNanoFile(path) as file, pytest.raises(FileError, match=r"header.root: the description of 'Jet_pt' in 'Ev"):
        file.plan(["Jet_pt"], 1e6)


def test_branches_of_a_collection_without_a_counter_are_held_to_one_length(tmp_path):
    path = tmp_path / "free.root"
    with uproot.recreate(path) as file:
        types = {"Jet_pt": "var * float32", "Jet_eta": "var * float32"}
        file.mktree("Events", types, counter_name=lambda name: f"count_{name}")
        file["Events"].extend({"Jet_pt": ak.Array([[30.0, 40.0], [50.0]]), "Jet_eta": ak.Array([[1.0], [2.0, 0.0]])})
    with PFNanoFile(path) as file:
        chunk = file.chunk(0, 2)
        assert len(chunk["Jet_pt"].values) == 3
        with pytest.raises(BadChunk, match=r"Jet_eta has 1 values in entry 0, other branches"):
            chunk["Jet_eta"]


def test_missing_branches_are_all_named_with_nearest(tmp_path):
    path = tmp_path / "a.root"
    write(path, extra=("L1PreFiringWeight_Nom",))
    with PFNanoFile(path) as file, pytest.raises(MissingBranch) as caught:
        file.require(["Jet_pt", "Jet_ptt", "L1PreFiringWeight_Up", "Muon_pt"], "the test")
    message = str(caught.value)
    assert "Jet_ptt; nearest: Jet_pt" in message
    assert "L1PreFiringWeight_Nom" in message
    assert "Muon_pt" in message


def test_damaged_basket_costs_its_chunk_and_is_named(tmp_path):
    path = tmp_path / "a.root"
    write(path, events=3000, per_cluster=1000)
    with uproot.open(path) as file:
        branch = file["Events"]["Jet_pt"]
        seek = int(branch.member("fBasketSeek")[1])
        size = int(branch.member("fBasketBytes")[1])
    content = bytearray(path.read_bytes())
    content[seek + 80 : seek + size] = bytes(255 - b for b in content[seek + 80 : seek + size])
    path.write_bytes(content)
    with PFNanoFile(path) as file:
        assert len(file.chunk(0, 1000)["Jet_pt"]) == 1000
        with pytest.raises(BadChunk, match=r"a\.root, entries 1000 to 2000: a basket of 'Jet_pt'"):
            file.chunk(1000, 2000).load(["Jet_pt"])
        assert len(file.chunk(2000, 3000)["Jet_pt"]) == 1000


def test_a_file_with_events_is_not_written_over(tmp_path):
    write(tmp_path / "events.root")
    (tmp_path / "link.root").symlink_to(tmp_path / "events.root")
    for name in ("events.root", "link.root"):
        with pytest.raises(OutputError, match="holds a tree 'Events'"):
            protect_events(tmp_path / name)
    (tmp_path / "text.root").write_text("no ROOT file")
    with uproot.recreate(tmp_path / "histograms.root") as file:
        file["h"] = np.histogram(np.arange(3.0))
    for name in ("text.root", "histograms.root", "absent.root"):
        protect_events(tmp_path / name)


@pytest.mark.parametrize("moved", [True, False])
def test_branches_of_a_collection_that_differ_in_length_are_a_bad_chunk(tmp_path, moved):
    """Labels would go to the jets of another event, or not fit at all; whichever branches a step reads."""
    flavours = ak.Array([[5, 4], [0], [4], [5, 0]])
    pt = ak.Array([[50.0, 40], [30], [60], [20, 90]])
    other = ak.Array([[5, 4], [0], [4, 5], [0]]) if moved else ak.Array([[5, 4], [0], [4], [5]])
    for third, fits in ((flavours, True), (other, False)):
        with uproot.recreate(tmp_path / "a.root") as file:
            data = {"nJet": ak.num(pt), "Jet_pt": ak.values_astype(pt, np.float32), "Jet_hadronFlavour": third}
            file.mktree("Events", {"nJet": "uint32", "Jet_pt": "var * float32", "Jet_hadronFlavour": "var * int32"})
            file["Events"].extend(data)
        with PFNanoFile(tmp_path / "a.root") as file:
            whole, first = file.chunk(0, 4), file.chunk(0, 2)
            assert first["Jet_hadronFlavour"].counts.tolist() == first["Jet_pt"].counts.tolist() == [2, 1]
            if fits:
                assert whole["Jet_pt"].offsets is whole["Jet_hadronFlavour"].offsets
                continue
            assert whole["Jet_pt"].counts.tolist() == [2, 1, 1, 2]
            where = "2 values in entry 2, .* have 1" if moved else "1 values in entry 3, .* have 2"
            with pytest.raises(BadChunk, match=f"Jet_hadronFlavour has {where}: different lengths"):
                whole["Jet_hadronFlavour"]
