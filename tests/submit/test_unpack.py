"""Environments on the machine of a job (`condor/unpack.sh`): once per machine, whole or not at all, clear words."""

import functools
import http.server
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from pfnano_tag.submit.environment import Environment, sha256_of
from tests.submit.stand_ins import ROOT, describe, executable, make_environment, pack_folder

WORKER = """
set -euo pipefail
source "$1"
shift
trap remove_environment EXIT
use_environment "$@"
printf '%s\\n' "$python" "$(command -v python)" "${CONDA_PREFIX:-}" "${VIRTUAL_ENV:-}" "${PYTHONPATH:-}" "${EXTRA:-}"
"""
NAMES = ("python", "in_path", "conda", "venv", "pythonpath", "extra")
TOOLS = (
    "awk",
    "basename",
    "bash",
    "cat",
    "chmod",
    "dirname",
    "flock",
    "gzip",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "readlink",
)
TOOLS += ("rm", "sed", "sha256sum", "sleep", "tar", "touch", "tr", "uname", "zstd", "curl")

needs_zstd = pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd here")


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / 'it\'s a "place" for $jobs'
    folder.mkdir()
    return folder


@pytest.fixture
def archive(place):
    """An environment as conda-pack leaves it, with its description."""
    made = pack_folder(make_environment(place / "made"), place / "an environment.tar.gz")
    describe(made)
    return made


