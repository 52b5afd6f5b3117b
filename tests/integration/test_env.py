"""The environment in an archive: packed, checked, and unpacked elsewhere it gives the bits of the one in place.

A venv is packed as it is. For conda, which can't be had everywhere, a prefix is put together of this machine's Python
(with its libraries found from where they lie, and the records that conda keeps) and the packages of the venv; what
conda itself would install is not tested.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.files import expand_files
from pfnano_tag.submit import packing
from pfnano_tag.submit.environment import Environment, check_archive
from tests.submit.test_worker_on_files import same

ROOT = Path(__file__).resolve().parents[2]
JOB = """
set -euo pipefail
source "$1/condor/unpack.sh"
trap remove_environment EXIT
use_environment "$2"
"$python" -c 'import pfnano_tag; print(pfnano_tag.__file__)'
"$python" -m pfnano_tag.analyze "${@:3}"
"""


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """Folder for archives; they are large, so it is removed even where pytest keeps its own."""
    folder = Path(tempfile.mkdtemp(prefix="pfnano_tag.", dir=os.environ.get("TMPDIR", "/var/tmp")))
    yield folder
    shutil.rmtree(folder)


def pack(archive: Path, prefix: Path) -> str:
    """Pack the environment of a prefix; return what was said."""
    before = sorted(packing.site_packages(prefix).iterdir())
    variables = {**os.environ, "PFNANO_TAG_ENV": "current", "PATH": f"{prefix}/bin:{os.environ['PATH']}"}
    variables.pop("PYTHONPATH", None)
    command = ["bash", str(ROOT / "scripts" / "pack_env.sh"), str(archive)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=archive.parent, timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in archive.parent.iterdir()) == [archive.name, f"{archive.name}.json"]
    assert sorted(packing.site_packages(prefix).iterdir()) == before
    return done.stdout


@pytest.fixture(scope="module")
def of_venv(disk: Path) -> tuple[Path, str]:
    """The environment that the tests run in, packed; and what was said."""
    archive = disk / "it's a venv" / "environment.tar.zst"
    archive.parent.mkdir()
    return archive, pack(archive, Path(sys.prefix))


def job(folder: Path, archive: Path, *arguments: object) -> list[str]:
    """Run `analyze` from an archive as a job does: elsewhere, with no variables; return the lines that it printed."""
    folder.mkdir()
    command = ["/bin/bash", "-c", JOB, "job", ROOT, archive, *arguments]
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={"TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": "/a/site"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(folder.glob("environment.*"))
    return done.stdout.splitlines()


def compare_with_the_one_in_place(tmp_path: Path, study: Path, archive: Path) -> None:
    """Compare what `analyze` writes, with a network of the study, from an archive and from here."""
    card = read_card(study / "card.yaml")
    (file,) = expand_files(card.patterns(card.dataset("data")))
    arguments = [study / "card.yaml", "--dataset", "data", "--file", Path(file).absolute(), "--output"]
    here, there = tmp_path / "here.root", tmp_path / "there.root"
    command = [sys.executable, "-m", "pfnano_tag.analyze", *arguments, here]
    subprocess.run([str(word) for word in command], check=True, timeout=600, capture_output=True)
    said = job(tmp_path / "a job's folder", archive, *arguments, there)
    (package,) = (line for line in said if line.endswith("pfnano_tag/__init__.py"))
    assert package.startswith(str(tmp_path / "a job's folder"))
    assert same(here, there)


def test_what_is_said_of_the_archive_holds(of_venv):
    archive, said = of_venv
    about = check_archive(archive)
    assert (about.kind, about.prefix) == ("venv", sys.prefix)
    assert f"SHA-256 {about.sha256}" in said
    assert f"needs: {about.needs}" in said
    assert Path(about.interpreter).is_file()
    assert "all from the archive" in said
    print(said)


def test_a_job_of_the_packed_venv_gives_the_same_bits(tmp_path, small_study, of_venv):
    compare_with_the_one_in_place(tmp_path, small_study, of_venv[0])


@pytest.fixture(scope="module")
def prefix(disk: Path) -> Path:
    """A prefix as conda leaves one: a Python of its own, records of it, packages installed by pip beside it."""
    base, folder = Path(sys.base_prefix), disk / "it's conda's"
    name = "python{}.{}".format(*sys.version_info[:2])
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").mkdir()
    shutil.copy(base / "bin" / name, folder / "bin" / name)
    (folder / "bin" / "python").symlink_to(name)
    skipped = shutil.ignore_patterns("site-packages", "dist-packages", "test", "__pycache__", "config-*")
    shutil.copytree(base / "lib" / name, folder / "lib" / name, ignore=skipped)
    for library in (base / "lib").glob(f"lib{name}*.so*"):
        shutil.copy(library, folder / "lib" / library.name, follow_symlinks=False)
    subprocess.run(["patchelf", "--set-rpath", "$ORIGIN/../lib", folder / "bin" / name], check=True)
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
    source, target = packing.site_packages(Path(sys.prefix)), folder / "lib" / name / "site-packages"
    shutil.copytree(source, target, symlinks=True, copy_function=link)
    record = {"name": "python", "version": ".".join(map(str, sys.version_info[:3])), "build": "0", "build_number": 0}
    record |= {"url": "", "link": {"source": str(disk / "no package cache"), "type": 1}, "files": files}
    (folder / "conda-meta").mkdir()
    (folder / "conda-meta" / f"python-{record['version']}-0.json").write_text(json.dumps(record))
    (folder / "conda-meta" / "history").touch()
    return folder


def link(source: str, target: str) -> None:
    """Copy a file as another name of it, where the disk can: two gigabytes need not be written."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def of_conda(disk: Path, prefix: Path) -> Path:
    """The prefix, packed; it is moved away afterwards."""
    archive = disk / "of conda" / "environment.tar.zst"
    archive.parent.mkdir()
    pack(archive, prefix)
    prefix.rename(disk / "away")
    return archive


