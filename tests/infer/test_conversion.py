"""Conversion: the same numbers as a plain computation, feature by feature."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pfnano_tag.errors import CheckpointError
from pfnano_tag.infer.conversion import (
    common_candidate_pt,
    to_inputs,
    union_of_caps,
    union_of_droppable,
    union_of_features,
)
from pfnano_tag.nano.columns import offsets_of
from pfnano_tag.nano.jets import VECTOR, ConstituentTable, JetTable
from pfnano_tag.nano.schema import FEATURES
from pfnano_tag.prepare import scaled
from pfnano_tag.prepare.inputs import InputFeature, InputSpec

IDS = {
    "jet": ("pt", "eta", "nsv"),
    "charged": ("trackSip3dVal", "trackSip3dSig", "ptrel", "chi2"),
    "neutral": ("HadFrac", "puppiw"),
    "sv": ("mass",),
}
CAPS = {"charged": 4, "neutral": 25, "sv": 5}


def spec(**changes):
    rng = np.random.default_rng(1)

    def feature(group, name):
        known = FEATURES[f"{group}/{name}"]
        live = name != "HadFrac"
        return InputFeature(
            id=known.id, name=name, transform=known.transform, mean=float(rng.normal()) if live else 0.0,
            std=float(rng.uniform(0.1, 3)) if live else 1.0, default=float(rng.uniform(-5, -1)) if live else 0.0,
            protected=known.protected, integer=known.integer, live=live,
        )  # fmt: skip

    groups = {group: tuple(feature(group, name) for name in names) for group, names in IDS.items()}
    return replace(InputSpec("constituents", groups, CAPS, 0.95), **changes)


def table(jets=37, seed=0, most=7):
    rng = np.random.default_rng(seed)
    groups = {}
    default = {}
    for group in ("charged", "neutral", "sv"):
        counts = rng.integers(0, most, jets)
        n = int(counts.sum())
        columns = {name: rng.lognormal(0, 2, n).astype("f4") - 1 for name in (*IDS[group], *VECTOR)}
        groups[group] = ConstituentTable(columns, offsets_of(counts))
        default[f"{group}/{IDS[group][0]}"] = rng.random(n) < 0.3
    jet = {name: rng.lognormal(0, 1, jets).astype("f4") for name in IDS["jet"]}
    default["jet/nsv"] = rng.random(jets) < 0.2
    default["neutral/HadFrac"] = np.ones(len(groups["neutral"].columns["HadFrac"]), dtype=bool)
    return JetTable(jet, groups, np.arange(jets), np.arange(jets), default)


def twin(feature, values, mask):
    """One feature in float64, one value at a time."""
    scale = {"none": None, "log": 1.0, "log100": 100.0}[feature.transform]
    out = []
    for value, placeholder in zip(values.astype(float), mask, strict=True):
        if not feature.live:
            out.append(0.0)
        elif placeholder:
            out.append(feature.default)
        else:
            moved = value if scale is None else np.sign(value) * np.log(1 + scale * abs(value))
            out.append((moved - feature.mean) / feature.std)
    return np.array(out)


@pytest.mark.parametrize("block", [3, 1 << 14])
def test_equals_a_plain_computation(monkeypatch, block):
    monkeypatch.setattr(scaled, "BLOCK", block)
    jets, inputs = table(), spec(caps={"charged": 25, "neutral": 25, "sv": 25})
    flat = to_inputs(jets, inputs)
    assert list(flat.groups) == ["charged", "neutral", "sv"]
    found = {"jet": (flat.jet_JF, flat.jet_default_JF)}
    found |= {name: (group.x_NF, group.default_NF) for name, group in flat.groups.items()}
    for group, features in inputs.groups.items():
        x, default = found[group]
        assert x.dtype == torch.float32
        assert default.dtype == torch.bool
        assert x.is_contiguous()
        for i, feature in enumerate(features):
            mask = jets.default_mask(feature.id)
            assert np.array_equal(default[:, i], mask | (not feature.live))
            assert np.allclose(x[:, i], twin(feature, jets.column(feature.id), mask), rtol=2e-5, atol=2e-6)
    for name, group in flat.groups.items():
        assert np.array_equal(group.offsets, jets.groups[name].offsets)
        assert np.array_equal(group.vectors_N4, np.stack([jets.groups[name].columns[v] for v in VECTOR], axis=1))


def test_feature_that_was_never_live_is_zero_whatever_the_file_says():
    jets = table()
    del jets.default["neutral/HadFrac"]
    group = to_inputs(jets, spec()).groups["neutral"]
    assert (group.x_NF[:, 0] == 0).all()
    assert group.default_NF[:, 0].all()


def test_truncation_keeps_the_first_constituents():
    jets, inputs = table(), spec()
    group = to_inputs(jets, inputs).groups["charged"]
    full = to_inputs(jets, replace(inputs, caps={**CAPS, "charged": 100})).groups["charged"]
    assert int(group.counts.max()) == 4 < int(full.counts.max())
    for j in range(len(jets)):
        start, length = int(full.offsets[j]), int(group.counts[j])
        mine = slice(int(group.offsets[j]), int(group.offsets[j + 1]))
        assert torch.equal(group.x_NF[mine], full.x_NF[start : start + length])
        assert torch.equal(group.default_NF[mine], full.default_NF[start : start + length])
        assert torch.equal(group.vectors_N4[mine], full.vectors_N4[start : start + length])
    assert torch.equal(group.counts, full.counts.clamp(max=4))


def test_selecting_before_or_after_conversion_is_the_same():
    jets, inputs = table(), spec()
    chosen = np.array([5, 2, 30, 2])
    before, after = to_inputs(jets.select(chosen), inputs), to_inputs(jets, inputs).select(torch.from_numpy(chosen))
    assert torch.equal(before.jet_JF, after.jet_JF)
    for name, group in before.groups.items():
        assert torch.equal(group.x_NF, after.groups[name].x_NF)
        assert torch.equal(group.offsets, after.groups[name].offsets)


def test_no_jets_and_no_constituents():
    none = to_inputs(table(0), spec())
    assert none.jet_JF.shape == (0, 3)
    assert none.groups["charged"].x_NF.shape == (0, 4)
    bare = to_inputs(table(3, most=1), spec(), vectors=False)
    assert bare.groups["sv"].offsets.tolist() == [0, 0, 0, 0]
    assert bare.groups["sv"].vectors_N4 is None


def test_unions_of_several_networks():
    first = spec()
    second = replace(
        first, groups={"jet": first.groups["jet"][::-1][:1]}, caps={"charged": 30, "sv": 2}, droppable=("jet/nsv",)
    )
    assert union_of_features([second, first]) == tuple(f"{g}/{n}" for g in IDS for n in IDS[g])
    assert union_of_features([second]) == ("jet/nsv",)
    assert union_of_droppable([first, second]) == ("neutral/HadFrac",)
    assert union_of_droppable([second]) == ("jet/nsv",)
    assert union_of_caps([first, second]) == {"charged": 30, "neutral": 25, "sv": 5}
    assert common_candidate_pt({"a": first, "b": second}) == 0.95
    with pytest.raises(CheckpointError, match="a 0.95 GeV, b 0.5 GeV"):
        common_candidate_pt({"a": first, "b": replace(second, candidate_pt=0.5)})
