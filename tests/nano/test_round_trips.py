"""From jets of a file into padded batches of any size and order, and back: nothing lost, nothing moved."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pfnano_tag.models.batch import FlatInputs, GroupInputs, bucketed, collate
from pfnano_tag.nano.columns import offsets_of
from pfnano_tag.nano.features import read_jets
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.schema import features_of
from tests.nano.small_events import make_events, write_events

IDS = features_of("constituents")
CAPS = {"charged": 7, "neutral": 6, "sv": 2}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = write_events(tmp_path_factory.mktemp("events") / "a.root", make_events(seed=41, events=25))
    with PFNanoFile(path) as file:
        chunk = file.chunk(0, file.num_entries)
        return read_jets(chunk, IDS, np.ones(len(chunk["Jet_pt"].values), dtype=bool), CAPS, 0.95)


def flat_inputs(table):
    def group(name):
        ids = [i for i in IDS if i.startswith(f"{name}/")]
        values = np.stack([table.column(i) for i in ids], axis=1)
        default = np.stack([table.default_mask(i) for i in ids], axis=1)
        return GroupInputs(*(torch.from_numpy(a) for a in (values, default, table.groups[name].offsets)))

    jet = torch.from_numpy(np.stack(list(table.jet.values()), axis=1))
    return FlatInputs(jet, torch.zeros_like(jet, dtype=torch.bool), {name: group(name) for name in CAPS})


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 60), seed=st.integers(0, 1000))
def test_group_pad_and_unpad(table, size, seed):
    flat = flat_inputs(table)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 9, (len(table),), generator=generator)  # any lengths: any order of the jets
    batches = bucketed(noise, size)
    back = {name: [None] * len(table) for name in CAPS}
    for indices in batches:
        batch = collate(flat, indices)
        for name, group in batch.groups.items():
            assert group.x_BNF.shape[1] <= CAPS[name]
            for row, jet in enumerate(indices.tolist()):
                assert back[name][jet] is None
                back[name][jet] = group.x_BNF[row][group.mask_BN[row]].numpy()
    for name, constituents in table.groups.items():
        rows = np.concatenate(back[name])
        assert np.array_equal(offsets_of(np.array([len(part) for part in back[name]])), constituents.offsets)
        for k, identifier in enumerate(i for i in IDS if i.startswith(f"{name}/")):
            assert rows[:, k].tobytes() == table.column(identifier).tobytes(), identifier


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_chosen_jets_put_back_in_place_are_the_table(table, data):
    order = np.array(data.draw(st.permutations(range(len(table)))), dtype=np.int64)
    cut = data.draw(st.integers(0, len(table)))
    shuffled = type(table).concatenate([table.select(order[:cut]), table.select(order[cut:])])
    back = shuffled.select(np.argsort(order))
    assert back.row.tolist() == table.row.tolist()
    for identifier in IDS:
        assert back.column(identifier).tobytes() == table.column(identifier).tobytes()
        assert np.array_equal(back.default_mask(identifier), table.default_mask(identifier))