def test_a_job_of_the_packed_conda_environment_needs_nothing_of_the_first(tmp_path, small_study, of_conda, disk):
    about = check_archive(of_conda)
    assert (about.kind, about.interpreter) == ("conda", "")
    assert not Path(about.prefix).exists()
    compare_with_the_one_in_place(tmp_path, small_study, of_conda)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A venv of nothing but our package, installed in place as pip leaves that, and a script."""
    folder = tmp_path / "small venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = packing.site_packages(folder)
    info = site / "pfnano_tag-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pfnano_tag\nVersion: 0.1.0\n")
    (info / "direct_url.json").write_text(json.dumps({"url": f"file://{ROOT}", "dir_info": {"editable": True}}))
    (site / "__editable__.pfnano_tag-0.1.0.pth").write_text(f"{ROOT}\n")
    (site / "__editable___pfnano_tag_0_1_0_finder.py").write_text(
        f"MAPPING = {{'pfnano_tag': '{ROOT}/pfnano_tag'}}\n"
    )
    (folder / "pfnano_tag.stamp").touch()
    return folder


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.zst"])
def test_what_leads_to_the_checkout_stays_out(tmp_path, small, ending):
    package = tmp_path / "package"
    (package / "pfnano_tag").mkdir(parents=True)
    (package / "pfnano_tag" / "__init__.py").write_text("copied = True\n")
    archive = tmp_path / f"e{ending}"
    before = {path: path.read_bytes() for path in small.rglob("*") if path.is_file()}
    about = packing.pack(small, package, archive)
    assert {path: path.read_bytes() for path in small.rglob("*") if path.is_file()} == before
    assert check_archive(archive) == about
    unpacked = archive
    if ending == ".tar.zst":
        unpacked = tmp_path / "plain.tar"
        subprocess.run(["zstd", "-dq", archive, "-o", unpacked], check=True)
    with tarfile.open(unpacked) as tar:
        names = tar.getnames()
        inside = Environment(
            **{k: v for k, v in json.load(tar.extractfile("environment.json")).items() if k != "format"}
        )
    site = packing.site_packages(small).relative_to(small)
    assert [name for name in names if "pfnano_tag" in name] == [f"{site}/pfnano_tag/__init__.py"]
    assert not any("__editable__" in name for name in names)
    assert (inside.sha256, inside.python) == ("", about.python)
