"""One chunk of events for the tests of layouts, and a function that writes it in any of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def chunk():
    """150 top-pair events with AK8 jets, in full precision."""
    for library in ("pythia8mc", "fastjet"):
        pytest.importorskip(library, reason="the extra `generate` is not installed")
    from pfnano_tag.generate.hard_events import HardEvents
    from pfnano_tag.generate.production import pool_for
    from pfnano_tag.generate.response import response_of
    from pfnano_tag.generate.simulation import Choices, identity, simulate
    from pfnano_tag.generate.units import Unit

    unit = Unit("ttbar", 150, 4)
    record, weights = HardEvents(unit, np.random.SeedSequence(unit.entropy())).take(unit.events)
    choices, rng = Choices(fat_jets=True), np.random.default_rng(8)
    made = simulate(record, weights, pool_for("mc", 4, 60), response_of("mc"), choices, rng)
    return made.with_scalars(identity("mc", 1, 0, 0, unit.events, unit.events))


@pytest.fixture(scope="session")
def write(chunk, tmp_path_factory) -> Callable[..., Path]:
    """Return a function that writes the chunk twice: (layout, container="ttree", fat_jets=False) -> path."""
    from pfnano_tag.generate.layouts import LAYOUTS
    from pfnano_tag.generate.writing import FileWriter

    done: dict[tuple[str, str, bool], Path] = {}
    folder = tmp_path_factory.mktemp("layouts")

    def written(name: str, container: str = "ttree", fat_jets: bool = False) -> Path:
        key = (name, container, fat_jets)
        if key not in done:
            layout = LAYOUTS[name]
            path = folder / f"{name}_{container}_{fat_jets}.root"
            writer = FileWriter(path, layout, layout.types("mc", fat_jets), container=container)
            for _ in range(2):
                writer.add(*layout.content(chunk))
            runs = {"run": np.ones(1, np.uint32), "genEventCount": np.array([300]), "genEventSumw": np.array([300.0])}
            writer.close(np.ones((1, 2), np.int64), runs, {"generator": "pfnano_tag"})
            done[key] = path
        return done[key]

    return written
