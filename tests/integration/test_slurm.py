"""Jobs on a SLURM of this machine: what is killed, short of memory, corrupt, removed, held or stopped; and chains."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from pfnano_tag.analyze import stage as analyze
from pfnano_tag.card import Card, read_card
from pfnano_tag.card.folder import analysis_path
from pfnano_tag.card.jobs import read_report
from pfnano_tag.compare.merging import DatasetJobs, Merger
from pfnano_tag.errors import StudyError
from pfnano_tag.submit import submission as submitting
from pfnano_tag.submit.__main__ import parser, run
from pfnano_tag.submit.chain import read_chain
from pfnano_tag.submit.dependencies import links
from pfnano_tag.submit.jobfolder import JobFolder, read_job_folder
from pfnano_tag.submit.status import ItemStatus, status_of
from tests.analyze.events_file import content, write
from tests.analyze.networks import save
from tests.integration.slurm_here import Slurm
from tests.prepare.candidates_file import content as jets_content

ROOT = Path(__file__).resolve().parents[2]
BOUND = 600
"""Seconds after which a test gives up; an idle machine takes a tenth of them."""
GATES = """\
# Imported by every Python of the jobs: holds an item up, once, where it writes its second chunk.
import os, sys, time

def wait(event, arguments):
    if event == "os.rename" and "chunk_00001" in str(arguments[1]):
        places = str(arguments[1]).split(os.sep)
        gate = os.path.join(os.environ["GATES"], places[places.index("items") + 1])
        if os.path.exists(gate):
            os.rename(gate, gate + ".reached")
            while not os.path.exists(gate + ".open"):
                time.sleep(0.05)

sys.addaudithook(wait)
"""
HUNGRY = """\
# Takes more memory than the job asked for, unless that is much.
if [ "$(basename "$1")" = 1 ] && [ "$SLURM_MEM_PER_NODE" -lt 1500 ]; then
  exec PYTHON -c "import time; filled = b'x' * 1_200_000_000; time.sleep(60)"
fi
"""


@pytest.fixture(scope="module", autouse=True)
def slurm() -> Iterator[Slurm]:
    """SLURM for the tests of this module; nothing is left running, even when the run is told to stop."""
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("told to stop", returncode=143))
    folder = Path(tempfile.mkdtemp(prefix="slurm."))
    folder.chmod(0o755)
    made = Slurm(folder)
    os.environ["SLURM_CONF"] = str(made.configuration)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        del os.environ["SLURM_CONF"]
        signal.signal(signal.SIGTERM, before)
    shutil.rmtree(folder)


@pytest.fixture
def gates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of gates: a file 3 in it holds item 3 up at its second chunk, 3.open lets it go on."""
    code, folder = tmp_path / "code", tmp_path / "gates"
    code.mkdir()
    folder.mkdir()
    (code / "sitecustomize.py").write_text(GATES)
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(code), str(ROOT), *([known] if known else [])]))
    monkeypatch.setenv("GATES", str(folder))
    return folder


def submit(card: Path, *arguments: str) -> int | None:
    """Do what the command does."""
    options = parser().parse_args([arguments[0], str(card), *arguments[1:]])
    return run(read_card(card, options.set), options)


def until(found: Callable[[], bool], told: Callable[[], object]) -> None:
    """Wait for something, and tell what there is instead when it does not come."""
    end = time.monotonic() + BOUND
    while not found():
        assert time.monotonic() < end, told()
        time.sleep(0.2)


def conditions(card: Card, job: JobFolder) -> dict[int, str]:
    return {item.index: item.condition for item in status_of(card, job).items}


def item_of(card: Card, job: JobFolder, index: int) -> ItemStatus:
    return status_of(card, job).items[index]


def wait_for(card: Card, job: JobFolder, expected: Mapping[int, str]) -> None:
    """Wait until items are in given conditions."""
    until(lambda: expected.items() <= conditions(card, job).items(), lambda: f"{conditions(card, job)}\n{logs(job)}")


def logs(job: JobFolder) -> str:
    paths = sorted([*job.path.glob("items/*/log.txt"), *job.path.glob("logs/*.out")])
    return "\n".join(f"{path.relative_to(job.path)}: {line}" for path in paths for line in _end(path))


def _end(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-6:]


def shell(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=BOUND).stdout


