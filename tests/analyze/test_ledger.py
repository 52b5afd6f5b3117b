"""The ledger: same key continues, another key starts anew, damage is noticed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pfnano_tag.analyze.ledger import Ledger, locked
from pfnano_tag.card.hashing import content_hash
from pfnano_tag.errors import OutputError

PLAN = ((0, 10), (10, 25))


def ledger(folder, **content):
    content = {"file": "a", **content}
    return Ledger(folder, content_hash(content), content)


@pytest.fixture
def folder(tmp_path):
    with locked(tmp_path / "h.root") as made:
        yield made


def test_same_key_keeps_plan_and_chunks(folder):
    first = ledger(folder)
    first.start(PLAN)
    first.save(1, {"sums": np.array([0.1, 0.2])})
    again = ledger(folder)
    again.start(((0, 25),))  # another chunk size now: the plan stays
    assert again.plan == PLAN
    assert again.load(0) is None
    assert again.load(1)["sums"].tolist() == [0.1, 0.2]


def test_another_key_starts_anew_and_says_what_changed(folder, caplog):
    first = ledger(folder, models={"a": 1})
    first.start(PLAN)
    first.save(0, {"sums": np.zeros(1)})
    with caplog.at_level("INFO"):
        other = ledger(folder, models={"a": 2})
    assert "models changed" in caplog.text
    other.start(((0, 25),))
    assert other.plan == ((0, 25),)
    assert other.load(0) is None


def test_damaged_chunk_is_done_again(folder):
    made = ledger(folder)
    made.start(PLAN)
    made.save(0, {"sums": np.arange(1000.0)})
    path = folder / "chunk_00000.npz"
    path.write_bytes(path.read_bytes()[:-500])
    assert made.load(0) is None
    made.save(0, {"sums": np.arange(1000.0)})
    content = bytearray(path.read_bytes())
    content[500] ^= 0xFF
    path.write_bytes(content)
    assert made.load(0) is None


def test_damaged_plan_is_done_again(folder):
    ledger(folder).start(PLAN)
    (folder / "plan.json").write_text("{")
    assert not ledger(folder).known


def test_finished_only_while_the_output_is_untouched(folder, tmp_path):
    output = tmp_path / "h.root"
    output.write_text("content")
    made = ledger(folder)
    made.start(PLAN)
    made.save(0, {"sums": np.zeros(1)})
    assert not made.is_finished(output)
    made.finish(output)
    assert ledger(folder).is_finished(output)
    assert made.load(0) is None
    assert json.loads((folder / "plan.json").read_text())["plan"] == [list(chunk) for chunk in PLAN]
    output.write_text("altered")
    assert not ledger(folder).is_finished(output)
    output.unlink()
    assert not ledger(folder).is_finished(output)


def test_second_job_on_one_output_is_refused(tmp_path):
    with (
        locked(tmp_path / "h.root"),
        pytest.raises(OutputError, match="another job is writing"),
        locked(tmp_path / "h.root"),
    ):
        pass
    with locked(tmp_path / "h.root"):
        pass
