"""What a batch system refuses leaves nothing; what it may have taken stays, and is found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pfnano_tag.card import Card, read_card
from pfnano_tag.errors import CardError, OutputError, StudyError
from pfnano_tag.submit import submission as submitting
from pfnano_tag.submit.__main__ import parser, run
from pfnano_tag.submit.jobfolder import read_job_folder
from pfnano_tag.submit.status import status_of
from pfnano_tag.submit.submission import NoAnswer, submissions_of
from tests.submit.slurm_calls import calls, option

UP_TO = '[ "$(grep -c ^sbatch "{calls}")" -le {number} ] && echo 7 && exit; echo "over the limit" >&2; exit 1'
"""A stand-in for sbatch that takes so many arrays."""


def submit(card: Card, action: str, *arguments: str) -> int | None:
    options = parser().parse_args([action, str(card.folder.parent / "card.yaml"), *arguments])
    return run(read_card(options.card, options.set), options)


def content(folder: Path) -> dict[str, bytes | None]:
    """Return everything in a folder, but for its locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("[!.]*")
    }


@pytest.mark.parametrize("backend", ["slurm", "condor"])
@pytest.mark.parametrize("folder", [[], ["--folder", "else where/job"]])
def test_jobs_that_are_refused_leave_nothing(twelve, commands, tmp_path, monkeypatch, backend, folder):
    monkeypatch.chdir(tmp_path)
    for name in ("sbatch", "condor_submit"):
        commands(name, 'echo "Invalid account" >&2; exit 1')
    for path in ("else where", twelve.folder):
        Path(path).mkdir()
    before = content(tmp_path)
    with pytest.raises(StudyError, match=r"(sbatch|condor_submit): exit code 1: Invalid account") as caught:
        submit(twelve, "jobs", "--backend", backend, *folder)
    assert not isinstance(caught.value, NoAnswer)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudyError, match=r"(sbatch|condor_submit): no such command here"):
        submit(twelve, "jobs", "--backend", backend, *folder)
    (tmp_path / "calls").unlink()
    assert content(tmp_path) == before


def test_other_job_folders_of_the_study_are_left_alone(twelve, job, commands, tmp_path):
    before = content(twelve.folder)
    commands("sbatch", "exit 1")
    with pytest.raises(StudyError, match="sbatch: exit code 1"):
        submit(twelve, "jobs", "--backend", "slurm", "--folder", str(tmp_path / "elsewhere"))
    assert content(twelve.folder) == before
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("cancelled", "left"), [("", []), ("exit 1", ["analyze-0001"])])
def test_arrays_before_one_that_is_refused_are_cancelled_or_the_folder_stays(
    twelve, commands, tmp_path, monkeypatch, cancelled, left
):
    monkeypatch.setattr("pfnano_tag.submit.slurm.LONGEST_ARRAY", 5)
    commands("sbatch", UP_TO.format(calls=tmp_path / "calls", number=2))
    commands("scancel", cancelled)
    with pytest.raises(StudyError, match="sbatch: exit code 1: over the limit") as caught:
        submit(twelve, "jobs", "--backend", "slurm")
    assert sorted(path.name for path in twelve.folder.glob("jobs/*")) == left
    names = [option(line, "job-name") for line in calls(tmp_path, "sbatch")]
    assert len(names) == 3
    assert calls(tmp_path, "scancel") == [f"scancel --name={','.join(names)}"]
    if left:
        assert isinstance(caught.value, NoAnswer)
        assert "could not be cancelled: scancel: exit code 1" in str(caught.value)


