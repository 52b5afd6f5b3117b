"""Chains on SLURM: what a link submits, what its script does when a stage is not complete, what the status says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pfnano_tag.card import Card
from pfnano_tag.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, StudyError
from pfnano_tag.submit import dependencies
from pfnano_tag.submit.chain import Chain, make_chain, open_stage
from pfnano_tag.submit.chain_status import chain_statuses, status_of_chain
from pfnano_tag.submit.steps import note, steps_of
from tests.submit.slurm_calls import calls, option

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def chain(twelve: Card) -> Chain:
    return make_chain(twelve, "slurm", ("analyze", "compare"))


def test_a_link_submits_its_stage_and_the_next_link_behind_it(twelve, chain, commands, tmp_path):
    commands("sbatch", f'grep -c ^sbatch "{tmp_path}/calls"')
    assert "submitted as 1" in dependencies.submit(twelve, chain)
    job, submission = open_stage(twelve, chain, "analyze")
    assert job.path == chain.job_path("analyze")
    dependencies.stage(twelve, chain, job, submission)
    first, array, last = calls(tmp_path, "sbatch")
    assert first.endswith(f"link.sh {chain.path}  analyze")
    assert "--dependency" not in first
    assert option(array, "array") == "0-11"
    assert option(last, "dependency") == "afterany:2"
    assert last.endswith(f"link.sh {chain.path} analyze compare")
    assert option(last, "partition") == "short"
    written = json.loads((job.path / "submissions" / "001.json").read_text())
    assert (written["ids"], len(written["indices"])) == (["2"], 12)
    assert len({option(line, "job-name") for line in (first, array, last)}) == 3


def test_a_stage_that_is_complete_is_passed_over(twelve, chain, commands, tmp_path):
    commands("sbatch", "echo 4")
    job, _ = open_stage(twelve, chain, "analyze")
    for item in job.items:
        report = {"attempt": 1, "code": 0}
        (job.folder_of(item.index) / "report.json").write_text(json.dumps(report))
    dependencies.stage(twelve, chain, *open_stage(twelve, chain, "analyze"))
    (link,) = calls(tmp_path, "sbatch")
    assert "--dependency" not in link
    assert link.endswith(f"link.sh {chain.path} analyze compare")


def test_a_chain_that_is_under_way_is_not_submitted_twice(twelve, chain, commands, tmp_path):
    commands("sbatch", "echo 4")
    dependencies.submit(twelve, chain)
    (link,) = calls(tmp_path, "sbatch")
    commands("squeue", f"echo '{option(link, 'job-name')}|4|N/A|PENDING|Priority|0|'")
    with pytest.raises(StudyError, match=r"is under way: link to analyze \(idle\)"):
        dependencies.submit(twelve, chain)
    assert chain_statuses(twelve)[0].condition == "under way"
    commands("squeue", f"echo '{option(link, 'job-name')}|4|N/A|FAILED|JobLaunchFailure|9|'")
    (chain.path / "links.out").write_text("slurmstepd-n: error: Exceeded job memory limit\n")
    (status,) = chain_statuses(twelve)
    assert status.condition == "stopped"
    assert "link to analyze: FAILED, JobLaunchFailure, signal 9" in status.why
    assert "Exceeded job memory limit" in status.why
    dependencies.submit(twelve, chain)


def test_a_chain_that_slurm_refuses(twelve, chain, commands):
    commands("sbatch", "echo 'Invalid account' >&2; exit 1")
    with pytest.raises(StudyError, match="Invalid account"):
        dependencies.submit(twelve, chain)
    assert status_of_chain(chain).condition == "stopped"
    assert steps_of(chain.path) == [("submission", EXIT_BAD_INPUT)]


@pytest.mark.parametrize(
    ("ended", "following", "code", "done", "left"),
    [
        ("", "prepare", 0, ["before prepare"], 0),
        ("prepare", "train", 0, ["after prepare", "before train"], 0),
        ("prepare", "train", 75, ["after prepare"], 75),
        ("analyze", "compare", 75, ["after analyze", "before compare"], 75),
        ("analyze", "compare", 0, ["after analyze", "before compare"], 0),
        ("train", "", 0, ["after train"], 0),
        ("train", "", 2, ["after train"], 2),
    ],
)
def test_the_script_of_a_link(tmp_path, ended, following, code, done, left):
    place = tmp_path / "a chain"
    place.mkdir()
    shutil.copy(ROOT / "slurm" / "link.sh", place)
    (place / "chain.sh").write_text(f'echo "$@"\n[ "$1" = before ] || exit {code}\n')
    found = subprocess.run(
        ["bash", str(place / "link.sh"), str(place), ended, following], capture_output=True, text=True, timeout=60
    )
    assert (found.stdout.splitlines(), found.returncode, found.stderr) == (done, left, "")


@pytest.mark.parametrize(
    ("steps", "condition"),
    [
        ([], "waiting"),
        ([("submitted", -1), ("before analyze", 0)], "under way"),
        ([("submitted", -1), ("before analyze", 0), ("after analyze", 75), ("before compare", 75)], "stopped"),
        ([("after analyze", 75), ("submitted", -1), ("before analyze", 0)], "under way"),
        ([("submitted", -1), ("after analyze", 0), ("before compare", 0)], "complete"),
        ([("submitted", -1), ("before analyze", 2)], "stopped"),
    ],
)
def test_how_far_a_chain_is(twelve, commands, steps, condition):
    chain = make_chain(twelve, "condor", ("analyze", "compare"))
    for step in steps:
        note(chain.path, *step)
    (chain.path / "log.txt").write_text("before analyze\nincomplete: analyze: 1 of 12 items\nat the end\n")
    status = status_of_chain(chain)
    assert status.condition == condition
    if condition == "stopped":
        code = next(code for _, code in steps if code > 0)
        assert f"ended with exit code {code}: incomplete: analyze: 1 of 12 items" in status.why
        assert code in (EXIT_INCOMPLETE, EXIT_BAD_INPUT)


def test_steps_that_can_not_be_read(twelve, chain):
    (chain.path / "steps.txt").write_text("nonsense\n")
    with pytest.raises(StudyError, match=r"steps\.txt: can't be read"):
        chain_statuses(twelve)


def test_the_environment_of_the_submitting_job_is_no_link_s(twelve, chain, commands, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "3")
    commands("sbatch", f'env | grep -c ^SLURM_JOB_ID >"{tmp_path}/seen"; echo 1')
    dependencies.submit(twelve, chain)
    assert (tmp_path / "seen").read_text() == "0\n"
    assert os.environ["SLURM_JOB_ID"] == "3"
