"""The table of faults that the documents show."""

from __future__ import annotations

from benchmarks.faults import OF_COFFEA, Bench, all_rows, table


def test_every_fault_is_survived_as_promised(tmp_path):
    rows = all_rows(Bench(tmp_path), 2)
    assert [row.fault for row in rows if not row.same] == []
    text = table(rows)
    assert "WRONG" not in text
    assert text.count("\n") == len(rows) + 1
    assert {row.coffea for row in rows} == set(OF_COFFEA)
