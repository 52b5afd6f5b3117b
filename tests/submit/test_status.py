"""What is said of jobs is true: reports, results, and what a batch system knows, together."""

import json

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.jobs import Report
from pfnano_tag.card.output import write_json
from pfnano_tag.errors import StudyError
from pfnano_tag.submit import retry, status
from pfnano_tag.submit.engines import Known
from pfnano_tag.submit.grouping import ONE_EACH, Grouping, grouping_of
from pfnano_tag.submit.jobfolder import check_card, chosen_folders, write_job_folder
from pfnano_tag.submit.split import items_of
from pfnano_tag.submit.status import status_of, table
from pfnano_tag.submit.submission import Submission


class Engine:
    """A batch system that says what it is told to."""

    def __init__(self):
        self.known, self.silent, self.removed = {}, "", []

    def states(self, job):
        if self.silent:
            raise StudyError(self.silent)
        return {item.index: self.known.get(item.index, Known("gone")) for item in job.items}

    def remove(self, job, indices):
        self.removed += indices


@pytest.fixture
def engine(monkeypatch):
    one = Engine()
    monkeypatch.setattr(status, "engine_of", lambda backend: one)
    monkeypatch.setattr(retry, "engine_of", lambda backend: one)
    return one


@pytest.fixture
def card(tmp_path):
    for number in range(4):
        (tmp_path / f"f{number}.root").write_text("")
    (tmp_path / "card.yaml").write_text(
        f"study: {{name: s, folder: '{tmp_path / 'study'}'}}\n"
        f"datasets: [{{name: dy, files: '{tmp_path}/f*.root', kind: mc, cross_section: 1, roles: [analyze]}}]\n"
    )
    return read_card(tmp_path / "card.yaml")


@pytest.fixture
def job(card):
    made = write_job_folder(card, "analyze", "condor", items_of(card, "analyze"))
    Submission(1, (0, 1, 2, 3), (2000,) * 4, ("17",)).write(made)
    return made


def ends(job, index, code, attempt=1, content="result", size=None, **more):
    """Leave what a job leaves at its end."""
    item = job.items[index]
    folder = job.folder_of(index)
    output = folder / item.outputs[0]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(content)
    size = len(content) if size is None else size
    report = Report(attempt, code, results=item.outputs, sizes={item.outputs[0]: size}, **more)
    write_json(folder / "report.json", report.to_json())


def conditions(card, job):
    return [item.condition for item in status_of(card, job).items]


def test_reports_and_queue_together(card, job, engine):
    assert conditions(card, job) == ["lost"] * 4
    engine.known = {0: Known("idle"), 1: Known("running"), 2: Known("held", "too much memory", True)}
    assert conditions(card, job) == ["idle", "running", "held", "lost"]
    ends(job, 3, 0)
    ends(job, 1, 75, error="incomplete: 1 of 3 chunks")  # of an earlier run: it is at work again
    assert conditions(card, job) == ["idle", "running", "held", "done"]
    engine.known = {2: Known("held", "too much memory", True)}
    found = status_of(card, job)
    assert [item.condition for item in found.items] == ["lost", "incomplete", "held", "done"]
    assert found.items[1].why == "incomplete: 1 of 3 chunks"
    assert found.items[2].memory_short
    assert not found.complete
    assert not found.under_way


def test_a_result_that_is_short_or_gone_is_no_result(card, job, engine):
    ends(job, 0, 0, size=100)
    ends(job, 1, 0)
    found = status_of(card, job)
    assert found.items[0].condition == "failed"
    assert "short" in found.items[0].why
    assert found.items[1].condition == "done"
    (card.folder / job.items[1].outputs[0]).unlink()
    found = status_of(card, job)
    assert found.items[1].condition == "failed"
    assert "gone" in found.items[1].why


def test_a_batch_system_that_gives_no_answer_is_named(card, job, engine):
    engine.silent = "condor_q: no answer within 120 s"
    ends(job, 0, 0)
    found = status_of(card, job)
    assert [item.condition for item in found.items] == ["done", "lost", "lost", "lost"]
    assert "may be running" in found.items[1].why
    assert "no answer within 120 s" in table([found])


def test_what_was_never_submitted_is_waiting(card, engine):
    job = write_job_folder(card, "analyze", "condor", items_of(card, "analyze"))
    assert conditions(card, job) == ["waiting"] * 4


def test_retry_takes_what_is_missing_with_more_memory_where_that_was_the_cause(card, job, engine):
    ends(job, 0, 0)
    ends(job, 1, 137, memory=1950.0)
    ends(job, 2, 137, memory=300.0)
    engine.known = {3: Known("held", "memory", True)}
    found = retry.missing(status_of(card, job))
    assert [item.index for item in found] == [1, 2, 3]
    again = retry.resubmission(card, job, found)
    assert (again.number, again.indices, again.memory) == (2, (1, 2, 3), (4000, 2000, 4000))
    retry.take_out(job, found)
    assert engine.removed == [3]
    again.write(job)
    engine.known = {}
    ends(job, 1, 137, attempt=2, memory=3900.0)
    third = retry.resubmission(card, job, retry.missing(status_of(card, job)))
    assert dict(zip(third.indices, third.memory, strict=True)) == {1: 8000, 2: 2000, 3: 4000}


