import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import features, random_jets

from pfnano_tag.models.batch import FlatInputs, bucketed, collate, shuffled


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


def test_collate_of_jets_without_any_constituents():
    flat = random_jets(5).select(torch.tensor([0, 0]))
    batch = collate(flat, torch.tensor([1, 0]))
    assert {name: group.x_BNF.shape for name, group in batch.groups.items()} == {
        name: (2, 0, size) for name, size in features().items() if name != "jet"
    }


def test_select_and_concatenate_give_the_jets_back():
    flat = random_jets(20, seed=2)
    order = torch.tensor([3, 19, 0, 5])
    picked = flat.select(order)
    again = FlatInputs.concatenate([flat.select(order[:1]), flat.select(order[1:])])
    for name, group in picked.groups.items():
        parts = [flat.groups[name].x_NF[slice(*flat.groups[name].offsets[i : i + 2])] for i in order]
        assert torch.equal(group.x_NF, torch.cat(parts))
        assert torch.equal(again.groups[name].x_NF, group.x_NF)
        assert torch.equal(again.groups[name].offsets, group.offsets)
        assert torch.equal(again.groups[name].vectors_N4, group.vectors_N4)
    mask = torch.zeros(20, dtype=torch.bool)
    mask[order] = True
    assert torch.equal(flat.select(mask).jet_JF, flat.jet_JF[order.sort().values])


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 40), max_size=70),
    batch_size=st.integers(1, 20),
    pool=st.none() | st.integers(1, 4),
    random=st.booleans(),
)
def test_every_jet_is_in_exactly_one_batch(lengths, batch_size, pool, random):
    generator = torch.Generator().manual_seed(3) if random else None
    batches = bucketed(torch.tensor(lengths, dtype=torch.int64), batch_size, generator, pool)
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    mixed = shuffled(len(lengths), batch_size, torch.Generator().manual_seed(3))
    assert sorted(i for batch in mixed for i in batch.tolist()) == list(range(len(lengths)))


def test_buckets_hold_jets_of_similar_length():
    lengths = torch.randint(0, 50, (4096,), generator=torch.Generator().manual_seed(0))
    batches = bucketed(lengths, 128, torch.Generator().manual_seed(1), pool=16)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert padded < 1.15 * int(lengths.sum())


def test_bucketed_refuses_impossible_sizes():
    with pytest.raises(ValueError, match="batch_size 0"):
        bucketed(torch.arange(3), 0)
