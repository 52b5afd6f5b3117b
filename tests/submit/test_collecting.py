"""Results of jobs come into the study whole, whatever becomes of whoever collects them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from pfnano_tag.analyze.parts import Kept, Part
from pfnano_tag.card import jobs, read_card
from pfnano_tag.card.jobs import Report, collect_job, collect_results
from pfnano_tag.card.output import write_json
from pfnano_tag.submit.grouping import Grouping
from pfnano_tag.submit.jobfolder import write_job_folder
from pfnano_tag.submit.runner import Runner
from pfnano_tag.submit.split import items_of


@pytest.fixture
def card(tmp_path):
    for number in range(2):
        (tmp_path / f"f{number}.root").touch()
    (tmp_path / "card.yaml").write_text(
        f"study: {{name: s, folder: '{tmp_path / 'study'}'}}\n"
        f"datasets: [{{name: dy, files: '{tmp_path}/f*.root', kind: mc, cross_section: 1, roles: [analyze]}}]\n"
    )
    return read_card(tmp_path / "card.yaml")


def ends(job, index, attempt, code=0):
    """Leave histograms and a ledger with chunks, or what is in the place of that when the code is 75: a part."""
    folder = job.folder_of(index)
    output = folder / f"analysis/dy/f{index}.root"
    ledger = output.with_name(output.name + (".ledger" if code == 0 else ".part1of2"))
    ledger.mkdir(parents=True, exist_ok=True)
    for place in (output, ledger / "plan.json", ledger / "lock"):
        place.write_text(f"attempt {attempt} of {index}")
    files = {str(path.relative_to(folder)): path.stat().st_size for path in (output, *ledger.iterdir())}
    names = tuple(str(place.relative_to(folder)) for place in (output, ledger))
    write_json(folder / "report.json", Report(attempt, code, results=names, sizes=files).to_json())


def contents(card):
    place = card.folder / "analysis"
    return {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}


class Kill:
    """Kills at the n-th change of a file."""

    def __init__(self, patch, count):
        self.count = count
        for where, name in ((jobs, "write_json"), (Path, "replace"), (os, "rename"), (os, "unlink"), (os, "rmdir")):
            patch.setattr(where, name, self.counting(getattr(where, name)))

    def counting(self, real):
        def call(*arguments, **options):
            self.count -= 1
            if self.count < 0:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return call


@pytest.mark.parametrize("disk", ["one", "two"])
def test_whoever_is_killed_while_collecting_loses_nothing(card, monkeypatch, disk):
    """Killed at each place in turn; the study has results of earlier attempts."""

    def refused(*_):
        raise OSError("another disk")

    for count in range(200):
        shutil.rmtree(card.folder, ignore_errors=True)
        job = write_job_folder(card, "analyze", "condor", items_of(card, "analyze"))
        for attempt in (1, 2):
            for index in range(2):
                ends(job, index, attempt)
            if attempt == 1:
                assert collect_results(card) == 2
                before = contents(card)
        with monkeypatch.context() as patch:
            kill = Kill(patch, count)
            if disk == "two":
                patch.setattr(os, "rename", refused)
            try:
                collect_results(card)
            except KeyboardInterrupt:
                pass
            else:
                break
        collect_results(card)
        after = contents(card)
        assert set(after) == set(before)
        assert all(text.startswith("attempt 2") for text in after.values()), count
        assert set(json.loads((job.path / "collected.json").read_text()).values()) == {2}
        assert collect_results(card) == 0
    assert count > 20
    assert kill.count >= 0


def test_a_result_of_an_earlier_attempt_is_not_taken_for_one_that_is_on_its_way(card):
    job = write_job_folder(card, "analyze", "condor", items_of(card, "analyze"))
    ends(job, 0, 1)
    assert collect_job(card, job.path) == 1
    ends(job, 0, 2)
    shutil.rmtree(job.folder_of(0) / "analysis")  # of the same size
    assert collect_job(card, job.path) == 0
    ends(job, 0, 2)
    assert collect_job(card, job.path) == 1


def test_a_part_that_changes_while_it_is_copied_comes_the_next_time(card, monkeypatch):
    """The next attempt of an incomplete job has begun, where the disk is shared."""
    job = write_job_folder(card, "analyze", "slurm", items_of(card, "analyze"))
    ends(job, 0, 1, code=75)
    ends(job, 1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(jobs.shutil, "copytree", lambda *_: (_ for _ in ()).throw(shutil.Error([("a", "b", "gone")])))
        assert collect_job(card, job.path) == 1
    assert not (card.folder / "analysis/dy/f0.root.part1of2").exists()
    assert (card.folder / "analysis/dy/f1.root").exists()
    assert collect_job(card, job.path) == 1
    assert (card.folder / "analysis/dy/f0.root.part1of2/plan.json").exists()


def test_of_a_part_that_was_told_to_stop_nothing_comes_into_the_study(card):
    """Its chunks stay with the job, which goes on with them; those of one that lost chunks are put together."""
    job = write_job_folder(card, "analyze", "condor", items_of(card, "analyze", grouping=Grouping(parts=2)))
    for item in job.items[:2]:
        folder = job.folder_of(item.index)
        part = folder / item.outputs[0]
        part.mkdir(parents=True)
        (part / "chunk_00000.npz").touch()
        Kept(part, Part.parse(item.steps[0].part), "dy", item.steps[0].file, None, ended=item.index == 1).write()
        names, sizes = Runner(job.path, folder)._results(75)
        assert names == (() if item.index == 0 else item.outputs)
        assert len(sizes) == (0 if item.index == 0 else 2)
        assert Runner(job.path, folder)._results(0)[0] == item.outputs
