"""TTrees and RNTuples give the same columns: every type NanoAOD uses, any entry range, each compression."""

from types import SimpleNamespace

import awkward as ak
import numpy as np
import pytest
import uproot
import xxhash
from uproot.const import RNTupleFieldRole as Role

from pfnano_tag.errors import FileError
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.local import LocalSource
from pfnano_tag.nano.ntuples import Field, fields_of
from pfnano_tag.nano.sources import RootFile

NUMBERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
CPP = {"float32": "float", "float64": "double", "bool": "bool"}
SIZES = (40, 25, 35)
RANGES = [(0, 100), (0, 40), (40, 65), (30, 70), (39, 41), (64, 65), (99, 100), (7, 7), (0, 0), (100, 100)]
ZSTD = uproot.ZSTD(5)
ALGORITHMS = {"ZLIB": uproot.ZLIB(4), "LZMA": uproot.LZMA(2), "LZ4": uproot.LZ4(1), "ZSTD": ZSTD}


def numbers(kind, size, rng):
    """Values over the whole range of a type."""
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        return rng.normal(0, 1e6, size).astype(dtype)
    if dtype.kind == "b":
        return rng.random(size) > 0.5
    return np.frombuffer(rng.bytes(size * dtype.itemsize), dtype=dtype).copy()


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(3)
    events = sum(SIZES)
    counts = rng.integers(0, 4, events)
    counts[:3] = counts[-2:] = 0
    jets = {f"Jet_{kind}": ak.unflatten(numbers(kind, counts.sum(), rng), counts) for kind in NUMBERS}
    flat = {f"one_{kind}": numbers(kind, events, rng) for kind in NUMBERS}
    return {**jets, **flat, "fixed": rng.random((events, 3)).astype(np.float32)}


def parts_of(columns):
    ends = np.cumsum(SIZES)
    for start, stop in zip([0, *ends[:-1]], ends, strict=True):
        yield {name: values[start:stop] for name, values in columns.items()}


def write_tree(path, columns, compression=ZSTD):
    """A TTree with counters, as NanoAOD; one basket per part."""
    rename = {"Jet_" + kind: kind for kind in NUMBERS}
    with uproot.recreate(path, compression=compression) as file:
        for index, part in enumerate(parts_of(columns)):
            jets = ak.zip({short: part[name] for name, short in rename.items() if name in part})
            data = {"Jet": jets, **{n: v for n, v in part.items() if n not in rename}}
            if index == 0:
                types = {
                    n: (f"{len(v[0])} * {v.dtype}" if np.ndim(v) == 2 else v.dtype)
                    for n, v in data.items()
                    if n != "Jet"
                }
                types = {n: np.dtype((v.dtype, v.shape[1:])) for n, v in data.items() if n != "Jet"}
                file.mktree(
                    "Events",
                    {"Jet": ak.type(jets).content, **types},
                    title="",
                    counter_name=lambda outer: "n" + outer,
                    field_name=lambda outer, inner: inner if outer == "" else f"{outer}_{inner}",
                )
            file["Events"].extend(data)


def write_ntuple(path, columns, compression=ZSTD):
    """An RNTuple with a plain vector per branch; one cluster per part."""
    with uproot.recreate(path, compression=compression) as file:
        for index, part in enumerate(parts_of(columns)):
            if index == 0:
                file.mkrntuple("Events", ak.Array(part))
            else:
                file["Events"].extend(ak.Array(part))


WRITERS = {"TTree": write_tree, "RNTuple": write_ntuple}


def same(found, expected):
    """Whether a column holds the same values of the same type as an awkward or numpy array."""
    if isinstance(found, Jagged):
        values = ak.to_numpy(ak.flatten(expected))
        return (
            found.counts.tolist() == ak.num(expected).tolist()
            and found.values.dtype == values.dtype
            and found.values.dtype.isnative
            and np.array_equal(found.values, values)
        )
    return found.dtype == expected.dtype and found.dtype.isnative and np.array_equal(found, expected)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_type_over_any_range(tmp_path, columns, kind):
    path = tmp_path / "a.root"
    WRITERS[kind](path, columns)
    file = RootFile(path)
    container = file.container("Events")
    assert container.kind == kind
    assert file.keys["Events"] == {"TTree": "TTree", "RNTuple": "ROOT::RNTuple"}[kind]
    assert container.num_entries == 100
    assert {*columns, "nJet"} <= container.names
    assert container.compression == "ZSTD 5"
    assert container.edges(["Jet_float32", "one_bool"]) == [40, 65, 100]
    for start, stop in RANGES:
        found = container.arrays([*columns, "nJet"], start, stop)
        wrong = [name for name, values in columns.items() if not same(found[name], values[start:stop])]
        assert not wrong, (start, stop)
        assert found["nJet"].tolist() == ak.num(columns["Jet_bool"])[start:stop].tolist()
    file.close()


