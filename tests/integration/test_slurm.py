"""Jobs on a SLURM of this machine: what is killed, short of memory, corrupt, removed, held or stopped; and chains."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.folder import analysis_path
from pfnano_tag.card.jobs import read_report
from pfnano_tag.errors import StudyError
from pfnano_tag.submit import submission as submitting
from pfnano_tag.submit.chain import read_chain
from pfnano_tag.submit.dependencies import in_queue
from pfnano_tag.submit.jobfolder import read_job_folder
from pfnano_tag.submit.status import status_of
from pfnano_tag.submit.submission import submissions_of
from tests.integration.batch import (
    code_path,
    conditions,
    files_and_direct,
    logs,
    make_gates,
    number_of,
    only,
    packed,
    same,
    same_as_here,
    settings,
    shared_and_put_together,
    shell,
    shown,
    six_files,
    submit,
    until,
    wait_for,
    whole_chain,
)
from tests.integration.slurm_here import Slurm, running

HUNGRY = """\
# Takes more memory than the job asked for, unless that is much.
if [ "$(basename "$1")" = 1 ] && [ "$SLURM_MEM_PER_NODE" -lt 1500 ]; then
  exec PYTHON -c "import time; filled = b'x' * 1_200_000_000; time.sleep(60)"
fi
"""


@pytest.fixture(scope="module", autouse=True)
def slurm() -> Iterator[Slurm]:
    """SLURM for the tests of this module; nothing is left running, even when the run is told to stop."""
    with running() as made:
        yield made


@pytest.fixture
def gates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the gates that hold jobs up; SLURM gives jobs the variables of the one who submits."""
    variables = make_gates(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Path(variables["GATES"])


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Six files and a network; return the path of the card."""
    (tmp_path / "hungry.sh").write_text(HUNGRY.replace("PYTHON", sys.executable))
    return six_files(tmp_path, {"backend": "slurm", "retries": 1, "before": str(tmp_path / "hungry.sh")})


def test_six_files_and_what_happens_to_them(study: Path, gates: Path, tmp_path: Path, capsys):
    card = read_card(study)
    files, direct = files_and_direct(card, tmp_path / "direct")
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[:5000])
    for index in (0, 4):
        (gates / str(index)).touch()

    assert submit(study, "jobs") is None
    job = read_job_folder(card.folder / "jobs" / "analyze-0001")
    array = number_of(job)
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
    table = shown(capsys)
    assert "1 done, 2 running, 1 held, 1 failed, 1 lost" in table

    # one is killed; one is told that its time is nearly up, as SLURM does it, and goes on where it was
    shell("scancel", "--signal=USR1", "--batch", f"{array}_4")
    os.kill(int((gates / "0.reached").read_text()), signal.SIGKILL)
    wait_for(card, job, {0: "failed", 4: "done"})
    assert read_report(job.folder_of(4)).attempt == 2
    assert read_report(job.folder_of(4), "report.last.json").code == 75
    assert "1 of 20 chunks" in (job.folder_of(4) / "log.txt").read_text()
    killed = status_of(card, job).items[0]
    assert (killed.why, killed.memory_short) == ("exit code 137: killed by signal 9", False)

    analysis_path(card, "mc", str(files[3])).unlink()
    files[2].write_bytes(whole)
    assert conditions(card, job) == {0: "failed", 1: "lost", 2: "failed", 3: "failed", 4: "done", 5: "held"}
    assert "its result is gone" in status_of(card, job).items[3].why
    capsys.readouterr()
    submit(study, "retry")
    table = shown(capsys)
    assert "5 of 6 jobs are missing" in table
    assert "1 mc/file 1: lost, 1600 MB" in table
    wait_for(card, job, dict.fromkeys(range(6), "done"))
    assert submit(study, "status") == 0
    outputs = [analysis_path(card, "mc", str(file)) for file in files]
    assert same(outputs, direct, card)
    shown(capsys)
    assert submit(study, "retry") is None
    assert "0 of 6 jobs are missing" in capsys.readouterr().out


def test_a_cancelled_job_does_not_come_back_and_a_lost_machine_costs_nothing(
    study: Path, gates: Path, slurm: Slurm, tmp_path: Path
):
    card = read_card(study)
    only(card, 2)
    for index in (0, 1):
        (gates / str(index)).touch()
    submit(
        study, "jobs", "--backend", "slurm", "--set", "submit.before=null", "--folder", str(tmp_path / "elsewhere")
    )
    job = read_job_folder(tmp_path / "elsewhere")
    array = number_of(job)
    until(lambda: len(list(gates.glob("*.reached"))) == 2, lambda: logs(job))
    shell("scancel", f"{array}_0")
    wait_for(card, job, {0: "incomplete", 1: "running"})
    host = shell("sinfo", "--noheader", "--format=%n").strip()
    shell("scontrol", "update", f"nodename={host}", "state=down", "reason=test")  # it comes back by itself
    wait_for(card, job, {0: "incomplete", 1: "done"})
    assert " Restarts=1 " in shell("scontrol", "show", "job", "-o", f"{array}_1")
    states = shell("squeue", "--noheader", "--array", "--states=all", f"--job={array}", "--format=%K %T")
    assert sorted(states.splitlines()) == ["0 CANCELLED", "1 COMPLETED"]


def test_a_job_of_the_packed_environment_gives_the_same_bits(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is unpacked once on the machine; nothing of this checkout is named to the job."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    card = read_card(study)
    (file,) = only(card, 1)
    with packed() as archive:
        cache = archive.parent.parent / "cache"
        keys = ["submit.before=null", f"submit.environment={archive}", f"submit.environment_cache={cache}"]
        submit(study, "jobs", *settings(*keys))
        job = read_job_folder(card.folder / "jobs" / "analyze-0001")
        wait_for(card, job, {0: "done"})
        assert list(cache.rglob("bin/python"))
    assert same_as_here(card, file, tmp_path)


def test_a_chain_stops_where_something_is_missing_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setenv("PYTHONPATH", code_path())
    path = whole_chain(tmp_path, {"backend": "slurm"})
    card = read_card(path)
    file = card.folder / "data" / "jets2.root"
    whole = file.read_bytes()
    file.write_bytes(whole[:3000])
    submit(path, "chain", "--set", "submit.stages.train.gpus=1")
    chain = read_chain(card.folder / "jobs" / "chain-0001")

    def told() -> str:
        return "\n".join(
            found.read_text() for name in ("log.txt", "links.out") if (found := chain.path / name).exists()
        )

    until(lambda: not in_queue(chain), told)
    assert "prepare: 1 of 2 items" in told()
    assert not chain.job_path("train").exists()
    capsys.readouterr()
    assert submit(path, "status") == 75
    table = shown(capsys)
    assert "stopped; 'after prepare' ended with exit code 75: incomplete: prepare: 1 of 2 items" in table

    file.write_bytes(whole)
    submit(path, "chain", "--folder", str(chain.path))
    with pytest.raises(StudyError, match="is under way"):
        submit(path, "chain", "--folder", str(chain.path))
    until(lambda: not in_queue(chain), told)
    assert (card.folder / "comparison" / "results.json").exists(), told()
    capsys.readouterr()
    assert submit(path, "status") == 0
    table = shown(capsys)
    assert "chain-0001 (prepare, train, analyze, compare): complete" in table
    asked = shell("scontrol", "show", "job", "-o", f"{number_of(read_job_folder(chain.job_path('train')))}_0")
    assert (" NumTasks=2 " in asked, "gres:gpu:1" in asked) == (True, True)
    assert "2 processes" in (chain.job_path("train") / "items" / "0" / "log.txt").read_text()
    assert shared_and_put_together(card, read_job_folder(chain.job_path("analyze")), tmp_path)


def test_what_slurm_refuses_is_told_and_nothing_is_submitted(study: Path):
    with pytest.raises(StudyError, match=r"sbatch: exit code 1: .*invalid partition.*none of the jobs"):
        submit(study, "jobs", "--set", "submit.slurm={partition: nowhere}")
    assert shell("squeue", "--noheader", "--states=PENDING,RUNNING") == ""
    assert not (read_card(study).folder / "jobs").exists()


def test_a_controller_that_gives_no_answer(study: Path, slurm: Slurm, monkeypatch: pytest.MonkeyPatch):
    card = read_card(study)
    submit(study, "jobs", "--no-submit")
    job = read_job_folder(card.folder / "jobs" / "analyze-0001")
    monkeypatch.setattr(submitting, "TIMEOUT", 2)
    slurm.freeze("slurmctld")
    try:
        with pytest.raises(StudyError, match="sbatch: no answer within 2 s; .*analyze-0002 stays"):
            submit(study, "jobs")
        (submission,) = submissions_of(read_job_folder(card.folder / "jobs" / "analyze-0002"))
        assert (submission.indices, submission.ids) == (tuple(range(6)), ())
        assert "no answer within 2 s" in status_of(card, job).silent
    finally:
        slurm.freeze("slurmctld", frozen=False)
    slurm.wait_for_nodes()
