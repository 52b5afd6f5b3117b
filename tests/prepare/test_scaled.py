"""Scaled matrices go where the caller wants them; their numbers are tested with the conversion to tensors."""

import numpy as np

from pfnano_tag.nano.jets import ConstituentTable
from pfnano_tag.prepare.scaled import scaled_jets
from tests.infer.test_conversion import spec, table


def test_matrices_are_filled_in_place():
    jets, inputs = table(), spec()
    expected = scaled_jets(jets, inputs)
    given = {}

    def allocate(group, rows, features, vectors):
        wide = np.full((rows, features + 6), np.nan, dtype=np.float32)
        given[group] = wide
        default = np.ones((rows, features), dtype=np.bool_)
        return wide[:, 1 : features + 1], default, wide[:, -4:] if vectors else None

    found = scaled_jets(jets, inputs, allocate=allocate)
    assert np.array_equal(found.jet_JF, expected.jet_JF)
    assert np.array_equal(found.jet_default_JF, expected.jet_default_JF)
    assert np.shares_memory(found.jet_JF, given["jet"])
    for name, group in expected.groups.items():
        assert np.array_equal(found.groups[name].x_NF, group.x_NF)
        assert np.array_equal(found.groups[name].default_NF, group.default_NF)
        assert np.array_equal(found.groups[name].vectors_N4, group.vectors_N4)
        assert np.shares_memory(found.groups[name].x_NF, given[name])


def test_groups_without_four_vectors_have_none():
    jets, inputs = table(), spec()
    columns = {name: values for name, values in jets.groups["sv"].columns.items() if name == "mass"}
    jets.groups["sv"] = ConstituentTable(columns, jets.groups["sv"].offsets)
    found = scaled_jets(jets, inputs)
    assert found.groups["sv"].vectors_N4 is None
    assert found.groups["charged"].vectors_N4 is not None
    assert scaled_jets(jets, inputs, vectors=False).groups["charged"].vectors_N4 is None