@pytest.mark.parametrize("answer", ["sleep 30", "echo 'error: Socket timed out on send/recv operation' >&2; exit 1"])
def test_jobs_that_slurm_may_have_taken_are_found_again(twelve, commands, tmp_path, monkeypatch, answer):
    monkeypatch.setattr(submitting, "TIMEOUT", 0.5)
    commands("sbatch", answer)
    with pytest.raises(NoAnswer, match=r"analyze-0001 stays, as the jobs may be in the queue: `submit status` tells"):
        submit(twelve, "jobs", "--backend", "slurm")
    monkeypatch.undo()
    job = read_job_folder(twelve.folder / "jobs" / "analyze-0001")
    (name,) = (option(line, "job-name") for line in calls(tmp_path, "sbatch"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    commands("squeue", "exit 1")
    with pytest.raises(StudyError, match="what is running can't be told from what is missing"):
        submit(twelve, "retry")
    commands("squeue", f'for task in 0 1 2; do echo "{name}|7|$task|PENDING|Priority|0|"; done')
    conditions = [item.condition for item in status_of(twelve, job).items]
    assert conditions == ["idle"] * 3 + ["lost"] * 9
    commands("sbatch", "echo 8")
    submit(twelve, "retry")
    assert submissions_of(job)[-1].indices == tuple(range(3, 12))


def test_a_retry_that_is_refused_removes_nothing_and_asks_for_no_more_memory(twelve, commands, tmp_path):
    commands("sbatch", "echo 7")
    submit(twelve, "jobs", "--backend", "slurm")
    job = read_job_folder(twelve.folder / "jobs" / "analyze-0001")
    before = content(job.path)
    commands("sbatch", "exit 1")
    for _ in range(2):
        with pytest.raises(StudyError, match="sbatch: exit code 1"):
            submit(twelve, "retry")
    assert before.items() <= content(job.path).items()
    assert [one.number for one in submissions_of(job)] == [1]


@pytest.mark.parametrize(
    ("on", "kind"), [("*-dry-run*", StudyError), ("*-terse*", NoAnswer)], ids=["checking", "submitting"]
)
def test_htcondor_has_no_jobs_while_it_checks_the_submit_file(twelve, commands, monkeypatch, on, kind):
    monkeypatch.setattr(submitting, "TIMEOUT", 0.5)
    commands("condor_submit", f'case "$*" in {on}) sleep 30;; esac')
    with pytest.raises(StudyError, match="condor_submit: no answer within 0.5 s") as caught:
        submit(twelve, "jobs", "--backend", "condor")
    assert type(caught.value) is kind
    assert (twelve.folder / "jobs").exists() == (kind is NoAnswer)


def test_lines_and_folders_that_a_batch_system_does_not_take(twelve, commands, tmp_path):
    commands("condor_submit", "echo \"WARNING: the line 'x = 1' was unused by condor_submit.\" >&2")
    with pytest.raises(CardError, match="no such line as x = 1"):
        submit(twelve, "jobs", "--backend", "condor", "--set", "submit.condor={x: '1'}")
    for further in ([], ["--no-submit"]):
        with pytest.raises(OutputError, match="no comma"):
            submit(twelve, "jobs", "--backend", "condor", "--folder", str(tmp_path / "a,b"), *further)
    assert not (tmp_path / "a,b").exists()
    assert not (twelve.folder / "jobs").exists()


def test_a_chain_that_is_refused_leaves_nothing_unless_it_was_there(twelve, commands, tmp_path, monkeypatch):
    stages = ("--stages", "analyze,compare", "--backend", "slurm")
    commands("sbatch", "exit 1")
    with pytest.raises(StudyError, match="sbatch: exit code 1"):
        submit(twelve, "chain", *stages)
    assert not (twelve.folder / "jobs").exists()
    monkeypatch.setattr(submitting, "TIMEOUT", 0.5)
    commands("sbatch", "sleep 30")
    with pytest.raises(NoAnswer, match=r"chain-0001 stays, as it may be in the queue: .*`submit chain --folder "):
        submit(twelve, "chain", *stages)
    commands("sbatch", "exit 1")
    with pytest.raises(StudyError, match="sbatch: exit code 1"):
        submit(twelve, "chain", "--folder", str(twelve.folder / "jobs" / "chain-0001"))
    assert [path.name for path in (twelve.folder / "jobs").iterdir()] == ["chain-0001"]