@pytest.fixture
def tools(tmp_path):
    """Folder that is all of PATH."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in TOOLS:
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return folder


def start(place, *arguments, **variables):
    """Start a job that uses an environment, with no variables but these, in a folder of its own."""
    scratch = place / "scratch"
    scratch.mkdir(exist_ok=True)
    return subprocess.Popen(
        ["/bin/bash", "-c", WORKER, "worker", ROOT / "condor" / "unpack.sh", *arguments],
        cwd=scratch,
        env={key: str(value) for key, value in variables.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(job):
    out, errors = job.communicate(timeout=60)
    return job.returncode, out.splitlines(), errors


def used(place, *arguments, **variables):
    """Run a job to its end; return what it saw."""
    code, out, errors = finish(start(place, *arguments, **variables))
    assert (code, errors) == (0, "")
    assert list((place / "scratch").iterdir()) == [], "a job leaves nothing in its scratch"
    return dict(zip(NAMES, out[-len(NAMES) :], strict=True)) | {"said": out[: -len(NAMES)]}


def refused(place, *arguments, code=2, **variables):
    """Run a job that fails; return its error message."""
    found, _, errors = finish(start(place, *arguments, **variables))
    assert found == code, errors
    assert list((place / "scratch").iterdir()) == []
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    return errors


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", pytest.param(".tar.zst", marks=needs_zstd)])
@pytest.mark.parametrize("conda", [True, False])
@pytest.mark.parametrize("described", [True, False])
def test_an_archive_is_unpacked_into_the_scratch_and_removed(place, ending, conda, described):
    archive = pack_folder(make_environment(place / "made", conda=conda), place / f'it\'s "one"{ending}')
    if described:
        describe(archive)
    seen = used(place, archive, PYTHONPATH="/a/site", PYTHONHOME="/a/site")
    assert Path(seen["python"]).parents[2].parent == place / "scratch"
    assert seen["in_path"] == seen["python"]
    assert (seen["conda"], seen["venv"])[:: 1 if conda else -1] == (str(Path(seen["python"]).parents[1]), "")
    assert seen["pythonpath"] == ""


def test_an_archive_that_came_with_the_job_is_found_beside_it(place, archive, tmp_path):
    job = tmp_path / "job"
    job.mkdir()
    for file in (archive, Path(f"{archive}.json")):
        file.rename(job / file.name)
    assert used(place, archive, job=job)["said"]
    assert used(place, archive, f"/elsewhere/{archive.name}.json", job=job)["said"]
    shutil.copytree(job, place / "scratch", dirs_exist_ok=True)
    assert finish(start(place, archive))[0] == 0
    (job / archive.name).unlink()
    shutil.rmtree(place / "scratch")
    assert f"no such environment on {os.uname().nodename}, nor in {job}" in refused(place, archive, job=job)


def test_a_folder_is_used_where_it_is(place):
    folder = make_environment(place / "shared")
    executable(folder / "etc/conda/activate.d/a.sh", 'export EXTRA="from $NOT_SET conda"\nfalse\n')
    before = sorted(folder.rglob("*"))
    seen = used(place, folder)
    assert (seen["python"], seen["said"], seen["extra"]) == (f"{folder}/bin/python", [], "from  conda")
    assert used(place, f"file://localhost{str(folder).replace(' ', '%20')}")["python"] == seen["python"]
    assert sorted(folder.rglob("*")) == before, "nothing is written to it, conda-unpack ran when it was made"
    assert "found no bin/python in" in refused(place, folder / "bin")


def test_the_cache_holds_it_once_per_machine(place, archive):
    cache = place / "the cache"
    first, second = (used(place, archive, cache=cache) for _ in range(2))
    folder = cache / sha256_of(archive)
    assert first["python"] == second["python"] == f"{folder}/bin/python"
    assert (len(first["said"]), second["said"]) == (1, [])
    assert (folder / "unpacked").read_text() == f"{folder}\n", "conda-unpack ran once, under the last name"
    archive.unlink()
    assert used(place, archive, f"{archive}.json", cache=cache)["python"] == first["python"]
    Path(f"{archive}.json").unlink()
    again = pack_folder(make_environment(place / "other"), archive)
    for _ in range(2):  # without a description the archive itself is the key
        assert used(place, again, cache=cache)["python"] == f"{cache / sha256_of(again)}/bin/python"


def test_jobs_that_start_together_unpack_once(place):
    (place / "cache").mkdir()
    folder = make_environment(place / "made")
    (folder / "seconds").write_text("0.5")
    archive = pack_folder(folder, place / "e.tar.gz")
    describe(archive)
    jobs = [start(place, archive, cache=place / "cache") for _ in range(5)]
    done = [finish(job) for job in jobs]
    assert [(code, errors) for code, _, errors in done] == [(0, "")] * 5
    assert sorted(len(out) - len(NAMES) for _, out, _ in done) == [0, 0, 0, 0, 1]
    made = place / "cache" / sha256_of(archive)
    assert (made / "unpacked").read_text().count("\n") == 1
    assert not list((place / "cache").glob(".*.making.*"))


@pytest.mark.parametrize("at", ["tar", "conda-unpack"])
def test_a_job_that_is_killed_leaves_nothing_that_looks_whole(place, archive, tools, at):
    cache, started = place / "cache", place / "started"
    slow = f"touch '{str(started).replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'\nsleep 60\n"
    if at == "tar":
        (tools / "tar").unlink()
        executable(tools / "tar", f'#!/bin/bash\n{shutil.which("tar")} "$@"\n{slow}')
    else:
        folder = make_environment(place / "slow")
        executable(folder / "bin" / "conda-unpack", f'[ -e "$STARTED" ] && exit\n{slow}')
        pack_folder(folder, archive)
        describe(archive)
    job = start(place, archive, cache=cache, PATH=tools, STARTED=started)
    deadline = time.monotonic() + 30
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    target = cache / sha256_of(archive)
    assert not (target / ".whole").exists()
    shutil.rmtree(place / "scratch")  # as the batch system does
    seen = used(place, archive, cache=cache, STARTED=started)
    assert seen["python"] == f"{target}/bin/python"
    assert len(seen["said"]) == 1
    assert not list(cache.glob(".*.making.*"))


def test_a_job_waits_for_another_only_so_long(place, archive):
    cache = place / "cache"
    cache.mkdir()
    lock = cache / f".{sha256_of(archive)}.lock"
    lock.touch()
    holder = subprocess.Popen(["flock", lock, "sleep", "60"], start_new_session=True)
    try:
        time.sleep(0.3)
        said = refused(place, archive, code=75, cache=cache, environment_wait=0.2)
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()
    assert "another job unpacks" in said


def test_a_cache_that_can_not_be_written_costs_nothing_but_time(place, archive):
    (place / "file").touch()
    code, out, errors = finish(start(place, archive, cache=place / "file" / "cache"))
    assert code == 0
    assert f"{place}/scratch/" in out[-len(NAMES)]
    assert errors.startswith(f"warning: cache {place}/file/cache can't be written")


@pytest.mark.parametrize("cached", [True, False])
def test_a_broken_archive_is_named(place, archive, cached):
    cache = {"cache": place / "cache"} if cached else {}
    whole = archive.read_bytes()
    digest = sha256_of(archive)
    archive.write_bytes(whole[:-20])
    said = refused(place, archive, **cache)
    assert f"{archive}: broken" in said
    assert f"found SHA-256 {sha256_of(archive)}, expected {digest}" in said
    Path(f"{archive}.json").unlink()
    assert f"{archive}: can't be unpacked" in refused(place, archive, **cache)
    archive.write_bytes(b"")
    assert "can't be unpacked" in refused(place, archive, **cache)
    Path(f"{archive}.json").write_text("<html>")
    assert "found no SHA-256" in refused(place, archive, **cache)
    if cached:
        assert not [path for path in cache["cache"].iterdir() if path.is_dir()]


def test_a_disk_that_is_full_is_worth_another_try(place, archive, tools):
    (tools / "tar").unlink()
    executable(tools / "tar", "#!/bin/bash\ncat >/dev/null\necho 'tar: x: No space left on device' >&2\nexit 2\n")
    for cache in ("", place / "cache"):
        assert "tar: x: No space left on device" in refused(place, archive, code=75, PATH=tools, cache=cache)


def test_another_python_platform_or_interpreter_is_refused(place, archive):
    describe(archive, python="3.12.1")
    said = refused(place, archive)
    assert "for another Python: found 3.11.7 at " in said
    assert "expected 3.12.1" in said
    describe(archive, python="3.11.9")
    assert used(place, archive)["said"], "a release of the same Python will do"
    describe(archive, platform="linux-riscv64")
    assert "for another platform: found linux-x86_64" in refused(place, archive, cache=place / "cache")
    describe(archive, interpreter='/opt/python "3.11"/bin/python3.11')
    said = refused(place, archive, cache=place / "cache")
    assert 'no interpreter at /opt/python "3.11"/bin/python3.11 on ' in said
    assert not (place / "cache").exists(), "told before anything is unpacked"


def test_the_description_inside_counts_where_there_is_no_other(place):
    folder = make_environment(place / "made")
    Environment("conda", "3.13.0", "", "linux-x86_64", "/p", "/c", "", {}).write(folder / "environment.json")
    archive = pack_folder(folder, place / "e.tar")
    for what in (archive, folder):
        assert "for another Python: found 3.11.7" in refused(place, what)


def test_an_environment_whose_python_does_not_start_is_refused(place):
    folder = make_environment(place / "made")
    executable(folder / "bin" / "python", "#!/bin/bash\necho first >&2\necho 'GLIBC_2.99 not found' >&2\nexit 1\n")
    (folder / "bin" / "conda-unpack").unlink()
    archive = pack_folder(folder, place / "e.tar")
    assert "does not start on" in (said := refused(place, archive))
    assert said.endswith("GLIBC_2.99 not found\n")
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to("python3.11")
    (folder / "bin" / "python3.11").symlink_to("/opt/nowhere/bin/python3.11")
    assert "no interpreter at /opt/nowhere/bin/python3.11 on " in refused(place, pack_folder(folder, archive))
    executable(folder / "bin" / "conda-unpack", "")
    assert "conda-unpack failed" in refused(place, pack_folder(folder, archive))


def test_what_a_shell_reads_is_what_was_written(place):
    odd = {"interpreter": "C:\\a \"b\", 'ü' {x}", "prefix": "/a: b,", "commit": ""}
    about = Environment("venv", "3.11.7", platform="p", checkout="/c", versions={"python": "no"}, **odd)
    about.write(place / "about.json")
    for key, value in {**odd, "python": "3.11.7", "bytes": "0", "absent": ""}.items():
        script = f'source "$1"; description="$2"; described {key}'
        arguments = ["/bin/bash", "-c", script, "x", ROOT / "condor" / "unpack.sh", place / "about.json"]
        assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.rstrip("\n") == value


@needs_zstd
def test_a_machine_without_zstd_is_told_what_to_do(place, tools):
    archive = pack_folder(make_environment(place / "made"), place / "e.tar.zst")
    describe(archive)
    (tools / "zstd").unlink()
    said = refused(place, archive, PATH=tools, cache=place / "cache")
    assert "no zstd on" in said
    assert "install zstd (or bsdtar) there, or pack a .tar.gz" in said
    executable(tools / "bsdtar", f'#!/bin/bash\n{shutil.which("zstd")} -dcq | tar "$@"\n')
    used(place, archive, PATH=tools)
    (tools / "bsdtar").unlink()
    used(place, archive, cache=place / "cache")
    assert used(place, archive, PATH=tools, cache=place / "cache")["said"] == [], "nothing is left to unpack"


@pytest.fixture
def served(place, archive):
    """A server of the archive's folder: its address, and what it was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path.startswith("/cut/"):
                self.send_response(200)
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                self.wfile.write(b"x")
            else:
                super().do_GET()

        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(place))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("program", ["curl", "wget"])
