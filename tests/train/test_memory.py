"""The memory plan: what is chosen, refused, and true."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pfnano_tag.card.card import Card
from pfnano_tag.errors import DataError
from pfnano_tag.train.memory import GB, bytes_per_jet, check_memory, memory_plan
from pfnano_tag.train.readers import IN_FLIGHT
from tests.train.test_stage import prepared_for

MILLION = 1_000_000


def card_with(**resources):
    content = {
        "study": {"name": "memory"},
        "datasets": [{"name": "mc", "files": ["nowhere.root"], "kind": "mc", "roles": ["train"]}],
    }
    return Card.model_validate(content | {"resources": {"memory": 1.5, **resources}})


def study_of(jets, chunks=100):
    """A prepared study of so many training and validation jets."""
    prepared = prepared_for(card_with(), jets=(jets // 2, 3000, 3000))
    object.__setattr__(prepared.files[0], "chunks", tuple((i, i + 1) for i in range(chunks)))
    for name, counts in prepared.defaults.items():
        object.__setattr__(counts, "entries", (jets + 12_000) * (10 if "/" in name else 1))
    return prepared


def test_auto_holds_what_fits_and_nothing_else():
    for jets, cache in ((20_000, "ram"), (100 * MILLION, "none")):
        plan = memory_plan(card_with(), study_of(jets, chunks=jets // 1000), [200_000], True)
        assert plan.cache == cache
        assert plan.total <= 1.5 * GB
        assert plan.scratch == 0
    scratch = memory_plan(card_with(cache="scratch"), study_of(100 * MILLION, 100_000), [200_000], True)
    per_jet = bytes_per_jet(study_of(100 * MILLION), True)
    assert scratch.scratch == pytest.approx(100 * MILLION * per_jet, rel=0.01)
    assert scratch.total <= 1.5 * GB


def test_memory_grows_with_the_buffer_and_the_readers_not_with_the_sample():
    small, large = (
        memory_plan(card_with(cache="none"), study_of(n, n // 1000), [50_000], True) for n in (10**6, 10**8)
    )
    assert small.total == pytest.approx(large.total, rel=0.01)
    prepared = study_of(MILLION)
    wider = memory_plan(card_with(cache="none"), prepared, [50_000, 150_000], True)
    assert wider.total - small.total > 100_000 * bytes_per_jet(prepared, True)
    read = [memory_plan(card_with(cache="none", readers=n), prepared, [50_000], True).total for n in (1, 2)]
    assert small.total < read[0] < read[1]
    assert memory_plan(card_with(cache="none"), prepared, [50_000], False).total < small.total


def test_copies_of_drawn_jets_take_memory_too():
    prepared = study_of(MILLION)  # in 100 chunks
    card = card_with(cache="none")
    window = [memory_plan(card, prepared, [10**8], True, drawn=drawn).window for drawn in ((), (3 * MILLION,))]
    assert window == pytest.approx([1.01 * MILLION, 3.03 * MILLION], rel=1e-4)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"memory": 0.4}, "raise resources.memory to 1.0 or more, or lower training.buffer or resources.chunk"),
        ({"memory": 0.4, "readers": 2}, "lower training.buffer, resources.readers or resources.chunk"),
        ({"memory": 0.6, "cache": "ram"}, "or set resources.cache=auto, or lower resources.chunk"),
    ],
)
def test_what_does_not_fit_is_refused_with_advice(resources, words):
    card, prepared = card_with(**resources), study_of(MILLION)
    with pytest.raises(DataError, match=rf"training on 1005996 jets needs about .* GB \(program 0.50, .*{words}"):
        check_memory(card, prepared, memory_plan(card, prepared, [200_000], True))


def test_no_machine_has_it():
    card, prepared = card_with(memory=1e6, cache="ram"), study_of(10**10)
    with pytest.raises(DataError, match=r"this machine has \d+\.\d GB: set resources.cache=auto"):
        check_memory(card, prepared, memory_plan(card, prepared, [200_000], True))


PEAK = """
import json, resource, sys
from pathlib import Path
from pfnano_tag.card.card import Card
from pfnano_tag.train import decoding
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.memory import PROGRAM, memory_plan
from tests.train import test_stage
from tests.train.test_memory import card_with

class File:
    def __init__(self, card, prepared, record, stored, targets):
        self.record, every = record, test_stage.chunk(1, 4000)
        self.given = {split: test_stage.jets_of(every, [split]) for split in ("train", "validation")}
    def parts(self, start, stop):
        return ((start, stop),)
    def jets(self, start, stop, splits):
        return self.given[splits[0]]
    def close(self):
        pass

decoding.PreparedFile = File
chunks = int(sys.argv[1])
card = card_with(cache="none", chunk=1.0, memory=float(sys.argv[2]))
prepared = test_stage.prepared_for(card, jets=(1002 * chunks, 501 * chunks, 501 * chunks))
object.__setattr__(prepared.files[0], "chunks", tuple((i, i + 1) for i in range(chunks)))
for split, count in (("train", 2000), ("validation", 1000)):
    prepared.jets["mc"][split] = {"b": count * chunks}
plan = memory_plan(card, prepared, [20_000], True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Stream.of_study(card, prepared, plan) as stream:
    jets = sum(len(batch) for batch in stream.loader(512, 20_000, True, 1).epoch(1))
    jets += sum(len(pool) for pool in stream.validation(4096))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peak = (after - before) * 1024
print(json.dumps({"jets": jets, "peak": peak, "plan": plan.total - PROGRAM, "kept": plan.keeps_validation}))
"""


@pytest.mark.parametrize(("memory", "kept"), [(0.1, False), (1.5, True)])
def test_the_peak_does_not_grow_with_the_sample(memory, kept):
    """Five times the jets, a hundred MB of them instead of twenty: the same peak, but for kept validation jets."""
    peaks = {}
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    for chunks in (25, 125):
        command = [sys.executable, "-c", PEAK, str(chunks), str(memory)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        peaks[chunks] = json.loads(done.stdout.splitlines()[-1])
        assert peaks[chunks]["jets"] == 3000 * chunks
        assert peaks[chunks]["kept"] == kept
        assert peaks[chunks]["peak"] < peaks[chunks]["plan"] + 20e6
    if not kept:
        assert peaks[125]["peak"] < peaks[25]["peak"] + 15e6


def test_memory_that_is_left_holds_validation_jets_and_chunks_read_ahead():
    prepared = study_of(MILLION)
    tight, wide = (
        memory_plan(card_with(cache="none", readers=1, memory=gb), prepared, [200_000], True) for gb in (0.1, 1.5)
    )
    assert (tight.keeps_validation, tight.in_flight) == (False, IN_FLIGHT)
    assert wide.keeps_validation
    jets_of_a_chunk = (prepared.total("train") + prepared.total("validation")) / len(prepared.files[0].chunks)
    assert wide.in_flight == pytest.approx(200_000 / 2 / jets_of_a_chunk, abs=2)  # half of the buffer
    assert wide.total <= 1.5 * GB
    for gb in (0.75, 0.85, 0.95):  # never more than is allowed, unless it is needed
        plan = memory_plan(card_with(cache="none", readers=1, memory=gb), prepared, [200_000], True)
        assert plan.total <= max(gb * GB, tight.total)
