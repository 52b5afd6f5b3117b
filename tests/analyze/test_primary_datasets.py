"""Overlap removal between primary datasets: every event of a period enters once."""

from __future__ import annotations

import numpy as np
import pytest

from pfnano_tag.analyze import stage
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.analyze.weights import event_weights
from pfnano_tag.errors import MissingBranch
from pfnano_tag.nano.reader import PFNanoFile
from tests.analyze.events_file import content, write

ALL = {"all": {"selection": "all_jets"}}
PATHS = {"double": ("HLT_A", "HLT_B"), "single": ("HLT_C",), "egamma": ("HLT_D",)}
NONE = np.zeros(0, dtype=np.int64)


def datasets():
    """Three primary datasets of one period, each leaving events to those before it."""
    found, before = [], []
    for name, paths in PATHS.items():
        own = {"triggers": list(paths), "vetoes": list(before), "period": "F", "luminosity": 2.0}
        found.append({"name": name, "files": ["f.root"], "kind": "data", "roles": ["analyze"], **own})
        before += paths
    return found


@pytest.fixture
def period(tmp_path):
    """The events of a period with what fired, and a file of each primary dataset: those that fired a path of it."""
    branches = content("data", 4, 240)
    rng = np.random.default_rng(5)
    paths = [path for names in PATHS.values() for path in names]
    fired = {path: rng.random(240) < 0.4 for path in paths}
    files = {}
    for name, own in PATHS.items():
        taken = np.any([fired[path] for path in own], axis=0)
        chosen = {key: value[taken] for key, value in {**branches, **fired}.items()}
        files[name] = write(tmp_path / f"{name}.root", chosen)
    return branches, fired, files


def test_every_event_enters_once(period, card_with):
    branches, fired, files = period
    card = card_with(datasets=datasets())
    entered = []
    for name, path in files.items():
        with PFNanoFile(path) as file:
            chunk = file.chunk(0, file.num_entries)
            found = event_weights(chunk, card, card.dataset(name), {}, False, None, NONE)
            entered += chunk["event"][found.used].tolist()
            assert found.sums["entries_used"] + found.sums["entries_of_others"] == file.num_entries
            assert found.sums["entries_not_fired"] == 0
            # sections whose events all belong to others were processed all the same
            assert len(found.sections) == len(np.unique(chunk["luminosityBlock"]))
    anything = np.any(list(fired.values()), axis=0)
    assert len(set(entered)) == len(entered)
    assert sorted(entered) == sorted(np.asarray(branches["event"])[anything].tolist())


def test_events_that_fired_nothing_of_the_dataset_do_not_enter(tmp_path, card_with):
    branches = content("data", 4, 60)
    rng = np.random.default_rng(5)
    fired = {path: rng.random(60) < 0.4 for path in ("HLT_A", "HLT_B", "HLT_C")}
    path = write(tmp_path / "all.root", {**branches, **fired})
    card = card_with(datasets=datasets(), regions=ALL, models=())
    stage.run(card, "single", str(path), tmp_path / "h.root", models=[])
    own, other = fired["HLT_C"], fired["HLT_A"] | fired["HLT_B"]
    with JobResult(tmp_path / "h.root") as result:
        assert result.sums["entries_not_fired"] == (~own).sum()
        assert result.sums["entries_of_others"] == (own & other).sum()
        assert result.sums["entries_used"] == result.cutflows["all"].raw[0] == (own & ~other).sum()
        assert set(result.info["lumis"]) == set(map(str, np.unique(branches["run"])))


def test_paths_of_some_runs_are_marked_optional(tmp_path, card_with, caplog):
    branches = content("data", 4, 60)
    fired = np.random.default_rng(5).random(60) < 0.4
    path = write(tmp_path / "early.root", {**branches, "HLT_C": fired})
    entries = datasets()
    with pytest.raises(MissingBranch, match=r"dataset single \(triggers, vetoes\)") as error:
        used_of(path, card_with(datasets=entries), "single")
    assert "HLT_A" in str(error.value)
    assert "HLT_B" in str(error.value)
    entries[1] |= {"triggers": ["HLT_C", "HLT_Late?"], "vetoes": ["HLT_A?", "HLT_B?"]}
    assert np.array_equal(used_of(path, card_with(datasets=entries[:2]), "single"), fired)
    assert "HLT_A is not in the file" in caplog.text
    entries[0] |= {"triggers": ["HLT_X?"], "vetoes": []}
    with pytest.raises(MissingBranch, match="none of the triggers HLT_X"):
        used_of(path, card_with(datasets=entries[:1]), "double")


def used_of(path, card, dataset):
    with PFNanoFile(path) as file:
        chunk = file.chunk(0, file.num_entries)
        return event_weights(chunk, card, card.dataset(dataset), {}, False, None, NONE).used


def test_other_triggers_are_another_job(period, tmp_path, card_with):
    *_, files = period
    entries = datasets()
    used = []
    for vetoes in (["HLT_A", "HLT_B"], ["HLT_A", "HLT_B", "HLT_D"]):
        entries[1]["vetoes"] = vetoes
        stage.run(card_with(datasets=entries, regions=ALL), "single", str(files["single"]), tmp_path / "h.root", [])
        with JobResult(tmp_path / "h.root") as result:
            used.append(result.sums["entries_used"])
    assert used[1] < used[0]
