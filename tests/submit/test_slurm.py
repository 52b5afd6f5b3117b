"""SLURM: which arrays are submitted, what its words mean, and what the batch script does with signals and codes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pfnano_tag.card import Card, read_card
from pfnano_tag.errors import OutputError, StudyError
from pfnano_tag.submit import submission as submitting
from pfnano_tag.submit.engines import Known
from pfnano_tag.submit.jobfolder import JobFolder, write_job_folder
from pfnano_tag.submit.slurm import Slurm, known
from pfnano_tag.submit.split import items_of
from pfnano_tag.submit.submission import Submission, next_submission

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def card(tmp_path: Path) -> Card:
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
def job(card: Card) -> JobFolder:
    return write_job_folder(card, "analyze", "slurm", items_of(card, "analyze"))


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
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


def calls(tmp_path: Path, name: str) -> list[str]:
    path = tmp_path / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.split()[0] == name]


def option(line: str, name: str) -> str:
    return next(word.partition("=")[2] for word in line.split() if word.startswith(f"--{name}="))


SIGNAL, EXIT = 9, 3 << 8


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        (("PENDING", "Resources"), Known("idle", "Resources")),
        (("PENDING", "JobHeldUser"), Known("held", "JobHeldUser")),
        (("PENDING", "launch_failed_requeued_held"), Known("held", "launch_failed_requeued_held")),
        (("PENDING", "DependencyNeverSatisfied"), Known("held", "DependencyNeverSatisfied")),
        (("PENDING", "BeginTime"), Known("idle", "BeginTime")),
        (("REQUEUE_HOLD", "None"), Known("held", "REQUEUE_HOLD")),
        (("SUSPENDED", "None"), Known("idle")),
        (("RUNNING", "None"), Known("running")),
        (("COMPLETING", "NonZeroExitCode"), Known("running")),
        (("COMPLETED", "None"), Known("gone")),
        (("FAILED", "NonZeroExitCode", EXIT), Known("gone", "FAILED, exit code 3")),
        (("FAILED", "JobLaunchFailure", SIGNAL), Known("gone", "FAILED, JobLaunchFailure, signal 9")),
        (("CANCELLED by 1000", ""), Known("gone", "CANCELLED by 1000")),
        (("TIMEOUT", "TimeLimit"), Known("gone", "TIMEOUT, TimeLimit")),
        (("NODE_FAIL", "None"), Known("gone", "NODE_FAIL")),
        (("OUT_OF_MEMORY", "OutOfMemory", SIGNAL), Known("gone", "OUT_OF_MEMORY, OutOfMemory, signal 9", True)),
        (("OUT_OF_ME+", ""), Known("gone", "OUT_OF_ME+", True)),
    ],
)
def test_what_slurm_says(words, meaning):
    assert known(*words) == meaning


def test_every_item_is_in_one_array_with_its_memory(card, job, commands, tmp_path):
    commands("sbatch", f'wc -l <"{tmp_path}/calls"')
    one = Submission(3, tuple(range(12)), tuple(1000 if index % 3 else 2000 for index in range(12)))
    done = Slurm().submit(card, job, one)
    assert done.ids == ("1", "2")
    seen = {}
    for line, identifier in zip(calls(tmp_path, "sbatch"), done.ids, strict=True):
        list_of = next(word for word in line.split() if word.endswith(".txt"))
        indices = [int(index) for index in Path(list_of).read_text().split()]
        assert option(line, "array") == f"0-{len(indices) - 1}"
        assert (option(line, "signal"), option(line, "partition")) == ("B:USR1@120", "short")
        seen |= dict.fromkeys(indices, (option(line, "mem"), identifier))
    assert seen == {index: ("1000M", "2") if index % 3 else ("2000M", "1") for index in range(12)}


def test_ten_thousand_items_are_ten_arrays_and_one_question(card, job, commands, tmp_path):
    many = JobFolder(job.path, job.name, job.stage, job.backend, job.items * 900, job.inputs)
    commands("sbatch", "echo 7")
    Slurm().submit(card, many, next_submission(many, range(10_800), [1000] * 10_800)).write(many)
    assert [option(line, "array") for line in calls(tmp_path, "sbatch")] == ["0-999"] * 10 + ["0-799"]
    names = [option(line, "job-name") for line in calls(tmp_path, "sbatch")]
    rows = [f"{name}|7|{task}|RUNNING|None|0|" for name in names for task in range(1000)]
    (tmp_path / "rows").write_text("\n".join(rows[:10_800]))
    commands("squeue", f'cat "{tmp_path}/rows"')
    states = Slurm().states(many)
    assert states == dict.fromkeys(range(10_800), Known("running"))
    assert len(calls(tmp_path, "squeue")) == 1
    assert option(calls(tmp_path, "squeue")[0], "name").split(",") == names
    assert not calls(tmp_path, "sacct")


def test_a_submission_that_is_refused_half_way_is_taken_back(card, job, commands, tmp_path, monkeypatch):
    commands("sbatch", f'[ "$(wc -l <"{tmp_path}/calls")" = 1 ] || {{ echo "over the limit" >&2; exit 1; }}; echo 5')
    one = Submission(1, (0, 1), (1000, 2000))
    with pytest.raises(
        StudyError, match=r"sbatch: exit code 1: over the limit; none of the jobs of .* are submitted"
    ):
        Slurm().submit(card, job, one)
    names = [option(line, "job-name") for line in calls(tmp_path, "sbatch")]
    assert calls(tmp_path, "scancel") == [f"scancel --name={','.join(names)}"]
    monkeypatch.setattr(submitting, "TIMEOUT", 0.2)
    commands("sbatch", "sleep 5")
    with pytest.raises(StudyError, match=r"sbatch: no answer within 0.2 s; is the batch system up"):
        Slurm().submit(card, job, one)


def test_variables_of_the_job_that_submits_are_not_for_the_next(card, job, commands, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "256")
    commands("sbatch", f'env | grep ^SLURM >"{tmp_path}/seen"; echo 1')
    Slurm().submit(card, job, next_submission(job, [0], [1000]))
    assert (tmp_path / "seen").read_text() == "SLURM_CONF=/etc/slurm.conf\n"


def test_how_items_ended_that_have_left_the_queue(card, job, commands, tmp_path):
    commands("sbatch", f'wc -l <"{tmp_path}/calls"')
    first = Slurm().submit(card, job, next_submission(job, range(6), [1000] * 6))
    first.write(job)
    second = Slurm().submit(card, job, next_submission(job, [5], [2000]))
    second.write(job)
    one, two = (option(line, "job-name") for line in calls(tmp_path, "sbatch"))
    ended = f"{one}|1|0|FAILED|JobLaunchFailure|9|\\n{one}|1|5|FAILED|NonZeroExitCode|256|"
    rows = f"{ended}\\n{two}|2|0|PENDING|Priority|0|"
    commands("squeue", f"printf '{rows}\\n'")
    history = f"{one}|1_1|OUT_OF_MEMORY|0:125\\n{one}|1_2|CANCELLED by 7|0:15\\n{one}|1_[8-9]|PENDING|0:0"
    commands("sacct", f"printf '{history}\\n'")
    killed = "slurmstepd-node: error: StepId=5.batch exceeded memory limit (428777472 > 314572800), being killed\n"
    events = "slurmstepd: error: Detected 1 oom_kill event in StepId=5.batch. Some tasks have been OOM Killed.\n"
    (job.path / "logs" / "001.0.0.out").write_text("said before\n" + killed)
    (job.path / "logs" / "001.0.3.out").write_text(events)
    (job.path / "logs" / "001.0.4.out").write_text(
        "item 4\nslurmstepd-node: error: *** JOB 9 ON node CANCELLED AT 2026-11-29 DUE TO TIME LIMIT ***\n"
    )
    states = Slurm().states(job)
    assert states[0].memory_short
    assert "exceeded memory limit" in states[0].why
    assert states[1] == Known("gone", "OUT_OF_MEMORY, signal 125", True)
    assert states[2] == Known("gone", "CANCELLED by 7, signal 15")
    assert states[3].memory_short
    assert states[4] == Known("gone", "JOB 9 ON node CANCELLED AT 2026-11-29 DUE TO TIME LIMIT")
    assert states[5] == Known("idle", "Priority")
    commands("sacct", 'echo "Slurm accounting storage is disabled" >&2; exit 1')
    assert Slurm().states(job)[1] == Known("gone")
    (job.path / "logs" / "001.0.0.out").write_text("killed by somebody\n")
    assert Slurm().states(job)[0] == Known("gone", "FAILED, JobLaunchFailure, signal 9")


def test_items_are_cancelled_by_their_arrays(card, job, commands, tmp_path):
    commands("sbatch", f'wc -l <"{tmp_path}/calls"')
    Slurm().submit(card, job, next_submission(job, range(4), [1000, 2000, 1000, 2000])).write(job)
    Slurm().remove(job, [2, 0, 3])
    assert calls(tmp_path, "scancel") == ["scancel 1_[0,1]", "scancel 2_[1]"]


def test_no_slurm_here(card, job, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudyError, match="sbatch: no such command here; is it a submit machine"):
        Slurm().submit(card, job, next_submission(job, [0], [1000]))


def test_names_of_folders(card, tmp_path):
    items = items_of(card, "analyze")
    percent = write_job_folder(card, "analyze", "slurm", items, tmp_path / "50%a b")
    Slurm().write(card, percent, next_submission(percent, [0], [1000]))
    assert f"--output={tmp_path}/50%%a b/logs/001.0.%a.out" in (percent.path / "submissions/001.sh").read_text()
    backslash = write_job_folder(card, "analyze", "slurm", items, tmp_path / "a\\b")
    with pytest.raises(OutputError, match="no backslash"):
        Slurm().write(card, backslash, next_submission(backslash, [0], [1000]))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("full_at", ["settings.sh", "7/item.json", "job.json"])
def test_a_full_disk_leaves_no_half_of_a_job_folder(card, monkeypatch, code, full_at):
    real = Path.write_text

    def write_text(self: Path, *arguments, **options):
        if full_at.replace("job.json", ".job.json") in str(self):
            raise OSError(code, os.strerror(code))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(OutputError, match=os.strerror(code)):
        write_job_folder(card, "analyze", "slurm", items_of(card, "analyze"))
    assert list((card.folder / "jobs").iterdir()) == []
    monkeypatch.undo()
    assert write_job_folder(card, "analyze", "slurm", items_of(card, "analyze")).path.name == "analyze-0001"


@pytest.fixture
def task(tmp_path: Path, commands):
    """Return a function that starts a task of an array; its worker says when it has begun and ends as it is told."""
    shutil.copy(ROOT / "slurm" / "jobs.sh", tmp_path)
    (tmp_path / "list of items.txt").write_text("40\n41\n")
    (tmp_path / "worker.sh").write_text(
        'echo "worker $1 $2"\ntrap "exit 75" TERM\ntouch begun\n[ "$1" = 40 ] || exit "$1"\n'
        "for _ in $(seq 600); do sleep 0.05; done\n"
    )

    def start(number: int = 0, restarts: int = 0) -> subprocess.Popen[str]:
        known = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_JOB_ID": "12", "SLURM_RESTART_COUNT": str(restarts)}
        arguments = ["bash", "jobs.sh", str(tmp_path), str(tmp_path / "list of items.txt"), "2"]
        return subprocess.Popen(
            arguments, cwd=tmp_path, env=os.environ | known, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    return start


@pytest.mark.parametrize(
    ("sent", "restarts", "again"),
    [(signal.SIGUSR1, 0, True), (signal.SIGUSR1, 1, True), (signal.SIGUSR1, 2, False), (signal.SIGTERM, 0, False)],
)
def test_a_signal_ends_the_worker_and_only_the_time_limits_queues_it_again(task, tmp_path, sent, restarts, again):
    running = task(restarts=restarts)
    end = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < end:
        time.sleep(0.02)
    running.send_signal(sent)
    said, errors = running.communicate(timeout=60)
    assert (running.returncode, errors) == (75, "")
    assert f"worker 40 {tmp_path}" in said
    assert calls(tmp_path, "scontrol") == (["scontrol requeue 12_0"] if again else [])


@pytest.mark.parametrize(
    ("code", "again"), [(0, False), (1, True), (2, False), (75, True), (137, False), (139, True)]
)
def test_the_code_of_the_worker_says_whether_it_runs_again(task, tmp_path, code, again):
    (tmp_path / "list of items.txt").write_text(f"40\n{code}\n")
    done = task(1)
    done.communicate(timeout=60)
    assert done.returncode == code
    assert calls(tmp_path, "scontrol") == (["scontrol requeue 12_1"] if again else [])


def test_a_task_beyond_the_list_is_bad_input(task, tmp_path):
    done = task(5)
    _, errors = done.communicate(timeout=60)
    assert done.returncode == 2
    assert "list of items.txt: has no line 6" in errors


def test_several_processes_and_gpus_are_asked_for(card, tmp_path):
    asked = card.model_copy(
        update={"submit": card.submit.model_validate({"stages": {"train": {"processes": 4, "gpus": 1, "cpus": 3}}})}
    )
    job = write_job_folder(card, "analyze", "slurm", items_of(card, "analyze"))
    training = JobFolder(job.path, job.name, "train", job.backend, job.items, job.inputs)
    Slurm().write(asked, training, next_submission(job, [0], [1000]))
    line = (job.path / "submissions" / "001.sh").read_text().splitlines()[-1]
    assert [option(line, name) for name in ("ntasks", "gpus-per-task", "cpus-per-task")] == ["4", "1", "3"]
    assert json.loads((job.path / "job.json").read_text())["backend"] == "slurm"