@pytest.mark.parametrize("kind", WRITERS)
def test_types_and_sizes(tmp_path, columns, kind):
    path = tmp_path / "a.root"
    WRITERS[kind](path, columns)
    container = RootFile(path).container("Events")
    for number in NUMBERS:
        word = CPP.get(number, f"{number}_t")
        assert container.typename(f"one_{number}") == word
        assert container.typename(f"Jet_{number}") == f"{word}[]"
        jets = len(ak.flatten(columns["Jet_bool"]))
        size = np.dtype(number).itemsize
        assert container.uncompressed_bytes(f"one_{number}") >= 100 * size
        assert jets * size <= container.uncompressed_bytes(f"Jet_{number}") <= jets * size + 3000
    assert container.typename("fixed") == "float[3]"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kind", WRITERS)
def test_compressions(tmp_path, columns, kind, algorithm):
    path = tmp_path / "a.root"
    WRITERS[kind](path, columns, ALGORITHMS[algorithm])
    container = RootFile(path).container("Events")
    assert container.compression == f"{algorithm} {ALGORITHMS[algorithm].level}"
    found = container.arrays(columns, 0, 100)
    assert all(same(found[name], values) for name, values in columns.items())


def write_text(path, kind):
    names = ak.Array(["a", "bc", "d"])
    with uproot.recreate(path) as file:
        if kind == "TTree":
            file.mktree("Events", {"name": str, "x": np.int32})
            file["Events"].extend({"name": names, "x": np.arange(3, dtype=np.int32)})
        else:
            deep = ak.Array([[[1, 2]], [], [[3]]])
            file.mkrntuple("Events", {"name": names, "x": np.arange(3, dtype=np.int32), "deep": deep})


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_no_number_is_refused_by_name_and_hinders_nothing_else(tmp_path, kind):
    path = tmp_path / "a.root"
    write_text(path, kind)
    with RootFile(path) as file:
        container = file.container("Events")
        assert container.arrays(["x"], 1, 3)["x"].tolist() == [1, 2]
        assert "name" in container.names
        with pytest.raises(
            FileError, match=r"a\.root: 'name' of 'Events' is a (branch|field) of type (char\*|std::string)"
        ):
            container.arrays(["x", "name"], 0, 3)
        if kind == "RNTuple":
            with pytest.raises(
                FileError, match=r"'deep' .* is a field of type std::vector<std::vector<std::int64_t>>"
            ):
                container.arrays(["deep"], 0, 3)


@pytest.fixture
def records(tmp_path):
    """An RNTuple as CMSSW writes it: collections and records instead of branches with a common beginning."""
    rng = np.random.default_rng(5)
    events = 50
    jets = rng.integers(0, 4, events)
    pt = ak.unflatten(rng.random(jets.sum()).astype(np.float32), jets)
    one = np.ones(events, dtype=int)
    parts = {
        "run": np.full(events, 7, np.uint32),
        "Jet": ak.zip({"pt": pt, "id": ak.values_astype(pt > 0.5, np.uint8)}),
        "HLT": ak.zip({"Mu": rng.random(events) > 0.5, "Ele": rng.random(events) > 0.5}),
        "PV": ak.zip({"npvs": ak.unflatten(rng.integers(0, 60, events).astype(np.uint8), one)}),
        "SV_x": ak.unflatten(rng.random(jets.sum()), jets),
    }
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mkrntuple("Events", ak.Array({name: values[:20] for name, values in parts.items()}))
        file["Events"].extend(ak.Array({name: values[20:] for name, values in parts.items()}))
    with RootFile(tmp_path / "a.root") as file:
        yield file.container("Events"), parts