def test_an_address_is_fetched_once_per_machine(place, archive, served, tools, program):
    if program == "wget":
        (tools / "curl").unlink()
        if shutil.which("wget") is None:
            pytest.skip("no wget here")
        (tools / "wget").symlink_to(shutil.which("wget"))
    address, asked = served
    archive.rename(place / "e.tar.gz")
    Path(f"{archive}.json").rename(place / "e.tar.gz.json")
    for _ in range(3):
        seen = used(place, f"{address}/e.tar.gz", cache=place / "cache", PATH=tools)
    assert seen["python"] == f"{place}/cache/{sha256_of(place / 'e.tar.gz')}/bin/python"
    assert asked == ["/e.tar.gz.json", "/e.tar.gz", "/e.tar.gz.json", "/e.tar.gz.json"]
    used(place, f"{address}/e.tar.gz?token=a/b", PATH=tools)
    (place / "e.tar.gz.json").unlink()
    used(place, f"{address}/e.tar.gz", PATH=tools)
    used(place, f"{address}/e.tar.gz", cache=place / "cache", PATH=tools)
    said = refused(place, f"{address}/none.tar.gz", PATH=tools)
    assert f"{address}/none.tar.gz: can't be fetched" in said
    assert "404" in said
    refused(place, f"{address}/cut/e.tar.gz", code=75, PATH=tools, cache=place / "cache")


