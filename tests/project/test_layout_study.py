"""A network trained on one layout gives the same scores on the others: the inputs mean the same everywhere."""

import numpy as np
import pytest
import uproot

from pfnano_tag.card import read_card
from pfnano_tag.errors import DataError
from pfnano_tag.infer import stage as infer
from pfnano_tag.prepare import stage as prepare
from pfnano_tag.train import stage as train

CARD = """
study: {{name: layouts, folder: "{folder}"}}
datasets:
- {{name: ttbar, files: "{file}", kind: mc, roles: [train]}}
labels: {{classes: [b, c, uds, g]}}
inputs: {{set: deepjet, droppable: [neutral/HadFrac], caps: {{charged: 25, neutral: 25, sv: 4}}}}
jets: {{lepton_overlap: 0, mix: [types]}}
models: {{small: {{architecture: deepsets}}, pairs: {{architecture: particle_transformer}}}}
training: {{epochs: 3, batch_size: 64, learning_rate: 3e-3}}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, generated_layouts):
    """Card of a study with a network trained on flat DeepJet inputs."""
    folder = tmp_path_factory.mktemp("layout_study")
    path = folder / "card.yaml"
    path.write_text(CARD.format(folder=folder / "study", file=generated_layouts("deepjet")), encoding="utf-8")
    card = read_card(path)
    prepare.run(card)
    train.run(card, ["small"])
    return card


def scores(card, file, output):
    infer.run(card, str(file), ["small"], output)
    with uproot.open(output) as friends:
        branches = friends["Friends"].arrays(filter_name="Jet_small_*", library="ak")
    return np.stack([np.concatenate([list(event) for event in branches[f]]) for f in branches.fields], axis=1)


def test_scores_are_the_same_on_all_layouts(trained, generated_layouts, tmp_path):
    reference = scores(trained, generated_layouts("deepjet"), tmp_path / "deepjet.root")
    assert reference.std(axis=0).min() > 0.02  # it has learned something to disagree about
    tree = scores(trained, generated_layouts("jets"), tmp_path / "jets.root")
    difference = np.abs(tree - reference).max(axis=1)
    assert np.median(difference) < 1e-3  # rounding of what NanoAOD stores
    assert np.quantile(difference, 0.95) < 0.02
    collections = {
        name: scores(trained, generated_layouts(name), tmp_path / f"{name}.root")
        for name in ("candidates", "btvnano")
    }
    np.testing.assert_array_equal(collections["candidates"], collections["btvnano"])
    difference = np.abs(collections["candidates"] - reference).max(axis=1)
    assert np.median(difference) < 0.02  # vertices and the primary vertex's uncertainty are known a little less well
    assert np.corrcoef(collections["candidates"][:, 0], reference[:, 0])[0, 1] > 0.99


def test_a_network_with_pairs_needs_four_vectors(trained):
    with pytest.raises(DataError, match=r"no four-vectors of constituents"):
        train.run(trained, ["pairs"])


def test_jets_of_another_type_are_refused(trained, generated_layouts, tmp_path):
    strict = trained.model_copy(update={"jets": trained.jets.model_copy(update={"mix": ()})})
    with pytest.raises(DataError, match=r"its jets are PUPPI, model 'small' was trained on CHS.*jets.mix=\[types\]"):
        infer.run(strict, str(generated_layouts("btvnano")), ["small"], tmp_path / "x.root")
