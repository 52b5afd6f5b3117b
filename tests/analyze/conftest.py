"""Small random files, cards on them, and untrained networks."""

from __future__ import annotations

import pytest

from pfnano_tag.card.card import Card
from tests.analyze.events_file import content, write
from tests.analyze.networks import save

REGIONS = {
    "dy_mumu": {"selection": "dy", "lepton": "muon"},
    "dy_ee": {"selection": "dy", "lepton": "electron", "jets": "all"},
    "all": {"selection": "all_jets"},
}


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """One file of simulation and one of data, six clusters each."""
    folder = tmp_path_factory.mktemp("events")
    simulation = write(folder / "mc.root", content("mc", 1), runs=(480, 500.0))
    return {"mc": simulation, "data": write(folder / "data.root", content("data", 2))}


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """A study's folder with two networks."""
    folder = tmp_path_factory.mktemp("study")
    for seed, name in enumerate(("first", "second")):
        save(folder, name, seed)
    return folder


@pytest.fixture
def card_with(study):
    """Cards with datasets `mc` and `data`, networks `first` and `second`, chunks of one cluster."""

    def make(models=("first", "second"), **sections):
        datasets = [
            {"name": "mc", "files": ["mc.root"], "kind": "mc", "cross_section": 2.0, "roles": ["analyze"]},
            {"name": "data", "files": ["data.root"], "kind": "data", "luminosity": 1.0, "roles": ["analyze"]},
        ]
        content = {
            "study": {"name": "test", "folder": str(study)},
            "datasets": datasets,
            "models": {name: {"architecture": "deepsets"} for name in models},
            "regions": REGIONS,
            "comparison": {"replicas": 4},
            "resources": {"chunk": 0.02},
        }
        return Card.model_validate({**content, **sections})

    return make


@pytest.fixture
def moved(card_with, study, tmp_path):
    """Return a function that makes a card whose study is in a folder of its own, with the networks of the others."""

    def make(**sections):
        place = tmp_path / "study"
        place.mkdir(exist_ok=True)
        if not (place / "models").exists():
            (place / "models").symlink_to(study / "models")
        card = card_with(histograms={"variants": ["fgsm"]}, **sections)
        return card.model_copy(update={"study": card.study.model_copy(update={"folder": place})})

    return make
