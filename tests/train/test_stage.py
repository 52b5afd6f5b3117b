"""From the card to the model folders, with jets that were never on a disk."""

import numpy as np
import pytest
import torch
from synthetic import CLASSES, specification

from pfnano_tag.card import read_card
from pfnano_tag.card.models import Model
from pfnano_tag.card.training import Training
from pfnano_tag.errors import CardError, CheckpointError, DataError, OutputError, StudyError
from pfnano_tag.infer.bookkeeping import find_checkpoint, load_checkpoint
from pfnano_tag.models.losses import LOSSES
from pfnano_tag.models.registry import ARCHITECTURES
from pfnano_tag.nano.jets import VECTOR, ConstituentTable, JetTable
from pfnano_tag.prepare.defaults import DefaultCounts
from pfnano_tag.prepare.prepared import SECTIONS, FileRecord, Prepared, write_prepared
from pfnano_tag.prepare.reweighting import WeightTables
from pfnano_tag.prepare.sample import LabelledJets
from pfnano_tag.train import loading, stage
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.weight_lookup import weight_column

CARD = """
study: {{name: synthetic, folder: {folder}}}
datasets: [{{name: mc, files: [nowhere.root], kind: mc, roles: [train]}}]
training: {{epochs: 2, batch_size: 64, schedule: constant}}
models:
  plain: {{architecture: deepsets, arguments: {{phi: [8], rho: [8]}}}}
  hardened: {{architecture: deepsets, arguments: {{phi: [8], rho: [8]}}, training: {{attack: fgsm}}}}
"""

PT_EDGES, ETA_EDGES = (20.0, 50.0, 1000.0), (-2.5, 0.0, 2.5)


