"""Baskets decoded by us hold what uproot finds in them, and what is unusual is left to uproot."""

import struct

import awkward as ak
import numpy as np
import pytest
import uproot

from pfnano_tag.nano import baskets, containers
from pfnano_tag.nano.baskets import baskets_of, read_column
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.sources import RootFile

REAL = ("pfnano_qcd_mc_2017UL_10ev.root", "nano_dy_mc_40ev.root")


def same(column, array):
    """Whether a column is uproot's array, to the last bit."""
    if isinstance(column, Jagged):
        values = ak.to_numpy(ak.flatten(array))
        counted = column.counts.tolist() == ak.num(array).tolist()
        return counted and column.values.dtype == values.dtype and column.values.tobytes() == values.tobytes()
    values = ak.to_numpy(array)
    return column.dtype == values.dtype and column.shape == values.shape and column.tobytes() == values.tobytes()


@pytest.mark.parametrize("name", REAL)
def test_every_branch_of_real_files_is_what_uproot_finds(shared_data, name, monkeypatch):
    monkeypatch.setattr(containers, "flat", None)  # nothing is left to uproot
    with RootFile(shared_data / name) as file, uproot.open(shared_data / name) as peer:
        events, tree = file.container("Events"), peer["Events"]
        names = sorted(events.names)
        arrays = tree.arrays(names, how=dict, array_cache=None)
        for start, stop, some in ((0, events.num_entries, names), (3, 8, names[::20])):
            found = events.arrays(some, start, stop)
            assert [name for name in some if not same(found[name], arrays[name][start:stop])] == []


@pytest.fixture
def path(tmp_path):
    """Two branches in three baskets each."""
    rng = np.random.default_rng(4)
    with uproot.recreate(tmp_path / "a.root", compression=None) as file:
        file.mktree("Events", {"x": "f4", "Jet_pt": "var * float32"})
        for size in (5, 1, 10):
            counts = rng.integers(0, 3, size)
            pt = ak.unflatten(rng.random(counts.sum()).astype(np.float32), counts)
            file["Events"].extend({"x": rng.random(size).astype(np.float32), "Jet_pt": pt})
    return tmp_path / "a.root"


def test_only_the_baskets_of_the_range_are_fetched(path):
    content = path.read_bytes()
    with uproot.open(path) as peer:
        for name in ("x", "Jet_pt"):
            branch = peer["Events"][name]
            stored = baskets_of(branch)
            assert stored.edges == (0, 5, 6, 16)
            expected = {
                (0, 5): [0],
                (5, 6): [1],
                (4, 7): [0, 1, 2],
                (6, 16): [2],
                (3, 3): [],
                (0, 0): [],
                (16, 16): [],
            }
            for (start, stop), wanted in expected.items():
                asked = []

                def fetch(first, last, asked=asked):
                    asked.append((first, last))
                    return content[first:last]

                assert same(read_column(stored, start, stop, fetch), branch.array(entry_start=start, entry_stop=stop))
                assert asked == [stored.ranges[index] for index in wanted]


@pytest.mark.parametrize("algorithm", [uproot.ZLIB(1), uproot.LZ4(1), uproot.ZSTD(1), None])
def test_a_basket_of_several_blocks(tmp_path, algorithm):
    """ROOT compresses at most 16777215 bytes at a time."""
    values = np.arange(5_000_000, dtype=np.int32) // 1000
    with uproot.recreate(tmp_path / "a.root", compression=algorithm) as file:
        file.mktree("Events", {"x": np.int32})
        file["Events"].extend({"x": values})
    with RootFile(tmp_path / "a.root") as file:
        assert np.array_equal(file.container("Events").arrays(["x"], 0, len(values))["x"], values)


