import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import features, random_jets

from pfnano_tag.models.batch import bucketed, collate, padded_rows


def test_collate_equals_a_loop_over_jets():
    flat = random_jets(30, seed=1)
    indices = torch.tensor([7, 0, 29, 7, 3])
    label, weight = torch.arange(30), torch.rand(30)
    batch = collate(flat, indices, label, weight)
    assert torch.equal(batch.label_B, indices)
    assert torch.equal(batch.weight_B, weight[indices])
    for name, group in flat.groups.items():
        padded = batch.groups[name]
        assert padded.x_BNF.shape[1] == int(group.counts[indices].max())
        for row, jet in enumerate(indices.tolist()):
            start, stop = group.offsets[jet : jet + 2].tolist()
            size = stop - start
            assert torch.equal(batch.jet_BF[row], flat.jet_JF[jet])
            assert torch.equal(padded.x_BNF[row, :size], group.x_NF[start:stop])
            assert torch.equal(padded.default_BNF[row, :size], group.default_NF[start:stop])
            assert torch.equal(padded.vectors_BN4[row, :size], group.vectors_N4[start:stop])
            assert padded.mask_BN[row, :size].all()
            assert not padded.mask_BN[row, size:].any()
            assert (padded.x_BNF[row, size:] == 0).all()
            assert padded.default_BNF[row, size:].all()


def test_some_jets_of_a_batch_and_back():
    flat = random_jets(30, seed=1)
    batch = collate(flat, torch.arange(30), torch.arange(30), torch.rand(30))
    chosen = torch.tensor([4, 17, 29])
    some = batch.select(chosen)
    assert torch.equal(some.label_B, chosen)
    assert torch.equal(some.weight_B, batch.weight_B[chosen])
    assert torch.equal(some.groups["sv"].vectors_BN4, batch.groups["sv"].vectors_BN4[chosen])
    other = some.with_inputs(some.jet_BF + 1, {name: group.x_BNF - 1 for name, group in some.groups.items()})
    mixed = batch.with_jets(chosen, other)
    for name, x in mixed.inputs.items():
        for jet in range(30):
            moved = 0.0 if jet not in chosen.tolist() else 1.0 if name == "jet" else -1.0
            assert torch.equal(x[jet], batch.inputs[name][jet] + moved)


def test_collate_of_jets_without_any_constituents():
    flat = random_jets(5).select(torch.tensor([0, 0]))
    batch = collate(flat, torch.tensor([1, 0]))
    assert {name: group.x_BNF.shape for name, group in batch.groups.items()} == {
        name: (2, 0, size) for name, size in features().items() if name != "jet"
    }


def test_select_gives_the_jets_back():
    flat = random_jets(20, seed=2)
    order = torch.tensor([3, 19, 0, 5])
    picked = flat.select(order)
    assert torch.equal(picked.jet_JF, flat.jet_JF[order])
    for name, group in picked.groups.items():
        whole = flat.groups[name]
        assert torch.equal(group.counts, whole.counts[order])
        for mine, theirs in ((group.x_NF, whole.x_NF), (group.vectors_N4, whole.vectors_N4)):
            parts = [theirs[slice(*whole.offsets[i : i + 2])] for i in order]
            assert torch.equal(mine, torch.cat(parts))
    mask = torch.zeros(20, dtype=torch.bool)
    mask[order] = True
    assert torch.equal(flat.select(mask).jet_JF, flat.jet_JF[order.sort().values])


@settings(deadline=None, max_examples=40)
@given(lengths=st.lists(st.integers(0, 40), max_size=70), batch_size=st.integers(1, 20))
def test_every_jet_is_in_exactly_one_batch_and_short_ones_come_first(lengths, batch_size):
    batches = bucketed(torch.tensor(lengths, dtype=torch.int64), batch_size)
    order = [i for batch in batches for i in batch.tolist()]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths)
    assert all(1 <= len(batch) <= batch_size for batch in batches)


def test_padded_rows_equal_a_loop():
    starts, counts = np.array([5, 0, 9, 2]), np.array([2, 0, 3, 1])
    rows, mask = padded_rows(starts, counts)
    assert rows.tolist() == [[5, 6, 0], [0, 0, 0], [9, 10, 11], [2, 0, 0]]
    assert np.array_equal(mask, rows != 0)
    assert padded_rows(starts[:0], counts[:0])[0].shape == (0, 0)


def test_bucketed_refuses_impossible_sizes():
    with pytest.raises(ValueError, match="batch_size 0"):
        bucketed(torch.arange(3), 0)
