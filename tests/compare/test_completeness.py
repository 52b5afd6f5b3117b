"""How complete a comparison is: closed forms, and what is said where it can't be known."""

from pathlib import Path

import pytest

from pfnano_tag.card.datasets import Dataset
from pfnano_tag.compare.completeness import of_all, of_dataset
from pfnano_tag.compare.jobs import Job
from pfnano_tag.compare.outputs import DatasetJobs
from pfnano_tag.compare.stage import run
from pfnano_tag.errors import Incomplete


def dataset_of(files, missing=(), unlisted="", entries=100.0, read=100.0, lost=0.0):
    dataset = Dataset(name="dy", files=("x",), kind="mc", cross_section=1.0, roles=("analyze",))
    sums = {"chunks": 4.0, "chunks_lost": lost, "entries": entries, "entries_processed": read}
    paths = tuple(Path(f"{number}.root") for number in range(files))
    return of_dataset(DatasetJobs(dataset, paths, missing, unlisted), [Job(path, {}, sums, {}) for path in paths])


def test_a_file_without_output_counts_as_the_mean_of_the_others():
    found = dataset_of(3, missing=("a",), read=80.0, lost=1.0)
    assert (found.files, found.files_expected) == (3, 4)
    assert (found.chunks, found.chunks_lost) == (12, 3)
    assert found.events_expected == 400
    assert found.fraction == pytest.approx(240 / 400)
    assert found.words == "3 of 4 files, 9 of 12 chunks of these: about 60.0 % of the events"


def test_of_several_datasets_each_counts_with_its_own_mean():
    large, small = dataset_of(1, ("a",), entries=1000.0, read=1000.0), dataset_of(2, ("a", "b"))
    found = of_all([large, small])
    assert found.fraction == pytest.approx(1200 / 2400)
    assert found.words == "3 of 6 files, 12 of 12 chunks of these: about 50.0 % of the events"


def test_all_is_said_of_all_only():
    assert dataset_of(2).words == "2 of 2 files, 8 of 8 chunks of these: 100.0 % of the events"
    nearly = dataset_of(2, entries=1e6, read=1e6 - 1, lost=1.0)
    assert nearly.words.endswith(": over 99.9 % of the events")


def test_what_is_not_known_is_not_said():
    unlisted = dataset_of(2, unlisted="no such folder")
    assert unlisted.fraction is None
    assert unlisted.words == "2 files (how many are expected can't be seen from here), 8 of 8 chunks of these"
    assert dataset_of(0, ("a",)).fraction is None
    empty = dataset_of(2, entries=0.0, read=0.0)
    assert empty.words == "2 of 2 files, 8 of 8 chunks of these"
    together = of_all([unlisted, dataset_of(1)])
    assert (together.files, together.files_expected, together.fraction) == (3, None, None)


def test_compare_says_it_first(whole, monkeypatch):
    monkeypatch.setattr("pfnano_tag.compare.stage.draw", lambda shown: shown.path)
    monkeypatch.setattr("pfnano_tag.compare.stage.draw_page", lambda *arguments: arguments[-1])
    printed = []
    results = run(whole.card(), 1, printed.append)
    words = "5 of 5 files, 20 of 20 chunks of these: 100.0 % of the events"
    assert printed[0].splitlines()[2] == f"Merged: {words}"
    assert results["completeness"]["words"] == words
    whole.input("dy_3.root")
    whole.job("muons", "muons_2.root", sums={"chunks_lost": 1, "entries_processed": 75})
    with pytest.raises(Incomplete):
        run(whole.card(), 1, printed.append)
    assert printed[1].splitlines()[2:6] == [
        "**Incomplete**, merged: 5 of 6 files, 19 of 20 chunks of these: about 79.2 % of the events",
        "",
        "- INCOMPLETE: dy: 1 of 3 files not analyzed",
        "- INCOMPLETE: muons: 1 of 8 chunks lost",
    ]