def test_what_is_unusual_is_left_to_uproot(path, monkeypatch):
    with RootFile(path) as file, uproot.open(path) as peer:
        events = file.container("Events")
        arrays = peer["Events"].arrays(["x", "Jet_pt"], entry_start=4, entry_stop=9, how=dict)
        monkeypatch.setattr(containers, "read_column", lambda *_: None)
        found = events.arrays(["x", "Jet_pt"], 4, 9)
        assert all(same(found[name], arrays[name]) for name in arrays)
    monkeypatch.undo()
    monkeypatch.setattr(containers, "baskets_of", lambda _: None)
    with RootFile(path) as file:
        found = file.container("Events").arrays(["x", "Jet_pt"], 4, 9)
        assert all(same(found[name], arrays[name]) for name in arrays)


def key_of(content, start):
    """Bytes of a basket's key, and where its own numbers stand."""
    key_length = struct.unpack_from(">ihiIhh", content, start)[4]
    return key_length, start + key_length - struct.calcsize(">hiiiib")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("length", r"'Jet_pt' says \d+ bytes"),
        ("entries", r"'Jet_pt' says \d+ bytes, 6 entries; expected \d+, 5"),
        ("end", r"a basket of 'Jet_pt' has \d+ ends for 5 entries|do not follow each other"),
        ("falling", "'Jet_pt' do not follow each other"),
        ("between", "'Jet_pt' do not follow each other"),
        ("key", "the key of a basket of 'Jet_pt' is damaged"),
        ("cut", r"'Jet_pt' lies at bytes \d+ to \d+, and the file ends before: it is truncated"),
    ],
)
def test_a_basket_that_contradicts_itself_is_an_error(path, fault, words):
    content = bytearray(path.read_bytes())
    with uproot.open(path) as peer:
        stored = baskets_of(peer["Events"]["Jet_pt"])
    start, stop = stored.ranges[0]
    key_length, at = key_of(content, start)
    *_, entries, end, _ = struct.unpack_from(">hiiiib", content, at)
    ends = start + end  # the count, then the first of the ends
    if fault == "length":
        struct.pack_into(">i", content, start, stop - start + 1)
    elif fault == "entries":
        struct.pack_into(">i", content, at + 10, entries + 1)
    elif fault == "key":
        struct.pack_into(">h", content, start + 14, 30000)
    elif fault == "end":
        struct.pack_into(">i", content, at + 14, end - 4)
    elif fault == "falling":
        struct.pack_into(">i", content, ends + 8, end + 400)
    elif fault == "between":
        struct.pack_into(">i", content, ends + 8, key_length + 2)
    length = -3 if fault == "cut" else 0
    with pytest.raises(ValueError, match=words):
        read_column(stored, 0, 5, lambda first, last: bytes(content[first : last + length]))


