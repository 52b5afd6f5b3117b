"""Too little memory: smaller batches, then slices that add up to the chunk, then that chunk alone is lost."""

from __future__ import annotations

import numpy as np
import pytest

from pfnano_tag.analyze import stage
from pfnano_tag.analyze.memory import SMALLEST_BATCH, added, in_memory
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.errors import BadChunk, Incomplete
from tests.faults.test_killed import alike


class NoMemory:
    """Stands for `process_chunk`; only so many events fit."""

    def __init__(self, monkeypatch, events):
        self.events, self.real, self.asked = events, stage.process_chunk, []
        monkeypatch.setattr(stage, "process_chunk", self)

    def __call__(self, job, card, chunk, vetoed):
        self.asked.append((chunk.start, chunk.stop, card.resources.batch_size))
        if chunk.num_events > self.events:
            chunk.load(job.event_branches)
            raise MemoryError
        return self.real(job, card, chunk, vetoed)


@pytest.mark.parametrize("kind", ["mc", "data"])
def test_slices_add_up_to_the_chunk(card, twenty, tmp_path, monkeypatch, kind):
    whole = stage.run(card, kind, str(twenty[kind]), tmp_path / "whole.root")
    memory = NoMemory(monkeypatch, 2)
    output = stage.run(card, kind, str(twenty[kind]), tmp_path / "slices.root")
    first = [batch for start, stop, batch in memory.asked if (start, stop) == (0, 12)]
    assert first == [512, 256, 128, 64, SMALLEST_BATCH]
    inside = [(start, stop) for start, stop, _ in memory.asked[len(first) :] if stop <= 12]
    assert inside[:3] == [(0, 3), (0, 1), (1, 2)]
    alike(output, whole)
    with JobResult(output) as result, JobResult(whole) as expected:
        assert result.info["lumis"] == expected.info["lumis"]
        assert len(result.info["sliced"]) == 20
        assert not expected.info["sliced"]
        assert result.complete


def test_a_broken_basket_in_a_slice_loses_the_whole_chunk(card, twenty, tmp_path, monkeypatch):
    memory = NoMemory(monkeypatch, 3)
    real = memory.real

    def broken(job, card, chunk, vetoed):
        if chunk.start <= 29 < chunk.stop:
            raise chunk.bad("PFCands_d0: basket 2 can't be decompressed")
        return real(job, card, chunk, vetoed)

    memory.real = broken
    words = r"entries 24 to 36 \(events .*\): PFCands_d0: basket 2 can't be decompressed \(entries 27 to 30\)"
    with pytest.raises(Incomplete, match=words):
        stage.run(card, "mc", str(twenty["mc"]), tmp_path / "h.root")
    with JobResult(tmp_path / "h.root") as result:
        assert [(lost["start"], lost["stop"]) for lost in result.info["lost"]] == [(24, 36)]
        assert result.sums["entries_processed"] == 228


def test_other_errors_are_not_taken_for_want_of_memory():
    class Chunk:
        start, stop = 0, 4

        def drop(self):
            pytest.fail("nothing is to be tried again")

    def wrong(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    from pfnano_tag.card.card import Card

    card = Card.model_validate(
        {"study": {"name": "s"}, "datasets": [{"name": "a", "files": ["f"], "kind": "mc", "roles": ["train"]}]}
    )
    with pytest.raises(RuntimeError, match="shapes"):
        in_memory(card, Chunk(), wrong)


def partial(cells, **more):
    index = np.array(sorted(cells), dtype=np.int64)
    values = np.array([cells[i] for i in index.tolist()])
    sections = np.array(more.pop("sections", []), dtype=np.int64)
    return {
        "index": index,
        "values": values,
        "variances": values**2,
        "sums": np.array([1.0, 2.0]),
        "cutflow_raw": np.array([3.0]),
        "cutflow_weighted": np.array([-1.5]),
        "slices": np.ones(1),
        "sections": sections,
        "all_sections": sections,
        "vetoed": sections[:1],
        **more,
    }


def test_added():
    both = added(partial({1: 0.5, 7: 2.0}, sections=[4, 5]), partial({7: -1.0, 9: 3.0}, sections=[5, 6]))
    assert both["index"].tolist() == [1, 7, 9]
    assert both["values"].tolist() == [0.5, 1.0, 3.0]
    assert both["variances"].tolist() == [0.25, 5.0, 9.0]
    assert both["sums"].tolist() == [2.0, 4.0]
    assert both["cutflow_raw"].tolist() == [6.0]
    assert both["slices"].tolist() == [2.0]
    assert both["sections"].tolist() == [4, 5, 6]
    assert both["vetoed"].tolist() == [4, 5]
    empty = added(partial({}), partial({3: 1.0}))
    assert empty["index"].tolist() == [3]


def test_what_has_no_rule_is_not_dropped_in_silence():
    with pytest.raises(ValueError, match="no rule to add columns"):
        added(partial({}, columns=np.zeros(1)), partial({}))


def test_a_bad_chunk_survives_the_way_between_processes():
    import pickle

    error = BadChunk("f.root", 3, 5, "no", "1:2:3 to 1:2:4")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "f.root, entries 3 to 5 (events 1:2:3 to 1:2:4): no"
    assert again.to_json() == {"start": 3, "stop": 5, "reason": "no", "events": "1:2:3 to 1:2:4"}
