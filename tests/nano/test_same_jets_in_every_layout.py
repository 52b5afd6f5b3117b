"""The same generated events in every layout: the JetTables are held against each other, feature by feature.

The flat layouts are computed by the generator from unrounded tracks with code of its own; the collections are rounded
as NanoAOD rounds, and what isn't stored is derived from them.
"""

import numpy as np
import pytest

from pfnano_tag.card.jets import Jets
from pfnano_tag.nano.features import read_jets
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.schema import FEATURES

LAYOUTS = ("candidates", "btvnano", "deepjet", "jets")
CAPS = {"charged": 25, "neutral": 25, "sv": 4}
ROUNDED = 1.5e-3
"""Relative difference that rounding to 10 bits leaves in a quotient of two values."""
NOT_STORED = {
    "deepjet": {"neutral/etarel", "neutral/phirel", "sv/etarel", "sv/phirel"},
    "candidates": {"neutral/HadFrac"},
    "btvnano": {"neutral/HadFrac"},
    "jets": set(),
}
LOOSE = {
    "charged/trackPtRel": 0.05,  # a small angle between two rounded directions
    "charged/trackDeltaR": 0.05,
    "charged/trackSip2dSig": 0.45,  # collections know the track's uncertainty, not that of the primary vertex
    "charged/drminsv": 0.02,  # vertices below the threshold of NanoAOD's table have a rounded direction
    "neutral/drminsv": 0.02,
}


@pytest.fixture(scope="module")
def tables(generated_layouts):
    """JetTables by layout, of the same events."""

    def table(layout):
        with PFNanoFile(generated_layouts(layout)) as file:
            assert file.layout == layout
            assert file.kind == "mc"
            assert file.jet_type == {"btvnano": "PUPPI", "jets": "unknown"}.get(layout, "CHS")
            missing = {name for name, feature in FEATURES.items() if file.contents.status(feature) == "missing"}
            assert missing == NOT_STORED[layout]
            chunk = file.chunk(0, file.num_entries)
            every = np.ones(len(chunk["Jet_pt"].values), dtype=bool)
            codes = chunk["Jet_FlavSplit"].values if "Jet_FlavSplit" in chunk.branches else None
            return read_jets(chunk, [n for n in FEATURES if n not in missing], every, CAPS, 0.95), codes

    return {layout: table(layout) for layout in LAYOUTS}


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_as_many_jets_and_constituents(tables, layout):
    reference, table = tables["candidates"][0], tables[layout][0]
    assert len(table) == len(reference) > 1000
    for group in CAPS:
        assert table.groups[group].offsets.tolist() == reference.groups[group].offsets.tolist()


def test_run_3_types_give_the_same_bits(tables):
    reference, table = tables["candidates"][0], tables["btvnano"][0]
    for name in FEATURES.keys() - NOT_STORED["btvnano"]:
        np.testing.assert_array_equal(table.column(name), reference.column(name), err_msg=name)
        np.testing.assert_array_equal(table.default_mask(name), reference.default_mask(name), err_msg=name)


def test_flavour_codes_are_the_same(tables):
    tree, flat, run3 = (tables[layout][1] for layout in ("jets", "deepjet", "btvnano"))
    np.testing.assert_array_equal(flat, run3)
    classes = {501: 500, 511: 510, 521: 520, 410: 400, 411: 400, 2: 1, 999: 1000}  # flags don't tell these apart
    np.testing.assert_array_equal(tree, [classes.get(code, code) for code in flat.tolist()])


@pytest.mark.parametrize("layout", ["deepjet", "jets"])
@pytest.mark.parametrize("name", [n for n in FEATURES if n != "neutral/HadFrac"])
def test_feature_is_the_same(tables, layout, name):
    if name in NOT_STORED[layout]:
        pytest.skip("not in this layout")
    reference, table = tables["candidates"][0], tables[layout][0]
    expected, found = _paired(reference, name), _paired(table, name)
    size = np.maximum(np.abs(expected), 1e-3)
    difference = np.abs(found - expected) / size
    limit = LOOSE.get(name, ROUNDED)
    # a few neighbours in pT change places by rounding, and are then compared with each other
    assert (difference < limit).mean() > 0.94, f"median {np.median(difference):.1e}"
    if name == "charged/trackSip2dSig":
        assert np.median(difference) < 0.04
        assert (np.abs(found) <= np.abs(expected) * (1 + ROUNDED)).mean() > 0.99
    masks = [_paired(one, name, mask=True) for one in (reference, table)]
    assert (masks[0] != masks[1]).mean() < 5e-3


def _paired(table, name, mask=False):
    """Return a feature of the constituents of untruncated jets, ordered by what rounding hardly moves."""
    values = table.default_mask(name) if mask else table.column(name)
    group = name.split("/")[0]
    if group in ("jet", "sv"):
        return values
    offsets = table.groups[group].offsets
    key = table.column(f"{group}/ptrel")
    jet = np.repeat(np.arange(len(table)), np.diff(offsets))
    order = np.lexsort([key, jet])
    return values[order][(np.diff(offsets) < CAPS[group])[jet]]


def test_fat_jets_through_the_same_code(generate_once):
    settings = {"process": "ttbar", "events": 100, "seed": 5, "mode": "mc", "pool_events": 200, "fat_jets": True}
    path = generate_once("fat_100.root", **settings)
    with PFNanoFile(path, Jets(collection="FatJet")) as file:
        assert (file.layout, file.jet_type) == ("candidates", "AK8")
        chunk = file.chunk(0, file.num_entries)
        pt = chunk["Jet_pt"]
        table = read_jets(
            chunk, ["jet/pt", "jet/nCpfcand", "charged/trackDeltaR", "sv/mass"], pt.values > 200, CAPS, 0.95
        )
    assert len(table) > 10
    assert (table.jet["pt"] > 200).all()
    assert 0.4 < table.groups["charged"].columns["trackDeltaR"].max() < 1.1
    assert table.jet["nCpfcand"].mean() > 8