def chunk(seed, count=120):
    """Unscaled jets in both splits and the test split."""
    rng = np.random.default_rng(seed)
    spec = specification()
    label = rng.integers(0, len(CLASSES), count)
    groups = {}
    for group in ("charged", "neutral", "sv"):
        counts = rng.integers(0, 5, count)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        names = [feature.name for feature in spec.groups[group]]
        columns = {name: rng.normal(size=offsets[-1]).astype(np.float32) for name in (*names, *VECTOR)}
        columns["energy"] = np.sqrt(sum(columns[c] ** 2 for c in VECTOR[:3]) + 0.02).astype(np.float32)
        groups[group] = ConstituentTable(columns, offsets)
    jet = {
        "pt": rng.uniform(20, 200, count).astype(np.float32),
        "eta": (rng.uniform(-2, 2, count) * (1 + label) / 6).astype(np.float32),
        "nCpfcand": groups["charged"].counts.astype(np.float32),
    }
    table = JetTable(jet, groups, np.arange(count), np.arange(count))
    split = np.repeat(np.array([0, 1, 2], np.uint8), [count // 2, count // 4, count - count // 2 - count // 4])
    return LabelledJets(table, label, split, np.ones(count), np.arange(count, dtype=np.uint64), "mc")


def weight_tables():
    weights = 1 + np.arange(len(CLASSES) * 4, dtype=np.float64).reshape(len(CLASSES), 2, 2) / 10
    return WeightTables(PT_EDGES, ETA_EDGES, weights, np.ones(weights.shape, np.int64))


def prepared_for(card, jets=(60, 30, 30)):
    spec = specification()
    share = [dict.fromkeys(CLASSES, 2 * count // 6) for count in jets]
    return Prepared(
        study="synthetic",
        sections={name: card.hash(name) for name in SECTIONS},
        classes=CLASSES,
        merged={},
        inputs=spec,
        weights=weight_tables(),
        files=(FileRecord("nowhere.root", "mc", "id", 240, ((0, 120), (120, 240)), ()),),
        jets={"mc": dict(zip(("train", "validation", "test"), share, strict=True))},
        events={"mc": dict.fromkeys(("train", "validation", "test"), 10)},
        sumw={"mc": dict.fromkeys(("train", "validation", "test"), 10.0)},
        cutflow={},
        defaults={feature.id: DefaultCounts(480, 0, 0) for feature in spec.features},
        weightless={},
    )


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A card with a prepared study whose files are two synthetic chunks."""
    path = tmp_path / "card.yaml"
    path.write_text(CARD.format(folder=tmp_path / "out"))
    card = read_card(str(path))
    write_prepared(card.folder / "prepared.json", prepared_for(card))
    monkeypatch.setattr(loading, "training_jets", lambda card, prepared, splits: iter([chunk(1), chunk(2)]))
    threads = torch.get_num_threads()
    yield card
    torch.set_num_threads(threads)


def test_all_models_of_the_card_are_trained_and_can_be_applied(study):
    stage.run(study)
    for name in ("plain", "hardened"):
        tagger = load_checkpoint(find_checkpoint(study, name))
        assert tagger.inputs == specification()
        assert tagger.classes == CLASSES
        assert tagger.training["card"] == study.hash()
        assert tagger.training["threads"] == study.resources.threads
        assert (tagger.training["attack"] is None) == (name == "plain")
    assert "plain: deepsets" in stage.plan(study)
    assert "(trained already)" in stage.plan(study, ["plain"])


def test_a_trained_model_is_kept_unless_told_otherwise(study):
    stage.run(study, ["plain"])
    before = load_checkpoint(find_checkpoint(study, "plain:last"))
    with pytest.raises(OutputError, match=r"trained already; --resume .* --overwrite"):
        stage.run(study)
    assert not (study.folder / "models" / "hardened").exists()
    longer = study.model_copy(update={"training": study.training.model_copy(update={"epochs": 3})})
    stage.run(longer, ["plain"], resume=True)
    resumed = load_checkpoint(find_checkpoint(study, "plain:last"))
    assert (before.epoch, resumed.epoch) == (2, 3)
    stage.run(study, ["plain"], overwrite=True)
    again = load_checkpoint(find_checkpoint(study, "plain:last"))
    assert again.hash == before.hash
    stage.run(longer, ["plain"], overwrite=True)
    assert load_checkpoint(find_checkpoint(study, "plain:last")).hash == resumed.hash


def test_another_sample_is_not_resumed(study):
    stage.run(study, ["plain"])
    other = prepared_for(study)
    groups = other.inputs.groups | {"sv": other.inputs.groups["sv"][:1]}
    object.__setattr__(other.inputs, "groups", groups)
    write_prepared(study.folder / "prepared.json", other)
    with pytest.raises(CheckpointError, match="inputs differ"):
        stage.run(study, ["plain"], resume=True)


def test_splits_and_weights_of_loaded_jets(study):
    prepared = prepared_for(study)
    training, validation = loading.load_jets(study, prepared, Interruption())
    assert (len(training), len(validation)) == (120, 60)
    for jets, rows in ((training, slice(0, 60)), (validation, slice(60, 90))):
        expected, labels = [], []
        for part in (chunk(1), chunk(2)):
            for label, pt, eta in zip(
                part.label[rows], part.table.jet["pt"][rows], part.table.jet["eta"][rows], strict=True
            ):
                expected.append(1 + (4 * label + 2 * (pt >= 50) + (eta >= 0)) / 10)
                labels.append(label)
        assert jets.label.tolist() == labels
        np.testing.assert_allclose(jets.weight.numpy(), expected, rtol=1e-6)


def test_weight_is_zero_outside_the_tables():
    part = chunk(3)
    part.table.jet["pt"][:] = 1500
    assert (weight_column(weight_tables(), part.table, part.label) == 0).all()


def test_memory_is_asked_for_before_anything_is_read(study, monkeypatch):
    monkeypatch.setattr(loading, "training_jets", None)
    prepared = prepared_for(study, jets=(60_000_000, 0, 0))
    with pytest.raises(DataError, match=r"training on 120000000 jets needs about .* GB .*allows 1.5 GB"):
        loading.check_memory(study, prepared)


def test_memory_estimate_is_that_of_the_tensors(study):
    prepared = prepared_for(study)
    training, validation = loading.load_jets(study, prepared, Interruption())
    entries = sum(chunk(seed).table.groups["charged"].counts.sum() for seed in (1, 2))
    counted = {name: DefaultCounts(int(entries), 0, 0) for name in prepared.defaults}
    jets = {"jet/pt": 240, "jet/eta": 240, "jet/nCpfcand": 240}
    counted |= {name: DefaultCounts(count, 0, 0) for name, count in jets.items()}
    object.__setattr__(prepared, "defaults", counted)
    tensors = sum(part.inputs.nbytes + part.label.nbytes + part.weight.nbytes for part in (training, validation))
    assert loading.bytes_in_memory(prepared) == pytest.approx(2 * tensors, rel=0.2)


@pytest.mark.parametrize(
    ("models", "error", "words"),
    [(["plane"], CardError, "no model 'plane'"), ([], None, None)],
)
def test_models_are_chosen_by_name(study, models, error, words):
    if error is None:
        assert len(stage.plan(study, models).splitlines()) == 4
        return
    with pytest.raises(error, match=words):
        stage.run(study, models)


def test_unprepared_study_writes_nothing(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text(CARD.format(folder=tmp_path / "out"))
    with pytest.raises(StudyError, match="run `python -m pfnano_tag.prepare` first"):
        stage.run(read_card(str(path)))
    assert not (tmp_path / "out").exists()


def test_a_split_without_jets_is_named(study, monkeypatch):
    def only_training(card, prepared, splits):
        part = chunk(1)
        part.split[:] = 0
        return iter([part])

    monkeypatch.setattr(loading, "training_jets", only_training)
    with pytest.raises(DataError, match="the validation split has no jets"):
        stage.run(study, ["plain"])
    assert not (study.folder / "models").exists()


def test_card_and_registries_name_the_same():
    assert set(Model.model_fields["architecture"].annotation.__args__) == set(ARCHITECTURES)
    assert set(Training.model_fields["loss"].annotation.__args__) == set(LOSSES)
