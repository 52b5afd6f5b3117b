"""The benchmark of a worker's overhead: what it sees of a job, and what it makes of that; never how fast it is."""

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is no part of the package that is installed

from benchmarks import worker  # noqa: E402
from benchmarks.measuring import Missing, SideFailed  # noqa: E402
from tests.submit.stand_ins import describe, executable, make_environment, pack_folder  # noqa: E402

PYTHON = """#!/bin/bash
# Stands in for the Python of a packed environment: this one, under that name.
if [ "$1" = -c ]; then echo 3.11.7; exit; fi
PYTHONPATH=PATHS exec -a "$0" REAL "$@"
"""


@pytest.mark.parametrize("packed", [True, False])
def test_what_a_worker_does_is_seen_in_its_order(generated_mc, tmp_path, packed):
    archive = None
    if packed:
        folder = make_environment(tmp_path / "to pack", conda=False)
        paths = ":".join(shlex.quote(entry or str(Path.cwd())) for entry in sys.path)
        real = shlex.quote(os.path.realpath(sys.executable))
        executable(folder / "bin" / "python", PYTHON.replace("PATHS", paths).replace("REAL", real))
        archive = pack_folder(folder, tmp_path / "environment.tar.gz")
        describe(archive)
    seconds = worker.one_job(tmp_path / "a study", generated_mc, archive)
    assert (seconds["unpack"] > 0) == packed
    assert min(seconds["start"], seconds["open"]) > 0
    assert seconds["all"] == pytest.approx(sum(seconds[name] for name in ("unpack", "start", "open")))
    (report,) = (tmp_path / "a study" / "study" / "jobs").glob("*/items/0/report.json")
    said = json.loads(report.read_text())
    assert seconds["all"] < said["ended"] - said["started"] + 1  # which begins with a whole second


def test_a_worker_that_fails_is_no_measurement(tmp_path):
    (tmp_path / "broken.root").write_bytes(b"root")
    with pytest.raises(SideFailed, match="exit code 2"):
        worker.one_job(tmp_path / "study", tmp_path / "broken.root", None)


def test_unpacking_is_named_where_it_was_done():
    run = {"unpack": 30.0, "start": 9.0, "open": 1.0, "all": 40.0}
    found = worker.outcome([run, {**run, "all": 60.0}, run], {"archive_megabytes": 500.0})
    assert found.ratio == pytest.approx(40 / 60, abs=1e-3)
    assert {name: entry["ratio"] for name, entry in found.more.items()} == {
        "unpack": 0.5,
        "start": 0.15,
        "open": 0.0167,
    }
    without = worker.outcome([run], {"archive_megabytes": None})
    assert list(without.more) == ["start", "open"]
    assert "nothing to unpack" in without.ratio_is


def test_an_archive_that_is_not_there_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv(worker.ARCHIVE, str(tmp_path / "none.tar.zst"))
    monkeypatch.setattr(worker, "path_of", lambda name: tmp_path / f"{name}.root")
    with pytest.raises(Missing, match=r"none\.tar\.zst is not there; make it with: bash scripts/pack_env\.sh "):
        worker.measure(quick=True)
