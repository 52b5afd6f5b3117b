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
