"""A study of twelve files, and stand-ins for the commands of SLURM."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pfnano_tag.card import Card, read_card
from pfnano_tag.submit.jobfolder import JobFolder, write_job_folder
from pfnano_tag.submit.split import items_of


@pytest.fixture
def twelve(tmp_path: Path) -> Card:
    """Study of 12 files."""
    (tmp_path / "data").mkdir()
    for index in range(12):
        (tmp_path / "data" / f"{index:04d}.root").touch()
    path = tmp_path / "card.yaml"
    path.write_text(
        f"study: {{name: s, folder: '{tmp_path}/study'}}\n"
        f"datasets: [{{name: mc, files: '{tmp_path}/data/*.root', kind: mc, roles: [analyze], cross_section: 1}}]\n"
        "submit: {memory: 1000, time: 30, slurm: {partition: short}}\n"
    )
    return read_card(path)


@pytest.fixture
def job(twelve: Card) -> JobFolder:
    return write_job_folder(twelve, "analyze", "slurm", items_of(twelve, "analyze"))


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that puts a stand-in for a command of SLURM in place; `calls` tells how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def stand_in(name: str, text: str) -> None:
        script = f'#!/bin/bash\necho "{name} $*" >>"{tmp_path}/calls"\n{text}\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)

    for name in ("sbatch", "squeue", "sacct", "scancel", "scontrol"):
        stand_in(name, "exit 1" if name == "sacct" else "")
    return stand_in