def same(first: list[Path], second: list[Path], card: Card) -> bool:
    """Return whether two sets of outputs merge to the same, to the last bit."""
    with (
        Merger([DatasetJobs(card.dataset("mc"), tuple(first))]) as one,
        Merger([DatasetJobs(card.dataset("mc"), tuple(second))]) as other,
    ):
        assert list(one.variables) == list(other.variables) != []
        for name in one.variables:
            rows, others = one.merged(name, {"mc": 2.0}), other.merged(name, {"mc": 2.0})
            assert rows.keys() == others.keys()
            if not all(np.array_equal(a, b) for key in rows for a, b in zip(rows[key], others[key], strict=True)):
                return False
    return True


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Six files and a network; return the path of the card."""
    folder = tmp_path / "it's a study"
    (folder / "data").mkdir(parents=True)
    for index in range(6):
        write(folder / "data" / f"file {index}.root", content("mc", index), cluster=12, runs=(480, 500.0))
    save(folder, "small", 1)
    (tmp_path / "hungry.sh").write_text(HUNGRY.replace("PYTHON", sys.executable))
    card = {
        "study": {"name": "six", "folder": str(folder)},
        "datasets": [
            {"name": "mc", "files": f"{folder}/data/*.root", "kind": "mc", "cross_section": 2.0, "roles": ["analyze"]}
        ],
        "models": {"small": {"architecture": "deepsets"}},
        "histograms": {"variants": ["fgsm"]},
        "comparison": {"replicas": 4},
        "resources": {"chunk": 0.01},
        "submit": {"memory": 800, "time": 20, "retries": 1, "before": str(tmp_path / "hungry.sh")},
    }
    path = tmp_path / "card.yaml"
    path.write_text(json.dumps(card))
    return path


def test_six_files_and_what_happens_to_them(study: Path, gates: Path, tmp_path: Path, capsys):
    card = read_card(study)
    files = sorted((card.folder / "data").glob("*.root"))
    direct = [analyze.run(card, "mc", str(file), tmp_path / "direct" / file.name) for file in files]
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[:5000])
    for index in (0, 4):
        (gates / str(index)).touch()

    assert submit(study, "jobs", "--backend", "slurm") is None
    job = read_job_folder(card.folder / "jobs" / "analyze-0001")
    (array,) = json.loads((job.path / "submissions" / "001.json").read_text())["ids"]
    shell("scontrol", "hold", f"{array}_5")
    wait_for(card, job, {0: "running", 1: "lost", 2: "failed", 3: "done", 4: "running", 5: "held"})
    until(lambda: len(list(gates.glob("*.reached"))) == 2, lambda: logs(job))
    status = status_of(card, job)
    assert "memory limit" in status.items[1].why
    assert [item.index for item in status.items if item.memory_short] == [1]
    assert "file 2.root" in status.items[2].why
    assert status.items[0].chunks == (1, 20)
    assert status.items[3].events == (240, 240)
    assert status.items[5].why in ("JobHeldUser", "JobHeldAdmin")  # by whom: root is both
    assert submit(study, "status") == 75
    table = capsys.readouterr().out
    assert "1 done, 2 running, 1 held, 1 failed, 1 lost" in table
    print(table)

    # one is killed; one is told that its time is nearly up, as SLURM does it, and goes on where it was
    shell("scancel", "--signal=USR1", "--batch", f"{array}_4")
    shell("scancel", "--signal=KILL", "--full", f"{array}_0")
    wait_for(card, job, {0: "lost", 4: "done"})
    assert read_report(job.folder_of(4)).attempt == 2
    assert read_report(job.folder_of(4), "report.last.json").code == 75
    assert "1 of 20 chunks" in (job.folder_of(4) / "log.txt").read_text()
    killed = item_of(card, job, 0)
    assert ("signal 9" in killed.why, killed.memory_short) == (True, False)

    analysis_path(card, "mc", str(files[3])).unlink()
    files[2].write_bytes(whole)
    assert conditions(card, job) == {0: "lost", 1: "lost", 2: "failed", 3: "failed", 4: "done", 5: "held"}
    assert "its result is gone" in item_of(card, job, 3).why
    capsys.readouterr()
    submit(study, "retry")
    table = capsys.readouterr().out
    print(table)
    assert "5 of 6 jobs are missing" in table
    assert "1 mc/file 1: lost, 1600 MB" in table
    wait_for(card, job, dict.fromkeys(range(6), "done"))
    assert submit(study, "status") == 0
    outputs = [analysis_path(card, "mc", str(file)) for file in files]
    assert same(outputs, direct, card)
    print(capsys.readouterr().out)
    assert submit(study, "retry") is None
    assert "0 of 6 jobs are missing" in capsys.readouterr().out


def test_a_cancelled_job_does_not_come_back_and_a_lost_machine_costs_nothing(
    study: Path, gates: Path, slurm: Slurm, tmp_path: Path
):
    card = read_card(study)
    for file in sorted((card.folder / "data").glob("*.root"))[2:]:
        file.unlink()
    for index in (0, 1):
        (gates / str(index)).touch()
    submit(
        study, "jobs", "--backend", "slurm", "--set", "submit.before=null", "--folder", str(tmp_path / "elsewhere")
    )
    job = read_job_folder(tmp_path / "elsewhere")
    (array,) = json.loads((job.path / "submissions" / "001.json").read_text())["ids"]
    until(lambda: len(list(gates.glob("*.reached"))) == 2, lambda: logs(job))
    shell("scancel", f"{array}_0")
    wait_for(card, job, {0: "incomplete", 1: "running"})
    host = shell("sinfo", "--noheader", "--format=%n").strip()
    shell("scontrol", "update", f"nodename={host}", "state=down", "reason=test")
    wait_for(card, job, {0: "incomplete", 1: "idle"})
    shell("scontrol", "update", f"nodename={host}", "state=resume")
    wait_for(card, job, {0: "incomplete", 1: "done"})
    states = shell("squeue", "--noheader", "--array", "--states=all", f"--job={array}", "--format=%K %T")
    assert sorted(states.splitlines()) == ["0 CANCELLED", "1 COMPLETED"]


@pytest.fixture
def whole_study(tmp_path: Path) -> Path:
    """Files to train on, and to compare; return the path of the card."""
    folder = tmp_path / "a chain"
    (folder / "data").mkdir(parents=True)
    files = {"jets": ("mc", 1), "jets2": ("mc", 2), "mc": ("mc", 3), "data": ("data", 4)}
    for name, (kind, seed) in files.items():
        made = jets_content(seed) if name.startswith("jets") else content(kind, seed)
        write(folder / "data" / f"{name}.root", made, cluster=40, runs=None if kind == "data" else (480, 500.0))
    named = {name: f"{folder}/data/{name}.root" for name in files}
    card = {
        "study": {"name": "chain", "folder": str(folder)},
        "datasets": [
            {"name": "jets", "files": f"{folder}/data/jets*.root", "kind": "mc", "roles": ["train"]},
            {"name": "mc", "files": named["mc"], "kind": "mc", "cross_section": 2.0, "roles": ["analyze"]},
            {"name": "data", "files": named["data"], "kind": "data", "luminosity": 0.1, "roles": ["analyze"]},
        ],
        "labels": {"classes": ["b", "c", "uds", "g"]},
        "models": {"small": {"architecture": "deepsets", "arguments": {"phi": [8], "rho": [8]}}},
        "training": {"epochs": 1, "batch_size": 64},
        "comparison": {"replicas": 4},
        "submit": {"backend": "slurm", "memory": 2000, "time": 20, "stages": {"train": {"processes": 2}}},
    }
    path = tmp_path / "chain.yaml"
    path.write_text(json.dumps(card))
    return path


def test_a_chain_stops_where_something_is_missing_and_goes_on(
    whole_study: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    )
    card = read_card(whole_study)
    file = card.folder / "data" / "jets2.root"
    whole = file.read_bytes()
    file.write_bytes(whole[:3000])
    submit(whole_study, "chain")
    chain = read_chain(card.folder / "jobs" / "chain-0001")

    def ended() -> bool:
        return all(now.state == "gone" for now in links(chain).values()) and "jobs of" not in busy(whole_study, chain)

    def told() -> str:
        return "\n".join(path.read_text() for path in (chain.path / "log.txt", chain.path / "links.out"))

    until(ended, told)
    assert "prepare: 1 of 2 items" in told()
    assert not chain.job_path("train").exists()
    capsys.readouterr()
    assert submit(whole_study, "status") == 75
    print(capsys.readouterr().out)

    file.write_bytes(whole)
    submit(whole_study, "chain", "--folder", str(chain.path))
    with pytest.raises(StudyError, match="is under way"):
        submit(whole_study, "chain", "--folder", str(chain.path))
    until(ended, told)
    assert (card.folder / "comparison" / "results.json").exists(), told()
    assert submit(whole_study, "status") == 0
    print(capsys.readouterr().out)
    log = (chain.job_path("train") / "items" / "0" / "log.txt").read_text()
    assert "2 processes" in log


def busy(card: Path, chain) -> str:
    """Return which jobs of the stages are in the queue."""
    found = [stage for stage in chain.stages if chain.job_path(stage).exists()]
    states = {stage: status_of(read_card(card), read_job_folder(chain.job_path(stage))) for stage in found}
    return " ".join(f"jobs of {stage}" for stage, status in states.items() if status.under_way)


def test_what_slurm_refuses_is_told_and_nothing_is_submitted(study: Path):
    with pytest.raises(StudyError, match=r"sbatch: exit code 1: .*invalid partition.*none of the jobs"):
        submit(study, "jobs", "--backend", "slurm", "--set", "submit.slurm={partition: nowhere}")
    assert shell("squeue", "--noheader", "--states=PENDING,RUNNING") == ""


def test_a_controller_that_gives_no_answer(study: Path, slurm: Slurm, monkeypatch: pytest.MonkeyPatch):
    card = read_card(study)
    submit(study, "jobs", "--backend", "slurm", "--no-submit")
    job = read_job_folder(card.folder / "jobs" / "analyze-0001")
    monkeypatch.setattr(submitting, "TIMEOUT", 2)
    slurm.freeze("slurmctld")
    try:
        with pytest.raises(StudyError, match="sbatch: no answer within 2 s; is the batch system up"):
            submit(study, "jobs", "--backend", "slurm")
        assert "no answer within 2 s" in status_of(card, job).silent
    finally:
        slurm.freeze("slurmctld", frozen=False)
    slurm.wait_for_node()
