"""Packs the environment that runs this, for `scripts/pack_env.sh`: conda by conda-pack, a venv by venv-pack2.

Nothing in the environment is touched. The package of the checkout, which is installed in place there, goes into the
archive as a copy that was installed elsewhere (`--package`), and what leads to the checkout stays out.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from pfnano_tag import __version__
from pfnano_tag.card.command import exit_code_of
from pfnano_tag.errors import DataError, FileError, MissingExtra
from pfnano_tag.submit.environment import ENDINGS, INSIDE, Environment, commit_of, description_path

PACKAGE = "pfnano_tag"
VERSIONS = ("awkward", "numpy", "torch", "uproot")
"""Packages whose versions the description holds, beside ours."""
CHECKOUT = Path(__file__).resolve().parents[2]


def pack(prefix: Path, package: Path, archive: Path) -> Environment:
    """Pack an environment; the archive and its description, beside it, are written.

    Parameters
    ----------
    prefix : Path
        Folder of the environment, a venv or conda's.
    package : Path
        Folder that `pip install --target` installed the package of the checkout into.
    archive : Path
        What to write; `.tar.zst`, `.tar.gz` or `.tar`.

    Raises
    ------
    FileError
        When the archive's name ends otherwise.
    DataError
        When the environment can't be packed.
    MissingExtra
        When conda-pack, venv-pack2 or zstd are missing.
    """
    if not archive.name.endswith(ENDINGS):
        raise FileError(f"{archive}: the archive's name must end in {', '.join(ENDINGS)}")
    if archive.suffix == ".zst" and shutil.which("zstd") is None:
        raise MissingExtra(f"{archive}: no zstd here to compress with; install zstd, or name the archive .tar.gz")
    about = describe(prefix)
    check_installed(prefix)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".pack.") as scratch:
        inside, tar = Path(scratch) / INSIDE, Path(scratch) / "environment.tar"
        about.write(inside)
        _pack_tar(about, package, inside, tar)
        _compress(tar, archive)
    about = about.of_archive(archive)
    about.write(description_path(archive))
    return about


def describe(prefix: Path) -> Environment:
    """Return what an environment is, but for its archive.

    Raises
    ------
    DataError
        When the folder is neither a venv nor conda's, or lacks packages.
    """
    kind = "conda" if (prefix / "conda-meta").is_dir() else "venv"
    if kind == "venv" and not (prefix / "pyvenv.cfg").is_file():
        raise DataError(f"{prefix}: neither a venv nor a conda environment; scripts/setup.sh makes one")
    try:
        versions = {PACKAGE: __version__, **{name: importlib.metadata.version(name) for name in VERSIONS}}
    except importlib.metadata.PackageNotFoundError as error:
        raise DataError(f"{prefix}: {error.name} is not installed in it; run scripts/setup.sh") from error
    return Environment(
        kind=kind,
        python=platform.python_version(),
        interpreter=str(interpreter_of(prefix)) if kind == "venv" else "",
        platform=f"{platform.system().lower()}-{platform.machine()}",
        prefix=str(prefix),
        checkout=str(CHECKOUT),
        commit=commit_of(CHECKOUT),
        versions=versions,
    )


def interpreter_of(prefix: Path) -> Path:
    """Return the path outside of a venv that its `bin/python` leads to, as its link names it."""
    path = prefix / "bin" / "python"
    while path.is_symlink() and path.is_relative_to(prefix):
        path = path.parent / path.readlink()
    if path.is_relative_to(prefix):  # copied into the venv: it still needs the library of its home
        home = settings_of(prefix)["home"]
        path = Path(home) / "python{}.{}".format(*sys.version_info[:2])
    return path


def settings_of(prefix: Path) -> dict[str, str]:
    """Return what `pyvenv.cfg` of a venv holds; nothing for other environments."""
    file = prefix / "pyvenv.cfg"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def check_installed(prefix: Path) -> None:
    """Refuse an environment that works on this machine only.

    Raises
    ------
    DataError
        When packages other than ours are installed in place, or the venv takes packages from outside.
    """
    elsewhere = []
    for found in importlib.metadata.distributions(path=[str(site_packages(prefix))]):
        origin = json.loads(found.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable") and found.name.replace("-", "_") != PACKAGE:
            elsewhere.append(f"{found.name} ({origin.get('url')})")
    if elsewhere:
        raise DataError(
            f"{prefix}: installed in place, so that no other machine has them: {', '.join(sorted(elsewhere))};"
            " install them without --editable"
        )
    if settings_of(prefix).get("include-system-site-packages") == "true":
        raise DataError(f"{prefix}: takes packages of the system, which are not packed; make it without them")


def site_packages(prefix: Path) -> Path:
    """Return the folder of an environment that packages are installed into."""
    return Path(sysconfig.get_path("purelib", vars={"base": str(prefix), "platbase": str(prefix)}))


def _pack_tar(about: Environment, package: Path, inside: Path, tar: Path) -> None:
    """Write a plain tar: what is ours in the environment is left out, the copy and the description are put in."""
    prefix = Path(about.prefix)
    site = site_packages(prefix).relative_to(prefix)
    packer = _packer(about.kind)
    refusal = {"conda": "CondaPackException", "venv": "VenvPackException"}[about.kind]
    try:
        environment = _load(about.kind, packer, prefix)
        for pattern in (
            *(f"{site}/{name}" for name in (f"{PACKAGE}/*", f"{PACKAGE}-*", "__editable__*")),
            *(f"{site}/__pycache__/__editable__*", f"{PACKAGE}.stamp", "constraints.txt"),
        ):
            environment = environment.exclude(pattern)
        copies = [(path, site / path.relative_to(package)) for path in package.rglob("*") if path.is_file()]
        for source, target in [*copies, (inside, Path(INSIDE))]:
            environment.files.append(_record(about.kind, packer, source, target))
        environment.pack(output=str(tar), format="tar")
    except getattr(packer, refusal) as error:
        raise DataError(f"{prefix}: {error}") from error


def _packer(kind: str) -> ModuleType:
    module, name = {"conda": ("conda_pack.core", "conda-pack"), "venv": ("venv_pack.core", "venv-pack2")}[kind]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(f"{name} is not installed: pip install 'pfnano_tag[pack]'") from error


def _load(kind: str, packer: Any, prefix: Path) -> Any:
    """Return the packer's list of files. Packages installed in place were looked for before, ours is left out."""
    if kind == "conda":
        return packer.CondaEnv.from_prefix(str(prefix), ignore_editable_packages=True)
    packer.check_no_editable_packages = lambda context: None  # it has no such option
    return packer.Env(str(prefix))


def _record(kind: str, packer: Any, source: Path, target: Path) -> Any:
    if kind == "conda":
        return packer.File(str(source), str(target), is_conda=False)
    return packer.File(str(source), str(target))


def _compress(tar: Path, archive: Path) -> None:
    if archive.suffix == ".zst":
        subprocess.run(["zstd", "-q", "-3", "-T0", "--force", "-o", str(archive), str(tar)], check=True)
    elif archive.suffix == ".gz":
        with tar.open("rb") as source, gzip.open(archive, "wb", compresslevel=4) as target:
            shutil.copyfileobj(source, target, 1 << 20)
    else:
        tar.replace(archive)


def main() -> None:
    """Parse, pack, say what the archive is."""
    parser = argparse.ArgumentParser(prog="python -m pfnano_tag.submit.packing", description=__doc__)
    parser.add_argument("--package", type=Path, required=True, help="where pip installed the checkout's package into")
    parser.add_argument("archive", type=Path, help="what to write")
    options = parser.parse_args()

    def step() -> None:
        pack(Path(sys.prefix), options.package, options.archive.absolute())

    sys.exit(exit_code_of(step))


if __name__ == "__main__":
    main()
