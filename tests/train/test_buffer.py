"""Blocks and the jet buffer against plain lists of jets."""

import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import labelled_jets

from pfnano_tag.models.batch import collate
from pfnano_tag.train.blocks import BlockBuilder, constituent_type, jet_type, mapped_block, write_block
from pfnano_tag.train.buffer import JetBuffer
from pfnano_tag.train.dataloader import LabelledInputs, _block


def jets_of(count, seed, vectors=True):
    """Random jets, as tensors and as a block of both splits."""
    jets = labelled_jets(count, seed)
    if not vectors:
        for group in jets.inputs.groups.values():
            object.__setattr__(group, "vectors_N4", None)
    block = _block(jets, "train")
    block.jets["split"] = np.arange(count) % 2
    return jets, block


def same(batch, expected):
    assert torch.equal(batch.jet_BF, expected.jet_BF)
    assert torch.equal(batch.jet_default_BF, expected.jet_default_BF)
    assert torch.equal(batch.label_B, expected.label_B)
    assert torch.equal(batch.weight_B, expected.weight_B)
    assert list(batch.groups) == list(expected.groups)
    for name, group in batch.groups.items():
        other = expected.groups[name]
        assert torch.equal(group.x_BNF, other.x_BNF)
        assert group.x_BNF.is_contiguous()
        assert torch.equal(group.mask_BN, other.mask_BN)
        assert torch.equal(group.default_BNF, other.default_BNF)
        assert (group.vectors_BN4 is None) == (other.vectors_BN4 is None)
        assert group.vectors_BN4 is None or torch.equal(group.vectors_BN4, other.vectors_BN4)


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("expected", [0, 100])
def test_batches_are_those_of_the_jets_put_in(expected, vectors):
    parts = [jets_of(count, seed, vectors) for seed, count in enumerate((30, 1, 25))]
    buffer = JetBuffer(expected, {"charged": 5.5, "neutral": 4.0})
    chosen = np.array([0, 3, 4, 20])
    for jets, (_, block) in zip((None, None, chosen), parts, strict=True):
        buffer.append(block, jets)
    assert len(buffer) == 35
    asked = np.array([34, 2, 30, 0, 31, 2])
    batch = buffer.batch(asked)
    for place, jet in enumerate(asked):
        part, index = (0, jet) if jet < 30 else (1, 0) if jet == 30 else (2, chosen[jet - 31])
        jets = parts[part][0]
        alone = collate(jets.inputs, torch.tensor([index]), jets.label, jets.weight)
        assert torch.equal(batch.jet_BF[place], alone.jet_BF[0])
        assert batch.label_B[place] == alone.label_B[0]
        assert batch.weight_B[place] == alone.weight_B[0]
        total = 0
        for name, group in batch.groups.items():
            count = int(group.mask_BN[place].sum())
            total += count
            assert group.mask_BN[place, :count].all()
            assert torch.equal(group.x_BNF[place, :count], alone.groups[name].x_BNF[0])
            assert torch.equal(group.default_BNF[place, :count], alone.groups[name].default_BNF[0])
            assert (group.x_BNF[place, count:] == 0).all()
            assert group.default_BNF[place, count:].all()
        assert buffer.lengths(asked)[place] == total


def test_a_batch_is_what_collate_makes():
    jets, block = jets_of(40, 7)
    buffer = JetBuffer(10, {})
    buffer.append(block)
    asked = np.array([3, 39, 0, 12])
    same(buffer.batch(asked), collate(jets.inputs, torch.from_numpy(asked), jets.label, jets.weight))


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_closing_up_keeps_the_chosen_jets(data):
    """Blocks come in and jets leave in any order; a list of (block, jet) is the twin."""
    parts = [jets_of(20, seed) for seed in range(3)]
    buffer, twin = JetBuffer(5, {"charged": 1.0}), []
    for _ in range(data.draw(st.integers(1, 5))):
        which = data.draw(st.integers(0, 2))
        buffer.append(parts[which][1])
        twin += [(which, jet) for jet in range(20)]
        kept = sorted(data.draw(st.sets(st.integers(0, len(twin) - 1))))
        buffer.keep(np.array(kept, dtype=np.int64))
        twin = [twin[i] for i in kept]
    assert len(buffer) == len(twin)
    for i in range(0, len(twin), 7):
        jets = parts[twin[i][0]][0]
        expected = collate(jets.inputs, torch.tensor([twin[i][1]]), jets.label, jets.weight)
        same(buffer.batch(np.array([i])), expected)
    if twin:
        batch = buffer.batch(np.arange(len(twin)))
        assert batch.label_B.tolist() == [int(parts[part][0].label[jet]) for part, jet in twin]


