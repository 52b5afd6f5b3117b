"""The job of the tests of `analyze`, on files of twenty chunks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # `benchmarks` is no part of the package

from pfnano_tag.analyze import stage
from tests.analyze.conftest import card_with, study  # noqa: F401 (fixtures)
from tests.analyze.events_file import content, write

CHUNKS = 20


@pytest.fixture(scope="session")
def twenty(tmp_path_factory):
    """One file of simulation and one of data, twenty clusters of twelve events each."""
    folder = tmp_path_factory.mktemp("twenty")
    simulation = write(folder / "mc.root", content("mc", 5), cluster=12, runs=(480, 500.0))
    return {"mc": simulation, "data": write(folder / "data.root", content("data", 6), cluster=12)}


@pytest.fixture
def card(card_with):  # noqa: F811
    """Two networks, nominal and attacked, chunks of one cluster."""
    return card_with(resources={"chunk": 0.006}, histograms={"variants": ["fgsm"]})


@pytest.fixture
def undisturbed(card, twenty, tmp_path):
    """The result of a job that nothing happens to."""
    return stage.run(card, "mc", str(twenty["mc"]), tmp_path / "undisturbed.root")
