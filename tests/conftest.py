"""Fixtures shared by all tests: real files, and one generated sample and one trained study for the whole run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# a busy machine fails no test
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# test processes run side by side: one thread each, set before anything numerical is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

CARD = """
study: {{name: small, folder: "{folder}/study"}}
datasets:
- {{name: ttbar, files: "{mc}", kind: mc, cross_section: 831.8}}
- {{name: dy, files: "{dy}", kind: mc, cross_section: 6077.2, roles: [analyze]}}
- {{name: data, files: "{data}", kind: data, luminosity: 0.05, roles: [analyze]}}
labels: {{classes: [b, c, uds, g]}}
models:
  small:
    architecture: deepsets
training: {{epochs: 2, batch_size: 128, learning_rate: 3e-3}}
regions:
  all_jets: {{selection: all_jets}}
  dy: {{selection: dy}}
histograms: {{variants: [fgsm]}}
"""


@pytest.fixture(scope="module", autouse=True)
def table_of_features() -> Iterator[None]:
    """Take the features that a module's cards declare out of the table again: other modules count those in it."""
    from pfnano_tag.nano.schema import FEATURES

    before = dict(FEATURES)
    yield
    FEATURES.clear()
    FEATURES.update(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real CMS files beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder of real CMS files beside the repository")
    return folder


@pytest.fixture(scope="session")
def made_once(tmp_path_factory, request) -> Callable[[str, Callable[[Path], None]], Path]:
    """Return a function that makes a path once for all worker processes of a test run; the others wait."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if hasattr(request.config, "workerinput") else base) / "made_once"
    shared.mkdir(exist_ok=True)

    def make_once(name: str, make: Callable[[Path], None]) -> Path:
        path, done = shared / name, shared / f"{name}.done"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                make(path)
                done.touch()
        return path

    return make_once


@pytest.fixture(scope="session")
def generate_once(made_once) -> Callable[..., Path]:
    """Return a function that makes a small generated file, once per test run."""
    for library in ("pythia8mc", "fastjet"):
        pytest.importorskip(library, reason="the extra `generate` is not installed")
    from pfnano_tag.generate.production import make_file
    from pfnano_tag.generate.units import Unit

    def generate(name: str, **settings: Any) -> Path:
        return made_once(name, lambda path: make_file(Unit(**settings), path))

    return generate


@pytest.fixture(scope="session")
def generated_mc(generate_once) -> Path:
    """400 ttbar events of simulation."""
    return generate_once("ttbar.root", process="ttbar", events=400, seed=1, mode="mc", pool_events=300)


@pytest.fixture(scope="session")
def generated_dy(generate_once) -> Path:
    """300 Drell-Yan events of simulation, with muons."""
    return generate_once("dy.root", process="dy", events=300, seed=1, mode="mc", pool_events=300)


@pytest.fixture(scope="session")
def generated_data(generate_once) -> Path:
    """200 Drell-Yan events in data mode: another tune, another detector response, no truth."""
    return generate_once("data_dy.root", process="dy", events=200, seed=1, mode="data", pool_events=200)


@pytest.fixture(scope="session")
def generated_layouts(generate_once) -> Callable[[str], Path]:
    """Return a function that makes the same 200 ttbar events in a layout."""
    settings = {"process": "ttbar", "events": 200, "seed": 5, "mode": "mc", "pool_events": 200}
    return lambda layout: generate_once(f"{layout}_200.root", layout=layout, **settings)


@pytest.fixture(scope="session")
def small_study(made_once, generated_mc, generated_dy, generated_data) -> Path:
    """Folder with `card.yaml` and `study/`: prepared, a DeepSets `small` trained; not to be changed."""

    def make(folder: Path) -> None:
        from pfnano_tag.card import read_card
        from pfnano_tag.prepare import stage as prepare
        from pfnano_tag.train import stage as train

        text = CARD.format(folder=folder, mc=generated_mc, dy=generated_dy, data=generated_data)
        card_file = folder.with_suffix(".yaml")
        card_file.write_text(text, encoding="utf-8")
        card = read_card(card_file)
        prepare.run(card)
        train.run(card, ["small"])
        card_file.rename(folder / "card.yaml")

    return made_once("small_study", make)
