"""Opening files: what is wrong is named; a file that changes while it is read is an error, never other numbers."""

import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import uproot

from pfnano_tag.card.resources import Remote
from pfnano_tag.errors import FileError
from pfnano_tag.nano import sources
from pfnano_tag.nano.sources import RootFile

VALUES = np.random.default_rng(1).normal(size=30_000).astype(np.float32)


def write(path, values=VALUES):
    with uproot.recreate(path) as file:
        file.mktree("Events", {"x": np.float32, "y": np.float32})
        for part in np.split(values, 3):
            file["Events"].extend({"x": part, "y": part + 1})
        file.mktree("Runs", {"genEventCount": np.int64})
        file["Runs"].extend({"genEventCount": np.arange(1, 4)})
    return path


def write_ntuple(path, values=VALUES):
    with uproot.recreate(path) as file:
        first, *others = np.split(values, 3)
        file.mkrntuple("Events", {"x": first, "y": first + 1})
        for part in others:
            file["Events"].extend({"x": part, "y": part + 1})
    return path


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_says_what_it_is(tmp_path):
    path = write(tmp_path / "a.root")
    with uproot.update(path) as file:
        file["note"] = "second"
        file["note"] = "third"
    with RootFile(path) as file, uproot.open(path) as peer:
        assert file.keys == {"Events": "TTree", "Runs": "TTree", "note": "TObjString"}
        assert (file.uuid, file.size) == (str(peer.file.uuid), path.stat().st_size)
        assert not file.is_remote
        assert file.arrays_of("Runs", ["genEventCount"])["genEventCount"].tolist() == [1, 2, 3]
        with pytest.raises(KeyError, match="Lumi"):
            file.container("Lumi")
        with pytest.raises(FileError, match="'note' is a TObjString, expected a TTree or an RNTuple"):
            file.container("note")
        with pytest.raises(KeyError, match="z"):
            file.container("Events").arrays(["x", "z"], 0, 1)


@pytest.mark.parametrize("content", [b"", b"root", b"this is not ROOT" * 100])
def test_what_is_no_root_file_is_named_and_not_left_open(tmp_path, content):
    path = tmp_path / "a.root"
    path.write_bytes(content)
    before = open_descriptors()
    with pytest.raises(FileError, match=r"a\.root: can't be opened as a ROOT file"):
        RootFile(path)
    assert open_descriptors() == before


def test_a_missing_file_and_other_protocols_are_named(tmp_path):
    with pytest.raises(FileError, match=r"absent\.root: no such file"):
        RootFile(tmp_path / "absent.root")
    with pytest.raises(FileError, match=": no such file"):
        RootFile("")
    with pytest.raises(FileError, match="can't be opened as a ROOT file.*directory"):
        RootFile(tmp_path)
    with pytest.raises(FileError, match="only local files and root:// addresses can be read, not https://"):
        RootFile("https://host/a.root")


def test_the_next_place_is_taken_where_the_first_has_no_file(tmp_path):
    path = write(tmp_path / "a.root")
    with RootFile(f"{tmp_path}/absent.root | {path}") as file:
        assert file.container("Events").num_entries == len(VALUES)
    with pytest.raises(FileError, match=r"absent\.root: no such file; .*gone\.root: no such file"):
        RootFile(f"{tmp_path}/absent.root | {tmp_path}/gone.root")


def test_a_colon_in_a_name_is_part_of_it(tmp_path):
    with RootFile(write(tmp_path / "a:b.root")) as file:
        assert "Events" in file.keys


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("writer", [write, write_ntuple])
def test_what_a_truncated_file_has_lost_is_an_error_and_the_rest_is_right(tmp_path, writer, share):
    path = writer(tmp_path / "a.root")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    try:
        file = RootFile(path)
        events = file.container("Events")
    except FileError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert re.search("damaged.*truncated", said)
        return
    lost = 0
    for start in (0, 10_000, 20_000):
        try:
            found = events.arrays(["x", "y"], start, start + 10_000)
        except Exception:  # damaged bytes can raise anything
            lost += 1
        else:
            assert np.array_equal(found["x"], VALUES[start : start + 10_000])
            assert np.array_equal(found["y"], VALUES[start : start + 10_000] + 1)
    assert lost
    file.close()


