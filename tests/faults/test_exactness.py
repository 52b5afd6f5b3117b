"""What is the same to the last bit, and what to 1e-12 and 1e-6."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from benchmarks.injection import in_process
from pfnano_tag.analyze import stage
from pfnano_tag.card.folder import analysis_path
from pfnano_tag.compare.merging import Merger
from pfnano_tag.compare.outputs import find_jobs
from pfnano_tag.nano.identity import events_of
from pfnano_tag.nano.reader import PFNanoFile
from tests.analyze.events_file import content, damage, write
from tests.analyze.test_stage import same_bits
from tests.faults.test_killed import alike


@pytest.fixture
def many(tmp_path, card_with):
    """A card on three files, in a study of its own."""
    for number in range(3):
        write(tmp_path / f"mc_{number}.root", content("mc", 20 + number, 60), runs=(60, 60.0))

    def make(order, study, **resources):
        files = [str(tmp_path / f"mc_{number}.root") for number in order]
        dataset = {"name": "mc", "files": files, "kind": "mc", "cross_section": 2.0, "roles": ["analyze"]}
        card = card_with(datasets=[dataset], resources={"chunk": 0.02, **resources})
        networks = card.folder / "models"
        place = tmp_path / study
        place.mkdir(exist_ok=True)
        if not (place / "models").exists():
            (place / "models").symlink_to(networks)
        moved = card.study.model_copy(update={"folder": place})
        return card.model_copy(update={"study": moved}), files

    return make


def merged(card):
    with Merger(find_jobs(card)) as merger:
        return {name: merger.merged(name, {"mc": 0.3}) for name in merger.variables}


def equal(first, second):
    assert first.keys() == second.keys()
    for name, rows in first.items():
        assert rows.keys() == second[name].keys()
        for category, arrays in rows.items():
            assert all(map(np.array_equal, arrays, second[name][category])), (name, category)


def test_any_order_of_files_and_any_number_of_processes(many):
    card, files = many((0, 1, 2), "one")
    for file in files:
        stage.run(card, "mc", file)
    expected = merged(card)
    assert expected["BvsL"]
    for number, order in enumerate(itertools.islice(itertools.permutations(range(3)), 1, 4)):
        other, files = many(order, f"other_{number}")
        for file in files:  # each in a process of its own
            assert in_process(lambda file=file, other=other: stage.run(other, "mc", file), []) == 0
        equal(merged(other), expected)
        for file in files:
            same_bits(analysis_path(other, "mc", file), analysis_path(card, "mc", file))


@pytest.mark.parametrize("resources", [{"chunk": 0.006, "batch_size": 5}, {"chunk": 9.0}, {"threads": 2}])
def test_chunks_batches_and_threads(many, resources, tmp_path):
    card, files = many((0,), "one")
    other, _ = many((0,), "other", **resources)
    threads = torch.get_num_threads()
    try:
        varied = stage.run(other, "mc", files[0], tmp_path / "b.root")
        alike(varied, stage.run(card, "mc", files[0], tmp_path / "a.root"))
    finally:
        torch.set_num_threads(threads)


def test_backends_give_the_same_histograms(many, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    card, files = many((0,), "one")
    other, _ = many((0,), "one", backend="onnx")
    alike(stage.run(other, "mc", files[0], tmp_path / "b.root"), stage.run(card, "mc", files[0], tmp_path / "a.root"))


def test_events_of_a_range(tmp_path):
    path = write(tmp_path / "f.root", content("mc", 1, 80))
    with PFNanoFile(path) as file:
        assert events_of(file, 10, 60) == "1:1:11 to 1:2:60"
        assert events_of(file, 10, 11) == "1:1:11"
        assert events_of(file, 10, 10) == ""
    damage(path, "event", 0)
    with PFNanoFile(path) as file:
        assert events_of(file, 10, 60) == ""
