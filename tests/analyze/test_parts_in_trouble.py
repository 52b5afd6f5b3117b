"""Parts that are stopped, in work, of other jobs, taken by others or copied: nothing is lost, nothing is mixed."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from pfnano_tag.analyze import joining, stage
from pfnano_tag.analyze.job import make_job
from pfnano_tag.analyze.joining import run_part
from pfnano_tag.analyze.ledger import Ledger, ledger_folder, locked
from pfnano_tag.analyze.parts import ABOUT, Part, join_parts
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.card.folder import analysis_path
from pfnano_tag.card.hashing import content_hash
from pfnano_tag.compare.outputs import find_jobs, gather_jobs
from pfnano_tag.errors import Incomplete, OutputError
from pfnano_tag.nano.reader import open_file
from tests.analyze.events_file import damage
from tests.analyze.run_parts import do
from tests.analyze.test_stage import same_bits


@pytest.fixture
def begun(monkeypatch):
    """First entries of the chunks that are worked on."""
    found = []
    real = stage.process_chunk

    def count(job, used, chunk, vetoed):
        found.append(chunk.start)
        return real(job, used, chunk, vetoed)

    monkeypatch.setattr(stage, "process_chunk", count)
    return found


def place(card, path, dataset="mc"):
    return analysis_path(card, dataset, str(path))


def parts_left(card, path):
    return sorted(folder.name.rpartition(".part")[2] for folder in place(card, path).parent.glob("*.part*"))


def stop_after(monkeypatch, count):
    """Let the time be up after some chunks."""
    limit = stage.TimeLimit

    def before_chunk(self):
        self.chunks = getattr(self, "chunks", 0) + 1
        if self.chunks > count:
            raise Incomplete("the time is up")

    monkeypatch.setattr(limit, "before_chunk", before_chunk)


def test_a_part_that_was_told_to_stop_is_waited_for(moved, files, tmp_path, monkeypatch, caplog, begun):
    """Whoever compares does not do what is left of it: that may be hours."""
    card = moved()
    do(card, "mc", files["mc"], (1, 3))
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Incomplete, match="time is up"):
            do(card, "mc", files["mc"], (2,))
    assert len(begun) == 5
    join_parts(card)
    assert "parts 1/3, 3/3 are there, it waits for the others (begun or stopped: 2/3)" in caplog.text
    assert len(begun) == 5
    assert not place(card, files["mc"]).exists()
    do(card, "mc", files["mc"], (2,))
    join_parts(card)
    assert len(begun) == 6
    same_bits(place(card, files["mc"]), stage.run(card, "mc", str(files["mc"]), tmp_path / "whole.root"))


def test_a_part_that_is_in_work_is_left_alone(moved, files, caplog):
    card = moved()
    do(card, "mc", files["mc"], (1, 2, 3))
    output = place(card, files["mc"])
    with locked(output, Part(2, 3).folder(output)):
        join_parts(card)
        assert "part2of3: another job" in caplog.text
        assert not output.exists()
    join_parts(card)
    assert output.exists()
    assert not parts_left(card, files["mc"])


def test_two_join_at_once(moved, files, tmp_path, monkeypatch, begun):
    """The other is done while this one opens the file."""
    card = moved()
    do(card, "mc", files["mc"], (1, 2, 3))
    real = joining.opened

    def slow(*arguments):
        monkeypatch.setattr(joining, "opened", real)
        join_parts(card)
        return real(*arguments)

    monkeypatch.setattr(joining, "opened", slow)
    join_parts(card)
    assert len(begun) == 6
    assert not parts_left(card, files["mc"])
    same_bits(place(card, files["mc"]), stage.run(card, "mc", str(files["mc"]), tmp_path / "whole.root"))


def test_results_that_are_collected_meanwhile_stay(moved, files, tmp_path, monkeypatch):
    """A retry has what the part lacked; it comes while the part is put together with the others."""
    path = shutil.copy(files["mc"], tmp_path / "broken.root")
    damage(path, "PFCands_d0", 2)
    card = moved()
    do(card, "mc", path, (1, 3))
    output = place(card, path)
    folder, aside = Part(2, 3).folder(output), tmp_path / "part"
    for broken in (False, True):
        if broken:
            damage(path, "PFCands_d0", 2)
            with pytest.raises(Incomplete):
                do(card, "mc", path, (2,))
        else:
            shutil.copy(files["mc"], path)
            do(card, "mc", path, (2,))
            folder.rename(aside)
    real = joining.do_job

    def collecting(*arguments):
        shutil.rmtree(folder)
        shutil.move(aside, folder)
        real(*arguments)

    monkeypatch.setattr(joining, "do_job", collecting)
    join_parts(card)
    monkeypatch.undo()
    assert parts_left(card, path) == ["2of3"]
    join_parts(card)
    assert not parts_left(card, path)
    with JobResult(output) as result:
        assert result.complete


def test_parts_of_different_splittings_are_no_whole(moved, files, caplog, begun):
    """Three parts, the first one of three; an output of another card is there."""
    old = moved(comparison={"replicas": 5})
    output = stage.run(old, "mc", str(files["mc"]))
    before = output.read_bytes()
    card = moved()
    do(card, "mc", files["mc"], (1,), 3)
    do(card, "mc", files["mc"], (2, 3), 4)
    count = len(begun)
    join_parts(card)
    assert len(begun) == count
    assert output.read_bytes() == before
    assert parts_left(card, files["mc"]) == ["1of3", "2of4", "3of4"]
    assert "parts 1/3, 2/4, 3/4 are there, it waits for the others" in caplog.text
    assert "remove it" not in caplog.text


def test_old_parts_do_not_keep_new_ones_from_being_put_together(moved, files, tmp_path, caplog):
    do(moved(comparison={"replicas": 5}), "mc", files["mc"], (1, 2, 3))
    card = moved()
    do(card, "mc", files["mc"], (1, 2), 2)
    do(moved(comparison={"replicas": 5}), "mc", files["mc"], (1, 2, 3))
    join_parts(card)
    same_bits(place(card, files["mc"]), stage.run(card, "mc", str(files["mc"]), tmp_path / "whole.root"))
    assert parts_left(card, files["mc"]) == ["1of3", "2of3", "3of3"]
    caplog.clear()
    join_parts(card)
    assert "part1of3: made with another card" in caplog.text


def test_parts_with_other_networks_stay_when_those_of_a_whole_go(moved, files, tmp_path):
    card = moved()
    do(card, "mc", files["mc"], (1, 2), 2, models=["second"])
    again = Part(1, 2).folder(place(card, files["mc"]))
    shutil.copytree(again, tmp_path / "again")
    join_parts(card)
    do(card, "mc", files["mc"], (1,), 3)
    shutil.move(tmp_path / "again", again)
    join_parts(card)
    assert parts_left(card, files["mc"]) == ["1of3"]


def test_a_job_with_other_chunks_that_was_left_undone_is_not_in_the_way(moved, files, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        with pytest.raises(Incomplete):
            stage.run(moved(resources={"chunk": 9.0}), "mc", str(files["mc"]))
    card = moved()
    do(card, "mc", files["mc"], (1, 2, 3))
    join_parts(card)
    assert not parts_left(card, files["mc"])
    same_bits(place(card, files["mc"]), stage.run(card, "mc", str(files["mc"]), tmp_path / "whole.root"))


def test_jobs_that_worked_on_a_copy_of_the_file(moved, files, tmp_path):
    """With submit.stage_in a job's file is a copy in its scratch space, which is gone."""
    datasets = [{"name": "mc", "files": [str(files["mc"])], "kind": "mc", "cross_section": 2.0, "roles": ["analyze"]}]
    card = moved(datasets=datasets)
    copy = tmp_path / "staged" / files["mc"].name
    copy.parent.mkdir()
    shutil.copy(files["mc"], copy)
    do(card, "mc", copy, (1, 2, 3))
    shutil.rmtree(copy.parent)
    join_parts(card)
    same_bits(place(card, files["mc"]), stage.run(card, "mc", str(files["mc"]), tmp_path / "whole.root"))


