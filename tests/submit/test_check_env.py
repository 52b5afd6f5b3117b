"""Packed environments before jobs carry them: what is said of them holds, and they work away from what was packed."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pfnano_tag import __version__
from pfnano_tag.errors import DataError, FileError
from pfnano_tag.submit import packing
from pfnano_tag.submit.environment import check_archive, commit_of, description_path, read_environment
from tests.submit.stand_ins import ROOT, describe, executable, make_environment, pack_folder


@pytest.fixture
def archive(tmp_path):
    made = pack_folder(make_environment(tmp_path / "made"), tmp_path / "it's e.tar.gz")
    describe(made, versions={"pfnano_tag": __version__, "torch": "2.4"}, commit=commit_of(ROOT))
    return made


def test_a_description_comes_back_as_it_was_written(archive):
    about = check_archive(archive)
    assert about.archive == archive.name
    assert about.bytes == archive.stat().st_size
    assert about.needs == "linux-x86_64, and nothing else: the environment brings its Python 3.11.7"
    venv = replace(about, interpreter="/opt/python3.11")
    assert "Python 3.11 at /opt/python3.11" in venv.needs
    venv.write(description_path(archive))
    assert read_environment(description_path(archive)) == venv


def test_an_archive_that_is_not_what_was_packed_is_refused(archive, caplog):
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FileError, match=r"SHA-256 \w{64}, expected \w{64} .*: broken; pack it again"):
        check_archive(archive)
    archive.write_bytes(whole[:-1])
    with pytest.raises(FileError, match=rf"{len(whole) - 1} bytes, expected {len(whole)}"):
        check_archive(archive)
    archive.write_bytes(whole)
    describe(archive, versions={"pfnano_tag": "0.0.7"})
    with pytest.raises(FileError, match=rf"holds pfnano_tag 0\.0\.7, expected {__version__}"):
        check_archive(archive)
    describe(archive, versions={"pfnano_tag": __version__}, commit="1234")
    with caplog.at_level(logging.WARNING):
        check_archive(archive)
    assert "packed at 1234, this checkout is at" in caplog.text


def test_a_description_that_is_none_is_refused(archive):
    path = description_path(archive)
    known = json.loads(path.read_text())
    for text, words in (
        ("{", "no JSON"),
        ("[]", "format None"),
        (json.dumps({**known, "format": 2}), "format 2, expected 1"),
        (json.dumps({"format": 1}), "missing"),
        (json.dumps({**known, "colour": "red"}), "colour"),
    ):
        path.write_text(text)
        with pytest.raises(FileError, match=words):
            check_archive(archive)
    path.unlink()
    with pytest.raises(FileError, match="keep the two together"):
        check_archive(archive)
    with pytest.raises(FileError, match=r"pack_env\.sh makes one"):
        check_archive(archive.with_name("none.tar"))


def test_the_commit_tells_whether_files_differ(tmp_path):
    assert commit_of(tmp_path) == ""
    checkout = tmp_path / "checkout"
    (checkout / "pfnano_tag").mkdir(parents=True)
    (checkout / "pfnano_tag" / "a.py").touch()
    git = ["git", "-C", checkout, "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a"]):
        subprocess.run([*git, *command], check=True)
    commit = commit_of(checkout)
    assert len(commit) == 40
    (checkout / "notes.txt").touch()
    assert commit_of(checkout) == commit, "a file that is not packed"
    (checkout / "pfnano_tag" / "b.py").touch()
    assert commit_of(checkout) == f"{commit}+changes"
    assert commit_of(checkout / "pfnano_tag") == "", "a folder in another checkout"


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
    """A venv of nothing but what the check imports, in place of packages that are large."""
    folder = tmp_path_factory.mktemp("venv") / "it's a venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = packing.site_packages(folder)
    for name in ("torch", "uproot", "pfnano_tag"):
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("__version__ = '1'\n")
    (site / "pfnano_tag" / "analyze").mkdir()
    (site / "pfnano_tag" / "analyze" / "stage.py").touch()
    (site / "pfnano_tag" / "inspect.py").touch()
    return folder


def check(archive, **variables):
    command = ["bash", ROOT / "scripts" / "check_env.sh", archive]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, timeout=120)
    assert not list(archive.parent.glob("check_env.*"))
    return done


@pytest.fixture
def no_temporary(monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)


def test_an_environment_that_works_elsewhere_passes(venv, tmp_path, no_temporary):
    archive = pack_folder(venv, tmp_path / "e.tar")
    describe(archive, kind="venv", interpreter=str(packing.interpreter_of(venv)), prefix=str(venv))
    done = check(archive, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    for words in ("check: unpacked in ", "torch 1, uproot 1, all from the archive", "check: commands run"):
        assert words in done.stdout


def test_an_environment_that_leads_back_is_refused(venv, tmp_path, no_temporary):
    """By a path file, as an installation in place leaves one, or by a link."""
    site = packing.site_packages(venv)
    broken = tmp_path / "broken"
    shutil.copytree(venv, broken, symlinks=True)
    shutil.rmtree(packing.site_packages(broken) / "torch")
    (packing.site_packages(broken) / "back.pth").write_text(f"{site}\n")
    archive = pack_folder(broken, tmp_path / "e.tar")
    describe(archive, python=".".join(map(str, sys.version_info[:3])))
    done = check(archive)
    assert done.returncode != 0
    assert (
        f"error: not from the archive:\n  sys.path: {site}\n  module torch: {site}/torch/__init__.py" in done.stderr
    )
    (packing.site_packages(broken) / "back.pth").unlink()
    pack_folder(broken, archive)
    describe(archive)
    done = check(archive)
    assert done.returncode != 0
    assert "No module named 'torch'" in done.stderr


def test_a_venv_needs_the_interpreter_that_it_links_to(venv, tmp_path):
    found = packing.interpreter_of(venv)
    assert not found.is_relative_to(venv)
    assert found.resolve() == (venv / "bin" / "python").resolve()
    copied = tmp_path / "copied"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--copies", copied], check=True)
    assert packing.interpreter_of(copied).parent == Path(packing.settings_of(copied)["home"])


def test_environments_that_work_on_one_machine_only_are_refused(venv, tmp_path):
    with pytest.raises(DataError, match="neither a venv nor a conda environment"):
        packing.describe(tmp_path)
    other = tmp_path / "other"
    shutil.copytree(venv, other, symlinks=True)
    for name in ("pfnano_tag", "their_tool"):
        info = packing.site_packages(other) / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "direct_url.json").write_text(
            json.dumps({"url": f"file:///home/{name}", "dir_info": {"editable": True}})
        )
    with pytest.raises(DataError, match=r"other: installed in place.*: their_tool \(file:///home/their_tool\)"):
        packing.check_installed(other)
    shutil.rmtree(packing.site_packages(other) / "their_tool-1.0.dist-info")
    packing.check_installed(other)
    settings = other / "pyvenv.cfg"
    settings.write_text(settings.read_text().replace("site-packages = false", "site-packages = true"))
    with pytest.raises(DataError, match="takes packages of the system"):
        packing.check_installed(other)
    with pytest.raises(FileError, match="must end in"):
        packing.pack(other, tmp_path, tmp_path / "e.zip")


def pack_env(*arguments, cwd, path=""):
    variables = {**os.environ, "PFNANO_TAG_ENV": "current", "PATH": f"{path}:{os.environ['PATH']}"}
    command = ["bash", ROOT / "scripts" / "pack_env.sh", *arguments]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
    )


def test_packing_says_at_once_what_can_not_be(tmp_path):
    for arguments, words in (
        (["e.zip"], "e.zip: the archive's name must end in .tar.zst, .tar.gz or .tar"),
        (["--fast", "e.tar"], "unknown option --fast; known: --no-check"),
        (["a.tar", "b.tar"], "two archives: a.tar and b.tar"),
        (["nowhere/e.tar"], "nowhere/e.tar: there is no folder nowhere"),
    ):
        job = pack_env(*arguments, cwd=tmp_path)
        _, errors = job.communicate(timeout=60)
        assert (job.returncode, errors.startswith(f"error: {words}")) == (2, True), errors
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_packing_that_is_interrupted_leaves_everything_as_it_was(tmp_path, name):
    folder = tmp_path / "it's here"
    folder.mkdir()
    for file in ("e.tar", "e.tar.json"):
        (folder / file).write_text("an older one")
    executable(
        tmp_path / "bin" / "python", '#!/bin/bash\necho "$*" >>"$0.log"\ncase "$*" in *packing*) sleep 60 ;; esac\n'
    )
    log = tmp_path / "bin" / "python.log"
    job = pack_env("e.tar", cwd=folder, path=tmp_path / "bin")
    deadline = time.monotonic() + 30
    while not (log.exists() and "submit.packing" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(job.pid, getattr(signal, name))
    job.communicate(timeout=30)
    assert job.returncode == 128 + getattr(signal, name)
    assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(
        ("e.tar", "e.tar.json"), "an older one"
    )
    assert "--editable" not in log.read_text()
    assert all("--target" in line for line in log.read_text().splitlines() if "install" in line), (
        "the environment is left alone"
    )
