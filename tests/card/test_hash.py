"""Hashes identify content: stable, section by section, and binding for a study folder."""

import json

import pytest

from pfnano_tag.card import Card, read_card
from pfnano_tag.card.card import BOUND_SECTIONS
from pfnano_tag.card.folder import analysis_path, bind, model_folder, prepared_path
from pfnano_tag.errors import StudyError

CARD = """
study: {name: small, folder: FOLDER}
datasets: [{name: ttbar, files: [a.root], kind: mc, cross_section: 831.8}]
models: {m: {architecture: deepsets}}
"""
CHANGES = {
    "datasets": "datasets.0.cross_section=800",
    "jets": "jets.pt=[25, 1000]",
    "inputs": "inputs.caps.charged=24",
    "labels": "labels.classes=[b, c, uds, g]",
    "splitting": "splitting.fractions=[0.7, 0.1, 0.2]",
    "scaling": "scaling.transform=none",
    "training": "training.epochs=3",
    "models": "models.m.training.epochs=3",
    "resources": "resources.chunk=32",
    "comparison": "comparison.bins=20",
    "submit": "submit.memory=3000",
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text(CARD.replace("FOLDER", str(tmp_path / "study")), encoding="utf-8")
    return path


def test_spelling_order_and_defaults_do_not_matter(path, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(
        "models:\n  m:\n    architecture: deepsets\n"
        "jets: {lepton_overlap: 4.0e-1, pt: [20, 1.e+3]}\n"
        "datasets:\n- {cross_section: 8.318e2, kind: mc, files: a.root, name: ttbar}\n"
        f"study: {{folder: '{tmp_path / 'study'}', name: 'small', seed: 1}}\n",
        encoding="utf-8",
    )
    assert read_card(other).hash() == read_card(path).hash()


@pytest.mark.parametrize("section", CHANGES)
def test_a_change_changes_its_section_only(path, section):
    before, after = read_card(path), read_card(path, [CHANGES[section]])
    changed = [name for name in Card.model_fields if before.hash(name) != after.hash(name)]
    assert changed == [section]
    assert before.hash() != after.hash()
    others = [name for name in Card.model_fields if name != section]
    assert before.hash(*others) == after.hash(*others)


def test_where_the_study_lies_does_not_matter(path):
    assert read_card(path, ["study.folder=elsewhere"]).hash() == read_card(path).hash()
    assert read_card(path, ["study.seed=2"]).hash("study") != read_card(path).hash("study")


def test_the_order_of_named_sections_does_not_matter(path):
    card = read_card(path)
    assert card.hash("jets", "inputs") == card.hash("inputs", "jets")
    assert card.hash("jets") != card.hash("jets", "inputs")


def test_a_folder_is_bound_to_its_card(path):
    card = read_card(path)
    bind(card)
    content = json.loads((card.folder / "study.json").read_text())
    assert set(content["sections"]) == set(BOUND_SECTIONS)
    bind(read_card(path))


@pytest.mark.parametrize("section", CHANGES)
def test_another_card_is_refused_only_where_it_matters(path, section):
    bind(read_card(path))
    other = read_card(path, [CHANGES[section]])
    if section in BOUND_SECTIONS:
        with pytest.raises(StudyError, match=f"section {section} differs"):
            bind(other)
    else:
        bind(other)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_a_damaged_binding_is_named(path, text):
    card = read_card(path)
    card.folder.mkdir()
    (card.folder / "study.json").write_text(text)
    with pytest.raises(StudyError, match=r"study\.json: can't be read"):
        bind(card)


def test_where_commands_leave_their_files(path):
    card = read_card(path)
    assert prepared_path(card) == card.folder / "prepared.json"
    assert model_folder(card, "m") == card.folder / "models" / "m"
    assert analysis_path(card, "ttbar", "/data/a b.root").parent == card.folder / "analysis" / "ttbar"
