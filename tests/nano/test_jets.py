"""JetTable: selecting and concatenating against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfnano_tag.nano.columns import offsets_of
from pfnano_tag.nano.jets import ConstituentTable, JetTable


def table(counts, seed=0):
    rng = np.random.default_rng(seed)
    n, offsets = len(counts), offsets_of(np.array(counts, dtype=np.int64))
    values = rng.normal(size=offsets[-1]).astype(np.float32)
    return JetTable(
        jet={"pt": rng.uniform(20, 100, n).astype(np.float32)},
        groups={"charged": ConstituentTable({"ptrel": values}, offsets)},
        event=np.arange(n) // 2,
        row=np.arange(n),
        default={"charged/ptrel": values > 0, "jet/pt": rng.random(n) > 0.5},
        non_finite={"charged/ptrel": 1},
    )


def as_lists(t):
    o = t.groups["charged"].offsets
    values, masks = t.column("charged/ptrel"), t.default_mask("charged/ptrel")
    return [
        (t.jet["pt"][i], t.event[i], t.row[i], t.default_mask("jet/pt")[i],
         list(values[o[i]:o[i + 1]]), list(masks[o[i]:o[i + 1]]))
        for i in range(len(t))
    ]  # fmt: skip


counts_strategy = st.lists(st.integers(0, 4), min_size=1, max_size=10)


@given(counts_strategy, st.data())
def test_select_by_index_and_mask(counts, data):
    t = table(counts)
    index = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=8))
    rows = as_lists(t)
    assert as_lists(t.select(np.array(index, dtype=np.int64))) == [rows[i] for i in index]
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(counts), max_size=len(counts))))
    assert as_lists(t.select(mask)) == [row for row, kept in zip(rows, mask, strict=True) if kept]


@given(counts_strategy, st.data())
def test_split_and_concatenate_is_identity(counts, data):
    t = table(counts)
    cut = data.draw(st.integers(0, len(counts)))
    parts = [t.select(np.arange(0, cut)), t.select(np.arange(cut, len(counts)))]
    joined = JetTable.concatenate(parts)
    assert as_lists(joined) == as_lists(t)
    assert joined.groups["charged"].offsets.dtype == np.int64


def test_masks_that_only_one_part_has():
    first, second = table([1, 2]), table([3], seed=1)
    bare = JetTable(second.jet, second.groups, second.event, second.row)
    joined = JetTable.concatenate([first, bare])
    assert joined.default_mask("charged/ptrel").tolist() == [*first.default["charged/ptrel"].tolist(), *[False] * 3]


def test_nothing_to_concatenate():
    with pytest.raises(ValueError, match="no table"):
        JetTable.concatenate([])
