"""Small environments that stand in for packed ones: a `python` that answers with a version and runs shell scripts."""

import subprocess
from pathlib import Path

from pfnano_tag.submit.environment import Environment, description_path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = """#!/bin/bash
if [ "$1" = -c ]; then echo "{version}"; else exec /bin/bash "$@"; fi
"""
CONDA_UNPACK = """# Stands in for conda-unpack: writes down where it ran.
folder="$(cd "$(dirname "$0")/.." && pwd)"
echo "$folder" >>"$folder/unpacked"
sleep "$(cat "$folder/seconds" 2>/dev/null || echo 0)"
"""
HERE = "linux-x86_64"


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def make_environment(folder, version="3.11.7", conda=True):
    """Make the folder of an environment."""
    executable(folder / "bin" / "python", PYTHON.format(version=version))
    if conda:
        executable(folder / "bin" / "conda-unpack", CONDA_UNPACK)
        (folder / "conda-meta").mkdir()
        (folder / "conda-meta" / "history").touch()
    return folder


def describe(archive, **changes):
    """Write the description of an archive beside it."""
    values = {"kind": "conda", "python": "3.11.7", "interpreter": "", "platform": HERE, "prefix": "/made/here"}
    values |= {"checkout": "/made", "commit": "abc", "versions": {"pfnano_tag": "0.1.0"}}
    digest = {key: changes.pop(key) for key in ("sha256", "bytes") if key in changes}
    about = Environment(**(values | changes)).of_archive(archive)
    about = Environment(**(vars(about) | digest))
    about.write(description_path(archive))
    return about


def pack_folder(folder, archive):
    """Write an archive of a folder's content."""
    way = {".zst": ["--zstd"], ".gz": ["--gzip"]}.get(archive.suffix, [])
    with archive.open("wb") as file:
        subprocess.run(["tar", *way, "-cf", "-", "-C", str(folder), "."], stdout=file, check=True)
    return archive
