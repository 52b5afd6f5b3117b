"""Scores as awkward arrays, and the example of the documents."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from pfnano_tag.card.card import Card
from pfnano_tag.infer import stage
from pfnano_tag.infer.jagged import infer, scored
from pfnano_tag.infer.networks import load_networks
from pfnano_tag.nano.reader import PFNanoFile
from tests.analyze.events_file import content, write
from tests.analyze.networks import save

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "inference.md"


@pytest.fixture
def card(tmp_path):
    for seed, name in enumerate("ab"):
        save(tmp_path, name, seed)
    return Card.model_validate(
        {
            "study": {"name": "test", "folder": str(tmp_path)},
            "datasets": [{"name": "other", "files": ["other.root"], "kind": "mc", "roles": ["train"]}],
            "models": {name: {"architecture": "deepsets"} for name in "ab"},
        }
    )


def test_as_in_the_friend_tree(card, tmp_path):
    path = write(tmp_path / "mc.root", content("mc", 3))
    stage.run(card, str(path), None, tmp_path / "f.root", acceptance=True)
    with uproot.open(tmp_path / "f.root") as friend:
        tree = friend["Friends"].arrays()
    networks = load_networks(card, None)
    with PFNanoFile(path) as file:
        parts = [
            infer(card, networks, file.chunk(*edges), acceptance=True) for edges in ((0, 50), (50, 50), (50, 240))
        ]
    assert [len(part) for part in parts] == [50, 0, 190]
    scores = ak.concatenate(parts)
    assert ak.num(scores).to_list() == tree["nJet"].to_list()
    assert str(scores.type).startswith("240 * var * {a_b: float32, ")
    assert {f"Jet_{name}" for name in scores.fields} | {"nJet"} == set(tree.fields)
    for name in scores.fields:
        assert ak.max(abs(scores[name] - tree[f"Jet_{name}"])) < 1e-6
    has = scored(scores)
    assert 0 < ak.sum(has) < ak.sum(ak.num(scores))
    assert ak.all(scores.b_c[~has] == -1)


def test_events_without_jets(card, tmp_path):
    branches = content("mc", 1, 30)
    for name in branches:
        if name.startswith(("Jet_", "JetPFCands_", "JetSVs_", "PFCands_", "SV_")):
            branches[name] = branches[name][:, :0]
    with PFNanoFile(write(tmp_path / "none.root", branches)) as file:
        scores = infer(card, load_networks(card, ["a"]), file.chunk(0, 30))
    assert ak.num(scores).to_list() == [0] * 30
    assert "a_b" in scores.fields


def test_the_example_runs_as_it_stands(small_study, generated_mc, tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL).group(1)
    shutil.copy(small_study / "card.yaml", tmp_path / "card.yaml")
    (tmp_path / "ttbar.root").symlink_to(generated_mc)
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(code, found)
    said = re.search(r"print\(scores.fields\)  # (.*)", code).group(1)
    assert capsys.readouterr().out.strip() == str(said.split(", "))
    assert len(found["scores"]) == len(found["harder"]) == 100
    assert 0 < ak.sum(found["tagged"]) < ak.sum(found["jets"])
    assert 0 < ak.count(found["harder"].small_b) < ak.sum(found["jets"])
    assert np.isclose(found["pt"].values.size, ak.sum(found["jets"]))