def test_files_are_named_relative_to_where_the_parts_were_made(moved, files, tmp_path, monkeypatch):
    card = moved()
    monkeypatch.chdir(files["mc"].parent)
    do(card, "mc", "mc.root", (1, 2, 3))
    monkeypatch.chdir(tmp_path)
    join_parts(card)
    assert place(card, files["mc"]).exists()


def test_a_signal_while_joining_ends_the_command(moved, files, monkeypatch):
    card = moved()
    for kind in ("data", "mc"):
        do(card, kind, files[kind], (1, 2, 3))
    seen = []

    def told(job, *_):
        seen.append(job.dataset.name)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(joining, "do_job", told)
    with pytest.raises(Incomplete, match="told to stop"):
        join_parts(card)
    assert seen == ["data"]
    monkeypatch.undo()
    join_parts(card)
    assert place(card, files["mc"]).exists()
    assert place(card, files["data"], "data").exists()


def test_who_is_told_to_stop_while_joining_was_not_killed(moved, files, tmp_path, monkeypatch):
    """Notes of deaths in a part count no stop in the ledger of the file."""
    path = shutil.copy(files["mc"], tmp_path / "broken.root")
    damage(path, "PFCands_d0", 2)
    card = moved()
    do(card, "mc", path, (1, 3))
    with pytest.raises(Incomplete):
        do(card, "mc", path, (2,))
    output = place(card, path)
    note = Part(2, 3).folder(output) / "begun_00002"
    note.write_text("1")

    def told(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "process_chunk", told)
        for _ in range(3):
            with pytest.raises(Incomplete, match="told to stop"):
                join_parts(card)
    assert note.read_text() == "1"


