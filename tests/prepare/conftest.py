"""Two small random files, and cards on them."""

from __future__ import annotations

import pytest

from pfnano_tag.card.card import Card
from tests.prepare.candidates_file import content, write


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("random")
    return [write(folder / f"sample_{seed}.root", content(seed)) for seed in (1, 2)]


@pytest.fixture
def card_on(tmp_path):
    def make(paths, folder="study", **sections):
        sample = {"name": "sample", "files": [str(path) for path in paths], "kind": "mc", "roles": ["train"]}
        sections.setdefault("datasets", [sample])
        return Card.model_validate({"study": {"name": "test", "folder": tmp_path / folder}, **sections})

    return make
