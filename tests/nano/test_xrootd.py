"""Reading from servers: retry, back-off, replicas, and what is never retried; the servers are played."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import uproot

from pfnano_tag.card.resources import Remote
from pfnano_tag.errors import FileError, MissingExtra
from pfnano_tag.nano import xrootd
from pfnano_tag.nano.containers import TransferError
from pfnano_tag.nano.sources import RootFile
from pfnano_tag.nano.xrootd import RemoteSource

ONE, TWO, THREE = (f"root://{name}//store/a.root" for name in ("one", "two", "three"))
VALUES = np.random.default_rng(2).normal(size=9000).astype(np.float32)
OK = SimpleNamespace(ok=True, code=0, errno=0, message="")


def says(message, code=400, errno=0):
    return SimpleNamespace(ok=False, code=code, errno=errno, message=message)


DEAD = says("[FATAL] Connection error", 108)
FROZEN = says("[ERROR] Operation expired", 206)
ABSENT = says("[ERROR] [3011] no such file or directory", errno=3011)
NO_ACCESS = says("[FATAL] Auth failed: No protocols left to try", 204)
NO_VECTORS = says("[ERROR] [3013] vector read is not supported", errno=3013)


class Server:
    """One server with one file; `answers` are given to requests in turn, then all is well."""

    def __init__(self, content):
        self.content, self.answers, self.log = content, [], []

    def request(self, kind):
        self.log.append(kind)
        return self.answers.pop(0) if self.answers else OK


class Servers(dict):
    """Stands in for `XRootD.client`."""

    def File(self):
        return RemoteFile(self)


class RemoteFile:
    def __init__(self, servers):
        self.servers, self.server = servers, None

    def open(self, address, timeout):
        assert timeout >= 1
        server = self.servers[address]
        status = server.request("open")
        if status.ok:
            self.server = server
        return status, None

    def stat(self, timeout):
        status = self.server.request("stat")
        return status, SimpleNamespace(size=len(self.server.content)) if status.ok else None

    def read(self, offset, size, timeout):
        status = self.server.request(f"read {size}")
        return status, self.server.content[offset : offset + size] if status.ok else None

    def vector_read(self, chunks, timeout):
        assert len(chunks) <= 1024
        assert max(size for _, size in chunks) <= 2_097_136
        assert sum(size for _, size in chunks) <= 8_000_000
        status = self.server.request(f"vector {len(chunks)}")
        assert min(size for _, size in chunks) > 0
        parts = [SimpleNamespace(offset=at, buffer=self.server.content[at : at + size]) for at, size in chunks]
        return status, SimpleNamespace(chunks=parts) if status.ok else None

    def is_open(self):
        return self.server is not None

    def close(self, timeout):
        self.server.log.append("close")
        self.server = None


@pytest.fixture
def waits(monkeypatch):
    done = []
    monkeypatch.setattr(xrootd.time, "sleep", done.append)
    return done


@pytest.fixture
def content(tmp_path):
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {"x": np.float32, "y": np.float32})
        for part in np.split(VALUES, 3):
            file["Events"].extend({"x": part, "y": -part})
    return path.read_bytes()


@pytest.fixture
def servers(monkeypatch, waits, content):
    monkeypatch.setattr(xrootd._settings, "stated", None)
    made = Servers({address: Server(content) for address in (ONE, TWO, THREE)})
    monkeypatch.setattr(xrootd, "_client", lambda: made)
    xrootd.configure(Remote(timeout=7, attempts=3, wait=1))
    yield made
    xrootd.configure(Remote())


def read(events, start=0, stop=3000):
    found = events.arrays(["x", "y"], start, stop)
    assert np.array_equal(found["x"], VALUES[start:stop])
    assert np.array_equal(found["y"], -VALUES[start:stop])


def test_a_remote_file_reads_as_a_local_one_and_is_opened_once(servers):
    with RootFile(ONE) as file:
        assert file.is_remote
        assert file.size == len(servers[ONE].content)
        events = file.container("Events")
        read(events)
        read(events, 2500, 9000)
    log = servers[ONE].log
    assert log.count("open") == log.count("close") == 1
    assert "vector 2" in log, "baskets are fetched together"


def test_the_same_bytes_are_asked_for_again_with_growing_waits(servers, waits):
    events = RootFile(ONE).container("Events")
    for failures in ([DEAD], [DEAD, DEAD], [FROZEN, DEAD]):
        servers[ONE].answers, servers[ONE].log = list(failures), []
        waits.clear()
        read(events)
        assert waits == [1, 2][: len(failures)]
        assert servers[ONE].log.count("open") >= 1, "the connection is made anew"
    assert not servers[TWO].log


def test_given_up_after_the_attempts_in_words_and_then_asked_once_only(servers, waits):
    file = RootFile(ONE)
    events = file.container("Events")
    servers[ONE].answers = [FROZEN] * 3
    with pytest.raises(TransferError) as caught:
        events.arrays(["x"], 0, 3000)
    assert str(caught.value) == (
        f"{ONE}: no answer within 7 s, see resources.remote.timeout ([ERROR] Operation expired); 3 times asked"
    )
    waits.clear()
    servers[ONE].answers = [DEAD]
    with pytest.raises(TransferError, match=r"Connection error; once asked"):
        events.arrays(["x"], 3000, 6000)
    assert waits == []
    read(events, 3000, 6000)
    servers[ONE].answers = [DEAD, DEAD]
    read(events, 6000, 9000)


def test_the_next_replica_is_taken_after_the_attempts_and_kept(servers, waits):
    events = RootFile(f"{ONE} | {TWO} | {THREE}").container("Events")
    assert not servers[TWO].log
    servers[ONE].answers = [DEAD] * 3
    read(events)
    assert waits == [1, 2]
    asked = len(servers[ONE].log)
    read(events, 3000, 9000)
    assert len(servers[ONE].log) == asked
    assert servers[TWO].log.count("open") == 1
    servers[TWO].answers = [DEAD] * 3
    read(events)
    assert servers[THREE].log.count("open") == 1


def test_all_replicas_are_named_when_none_answers(servers):
    for address, answer in ((ONE, DEAD), (TWO, ABSENT), (THREE, FROZEN)):
        servers[address].answers = [answer] * 3
    with pytest.raises(FileError) as caught:
        RootFile(f"{ONE} | {TWO} | {THREE}")
    first, second, third = str(caught.value).split("; root:")
    assert first == f"{ONE}: [FATAL] Connection error; 3 times asked"
    assert second.startswith("//two//store/a.root: no such file")
    assert third.startswith("//three//store/a.root: no answer within 7 s")


@pytest.mark.parametrize(("answer", "words"), [(ABSENT, "no such file"), (NO_ACCESS, "refuses access")])
def test_what_a_server_will_never_grant_is_asked_once_and_of_the_next(servers, waits, answer, words):
    servers[ONE].answers = [answer]
    with pytest.raises(FileError, match=words):
        RootFile(ONE)
    assert servers[ONE].log == ["open"]
    servers[ONE].answers = [answer]
    read(RootFile(f"{ONE} | {TWO}").container("Events"))
    assert waits == []


def test_refused_access_says_what_the_credentials_are(servers, monkeypatch, tmp_path):
    monkeypatch.setenv("X509_USER_PROXY", str(tmp_path / "proxy"))
    servers[ONE].answers = [NO_ACCESS]
    with pytest.raises(
        FileError, match=rf"the server refuses access .*no grid proxy: {tmp_path}/proxy.*voms-proxy-init"
    ):
        RootFile(ONE)


def test_a_path_that_is_not_offered_is_no_question_of_credentials(servers):
    servers[ONE].answers = [says("[ERROR] [3010] Opening path '/x' is disallowed.", errno=3010)]
    with pytest.raises(FileError, match=r"does not offer this path \(.*disallowed") as caught:
        RootFile(ONE)
    assert "proxy" not in str(caught.value)


@pytest.mark.parametrize("change", ["size", "header"])
def test_another_file_under_the_same_name_is_never_read_on(servers, content, change):
    events = RootFile(f"{ONE} | {TWO} | {THREE}").container("Events")
    servers[ONE].answers = [DEAD] * 3
    other = content + b"0" if change == "size" else content[:60] + bytes([content[60] ^ 1]) + content[61:]
    servers[TWO].content = other
    read(events)
    servers[THREE].answers = [DEAD] * 3
    servers[ONE].content = other
    with pytest.raises(TransferError, match="another file than the one that was opened first"):
        read(events, 3000, 6000)


def test_bytes_damaged_on_the_way_are_fetched_once_more(servers, monkeypatch, content):
    file = RootFile(ONE)
    events = file.container("Events")
    read(events)
    at = int(events._tree["x"].member("fBasketSeek")[0])
    damaged = content[:at] + bytes(2000) + content[at + 2000 :]
    whole = RemoteFile.vector_read
    good_after = 1

    def with_damage(self, chunks, timeout):
        nonlocal good_after
        self.server.content = damaged if good_after > 0 else content
        good_after -= 1
        return whole(self, chunks, timeout)

    monkeypatch.setattr(RemoteFile, "vector_read", with_damage)
    read(events)
    good_after = 2
    with pytest.raises(Exception, match=r".") as caught:
        events.arrays(["x", "y"], 0, 3000)
    assert not isinstance(caught.value, TransferError)


def test_a_header_damaged_on_the_way_is_fetched_once_more(servers, monkeypatch, content):
    file = RootFile(ONE)
    whole = RemoteFile.read
    damaged = [True]

    def with_damage(self, offset, size, timeout):
        status, found = whole(self, offset, size, timeout)
        return status, bytes(len(found)) if damaged and damaged.pop() else found

    monkeypatch.setattr(RemoteFile, "read", with_damage)
    read(file.container("Events"))
    assert damaged == []
    assert file.container("Events") is file.container("Events")
    damaged += [True] * 5
    with pytest.raises(FileError, match=r"'Events' can't be read|can't be opened"):
        RootFile(ONE).container("Events")


def test_fewer_bytes_than_asked_for_are_a_failure(servers, content, monkeypatch):
    file = RootFile(ONE)
    events = file.container("Events")
    whole = RemoteFile.vector_read

    def short(self, chunks, timeout):
        status, found = whole(self, chunks, timeout)
        found.chunks[-1].buffer = found.chunks[-1].buffer[:-3]
        return status, found

    monkeypatch.setattr(RemoteFile, "vector_read", short)
    with pytest.raises(TransferError, match=r"the server sent \d+ of \d+ bytes at byte \d+"):
        events.arrays(["x", "y"], 0, 3000)


def test_bytes_in_another_order_are_a_failure(servers, monkeypatch):
    events = RootFile(ONE).container("Events")
    whole = RemoteFile.vector_read

    def turned(self, chunks, timeout):
        status, found = whole(self, chunks, timeout)
        return status, SimpleNamespace(chunks=found.chunks[::-1])

    monkeypatch.setattr(RemoteFile, "vector_read", turned)
    with pytest.raises(TransferError, match="other bytes than those asked for"):
        events.arrays(["x", "y"], 0, 3000)


def test_servers_without_vector_reads_are_read_one_by_one(servers):
    events = RootFile(ONE).container("Events")
    servers[ONE].answers = [NO_VECTORS]
    read(events)
    asked = servers[ONE].log.count("vector 2")
    read(events)
    assert servers[ONE].log.count("vector 2") == asked


def test_long_and_many_ranges_are_split_and_come_back_whole(servers):
    big = np.random.default_rng(3).bytes(20_000_000)
    servers[ONE].content = big
    source = RemoteSource(ONE)
    ranges = [(0, 5_000_000), (5, 5), (7_000_000, 7_000_001), (10_000_000, 20_000_000)]
    ranges += [(start, start + 10) for start in range(0, 30_000, 10)]
    assert source._fetched(ranges) == [big[start:stop] for start, stop in ranges]
    assert source.chunk(19_999_990, 20_000_100).wait(insist=False) is None


def test_a_closed_file_is_not_opened_again(servers):
    file = RootFile(ONE)
    events = file.container("Events")
    file.close()
    with pytest.raises(TransferError, match="closed"):
        events.arrays(["x"], 0, 10)
    assert servers[ONE].log.count("open") == 1


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "XRootD", None)
    with pytest.raises(MissingExtra, match=r"pip install 'pfnano_tag\[xrootd\]'"):
        RootFile(ONE)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, "11 11 5 11"),
        ({"XRD_STREAMTIMEOUT": "77"}, "11 77 5 11"),
        ({"XRD_REQUESTTIMEOUT": "3"}, "3 3 3 3"),
    ],
)
def test_time_outs_are_set_before_the_client_is_imported_unless_the_user_has_set_them(stated, expected):
    pytest.importorskip("XRootD")
    script = (
        "import sys\n"
        "from pfnano_tag.card.resources import Remote\n"
        "from pfnano_tag.nano import xrootd\n"
        "assert 'XRootD' not in sys.modules\n"
        "xrootd.configure(Remote(timeout=11))\n"
        "client = xrootd._client()\n"
        "print(*(client.EnvGetInt(name) for name in ('RequestTimeout', 'StreamTimeout', 'ConnectionWindow')))\n"
        "print(xrootd._settings.timeout)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XRD_")} | stated
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert " ".join(done.stdout.split()) == expected
