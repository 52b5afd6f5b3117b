"""From the card to the model folders, with jets that were never on a disk."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import CLASSES, specification

from pfnano_tag.card import read_card
from pfnano_tag.card.models import Model
from pfnano_tag.card.resampling import Resampling
from pfnano_tag.card.training import Training
from pfnano_tag.errors import CardError, CheckpointError, DataError, MissingExtra, OutputError, StudyError
from pfnano_tag.evaluate.scores import load_taggers
from pfnano_tag.infer.bookkeeping import find_checkpoint, load_checkpoint
from pfnano_tag.infer.networks import load_networks
from pfnano_tag.models.losses import LOSSES
from pfnano_tag.models.registry import ARCHITECTURES
from pfnano_tag.nano.jets import VECTOR, ConstituentTable, JetTable
from pfnano_tag.prepare.defaults import DefaultCounts
from pfnano_tag.prepare.prepared import SECTIONS, FileRecord, Prepared, write_prepared
from pfnano_tag.prepare.reweighting import WeightTables
from pfnano_tag.prepare.sample import LabelledJets
from pfnano_tag.prepare.splitting import SPLITS
from pfnano_tag.train import decoding, stage
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.memory import memory_plan
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
    stored = {"Jet_pt": jet["pt"], "Jet_eta": jet["eta"]}
    return LabelledJets(table, label, split, np.ones(count), np.arange(count, dtype=np.uint64), "mc", stored)


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
        files=(FileRecord("nowhere.root", "mc", "id", "candidates", "CHS", 240, ((0, 120), (120, 240)), ()),),
        jets={"mc": dict(zip(("train", "validation", "test"), share, strict=True))},
        events={"mc": dict.fromkeys(("train", "validation", "test"), 10)},
        sumw={"mc": dict.fromkeys(("train", "validation", "test"), 10.0)},
        cutflow={},
        defaults={feature.id: DefaultCounts(480, 0, 0) for feature in spec.features},
        weightless={},
    )


def jets_of(part, splits):
    chosen = np.isin(part.split, [SPLITS.index(name) for name in splits])
    columns = {name: getattr(part, name)[chosen] for name in ("label", "split", "weight", "event_id")}
    stored = {name: values[chosen] for name, values in part.stored.items()}
    return replace(part, table=part.table.select(chosen), stored=stored, **columns)


class SyntheticFile:
    """Gives `chunk(1)` and `chunk(2)`, in place of a file."""

    def __init__(self, card, prepared, record, stored, targets):
        self.record = record

    def parts(self, start, stop):
        return ((start, stop),)

    def jets(self, start, stop, splits):
        return jets_of(chunk({0: 1, 120: 2}[start]), splits)

    def close(self):
        pass


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A card with a prepared study whose files are two synthetic chunks."""
    path = tmp_path / "card.yaml"
    path.write_text(CARD.format(folder=tmp_path / "out"))
    card = read_card(str(path))
    write_prepared(card.folder / "prepared.json", prepared_for(card))
    monkeypatch.setattr(decoding, "PreparedFile", SyntheticFile)
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
    assert "(trained already: needs --resume or --overwrite)" in stage.plan(study, ["plain"])
    assert "(trained already: begins again)" in stage.plan(study, ["plain"], overwrite=True)
    epochs = study.training_of("plain").epochs
    assert f"(goes on behind epoch {epochs})" in stage.plan(study, ["plain"], resume=True)
    other = study.model_copy(update={"training": study.training.model_copy(update={"weight_decay": 0.5})})
    with pytest.raises(CheckpointError, match="settings differ"):
        stage.plan(other, ["plain"], resume=True)


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


def stream_of(card, prepared, **resources):
    card = card.model_copy(update={"resources": card.resources.model_copy(update=resources)})
    return Stream.of_study(card, prepared, memory_plan(card, prepared, [1000], vectors=True))


def test_splits_and_weights_of_the_stream(study):
    with stream_of(study, prepared_for(study)) as stream:
        parts = list(stream.validation(1000))
        batches = list(stream.loader(64, 1000, False, 1).epoch(1))
    assert [len(batch) for batch in batches] == [64, 56]
    for rows, labels, weights in (
        (slice(0, 60), [b.label_B for b in batches], [b.weight_B for b in batches]),
        (slice(60, 90), [p.label for p in parts], [p.weight for p in parts]),
    ):
        expected = []
        for part in (chunk(1), chunk(2)):
            columns = part.label[rows], part.table.jet["pt"][rows], part.table.jet["eta"][rows]
            for label, pt, eta in zip(*columns, strict=True):
                expected.append((int(label), pytest.approx(1 + (4 * label + 2 * (pt >= 50) + (eta >= 0)) / 10)))
        found = list(zip(torch.cat(labels).tolist(), torch.cat(weights).tolist(), strict=True))
        assert sorted(found) == sorted(expected, key=lambda pair: (pair[0], pair[1].expected))


