"""Chunks shared among processes: each once, evenly, in equally many batches, short and long ones together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import labelled_jets

from pfnano_tag.errors import DataError, StudyError
from pfnano_tag.prepare.prepared import FileRecord, Prepared
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.memory import memory_plan
from pfnano_tag.train.sharding import share_of
from tests.train.test_stream import content_of
from tests.train.test_stream import study as _study

study = _study  # a fixture of another module


def record(counts, known=True):
    chunks = tuple((i, i + 1) for i in range(len(counts)))
    jets = tuple((train, validation, 1) for train, validation in counts) if known else ()
    return FileRecord("file.root", "mc", "id", "candidates", "CHS", len(counts), chunks, (), jets=jets)


def prepared_of(files):
    prepared = object.__new__(Prepared)
    object.__setattr__(prepared, "files", tuple(files))
    return prepared


JETS = st.lists(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=6), min_size=1, max_size=8)


@settings(max_examples=200)
@given(files=JETS, size=st.integers(2, 5), batch_size=st.integers(1, 100))
def test_every_chunk_belongs_to_one_rank_and_all_make_the_same_steps(files, size, batch_size):
    prepared = prepared_of([record(counts) for counts in files])
    train = [counts[0] for file in files for counts in file]
    if np.count_nonzero(train) < size:
        with pytest.raises(DataError, match=rf"{size} processes can't share \d+ chunks .*lower resources.chunk"):
            share_of(prepared, 0, size)
        return
    shares = [share_of(prepared, rank, size) for rank in range(size)]
    found = [(file, chunk) for share in shares for file, own in enumerate(share.chunks) for chunk in own]
    assert found == [(file, chunk) for file, counts in enumerate(files) for chunk in range(len(counts))]
    for share in shares:
        jets = [files[file][chunk] for file, own in enumerate(share.chunks) for chunk in own]
        assert share.jets == {"train": sum(n for n, _ in jets), "validation": sum(n for _, n in jets)}
        assert share.jets["train"] == share.training[share.rank] > 0
        assert share.batch_size(batch_size) * share.steps(batch_size) >= share.jets["train"]
    steps = -(-sum(train) // batch_size)
    assert {share.steps(batch_size) for share in shares} == {steps}
    assert sum(share.batch_size(batch_size) for share in shares) <= batch_size + size


def test_shares_of_equal_chunks_differ_by_less_than_a_chunk():
    prepared = prepared_of([record([(10, 2)] * count) for count in (3, 1, 9, 4)])
    for size in (2, 3, 4):
        training = share_of(prepared, 0, size).training
        assert sum(training) == 170
        assert max(training) - min(training) <= 10


def test_a_study_that_does_not_count_its_chunks_is_refused():
    with pytest.raises(StudyError, match=r"counts the jets of 0 of 2 chunks of file.root.*run `prepare` again"):
        share_of(prepared_of([record([(3, 1), (4, 1)], known=False)]), 0, 2)


def streams(study, size, buffer, **resources):
    card, prepared = study
    card = card.model_copy(update={"resources": card.resources.model_copy(update=resources)})
    for rank in range(size):
        share = share_of(prepared, rank, size)
        plan = memory_plan(card, prepared, [buffer], True, share=share)
        with Stream.of_study(card, prepared, plan, share=share) as stream:
            yield stream


def rows_of(batches):
    return sorted(row.numpy().tobytes() for batch in batches for row in batch.jet_BF)


@pytest.mark.parametrize(("buffer", "cache"), [(100_000, "ram"), (60, "none")])
def test_every_jet_is_in_an_epoch_once_over_all_ranks(study, buffer, cache):
    (whole,) = streams(study, 1, buffer, cache="none")
    with Stream.of_study(study[0], study[1], memory_plan(*study, [buffer], True)) as alone:
        expected = [rows_of(alone.loader(32, buffer, True, 5).epoch(1))]
        pools = [pool.inputs.jet_JF.clone() for pool in alone.validation(50)]
    found, together = [], []
    lengths = set()
    for stream in streams(study, 3, buffer, cache=cache):
        loader = stream.loader(32, buffer, True, 5)
        batches = list(loader.epoch(1))
        lengths.add(len(batches))
        assert len(batches) == len(loader)
        later = [content_of(batch) for batch in loader.epoch(1, 2)]
        assert later == [content_of(batch) for batch in batches[2:]]
        found += rows_of(batches)
        together += [pool.inputs.jet_JF.clone() for pool in stream.validation(50)]
    assert sorted(found) == expected[0]
    assert lengths == {len(whole.loader(32, buffer, True, 5))}
    assert torch.equal(torch.cat(together), torch.cat(pools))  # by rank: the order of the files


def part_of(rank, training, seed=1):
    """Jets in memory as one rank's share."""
    stream = Stream.of_jets(labelled_jets(training[rank], seed + rank), labelled_jets(10))
    stream.share = replace(stream.share, rank=rank, training=training)
    return stream


def test_a_rank_without_jets_left_gives_empty_batches():
    batches = list(part_of(0, (5, 40)).loader(5, 1000, True, 5).epoch(1))
    assert [len(batch) for batch in batches] == [1] * 5 + [0] * 4
    assert batches[-1].groups["charged"].x_BNF.shape == (0, 0, 4)
    assert [len(batch) for batch in part_of(1, (5, 40)).loader(5, 1000, True, 5).epoch(1)] == [5] * 8 + [0]