def test_addresses_that_can_not_be_fetched(place, tools, served, archive):
    nobody = "http://127.0.0.1:9"
    assert f"{nobody}/e.tar.gz: can't be fetched" in refused(place, f"{nobody}/e.tar.gz", code=75, PATH=tools)
    assert "no xrdcp on" in refused(place, "root://server//e.tar.zst", PATH=tools)
    assert "unknown kind of address" in refused(place, "ftp://server/e.tar.zst", PATH=tools)
    assert "whose name ends in" in refused(place, "https://server/e.zip", PATH=tools)
    assert "whose name ends in" in refused(place, place / "e.zip", PATH=tools)
    executable(tools / "xrdcp", '#!/bin/bash\ncat "$E" >"${@: -1}"\n')
    assert used(place, "root://server//e.tar.gz", archive_json(archive), PATH=tools, E=archive)["said"]
    executable(tools / "xrdcp", "#!/bin/bash\necho '[FATAL] Connection error' >&2\nexit 51\n")
    assert "[FATAL] Connection error" in refused(place, "root://server//e.tar.gz", PATH=tools, code=75)
    address, _ = served
    archive.rename(place / "e.tar.gz")
    describe(place / "e.tar.gz", sha256="0" * 64)
    assert "expected 0000" in refused(place, f"{address}/e.tar.gz", code=75, PATH=tools), "cut on its way, it may be"


def archive_json(archive):
    return f"{archive}.json"
