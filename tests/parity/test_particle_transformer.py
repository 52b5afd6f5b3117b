"""Our Particle Transformer against the outputs of weaver-core's with the same weights (`weaver_reference.py`)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.sides.weaver_names import name_in_weaver, unused
from pfnano_tag.models.registry import build

ARGUMENTS = {"embed": [12, 16, 8], "pair": [6, 6], "heads": 2, "blocks": 2, "class_blocks": 2, "jet_inputs": False}
EMBEDDINGS = {"part": {"pf": "embed"}, "tagger": {"pf": "pf_embed", "sv": "sv_embed"}}
FEATURES = {"pf": 5, "sv": 3}


def load(kind, version):
    with np.load(Path(__file__).with_name(f"weaver_{kind}_{version}.npz")) as file:
        content = {name: torch.from_numpy(file[name]) for name in file.files}
    weights = {name.removeprefix("weight/"): values for name, values in content.items() if name.startswith("weight/")}
    groups = list(EMBEDDINGS[kind])
    inputs = [{group: content[f"{group}/{part}"] for group in groups} for part in ("x", "mask", "v")]
    return weights, inputs, content["double"], content["single"]


def network(kind, version, weights):
    features = {"jet": 2} | {group: FEATURES[group] for group in EMBEDDINGS[kind]}
    module = build("particle_transformer", ARGUMENTS | {"version": version}, features, 4).double().eval()
    state = module.state_dict()
    assert unused(weights, state, EMBEDDINGS[kind]) == []
    for name, values in state.items():
        if not name.endswith("most_rows"):  # a counter of ours
            values.copy_(weights[name_in_weaver(name, EMBEDDINGS[kind])].reshape(values.shape))
    return module


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("kind", ["part", "tagger"])
def test_outputs_are_weavers(kind, version):
    weights, (x, mask, vectors), double, single = load(kind, version)
    module = network(kind, version, weights)
    for output, dtype, tolerance in ((double, torch.float64, 1e-11), (single, torch.float32, 1e-5)):
        module.to(dtype)
        jets = torch.zeros(len(output), 2, dtype=dtype)
        moved = [{name: values.to(dtype) for name, values in part.items()} for part in (x, vectors)]
        with torch.no_grad():
            found = module(jets, moved[0], mask, moved[1])
        assert output.abs().max() > 1
        torch.testing.assert_close(found, output, rtol=0, atol=tolerance)


def test_the_published_network_has_its_number_of_parameters():
    """17 inputs, 10 classes (arXiv:2202.03772; weaver-core's default)."""
    module = build("particle_transformer", {"jet_inputs": False}, {"jet": 6, "charged": 17}, 10)
    assert sum(parameter.numel() for parameter in module.parameters()) == 2_143_486
