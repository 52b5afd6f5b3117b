"""What the tests of batch systems share: small studies, and jobs that are held up where one wants them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pfnano_tag.analyze import stage as analyze
from pfnano_tag.card import Card, read_card
from pfnano_tag.card.folder import analysis_path
from pfnano_tag.compare.merging import Merger
from pfnano_tag.compare.outputs import DatasetJobs
from pfnano_tag.submit.__main__ import parser, run
from pfnano_tag.submit.jobfolder import JobFolder
from pfnano_tag.submit.status import status_of
from pfnano_tag.submit.submission import submissions_of
from tests.analyze.events_file import content, write
from tests.analyze.networks import save
from tests.integration.test_env import pack
from tests.prepare.candidates_file import content as jets_content

ROOT = Path(__file__).resolve().parents[2]
BOUND = 900
"""Seconds after which a test gives up; an idle machine takes a tenth of them."""
GATES = """\
# Imported by every Python of the jobs: holds an item up, once, where it writes its second chunk.
import os, sys, time

def wait(event, arguments):
    if event == "os.rename" and "chunk_00001" in str(arguments[1]):
        places = str(arguments[1]).split(os.sep)
        gate = os.path.join(os.environ["GATES"], places[len(places) - 1 - places[::-1].index("analysis") - 1])
        if os.path.exists(gate):
            with open(gate, "w") as file:
                file.write(str(os.getpid()))
            os.rename(gate, gate + ".reached")
            while not os.path.exists(gate + ".open"):
                time.sleep(0.05)

sys.addaudithook(wait)
"""


def make_gates(folder: Path) -> dict[str, str]:
    """Return variables of jobs: a file 3 in `folder/gates` holds item 3 up, at its second chunk, once.

    There is 3.reached then, which holds the number of its process; a file 3.open lets it go on.
    """
    (folder / "code").mkdir()
    (folder / "gates").mkdir()
    (folder / "code" / "sitecustomize.py").write_text(GATES)
    return {"PYTHONPATH": f"{folder / 'code'}{os.pathsep}{code_path()}", "GATES": str(folder / "gates")}


@contextmanager
def told_to_stop() -> Iterator[None]:
    """End the tests in order, their batch system with them, when the run is told to stop."""
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("told to stop", returncode=143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def code_path() -> str:
    """Return a PYTHONPATH with which jobs run this checkout."""
    known = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), *([known] if known else [])])


def shell(*command: str) -> str:
    """Run a command of a batch system; return what it says."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=BOUND).stdout


def number_of(job: JobFolder) -> str:
    """Return the name that the batch system gave the first submission, which is one cluster or array."""
    (number,) = submissions_of(job)[0].ids
    return number