def test_a_range_of_jets_as_flat_tensors():
    (first, one), (second, two) = jets_of(12, 1), jets_of(9, 2)
    buffer = JetBuffer(0, {})
    buffer.append(one)
    buffer.append(two)
    for jets, start, stop in ((first, 0, 12), (second, 12, 21)):
        flat = LabelledInputs(*buffer.flat(start, stop))
        everything = torch.arange(len(jets))
        same(
            collate(flat.inputs, everything, flat.label, flat.weight),
            collate(jets.inputs, everything, jets.label, jets.weight),
        )
        assert torch.equal(flat.inputs.lengths, jets.inputs.lengths)
    assert len(LabelledInputs(*buffer.flat(5, 5))) == 0


def test_a_cleared_buffer_is_as_good_as_new():
    jets, block = jets_of(12, 1)
    buffer = JetBuffer(3, {})
    for _ in range(3):
        buffer.clear()
        assert len(buffer) == 0
        buffer.append(block)
        asked = torch.arange(12)
        same(buffer.batch(asked.numpy()), collate(jets.inputs, asked, jets.label, jets.weight))


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_block_comes_back_from_a_file(count, vectors):
    _, block = jets_of(count, 3, vectors)
    with tempfile.TemporaryFile() as file:
        file.write(b"before".ljust(8192))
        length = write_block(block, file)
        assert file.tell() == 8192 + length
        again = mapped_block(file.fileno(), 8192, length)
    assert again.jets.tobytes() == block.jets.tobytes()
    assert again.jets.dtype == block.jets.dtype
    assert list(again.groups) == list(block.groups)
    for name, records in block.groups.items():
        assert again.groups[name].dtype == records.dtype
        assert again.groups[name].tobytes() == records.tobytes()
        assert np.array_equal(again.offsets(name), block.offsets(name))
    assert again.of_split("validation").tolist() == list(range(1, count, 2))


def test_blocks_of_one_builder_take_the_memory_in_turn():
    builder = BlockBuilder(["sv"])
    rng = np.random.default_rng(0)
    before = None
    for jets, vectors in ((30, True), (20, True), (50, True), (50, False)):
        counts = rng.integers(0, 4, jets)
        kept = {}
        for group, rows, features in (("jet", jets, 2), ("sv", int(counts.sum()), 3)):
            x, default, four = builder.allocate(group, rows, features, vectors and group == "sv")
            x[:], default[:] = rng.normal(size=x.shape), rng.random(default.shape) < 0.5
            if four is not None:
                four[:] = rng.normal(size=four.shape)
            kept[group] = x.copy(), default.copy(), None if four is None else four.copy()
        label, split = rng.integers(0, 6, jets), np.zeros(jets, dtype=np.uint8)
        weight = rng.random(jets).astype(np.float32)
        builder.add({"sv": counts}, label, weight, split)
        block = builder.block()
        assert np.array_equal(block.offsets("sv"), [0, *np.cumsum(counts)])
        for group, records in (("jet", block.jets), *block.groups.items()):
            for field, values in zip(("x", "default", "vectors"), kept[group], strict=True):
                assert values is None or np.array_equal(records[field], values)
        assert np.array_equal(block.jets["label"], label)
        assert np.array_equal(block.jets["weight"], weight)
        if jets == 20:
            assert np.shares_memory(block.jets, before)
        before = block.jets


@pytest.mark.parametrize("features", [0, 1, 7, 16])
def test_records_are_whole_words(features):
    for kind in (constituent_type(features, True), constituent_type(features, False), jet_type(features, 3)):
        assert kind.itemsize % 4 == 0
        assert all(kind.fields[name][1] % 4 == 0 for name in ("x", "default"))
