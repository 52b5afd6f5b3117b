"""`prepared.json`: read back as it was, refused when it is not what it says."""

import json

import pytest

from pfnano_tag.errors import StudyError
from pfnano_tag.prepare import stage
from pfnano_tag.prepare.inputs import InputSpec
from pfnano_tag.prepare.prepared import read_prepared, write_prepared


@pytest.fixture
def written(files, card_on, monkeypatch):
    monkeypatch.setattr("pfnano_tag.prepare.pictures.draw", lambda prepared, folder, text: [])
    card = card_on(files)
    return card, stage.run(card), card.folder / "prepared.json"


def test_round_trip(written, tmp_path):
    card, prepared, path = written
    again = read_prepared(path, card)
    assert again.to_json() == prepared.to_json()
    assert again.inputs == prepared.inputs
    assert again.files == prepared.files
    write_prepared(tmp_path / "again.json", again)
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert path.stat().st_size < 200_000


def test_input_specification_has_every_feature_in_order(written):
    inputs = written[1].inputs
    assert list(inputs.groups) == ["jet", "charged", "neutral", "sv"]
    assert {name: len(group) for name, group in inputs.groups.items()} == {
        "jet": 6,
        "charged": 16,
        "neutral": 7,
        "sv": 14,
    }
    assert inputs.ids[:2] == ("jet/pt", "jet/eta")
    assert InputSpec.from_json(json.loads(json.dumps(inputs.to_json()))) == inputs


def test_another_card_is_refused_where_it_matters(written, files, card_on):
    _, _, path = written
    read_prepared(path, card_on(files, training={"epochs": 3}))
    with pytest.raises(StudyError, match="section reweighting differs"):
        read_prepared(path, card_on(files, reweighting={"target": "flat"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(format="other"), "no prepared study"),
        (lambda content: content.update(format_version=99), "format version 99"),
        (lambda content: content["inputs"].update(candidate_pt=0.1), "does not fit its own hash"),
        (lambda content: content.pop("sha256"), "does not fit its own hash"),
    ],
)
def test_damage_is_refused(written, change, message):
    _, _, path = written
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(StudyError, match=message):
        read_prepared(path)


def test_missing_and_truncated_files_are_refused(written, tmp_path):
    path = written[2]
    path.write_text(path.read_text()[:1000])
    with pytest.raises(StudyError, match="can't be read as JSON"):
        read_prepared(path)
    with pytest.raises(StudyError, match="run `python -m pfnano_tag.prepare` first"):
        read_prepared(tmp_path / "nothing.json")
    path.write_text("[]")
    with pytest.raises(StudyError, match="no prepared study"):
        read_prepared(path)