def files_and_direct(card: Card, folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of a study of `six_files`, and what `analyze` writes of them here and now."""
    files = sorted((card.folder / "data").glob("*.root"))
    return files, [analyze.run(card, "mc", str(file), folder / file.name) for file in files]


def only(card: Card, count: int) -> list[Path]:
    """Leave only the first files of a study of `six_files`; return them."""
    files = sorted((card.folder / "data").glob("*.root"))
    for file in files[count:]:
        file.unlink()
    return files[:count]


def settings(*keys: str) -> list[str]:
    """Return options that set keys of the card."""
    return [word for key in keys for word in ("--set", key)]


@contextmanager
def packed() -> Iterator[Path]:
    """Pack this environment; yield the archive, on a disk, beside which there is room."""
    disk = Path(tempfile.mkdtemp(prefix="pfnano_tag.", dir="/var/tmp"))
    try:
        archive = disk / "packed" / "an environment.tar.zst"
        archive.parent.mkdir()
        pack(archive, Path(sys.prefix))
        yield archive
    finally:
        shutil.rmtree(disk)


def same_as_here(card: Card, file: Path, folder: Path) -> bool:
    """Return whether the study's result of a file is, to the last bit, what `analyze` writes here and now."""
    direct = analyze.run(card, "mc", str(file), folder / "direct.root")
    return same([analysis_path(card, "mc", str(file))], [direct], card)


def six_files(folder: Path, submit: Mapping[str, object]) -> Path:
    """Make a study of six files to analyze and a network; return the path of its card."""
    study = folder / "it's a study"
    (study / "data").mkdir(parents=True)
    for index in range(6):
        write(study / "data" / f"file {index}.root", content("mc", index), cluster=12, runs=(480, 500.0))
    save(study, "small", 1)
    files = f"{study}/data/*.root"
    return _card(
        folder / "six.yaml",
        {
            "study": {"name": "six", "folder": str(study)},
            "datasets": [{"name": "mc", "files": files, "kind": "mc", "cross_section": 2.0, "roles": ["analyze"]}],
            "models": {"small": {"architecture": "deepsets"}},
            "histograms": {"variants": ["fgsm"]},
            "comparison": {"replicas": 4},
            "resources": {"chunk": 0.01},
            "submit": {"memory": 800, "time": 20, **submit},
        },
    )


def whole_chain(folder: Path, submit: Mapping[str, object]) -> Path:
    """Make a study of two files to train on, and two to compare, each in two jobs; return the path of its card."""
    study = folder / "a chain"
    (study / "data").mkdir(parents=True)
    for name, (kind, seed) in {"jets": ("mc", 1), "jets2": ("mc", 2), "mc": ("mc", 3), "data": ("data", 4)}.items():
        made = jets_content(seed) if name.startswith("jets") else content(kind, seed)
        write(study / "data" / f"{name}.root", made, cluster=40, runs=None if kind == "data" else (480, 500.0))
    path = f"{study}/data"
    return _card(
        folder / "chain.yaml",
        {
            "study": {"name": "chain", "folder": str(study)},
            "datasets": [
                {"name": "jets", "files": f"{path}/jets*.root", "kind": "mc", "roles": ["train"]},
                {
                    "name": "mc",
                    "files": f"{path}/mc.root",
                    "kind": "mc",
                    "cross_section": 2.0,
                    "roles": ["analyze"],
                },
                {
                    "name": "data",
                    "files": f"{path}/data.root",
                    "kind": "data",
                    "luminosity": 0.1,
                    "roles": ["analyze"],
                },
            ],
            "labels": {"classes": ["b", "c", "uds", "g"]},
            "models": {"small": {"architecture": "deepsets", "arguments": {"phi": [8], "rho": [8]}}},
            "training": {"epochs": 1, "batch_size": 64},
            "histograms": {"inputs": [], "outputs": False, "stored": []},
            "comparison": {"replicas": 4, "toys": 0},
            "resources": {"chunk": 0.005},
            "submit": {"memory": 2000, "time": 20, "parts": 2, "stages": {"train": {"processes": 2}}, **submit},
        },
    )


def _card(path: Path, content_of: Mapping[str, object]) -> Path:
    path.write_text(json.dumps(content_of))
    return path


def submit(card: Path, *arguments: str) -> int | None:
    """Do what `python -m pfnano_tag.submit` does."""
    options = parser().parse_args([arguments[0], str(card), *arguments[1:]])
    return run(read_card(card, options.set), options)


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was said since the last time, and show it in the output of the run."""
    said = capsys.readouterr().out
    with capsys.disabled():
        print(f"\n{said}")
    return said


def until(found: Callable[[], bool], told: Callable[[], object]) -> None:
    """Wait for something, and tell what there is instead when it does not come."""
    end = time.monotonic() + BOUND
    while not found():
        assert time.monotonic() < end, told()
        time.sleep(0.3)


def conditions(card: Card, job: JobFolder) -> dict[int, str]:
    """Return the condition of each item."""
    return {item.index: item.condition for item in status_of(card, job).items}


def wait_for(card: Card, job: JobFolder, expected: Mapping[int, str]) -> None:
    """Wait until items are in given conditions."""
    until(lambda: expected.items() <= conditions(card, job).items(), lambda: f"{conditions(card, job)}\n{logs(job)}")


def logs(job: JobFolder) -> str:
    """Return the ends of the logs of a job folder."""
    paths = sorted([*job.path.glob("items/*/log.txt"), *job.path.glob("logs/*")])
    return "\n".join(
        f"{path.relative_to(job.path)}: {line}"
        for path in paths
        for line in path.read_text(errors="replace").splitlines()[-6:]
    )


def shared_and_put_together(card: Card, job: JobFolder, folder: Path) -> bool:
    """Return whether several jobs had chunks of each file of a chain, and made of them what one job makes."""
    chunks: dict[str, list[int]] = {}
    for item in status_of(card, job).items:
        assert item.chunks is not None
        chunks.setdefault(item.name.partition(" part ")[0], []).append(item.chunks[0])
    assert sorted(chunks) == ["data/data", "mc/mc"]
    assert all(len(counts) == 2 and min(counts) > 0 for counts in chunks.values()), chunks
    file = str(card.folder / "data" / "mc.root")
    direct = analyze.run(card, "mc", file, folder / "direct.root")
    return same([analysis_path(card, "mc", file)], [direct], card)


def same(first: list[Path], second: list[Path], card: Card) -> bool:
    """Return whether two sets of outputs of dataset `mc` merge to the same, to the last bit."""
    with (
        Merger([DatasetJobs(card.dataset("mc"), tuple(first))]) as one,
        Merger([DatasetJobs(card.dataset("mc"), tuple(second))]) as other,
    ):
        assert list(one.variables) == list(other.variables) != []
        for name in one.variables:
            rows, others = one.merged(name, {"mc": 2.0}), other.merged(name, {"mc": 2.0})
            assert rows.keys() == others.keys()
            if not all(np.array_equal(a, b) for key in rows for a, b in zip(rows[key], others[key], strict=True)):
                return False
    return True
