"""Where the peers' environments lie, which `bash benchmarks/peers.sh` makes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measuring import ROOT, Missing

FOLDER = ROOT / "benchmarks" / "peers"


def python_of(peer: str) -> Path:
    """Return the interpreter of a peer's environment.

    Raises
    ------
    Missing
        When it has not been made, or not to its end.
    """
    environment = FOLDER / peer
    if not (environment / "complete").is_file():
        raise Missing(f"peer {peer} is not installed in {environment}; make it with: bash benchmarks/peers.sh {peer}")
    return environment / "bin" / "python"


def packages_of(peer: str) -> Path:
    """Return the folder of a peer's packages, for another peer that is to import one of them.

    Raises
    ------
    Missing
        When the environment has not been made, or not to its end.
    """
    (found,) = (python_of(peer).parents[1] / "lib").glob("python*/site-packages")
    return found