def grow(path):
    with path.open("ab") as file:
        file.write(b"0" * 10)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def rewrite(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(1, 1))


def replace(path):
    other = path.with_name("other.root")
    write(other, VALUES + 1)
    other.rename(path)


CHANGES = {
    "has grown from": grow,
    "has been cut from": cut,
    "written to since it was opened": rewrite,
    "replaced by another file": replace,
    "gone since it was opened": lambda path: path.unlink(),
}


@pytest.mark.parametrize("words", CHANGES)
@pytest.mark.parametrize("writer", [write, write_ntuple])
def test_a_file_that_changes_between_two_reads_is_an_error(tmp_path, writer, words):
    path = writer(tmp_path / "a.root")
    with RootFile(path) as file:
        events = file.container("Events")
        assert np.array_equal(events.arrays(["x"], 0, 10_000)["x"], VALUES[:10_000])
        CHANGES[words](path)
        with pytest.raises(FileError, match=rf"a\.root: {words}"):
            events.arrays(["x"], 10_000, 20_000)


@pytest.mark.parametrize("words", CHANGES)
def test_a_file_that_changes_during_a_read_is_an_error(tmp_path, monkeypatch, words):
    path = write(tmp_path / "a.root")
    with RootFile(path) as file:
        events = file.container("Events")
        read = type(events)._read

        def read_while_it_changes(self, *arguments):
            found = read(self, *arguments)
            CHANGES[words](path)
            return found

        monkeypatch.setattr(type(events), "_read", read_while_it_changes)
        with pytest.raises(FileError, match=words):
            events.arrays(["x"], 0, 10_000)


@pytest.mark.parametrize("writer", [write, write_ntuple])
def test_damaged_bytes_cost_their_range_and_no_other(tmp_path, writer):
    path = writer(tmp_path / "a.root")
    clean = path.read_bytes()
    with RootFile(path) as file, uproot.open(path) as peer:
        if file.container("Events").kind == "TTree":
            at = int(peer["Events"]["x"].member("fBasketSeek")[1]) + 200
        else:
            at = peer["Events"].page_link_list[1][0].pages[0].locator.offset + 100
    path.write_bytes(clean[:at] + bytes(255 - byte for byte in clean[at : at + 5000]) + clean[at + 5000 :])
    with RootFile(path) as file:
        events = file.container("Events")
        assert np.array_equal(events.arrays(["x"], 0, 10_000)["x"], VALUES[:10_000])
        with pytest.raises(Exception, match=r"."):
            events.arrays(["x"], 10_000, 20_000)
        assert np.array_equal(events.arrays(["x"], 20_000, 30_000)["x"], VALUES[20_000:])


@pytest.fixture
def threads():
    yield lambda count: sources.configure(Remote(), decompression=count)
    sources.configure(Remote(), decompression=1)


@pytest.mark.parametrize("writer", [write, write_ntuple])
def test_decompression_threads_are_those_asked_for(tmp_path, threads, writer):
    path = writer(tmp_path / "a.root")

    def names():
        return {thread.name for thread in threading.enumerate()}

    def read():
        with RootFile(path) as file:
            return file.container("Events").arrays(["x", "y"], 0, len(VALUES))

    before = names()
    alone = read()
    assert names() == before, "one thread is this one"
    threads(2)
    both = read()
    again = read()
    assert 1 <= len(names() - before) <= 2
    assert all(name.startswith("decompression") for name in names() - before)
    for name, values in alone.items():
        assert np.array_equal(values, both[name])
        assert np.array_equal(values, again[name])
    threads(1)
    assert names() == before
