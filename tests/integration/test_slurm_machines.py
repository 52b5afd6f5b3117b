"""A training on two machines of a SLURM: one task on each, one network."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.jobs import collect_results, read_report
from pfnano_tag.prepare import stage as prepare
from pfnano_tag.submit.jobfolder import read_job_folder
from pfnano_tag.submit.status import status_of
from tests.integration.batch import code_path, logs, number_of, shell, submit, until, whole_chain
from tests.integration.slurm_here import Slurm, running


@pytest.fixture
def two_machines() -> Iterator[Slurm]:
    """SLURM with two nodes of one core."""
    with running(nodes=2) as made:
        yield made


def losses(folder: Path) -> list[dict[str, float]]:
    """Return what a training noted of its epochs, but times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "loss" in key or "auc" in key} for line in lines]


def test_one_task_on_each_trains_the_network_of_two_processes_here(
    two_machines: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", code_path())
    try:
        socket.gethostbyname(two_machines.nodes[0])
    except OSError:  # a name without an address, in some containers
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    path = whole_chain(tmp_path, {"backend": "slurm", "slurm": {"nodes": "2", "ntasks-per-node": "1"}})
    card = read_card(path)
    prepare.run(card)
    submit(path, "jobs", "--stage", "train")
    job = read_job_folder(card.folder / "jobs" / "train-0001")
    until(lambda: status_of(card, job).items[0].condition == "done", lambda: logs(job) + two_machines.logs())
    said = (job.folder_of(0) / "log.txt").read_text()
    assert "2 processes" in said
    assert " NumNodes=2 " in shell("scontrol", "show", "job", "-o", f"{number_of(job)}_0")
    report = read_report(job.folder_of(0))
    assert report is not None
    assert report.memory > 100, "of the tasks, not of srun"
    assert report.cpu > 2
    there = losses(card.folder / "models" / "small")
    shutil.rmtree(card.folder / "models" / "small")
    submit(path, "jobs", "--stage", "train", "--backend", "local")
    collect_results(card)
    here = losses(card.folder / "models" / "small")
    assert there == here
    assert there[0]