def test_running_jobs_are_not_submitted_again(card, job, engine):
    engine.known = {0: Known("running"), 1: Known("idle")}
    assert [item.index for item in retry.missing(status_of(card, job))] == [2, 3]


def test_jobs_of_another_card_are_told_apart(card, job, engine, tmp_path):
    check_card(card, job)
    check_card(read_card(tmp_path / "card.yaml", ["submit.memory=3000", "comparison.replicas=3"]), job)
    other = read_card(tmp_path / "card.yaml", ["jets.pt=[30, 100]"])
    with pytest.raises(StudyError, match="another card, section jets differs"):
        check_card(other, job)
    assert "made with another card: jets changed" in table([status_of(other, job)])
    elsewhere = read_card(tmp_path / "card.yaml", [f"study.folder='{tmp_path / 'other'}'"])
    with pytest.raises(StudyError, match="no job folder"):
        chosen_folders(elsewhere, None)
    with pytest.raises(StudyError, match="another study"):
        chosen_folders(elsewhere, job.path)


def test_the_table_counts_and_names(card, job, engine):
    ends(job, 0, 0, events=(100, 100), chunks=(2, 2), cpu=3.0, memory=400.0)
    ends(
        job,
        1,
        75,
        events=(50, 100),
        chunks=(1, 2),
        cpu=2.0,
        memory=500.0,
        error="incomplete: f1.root, entries 5 to 9",
    )
    found = status_of(card, job)
    text = table([found])
    assert "4 jobs: 1 done, 1 incomplete, 2 lost" in text
    assert "events: 150 of 200 in the 2 jobs that counted them" in text
    assert "largest memory 500 MB" in text
    assert "1 of 2 chunks" in text
    assert "entries 5 to 9" in text
    assert "dy/f0" not in text
    assert "dy/f0" in table([found], everything=True)
    assert json.loads(json.dumps(found.to_json()))["counts"] == {"done": 1, "incomplete": 1, "lost": 2}


def test_files_per_job_or_jobs_per_file_from_how_long_files_took(card, job, engine, tmp_path):
    def asking(*keys):
        return read_card(tmp_path / "card.yaml", list(keys))

    assert grouping_of(asking("submit.minutes=1.5", "submit.files=2"), "analyze") == Grouping(files=2)
    assert grouping_of(asking("submit.minutes=1.5", "submit.parts=2"), "analyze") == Grouping(parts=2)
    for index, seconds in enumerate((10, 20, 60)):
        ends(job, index, 0, started=1000.0, ended=1000.0 + 10 + seconds, setup=10.0)
    ends(job, 3, 75, started=0.0, ended=1e6)
    measured = asking("submit.minutes=1.5", "submit.files=2")
    assert grouping_of(measured, "analyze") == Grouping(files=4)  # (90 - 10) / 20
    assert grouping_of(measured, "prepare") == Grouping(files=2)
    assert grouping_of(asking("submit.minutes=0.25"), "analyze") == Grouping(parts=4)  # 20 / (15 - 10)
    assert grouping_of(asking("submit.minutes=0.1"), "analyze") == ONE_EACH  # less than the set-up
    assert grouping_of(card, "analyze") == ONE_EACH


def test_the_time_of_a_part_counts_for_its_share(card, engine, tmp_path):
    made = write_job_folder(card, "analyze", "condor", items_of(card, "analyze", grouping=Grouping(parts=4)))
    ends(made, 0, 0, started=0.0, ended=10.0 + 20, setup=10.0)
    asking = read_card(tmp_path / "card.yaml", ["submit.minutes=1.5"])
    assert grouping_of(asking, "analyze") == ONE_EACH  # 80 s a file


def test_no_more_jobs_than_a_file_has_chunks(card, job, engine, tmp_path):
    ends(job, 0, 0, started=0.0, ended=600.0, setup=0.0, chunks=(7, 7))
    assert grouping_of(read_card(tmp_path / "card.yaml", ["submit.minutes=1"]), "analyze") == Grouping(parts=7)
    assert grouping_of(read_card(tmp_path / "card.yaml", ["submit.minutes=5"]), "analyze") == Grouping(parts=2)


@pytest.mark.parametrize("damage", ["{", "[]", '{"attempt": 1}', '{"attempt": 1, "code": 0, "unknown": 3}'])
def test_a_damaged_report_is_no_report(card, job, engine, damage):
    (job.folder_of(0) / "report.json").write_text(damage)
    assert conditions(card, job)[0] == "lost"