@pytest.mark.parametrize("algorithm", [uproot.ZLIB(1), uproot.LZMA(1), uproot.LZ4(1), uproot.ZSTD(1)])
def test_a_block_that_does_not_give_what_it_says_is_an_error(tmp_path, algorithm):
    with uproot.recreate(tmp_path / "a.root", compression=algorithm) as file:
        file.mktree("Events", {"x": np.int32})
        file["Events"].extend({"x": np.arange(1000, dtype=np.int32) // 100})
    content = (tmp_path / "a.root").read_bytes()
    with uproot.open(tmp_path / "a.root") as peer:
        stored = baskets_of(peer["Events"]["x"])
    start, _ = stored.ranges[0]
    block = start + key_of(content, start)[0]
    changes = [(0, 1), (3, 1), (3, -1), (6, 1), (6, -1), (8, 1)]
    if algorithm.name != "ZSTD":  # ROOT writes ZSTD without checksums: only its structure can contradict itself
        changes.append((20, 7))
    for at, change in changes:
        damaged = bytearray(content)
        damaged[block + at] = (damaged[block + at] + change) % 256
        with pytest.raises(ValueError, match="a basket of 'x'"):
            read_column(stored, 0, 1000, lambda first, last, damaged=damaged: bytes(damaged[first:last]))


def test_scratch_memory_belongs_to_its_thread():
    import threading

    mine, others = baskets._scratch.of(100), []
    thread = threading.Thread(target=lambda: others.append(baskets._scratch.of(100)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, others[0])
    assert np.shares_memory(mine, baskets._scratch.of(50))
    assert len(baskets._scratch.of(1000)) == 1000


def random_values(rng, dtype, shape):
    """Values of all bits, but for floats, of which every one is a number."""
    if np.dtype(dtype).kind in "bf":
        return (rng.normal(size=shape) > 0) if dtype == "?" else rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), dtype=np.uint8).view(dtype)[..., 0]


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_type_as_one_value_a_fixed_number_and_a_list(tmp_path, dtype, monkeypatch):
    rng = np.random.default_rng(6)
    with uproot.recreate(tmp_path / "a.root", compression=uproot.ZSTD(3)) as file:
        types = {"one": np.dtype(dtype), "two": np.dtype((dtype, (2, 3))), "many": f"var * {np.dtype(dtype).name}"}
        file.mktree("Events", types)
        for size in (0, 5, 1, 0, 300):
            counts = rng.integers(0, 4, size)
            many = ak.unflatten(random_values(rng, dtype, (counts.sum(),)), counts)
            one, two = random_values(rng, dtype, (size,)), random_values(rng, dtype, (size, 2, 3))
            file["Events"].extend({"one": one, "two": two, "many": many})
    monkeypatch.setattr(containers, "flat", None)  # nothing is left to uproot
    with RootFile(tmp_path / "a.root") as file, uproot.open(tmp_path / "a.root") as peer:
        arrays = peer["Events"].arrays(how=dict)
        for start, stop in ((0, 306), (0, 5), (3, 7), (5, 6), (7, 9)):
            found = file.container("Events").arrays(["one", "two", "many"], start, stop)
            assert [name for name, column in found.items() if not same(column, arrays[name][start:stop])] == []


def test_a_branch_that_ends_before_the_range_is_an_error(path):
    with uproot.open(path) as peer:
        stored = baskets_of(peer["Events"]["x"])
    with pytest.raises(ValueError, match="'x' ends at entry 16, before entry 17"):
        read_column(stored, 10, 17, lambda first, last: path.read_bytes()[first:last])


@pytest.mark.parametrize("algorithm", [uproot.ZLIB(1), uproot.LZMA(1), uproot.LZ4(1)])
def test_no_changed_byte_of_a_basket_with_checksums_goes_unnoticed(tmp_path, algorithm):
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 4, 100)
    with uproot.recreate(tmp_path / "a.root", compression=algorithm) as file:
        file.mktree("Events", {"Jet_pt": "var * float32"})
        pt = rng.integers(0, 9, counts.sum()).astype(np.float32)
        file["Events"].extend({"Jet_pt": ak.unflatten(pt, counts)})
    with uproot.open(tmp_path / "a.root") as peer:
        stored = baskets_of(peer["Events"]["Jet_pt"])
    ((start, stop),) = stored.ranges
    content = (tmp_path / "a.root").read_bytes()[start:stop]
    noticed = 0
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        try:
            found = read_column(stored, 0, 100, lambda *_, damaged=damaged: bytes(damaged))
        except ValueError:
            noticed += 1
        else:  # the date, the name, the title: bytes that are not read
            assert found.values.tobytes() == pt.tobytes()
            assert found.counts.tolist() == counts.tolist()
    assert noticed > 0.8 * len(content)


def test_a_damaged_size_takes_no_memory(tmp_path):
    with uproot.recreate(tmp_path / "a.root", compression=uproot.ZSTD(1)) as file:
        file.mktree("Events", {"x": np.int32})
        file["Events"].extend({"x": np.arange(1000, dtype=np.int32) // 100})
    with uproot.open(tmp_path / "a.root") as peer:
        stored = baskets_of(peer["Events"]["x"])
    ((start, stop),) = stored.ranges
    content = bytearray((tmp_path / "a.root").read_bytes()[start:stop])
    struct.pack_into(">i", content, 6, 2**31 - 1)
    before = len(baskets._scratch._memory)
    with pytest.raises(ValueError, match="a block that is cut"):
        read_column(stored, 0, 1000, lambda *_: bytes(content))
    assert len(baskets._scratch._memory) == before