def test_collections_of_records_are_branches(records):
    container, parts = records
    names = {"run", "nJet", "Jet_pt", "Jet_id", "Jet.pt", "Jet.id", "HLT_Mu", "HLT_Ele", "HLT.Mu", "HLT.Ele"}
    assert container.names == names | {"PV_npvs", "PV.npvs", "nSV", "SV_x"}
    for start, stop in ((0, 50), (10, 30), (20, 50)):
        found = container.arrays(container.names, start, stop)
        jets = parts["Jet"][start:stop]
        assert same(found["Jet_pt"], jets.pt)
        assert same(found["Jet.id"], jets.id)
        assert found["nJet"].tolist() == found["nSV"].tolist() == ak.num(jets).tolist()
        assert same(found["HLT_Mu"], parts["HLT"].Mu[start:stop].to_numpy())
        assert same(found["PV_npvs"], ak.flatten(parts["PV"].npvs[start:stop]).to_numpy())
    assert (container.typename("Jet_pt"), container.typename("PV_npvs")) == ("float[]", "uint8_t")


def test_members_of_a_collection_are_read_with_one_column_of_ends(records, monkeypatch):
    container, _ = records
    read = []
    kind = type(container._ntuple)
    decode = kind.read_cluster_pages
    monkeypatch.setattr(kind, "read_cluster_pages", lambda *a, **k: read.append(a[1:3]) or decode(*a, **k))
    container.arrays(["Jet_pt", "Jet_id", "nJet"], 0, 20)
    assert len(read) == 3, "values of two members and their ends, of one cluster"
    assert {cluster for cluster, _ in read} == {0}, "the cluster behind the range is not decoded"


def field(name, kind, role, parent=None, source=None, repetition=0):
    return SimpleNamespace(
        field_name=name,
        type_name=kind,
        struct_role=role,
        parent_field_id=parent,
        source_field_id=source,
        repetition=repetition,
        field_desc=f"about {name}",
    )


def test_projected_fields_lead_to_the_columns_that_they_project():
    """ROOT's importer puts branches with one counter into a collection and projects them under their names."""
    fields = [
        field("_collection0", "", Role.COLLECTION, 0),
        field("_0", "", Role.RECORD, 0),
        field("Jet_pt", "float", Role.LEAF, 1),
        field("nJet", "ROOT::RNTupleCardinality<std::uint32_t>", Role.LEAF, 3, source=0),
        field("Jet_pt", "std::vector<float>", Role.COLLECTION, 4, source=0),
        field("_0", "float", Role.LEAF, 4, source=2),
        field("HLT", "", Role.RECORD, 6),
        field("Mu", "bool", Role.LEAF, 6),
        field("HLT_Mu", "bool", Role.LEAF, 8, source=7),
        field("odd", "std::map<int,int>", Role.COLLECTION, 9),
    ]
    types = [(0x1B, 0), (0x18, 2), (0x00, 7)]
    columns = [SimpleNamespace(type=code, field_id=of, repr_idx=0) for code, of in types]
    found = fields_of(SimpleNamespace(field_records=fields, column_records=columns))
    assert found.pop("odd").refused == "field of type std::map<int,int>"
    bit = Field(2, None, 0, False, "about Mu", "bool")
    assert found == {
        "nJet": Field(None, 0, 0, False, "about nJet", "uint32_t"),
        "Jet_pt": Field(1, 0, 0, False, "about Jet_pt", "float[]"),
        "HLT.Mu": bit,
        "HLT_Mu": Field(2, None, 0, False, "about HLT_Mu", "bool"),
    }


def test_pages_are_held_to_their_checksums(tmp_path, columns, monkeypatch):
    """uproot writes none, ROOT does: here they are put behind the pages as these are read."""
    path = tmp_path / "a.root"
    write_ntuple(path, columns)
    read = LocalSource.bytes_at
    damage = []

    def with_checksum(self, start, stop):
        if start not in pages:
            return read(self, start, stop)
        content = read(self, start, stop - 8)
        checksum = xxhash.xxh3_64_intdigest(content).to_bytes(8, "little")
        return (b"".join((content[:-1], bytes([content[-1] ^ 1]))) if damage else content) + checksum

    with RootFile(path) as file:
        container = file.container("Events")
        stored = [page for column in container._ntuple.page_link_list[0] for page in column.pages]
        pages = {page.locator.offset for page in stored}
        for page in stored:
            page.has_checksum = True
        monkeypatch.setattr(LocalSource, "bytes_at", with_checksum)
        assert same(container.arrays(["Jet_int8"], 0, 40)["Jet_int8"], columns["Jet_int8"][:40])
        damage.append(True)
        with pytest.raises(ValueError, match="checksum of a page does not fit"):
            container.arrays(["Jet_int8"], 0, 40)