def test_a_part_of_what_is_complete_is_not_done_again(moved, files, begun):
    card = moved()
    do(card, "mc", files["mc"], (1, 2, 3))
    join_parts(card)
    output = place(card, files["mc"])
    assert run_part(card, "mc", str(files["mc"]), Part(2, 3)) == output
    assert len(begun) == 6
    assert not parts_left(card, files["mc"])


def test_what_is_left_of_a_part_after_a_kill_is_no_part(moved, files, tmp_path, monkeypatch, caplog):
    path = shutil.copy(files["mc"], tmp_path / "broken.root")
    damage(path, "PFCands_d0", 2)
    card = moved()
    do(card, "mc", path, (1, 3))
    with pytest.raises(Incomplete):
        do(card, "mc", path, (2,))

    def killed(folder):
        (folder / "plan.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(joining.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            join_parts(card)
    output = place(card, path)
    assert output.exists()
    assert not (Part(1, 3).folder(output) / ABOUT).exists()
    join_parts(card)
    assert "made with another card" not in caplog.text
    shutil.copy(files["mc"], path)
    do(card, "mc", path, (1, 2, 3))
    join_parts(card)
    same_bits(output, stage.run(card, "mc", str(files["mc"]), tmp_path / "whole.root"))
    assert not parts_left(card, path)


def test_the_file_itself_may_be_in_work(moved, files, caplog):
    card = moved()
    do(card, "mc", files["mc"], (1, 2, 3))
    output = place(card, files["mc"])
    with locked(output):
        join_parts(card)
        assert "another job is writing this output" in caplog.text
        with pytest.raises(OutputError):
            stage.run(card, "mc", str(files["mc"]))
    assert len(parts_left(card, files["mc"])) == 3
    assert not [path for path in ledger_folder(output).iterdir() if path.name != "lock"]


def test_of_files_that_can_not_be_listed_those_in_parts_are_missing(moved, files):
    card = moved()
    stage.run(card, "data", str(files["data"]))
    do(card, "mc", files["mc"], (1, 3))
    data, simulation = sorted(find_jobs(card), key=lambda jobs: jobs.dataset.name)
    assert data.unlisted
    assert data.missing == ()
    assert simulation.unlisted
    assert simulation.missing == (str(place(card, files["mc"])),)
    do(card, "mc", files["mc"], (2,))
    assert not [jobs.missing for jobs in gather_jobs(card) if jobs.missing]


@pytest.mark.parametrize("deaths", [2, 3])
def test_a_part_in_which_processes_were_killed(moved, files, tmp_path, deaths, begun):
    """Done in slices after two, given up after three: also by whoever puts the parts together, lest it be killed."""
    card = moved()
    do(card, "mc", files["mc"], (1, 3))
    output = place(card, files["mc"])
    folder = Part(2, 3).folder(output)
    folder.mkdir()
    whole = tmp_path / "whole.root"
    for ledger, make in (
        (folder, lambda: do(card, "mc", files["mc"], (2,))),
        (ledger_folder(whole), lambda: stage.run(card, "mc", str(files["mc"]), whole)),
    ):
        with locked(whole):
            job_of_ledger(card, files["mc"], ledger)
        (ledger / "begun_00002").write_text(str(deaths))
        if deaths == 2:
            make()
        else:
            with pytest.raises(Incomplete, match="3 processes were killed"):
                make()
    count = len(begun)
    join_parts(card)
    assert len(begun) == count
    same_bits(output, whole)
    with JobResult(output) as joined, JobResult(whole) as single:
        assert joined.complete == (deaths == 2)
        assert joined.info["sliced"] == single.info["sliced"]
        assert bool(joined.info["sliced"]) == (deaths == 2)


def test_whoever_is_killed_while_joining_loses_nothing(moved, files, tmp_path, monkeypatch, begun):
    """Killed at each change of a file in turn."""
    card = moved(models=("first",))
    do(card, "mc", files["mc"], (1, 2))
    do(card, "mc", files["mc"], (3,))
    output, kept = place(card, files["mc"]), tmp_path / "kept"
    shutil.copytree(output.parent, kept)
    whole = stage.run(card, "mc", str(files["mc"]), tmp_path / "whole.root")
    count = len(begun)
    left = 0

    def counting(real):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return call

    for changes in range(500):
        shutil.rmtree(output.parent)
        shutil.copytree(kept, output.parent)
        left = changes
        with monkeypatch.context() as patch:
            for name in ("link", "rename", "unlink", "rmdir", "mkdir", "replace"):
                patch.setattr(os, name, counting(getattr(os, name)))
            try:
                join_parts(card)
            except KeyboardInterrupt:
                pass
            else:
                break
        join_parts(card)
        same_bits(output, whole)
    assert changes > 20
    assert len(begun) == count


def job_of_ledger(card, path, folder):
    """Begin a ledger, as a process does that is killed in its first chunk."""
    with open_file(str(path), card) as source:
        job = make_job(card, "mc", source, None)
        Ledger(folder, content_hash(job.key), job.key).start(job.new_plan())
