"""Batches of inference: every jet once, so many constituents at most."""

import pytest
import torch
from synthetic import features, random_jets

from pfnano_tag.infer import prediction
from pfnano_tag.infer.prediction import inference_batches
from pfnano_tag.models.registry import build


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("batch_size", [7, 512])
def test_batches_hold_every_jet_once_and_fewer_constituents_where_gradients_are_wanted(
    gradient, batch_size, monkeypatch
):
    monkeypatch.setattr(prediction, "LARGEST_TOKENS", 200)
    monkeypatch.setattr(prediction, "LARGEST_TOKENS_OF_GRADIENT", 60)
    arguments = {"embed": [8], "heads": 2, "blocks": 1, "class_blocks": 1}
    module, flat = build("particle_transformer", arguments, features(), 6), random_jets(300)
    batches = inference_batches(module, flat, batch_size, gradient)
    assert torch.cat(batches).sort().values.tolist() == list(range(300))
    slots = [len(indices) * int(flat.lengths[indices].max()) for indices in batches]
    assert max(slots) <= (60 if gradient else 200)
    assert max(len(indices) for indices in batches) <= batch_size
    if batch_size == 512:
        assert max(slots) > (30 if gradient else 100)
