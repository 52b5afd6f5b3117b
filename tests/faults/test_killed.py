"""Processes that are killed: what is kept, what is done again, what comes out."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from benchmarks.injection import PLACES, chunks_done, die_at, in_process
from pfnano_tag.analyze import stage
from pfnano_tag.analyze.ledger import ledger_folder
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.errors import Incomplete
from tests.analyze.test_stage import contents, same_bits
from tests.faults.conftest import CHUNKS


def counted(monkeypatch):
    """Return the list of chunks that are begun from now on."""
    begun = []
    real = stage.process_chunk

    def count(job, card, chunk, vetoed):
        begun.append((chunk.start, chunk.stop))
        return real(job, card, chunk, vetoed)

    monkeypatch.setattr(stage, "process_chunk", count)
    return begun


@pytest.mark.parametrize("seed", range(5))
def test_a_kill_anywhere_costs_at_most_one_chunk_and_no_bit(card, twenty, undisturbed, tmp_path, monkeypatch, seed):
    place, number = PLACES[seed], random.Random(seed).randint(1, CHUNKS)
    output = tmp_path / "h.root"
    job = (card, "mc", str(twenty["mc"]), output)
    assert in_process(lambda: stage.run(*job), die_at(place, number)) == -signal.SIGKILL
    assert not output.exists()
    done = chunks_done(output)
    assert done == (number if place == "saved" else number - 1)
    begun = counted(monkeypatch)
    stage.run(*job)
    assert len(begun) == CHUNKS - done
    same_bits(output, undisturbed)
    assert not list(tmp_path.rglob(".*tmp*"))
    assert [path.name for path in ledger_folder(output).glob("begun_*")] == []


def test_a_chunk_that_kills_is_done_last_in_slices_and_then_given_up(card, twenty, undisturbed, tmp_path, caplog):
    """As where the system kills for want of memory: whoever takes more than six events of the fourth chunk dies."""
    output = tmp_path / "h.root"
    job = (card, "mc", str(twenty["mc"]), output)
    start, stop = 36, 48
    assert in_process(lambda: stage.run(*job), die_at("predicting", 4)) == -signal.SIGKILL
    assert chunks_done(output) == 3
    assert in_process(lambda: stage.run(*job), die_at("predicting", CHUNKS - 3)) == -signal.SIGKILL
    assert chunks_done(output) == CHUNKS - 1, "the others come first"
    assert (ledger_folder(output) / "begun_00003").read_text() == "2"
    stage.run(*job)
    with JobResult(output) as result:
        assert result.info["sliced"] == [{"start": start, "stop": stop, "slices": 4}]
        assert result.complete
    alike(output, undisturbed)


def test_three_deaths_are_enough(card, twenty, tmp_path, caplog):
    output = tmp_path / "h.root"
    job = (card, "mc", str(twenty["mc"]), output)
    for _ in range(3):
        assert in_process(lambda: stage.run(*job), die_at("before", CHUNKS - chunks_done(output))) == -signal.SIGKILL
    with pytest.raises(Incomplete, match=r"entries 228 to 240 .*3 processes were killed .* remove .*begun_00019"):
        stage.run(*job)
    with JobResult(output) as result:
        assert [(lost["start"], lost["stop"]) for lost in result.info["lost"]] == [(228, 240)]
        assert result.sums["entries_processed"] == 228
    with pytest.raises(Incomplete, match="begun_00019"):
        stage.run(*job)
    (ledger_folder(output) / "begun_00019").unlink()
    stage.run(*job)
    with JobResult(output) as result:
        assert result.complete


@pytest.mark.parametrize(
    ("place", "number"), [*((place, signal.SIGTERM) for place in PLACES), ("predicting", signal.SIGUSR1)]
)
def test_a_signal_drops_or_finishes_the_chunk_and_ends_with_75(card, twenty, undisturbed, tmp_path, place, number):
    output = tmp_path / "h.root"
    job = (card, "mc", str(twenty["mc"]), output)
    assert in_process(lambda: stage.run(*job), die_at(place, 2, number)) == 75
    assert chunks_done(output) == (2 if place == "saved" else 1)
    folder = ledger_folder(output)
    assert not list(folder.glob("begun_*")), "it was told to stop: that is no death"
    assert not list(folder.glob(".*"))
    if place == "saving":
        stage.run(*job)
        same_bits(output, undisturbed)


def test_a_second_signal_does_not_disturb_the_end(card, twenty, tmp_path):
    """Batch systems send several: the second one comes while the first has the partial result tidied away."""
    real = Path.unlink

    def unlink(path, missing_ok=False):
        if ".tmp" in path.name:
            signal.raise_signal(signal.SIGTERM)
        return real(path, missing_ok)

    output = tmp_path / "h.root"
    patches = [*die_at("saving", 2, signal.SIGTERM), patch.object(Path, "unlink", unlink)]
    assert in_process(lambda: stage.run(card, "mc", str(twenty["mc"]), output), patches) == 75
    assert not list(ledger_folder(output).glob(".*"))


def test_the_time_limit_ends_between_chunks(card, twenty, undisturbed, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("pfnano_tag.analyze.stopping.time.monotonic", lambda: now[0])
    real = stage.process_chunk

    def slow(*arguments):
        now[0] += 60 * (3 if len(begun) == 2 else 1)
        begun.append(arguments[2].start)
        return real(*arguments)

    begun: list[int] = []
    monkeypatch.setattr(stage, "process_chunk", slow)
    output = tmp_path / "h.root"
    limited = card.model_copy(update={"resources": card.resources.model_copy(update={"max_minutes": 7.5})})
    with pytest.raises(Incomplete, match=r"the time is up \(resources.max_minutes: 7.5\)"):
        stage.run(limited, "mc", str(twenty["mc"]), output)
    assert len(begun) == 3, "after five minutes, a fourth one as long as the third would end after eight"
    assert not output.exists()
    for _ in range(CHUNKS):
        try:
            stage.run(limited, "mc", str(twenty["mc"]), output)
        except Incomplete:
            continue
        break
    same_bits(output, undisturbed)
    assert len(begun) == CHUNKS


def alike(first, second):
    """Sums to 1e-12, bin by bin; a score (or an attacked input) within 1e-6 of an edge may change its bin."""
    a, b = contents(first), contents(second)
    for name in a[0]:
        for x, y in zip(a[0][name], b[0][name], strict=True):
            if name.startswith(("input_", "agreement_", "output_", "BvsL", "CvsB", "CvsL")):
                assert np.count_nonzero(np.abs(x - y) > 1e-9) <= 4, name
                x, y = x.sum(), y.sum()
            np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12, err_msg=name)
    for name, value in a[1].items():
        if name == "chunks":
            continue
        np.testing.assert_allclose(value, b[1][name], rtol=1e-12, err_msg=name)
    for region, cutflow in a[2].items():
        np.testing.assert_array_equal(cutflow.raw, b[2][region].raw)
        np.testing.assert_allclose(cutflow.weighted, b[2][region].weighted, rtol=1e-12)
