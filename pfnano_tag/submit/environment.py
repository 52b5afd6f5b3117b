"""Packed environments: what is beside an archive, in `ARCHIVE.json`, and whether the two belong together.

`scripts/pack_env.sh` writes both; `condor/unpack.sh` asks the same on the machine of a job. The description stands in
the archive as well, as `environment.json`, but for the archive's own name, size and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pfnano_tag import __version__
from pfnano_tag.card.output import write_whole
from pfnano_tag.errors import FileError

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the description's keys."""
ENDINGS = (".tar.zst", ".tar.gz", ".tar")
"""How an archive's name may end."""
INSIDE = "environment.json"
"""Name of the description in the archive."""
BLOCK = 1 << 20


@dataclass(frozen=True)
class Environment:
    """What a packed environment is, and what it needs of a machine.

    Parameters
    ----------
    kind : str
        `conda` (brings its Python) or `venv` (links to the Python that it was made from).
    python : str
        Version of its Python, say `3.11.7`.
    interpreter : str
        Path that a machine must have a Python of that version at; empty for conda.
    platform : str
        System and processor, say `linux-x86_64`.
    prefix : str
        The folder that was packed.
    checkout : str
        The checkout whose package was packed with it.
    commit : str
        Commit of the checkout, with `+changes` where files differ from it; empty where git does not know it.
    versions : dict of str to str
        Versions of `pfnano_tag` and of the packages that a result may depend on.
    archive, sha256 : str
        Name of the archive, without folders, and its SHA-256.
    bytes : int
        Size of the archive.
    """

    kind: str
    python: str
    interpreter: str
    platform: str
    prefix: str
    checkout: str
    commit: str
    versions: dict[str, str]
    archive: str = ""
    sha256: str = ""
    bytes: int = 0

    @property
    def needs(self) -> str:
        """What a machine must have, in words."""
        if not self.interpreter:
            return f"{self.platform}, and nothing else: the environment brings its Python {self.python}"
        release = ".".join(self.python.split(".")[:2])
        return f"{self.platform}, and Python {release} at {self.interpreter}, which the packed venv links to"

    def write(self, path: Path) -> None:
        """Write the description: one key per line, as the shell reads it."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False)
        with write_whole(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def of_archive(self, archive: Path) -> Environment:
        """Return the description of an archive that was just packed."""
        return replace(self, archive=archive.name, sha256=sha256_of(archive), bytes=archive.stat().st_size)


def description_path(archive: Path) -> Path:
    """Return where the description of an archive lies: beside it."""
    return archive.with_name(f"{archive.name}.json")


def read_environment(path: Path) -> Environment:
    """Read a description.

    Parameters
    ----------
    path : Path
        `ARCHIVE.json`, or `environment.json` of an environment that is unpacked.

    Raises
    ------
    FileError
        When there is none, or it is none of ours.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(
            f"{path}: {error.strerror}; scripts/pack_env.sh writes it beside the archive: keep the two together"
        ) from error
    except ValueError as error:
        raise FileError(f"{path}: no JSON ({error}); pack the environment again (scripts/pack_env.sh)") from error
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT:
        raise FileError(
            f"{path}: format {version}, expected {FORMAT}: pack the environment again (scripts/pack_env.sh)"
        )
    try:
        return Environment(**{key: value for key, value in found.items() if key != "format"})
    except TypeError as error:
        raise FileError(f"{path}: {error}; pack the environment again (scripts/pack_env.sh)") from error


def check_archive(archive: Path) -> Environment:
    """Return the description of an archive after comparing it with the archive.

    An archive of another commit than this checkout's is said in the log: its jobs run the code of that commit.

    Parameters
    ----------
    archive : Path
        From `scripts/pack_env.sh`.

    Raises
    ------
    FileError
        When archive or description are missing, do not belong together, or hold another version of the package.
    """
    if not archive.is_file():
        raise FileError(f"{archive}: no such file; scripts/pack_env.sh makes one")
    if not archive.name.endswith(ENDINGS):
        raise FileError(f"{archive}: an archive's name ends in {', '.join(ENDINGS)}")
    path = description_path(archive)
    described = read_environment(path)
    size = archive.stat().st_size
    if size != described.bytes:
        raise FileError(f"{archive}: {size} bytes, expected {described.bytes} ({path}): broken; pack it again")
    found = sha256_of(archive)
    if found != described.sha256:
        raise FileError(f"{archive}: SHA-256 {found}, expected {described.sha256} ({path}): broken; pack it again")
    version = described.versions.get("pfnano_tag")
    if version != __version__:
        raise FileError(f"{archive}: holds pfnano_tag {version}, expected {__version__}: pack the environment again")
    commit = commit_of(Path(__file__).resolve().parents[2])
    if commit != described.commit:
        known = described.commit or "an unknown commit", commit or "an unknown commit"
        log.warning("%s: packed at %s, this checkout is at %s; jobs run what was packed", archive, *known)
    return described


def commit_of(checkout: Path) -> str:
    """Return the commit of a checkout, with `+changes` where what is packed differs from it; empty without git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if git("rev-parse", "--show-prefix"):
            return ""  # a folder in another project's checkout
        changes = git("status", "--porcelain", "--", "pfnano_tag", "pyproject.toml")
        return git("rev-parse", "--verify", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