def test_weight_is_zero_outside_the_tables():
    label, eta = np.array([0, 1, 5]), np.array([-1.0, 0.5, 2.0])
    assert (weight_column(weight_tables(), label, np.full(3, 1500.0), eta) == 0).all()
    weights = weight_column(weight_tables(), label, np.array([30.0, 60.0, 60.0]), eta)
    assert weights.dtype == np.float32
    assert weights.tolist() == pytest.approx([1.0, 1.7, 3.3])


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


def test_a_split_without_jets_is_named(study):
    write_prepared(study.folder / "prepared.json", prepared_for(study, jets=(60, 0, 60)))
    with pytest.raises(DataError, match="the validation split has no jets"):
        stage.run(study, ["plain"])
    assert not (study.folder / "models").exists()


def test_another_number_of_jets_than_prepared_is_named(study):
    write_prepared(study.folder / "prepared.json", prepared_for(study, jets=(63, 30, 30)))
    with pytest.raises(StudyError, match="give 120 jets in the train split, prepared.json says 126: run `prepare`"):
        stage.run(study, ["plain"])


def test_what_can_not_work_is_refused_before_anything_is_read(study, monkeypatch):
    """The metric of the last model is wrong: nothing of the first one is trained."""
    monkeypatch.setattr(decoding, "PreparedFile", None)
    hardened = study.models["hardened"]

    def card_with(**training):
        models = {**study.models, "hardened": hardened.model_copy(update={"training": training})}
        return study.model_copy(update={"models": models})

    words = r"training\.best \(model hardened\): found 'auc_BvsX', .*nearest: auc_BvsL"
    for do in (stage.run, stage.plan):
        with pytest.raises(CardError, match=words):
            do(card_with(best="auc_BvsX"))
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for do in (stage.run, stage.plan):
        with pytest.raises(MissingExtra, match=r"pfnano_tag\[log\]"):
            do(card_with(tensorboard=True))
    assert not (study.folder / "models").exists()


def test_a_metric_needs_validation_jets_of_its_classes(study):
    prepared = prepared_for(study)
    prepared.jets["mc"]["validation"]["c"] = 0
    write_prepared(study.folder / "prepared.json", prepared)
    by_c = study.model_copy(update={"training": study.training.model_copy(update={"best": "auc_CvsL"})})
    with pytest.raises(CardError, match="'auc_CvsL', no metric of this training"):
        stage.plan(by_c, ["plain"])


def test_card_and_registries_name_the_same():
    assert set(Model.model_fields["architecture"].annotation.__args__) == set(ARCHITECTURES)
    assert set(Training.model_fields["loss"].annotation.__args__) == set(LOSSES)


def test_the_trainings_of_a_scan_are_models_like_any_other(study, capsys):
    path = study.folder.parent / "card.yaml"
    scan = "models.net={architecture: deepsets, scan: {grid: {training.epochs: [1], arguments.phi: [[4], [8]]}}}"
    card = read_card(str(path), [scan, "models.net.arguments={rho: [4]}"])
    names = ["net_phi4_epochs1", "net_phi8_epochs1"]
    assert card.chosen_models(["net"]) == names
    lines = stage.plan(card, ["net"]).splitlines()
    assert [line.partition(":")[0] for line in lines[1:3]] == [f"{n} (phi [{n[7]}], epochs 1)" for n in names]
    stage.run(card, ["net"])
    widths = [load_checkpoint(find_checkpoint(card, name)).arguments["phi"] for name in names]
    assert widths == [[4], [8]]
    larger = read_card(str(path), [scan.replace("[[4],", "[[4], [16],"), "models.net.arguments={rho: [4]}"])
    stage.run(larger, names, resume=True)  # the folder is still this study's, and nothing is left to do
    assert set(load_taggers(card, ["net"], CLASSES)) == set(load_networks(card, ["net"]).taggers) == set(names)
    with pytest.raises(CardError, match=r"models\.net\.scan, net_phi4_epochs1: .*phy: unknown argument; n"):
        stage.plan(read_card(str(path), [scan, "models.net.arguments={phy: [4]}"]), ["net"])
    with pytest.raises(SystemExit) as end:
        main_of_with(["train", str(path), "--list", "-s", scan, "--model", "net", "--model", "plain"])
    assert (end.value.code, capsys.readouterr().out.split()) == (0, [*names, "plain"])


def test_the_plan_says_what_is_drawn(study):
    def card_with(jets):
        training = study.training.model_copy(update={"resampling": Resampling(jets=jets)})
        return study.model_copy(update={"training": training})

    line = stage.plan(card_with(12), ["plain"]).splitlines()[2]
    assert line.startswith("plain: resampling without replacement, by weight: 12 jets per epoch (b ")
    assert "12 different ones of 24, no weights in the loss; effective sample size 12 per epoch" in line
    with pytest.raises(CardError, match=r"resampling \(model plain\): jets: found 25, but 24 training jets have"):
        stage.run(card_with(25), ["plain"])


def main_of_with(arguments):
    from pfnano_tag.card.command import main_of
    from pfnano_tag.train import __main__ as command

    before, sys.argv = sys.argv, arguments
    try:
        main_of(command.parser(), command.run)
    finally:
        sys.argv = before
