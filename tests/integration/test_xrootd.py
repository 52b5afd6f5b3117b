"""Files on an XRootD server of this machine: read as local ones; a server that dies costs chunks, never the job."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from pfnano_tag.card.resources import Remote
from pfnano_tag.errors import BadChunk, FileError
from pfnano_tag.nano import sources
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.sources import RootFile
from tests.integration.server import Server
from tests.prepare.candidates_file import CLUSTER, EVENTS, content, write

QUICK = Remote(timeout=3, attempts=2, wait=0.5)
BOUND = 60
"""No failure with QUICK may take longer [s]; it takes a tenth of that on an idle machine."""
BRANCHES = ("Jet_pt", "PFCands_pt", "JetPFCands_jetIdx", "event")


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Short time-outs."""
    sources.configure(QUICK)
    yield
    sources.configure(Remote())


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """A run that is told to stop ends its servers first."""
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("told to stop", returncode=143))
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Folder that the server's account can read, with files to serve in `root/store`."""
    made = Path(tempfile.mkdtemp(prefix="pfnano_tag."))
    made.chmod(0o755)
    store = made / "root" / "store"
    store.mkdir(parents=True)
    branches = content(1)
    write(store / "tree.root", branches)
    write(store / "other.root", content(2))
    with uproot.recreate(store / "ntuple.root", compression=uproot.ZSTD(3)) as file:
        parts = [
            ak.Array({name: values[at : at + CLUSTER] for name, values in branches.items()}) for at in (0, CLUSTER)
        ]
        file.mkrntuple("Events", parts[0])
        file["Events"].extend(parts[1])
    yield made
    shutil.rmtree(made)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server; all are stopped in the end."""
    made: list[Server] = []

    def start_one(extra: str = "") -> Server:
        server = Server(Path(tempfile.mkdtemp(prefix="s", dir=folder)), folder / "root", extra)
        made.append(server)
        server.start()
        return server

    yield start_one
    for server in made:
        server.kill()


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    return start()


class Bounded:
    """Fails where the time is up."""

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        assert time.monotonic() - self.began < BOUND


def read(file: PFNanoFile, start: int, stop: int) -> dict[str, Jagged | np.ndarray]:
    chunk = file.chunk(start, stop)
    chunk.load(BRANCHES)
    return {name: chunk[name] for name in BRANCHES}


def assert_same(first: dict[str, Jagged | np.ndarray], second: dict[str, Jagged | np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, one in first.items():
        other = second[name]
        assert type(one) is type(other)
        if isinstance(one, Jagged):
            assert np.array_equal(one.offsets, other.offsets)
            one, other = one.values, other.values
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("name", ["tree.root", "ntuple.root"])
def test_a_served_file_is_the_local_one_bit_for_bit(folder, server, name):
    with RootFile(server.address(name)) as remote, RootFile(folder / "root/store" / name) as local:
        assert (remote.uuid, remote.size, remote.keys) == (local.uuid, local.size, local.keys)
        there, here = remote.container("Events"), local.container("Events")
        assert there.names == here.names
        assert there.edges(["event"]) == here.edges(["event"])
        for start, stop in ((0, here.num_entries), (CLUSTER // 2, CLUSTER + 3)):
            assert_same(there.arrays(there.names, start, stop), here.arrays(here.names, start, stop))


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_lost_server_costs_the_chunk_in_work_and_the_others_are_read_when_it_is_back(folder, server, fault):
    with PFNanoFile(server.address("tree.root")) as file, PFNanoFile(folder / "root/store/tree.root") as local:
        plan = [(start, start + CLUSTER) for start in range(0, EVENTS, CLUSTER)]
        assert_same(read(file, *plan[0]), read(local, *plan[0]))
        getattr(server, fault)()
        words = {"kill": "Connection error", "freeze": "no answer within 3 s"}[fault]
        with (
            Bounded(),
            pytest.raises(BadChunk, match=rf"entries 40 to 80: .*{server.port}//store/tree\.root: .*{words}"),
        ):
            read(file, *plan[1])
        server.kill()
        server.start()
        for ends in plan[2:]:
            assert_same(read(file, *ends), read(local, *ends))


def test_a_server_that_is_back_in_time_costs_nothing(folder, server):
    sources.configure(Remote(timeout=3, attempts=6, wait=1))
    with PFNanoFile(server.address("tree.root")) as file, PFNanoFile(folder / "root/store/tree.root") as local:
        read(file, 0, CLUSTER)
        server.kill()
        back = threading.Timer(6, server.start)
        back.start()
        with Bounded():
            assert_same(read(file, CLUSTER, 2 * CLUSTER), read(local, CLUSTER, 2 * CLUSTER))
        back.join()


def test_the_replica_takes_over_within_a_chunk(folder, start):
    first, second = start(), start()
    path = " | ".join(server.address("tree.root") for server in (first, second))
    with PFNanoFile(path) as file, PFNanoFile(folder / "root/store/tree.root") as local:
        assert_same(read(file, 0, CLUSTER), read(local, 0, CLUSTER))
        first.kill()
        with Bounded():
            assert_same(read(file, CLUSTER, EVENTS), read(local, CLUSTER, EVENTS))
        second.kill()
        with Bounded(), pytest.raises(BadChunk, match=rf"{second.port}//store.*; .*{first.port}//store"):
            read(file, 0, CLUSTER)


def test_a_replica_that_is_another_file_is_refused(start):
    first, second = start(), start()
    with PFNanoFile(f"{first.address('tree.root')} | {second.address('other.root')}") as file:
        read(file, 0, CLUSTER)
        first.kill()
        with Bounded(), pytest.raises(BadChunk, match="another file than the one that was opened first"):
            read(file, CLUSTER, EVENTS)


def test_what_is_not_there_is_named(server):
    with Bounded():
        with pytest.raises(FileError, match=r"absent\.root: no such file \(.*3011"):
            PFNanoFile(server.address("absent.root"))
        with pytest.raises(FileError, match="does not offer this path"):
            PFNanoFile(server.address("../../etc/passwd").replace("/store/../..", ""))
        with PFNanoFile(f"{server.address('absent.root')} | {server.address('tree.root')}") as file:
            assert file.num_entries == EVENTS
        server.kill()
        with pytest.raises(FileError, match=r"tree\.root: .*Connection error; 2 times asked"):
            PFNanoFile(server.address("tree.root"))


def test_a_server_that_wants_credentials_is_answered_with_what_they_are(folder, start, monkeypatch):
    key = folder / "key"
    subprocess.run(["xrdsssadmin", "-u", "anybody", "add", str(key)], input=b"y\n", capture_output=True, check=True)
    if os.getuid() == 0:
        shutil.chown(key, "xrootd", "xrootd")
    server = start(f"xrootd.seclib libXrdSec.so\nsec.protocol sss -s {key}\nsec.protbind * only sss\n")
    monkeypatch.setenv("X509_USER_PROXY", str(folder / "proxy"))
    with (
        Bounded(),
        pytest.raises(FileError, match=rf"the server refuses access \(.*\); no grid proxy: {folder}/proxy"),
    ):
        PFNanoFile(server.address("tree.root"))


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command; nothing may be said about what happened at its end."""
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=2 * BOUND)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_process_ends_quietly_after_its_server(folder, server):
    script = (
        "import sys\n"
        "from pfnano_tag.card.resources import Remote\n"
        "from pfnano_tag.nano import sources\n"
        "sources.configure(Remote(timeout=3, attempts=1, wait=0))\n"
        "events = sources.RootFile(sys.argv[1]).container('Events')\n"
        "print('open', flush=True)\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    events.arrays(['event'], 0, 10)\n"
        "except OSError as error:\n"
        "    print(type(error).__name__)\n"
    )
    arguments = [sys.executable, "-c", script, server.address("tree.root")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(arguments, text=True, **pipes) as process:
        assert process.stdout.readline() == "open\n"
        server.kill()
        said, errors = process.communicate("go\n", timeout=BOUND)
    assert (process.returncode, said, errors) == (0, "TransferError\n", "")


def test_inspect_reads_a_list_of_addresses(tmp_path, server):
    files = tmp_path / "files.txt"
    files.write_text(f"# on a server\n{server.address('tree.root')}\n{server.address('ntuple.root')}\n")
    found = json.loads(run("-m", "pfnano_tag.inspect", files, "--json").stdout)["files"]
    assert [(one["events"], one["container"]) for one in found] == [(EVENTS, "TTree"), (2 * CLUSTER, "RNTuple")]
    files.write_text(f"{server.address('absent.root')}\n")
    failed = run("-m", "pfnano_tag.inspect", files, code=2)
    assert "absent.root: no such file" in failed.stderr


CARD = """
study: {{name: served, folder: "{folder}/study"}}
datasets:
- {{name: sample, files: "{files}", kind: mc, roles: [train]}}
resources:
  remote: {{timeout: 3, attempts: 2, wait: 0.5}}
"""


def prepared(tmp_path: Path, files: object, name: str, code: int = 0) -> dict[str, object]:
    folder = tmp_path / name
    folder.mkdir()
    card = folder / "card.yaml"
    card.write_text(CARD.format(folder=folder, files=files), encoding="utf-8")
    run("-m", "pfnano_tag.prepare", card, code=code)
    return json.loads((folder / "study" / "prepared.json").read_text())


def test_prepare_gives_the_same_from_a_server_and_does_without_a_dead_one(tmp_path, folder, start):
    server, dead = start(), start()
    files = tmp_path / "files.txt"
    files.write_text(f"{dead.address('tree.root')} | {server.address('tree.root')}\n{server.address('other.root')}\n")
    dead.kill()
    remote = prepared(tmp_path, files, "remote")
    store = folder / "root/store"
    both = tmp_path / "local.txt"
    both.write_text(f"{store}/tree.root\n{store}/other.root\n")
    local = prepared(tmp_path, both, "local")
    for key in ("inputs", "weights", "jets", "events", "sumw", "cutflow", "defaults"):
        assert remote[key] == local[key]
    assert remote["complete"]
    files.write_text(f"{dead.address('tree.root')}\n{server.address('other.root')}\n")
    short = prepared(tmp_path, files, "short", code=75)
    assert not short["complete"]
    assert 0 < short["cutflow"]["sample"]["jets"] < local["cutflow"]["sample"]["jets"]


def test_a_server_that_dies_under_prepare_costs_the_chunk_in_work(tmp_path, server, monkeypatch):
    from pfnano_tag.card.card import Card
    from pfnano_tag.errors import Incomplete
    from pfnano_tag.prepare import stage

    begun = []
    chunk = PFNanoFile.chunk

    def with_faults(self, *ends):
        begun.append(ends)
        if len(begun) == 3:
            server.kill()
        elif len(begun) == 4:
            server.start()
        return chunk(self, *ends)

    monkeypatch.setattr(PFNanoFile, "chunk", with_faults)
    sample = {"name": "sample", "files": server.address("tree.root"), "kind": "mc", "roles": ["train"]}
    resources = {"chunk": 0.05, "remote": QUICK.model_dump()}
    study = {"name": "test", "folder": tmp_path}
    with pytest.raises(Incomplete, match=rf"{server.port}//store/tree\.root.*Connection error"):
        stage.run(Card.model_validate({"study": study, "datasets": [sample], "resources": resources}))
    (file,) = json.loads((tmp_path / "prepared.json").read_text())["files"]
    assert begun == [(start, start + CLUSTER) for start in range(0, EVENTS, CLUSTER)]
    assert file["chunks"] == [list(ends) for ends in begun if ends != (80, 120)]
    assert len(file["lost"]) == 1
    assert file["lost"][0].startswith("entries 80 to 120: TransferError while reading ")
