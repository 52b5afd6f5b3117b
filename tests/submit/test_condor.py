"""What HTCondor is given and asked, without one; `tests/integration/run.sh condor` has one."""

import json
import re
import shutil

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.jobs import Report
from pfnano_tag.card.output import write_json
from pfnano_tag.errors import CardError, OutputError, StudyError
from pfnano_tag.submit import condor
from pfnano_tag.submit.condor import Condor
from pfnano_tag.submit.engines import Known
from pfnano_tag.submit.jobfolder import write_job_folder
from pfnano_tag.submit.split import items_of
from pfnano_tag.submit.submission import Submission

CARD = """
study: {name: s, folder: study}
datasets: [{name: dy, files: 'data/*.root', kind: mc, cross_section: 1, roles: [analyze]}]
submit: {condor: {+JobFlavour: '"workday"', My.Site: 'true'}, memory: 700, retries: 3, time: 30}
"""


@pytest.fixture
def card(tmp_path, monkeypatch):
    """A study of three files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in "abc":
        (tmp_path / "data" / f"{name}.root").touch()
    (tmp_path / "card.yaml").write_text(CARD)
    return read_card("card.yaml")


def job_of(card, folder=None):
    return write_job_folder(card, "analyze", "condor", items_of(card, "analyze"), folder)


def written(card, job, submission):
    Condor().write(card, job, submission)
    text = submission.place(job, ".sub").read_text().replace("\\\n", " ")
    pairs = re.findall(r"^([+\w.]+) *= *(.*?) *$", text, re.M)
    assert len({key.lower() for key, _ in pairs}) == len(pairs)  # a second line of a name would win
    return dict(pairs), text


def test_the_submit_file_holds_settings_items_and_lines_of_the_site(card, tmp_path):
    job = job_of(card, tmp_path / "it's else where")
    found, text = written(card, job, Submission(1, (0, 2), (700, 1400)))
    assert text.endswith("queue index, memory from (\n  0, 700\n  2, 1400\n)\n")
    assert (found["+JobFlavour"], found["My.Site"]) == ('"workday"', "true")
    assert (found["job"], found["retries"], found["seconds"]) == (str(job.path), "3", "1800")
    inputs = [name.strip() for name in found["inputs"].split(",")]
    assert inputs == [str(job.path / name) for name in job.inputs]
    assert found["transfer_input_files"] == "$(inputs), $(index)"
    assert found["transfer_output_files"] == "$(index)"
    assert found["when_to_transfer_output"] == "ON_EXIT_OR_EVICT"


def test_an_archive_goes_along_and_an_address_or_a_folder_does_not(card, tmp_path, monkeypatch):
    job = job_of(card)
    for environment, names in (
        ("e.tar.zst", ["e.tar.zst", "e.tar.zst.json"]),
        ("https://x/e.tar.zst", []),
        ("d", []),
    ):
        (tmp_path / "e.tar.zst").touch()
        (tmp_path / "d").mkdir(exist_ok=True)
        other = read_card("card.yaml", [f"submit.environment={environment}"])
        inputs = written(other, job, Submission(1, (0,), (700,)))[0]["inputs"].split(", ")
        assert inputs[len(job.inputs) :] == [str(tmp_path / name) for name in names]


@pytest.mark.parametrize("sign", [",", '"', "$"])
def test_folders_that_htcondor_can_not_name_are_refused(card, tmp_path, sign):
    job = job_of(card, tmp_path / f"a{sign}b")
    with pytest.raises(OutputError, match="no comma, double quote or dollar sign"):
        Condor().write(card, job, Submission(1, (0,), (700,)))


@pytest.mark.parametrize(
    ("line", "words"),
    [("Request_Memory", "submit.memory"), ("queue", "the job folder"), ("MY.PfnanoItem", "the job folder")],
)
def test_lines_that_other_keys_say_are_refused(line, words, card):
    with pytest.raises(CardError, match=f"submit.condor: {line}: is said by {words}"):
        read_card("card.yaml", [f"submit.condor={{{line}: '1'}}"])


@pytest.fixture
def answers(monkeypatch):
    """What commands say, by name; and the commands that were asked."""
    said, asked = {}, []

    def answer(command, *_):
        asked.append(command)
        if isinstance(said.get(command[0]), Exception):
            raise said[command[0]]
        return said.get(command[0], ""), said.get("warnings", "")

    monkeypatch.setattr(condor, "answer", answer)
    monkeypatch.setattr(condor, "ask", lambda command, *_: answer(command)[0])
    return said, asked


def test_the_queue_wins_over_the_history_and_the_latest_end_over_earlier_ones(card, answers):
    said, asked = answers
    job = job_of(card)
    removed = {"PfnanoItem": 1, "JobStatus": 3, "RemoveReason": "via condor_rm (by user me)"}
    short = {"LastHoldReasonCode": 34, "LastHoldReasonSubCode": 0}
    ended = {"PfnanoItem": 1, "JobStatus": 4, "ExitBySignal": False, "ExitCode": 1}
    held = {"PfnanoItem": 0, "JobStatus": 5, "HoldReason": "too much", "HoldReasonCode": 21, "HoldReasonSubCode": 102}
    said["condor_q"] = json.dumps([held | {"MemoryProvisioned": 896}])
    said["condor_history"] = json.dumps([removed | short, ended, {"PfnanoItem": 0, "JobStatus": 3}])  # latest first
    write_json(job.folder_of(2) / "report.json", Report(1, 0).to_json())
    assert Condor().states(job) == {
        0: Known("held", "too much", True, 896),
        1: Known("gone", "removed: via condor_rm (by user me)", True, 0),
        2: Known("gone"),
    }
    history = next(command for command in asked if command[0] == "condor_history")
    assert re.search(r"EnteredCurrentStatus < \d{10}$", history[history.index("-since") + 1])
    said["condor_history"] = json.dumps([ended | {"ExitBySignal": True, "ExitSignal": 9}])
    assert Condor().states(job)[1].why == "killed by signal 9"
    said["condor_history"] = StudyError("condor_history: no answer")
    assert Condor().states(job)[1] == Known("gone")


def test_the_history_is_not_asked_when_every_job_has_left_a_report(card, answers):
    job = job_of(card)
    for item in job.items:
        write_json(job.folder_of(item.index) / "report.json", Report(1, 75).to_json())
    assert set(Condor().states(job).values()) == {Known("gone")}
    assert [command[0] for command in answers[1]] == ["condor_q"]


def test_a_line_that_would_be_ignored_is_refused_before_anything_is_submitted(card, answers):
    said, asked = answers
    job = job_of(card)
    said["warnings"] = "WARNING: the line 'reqeust_gpus = 1' was unused by condor_submit. Is it a typo?\n"
    with pytest.raises(CardError, match="no such line as reqeust_gpus = 1"):
        Condor().submit(card, job, Submission(1, (0,), (700,)))
    assert all("-dry-run" in command for command in asked)
    said.pop("warnings")
    said["condor_submit"] = "12.0 - 12.0\n"
    assert Condor().submit(card, job, Submission(1, (0,), (700,))).ids == ("12",)


def test_items_that_dagman_has_not_submitted_yet_are_not_lost(card, answers):
    jobs = card.folder / "jobs"
    job = job_of(card, jobs / "chain-0001-analyze")
    assert Condor().states(job)[0] == Known("gone")
    (jobs / "chain-0001").mkdir()
    (jobs / "chain-0001" / "analyze.dag.lock").touch()
    assert Condor().states(job)[0].state == "idle"
    answers[0]["condor_history"] = json.dumps([{"PfnanoItem": 0, "JobStatus": 4, "ExitCode": 2}])
    assert Condor().states(job)[0] == Known("gone", "ended with exit code 2")
    shutil.rmtree(jobs / "chain-0001")
