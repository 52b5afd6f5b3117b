"""How stand-ins for the commands of SLURM were called."""

from __future__ import annotations

from pathlib import Path


def calls(tmp_path: Path, name: str) -> list[str]:
    path = tmp_path / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.split()[0] == name]


def option(line: str, name: str) -> str:
    return next(word.partition("=")[2] for word in line.split() if word.startswith(f"--{name}="))
