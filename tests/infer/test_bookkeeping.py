import json
import pickle

import pytest
import torch
from synthetic import CLASSES, features, random_jets, specification

from pfnano_tag.attack.registry import make
from pfnano_tag.card.attacks import Attack
from pfnano_tag.errors import CheckpointError
from pfnano_tag.infer.bookkeeping import find_checkpoint, load_checkpoint, save_checkpoint
from pfnano_tag.infer.prediction import predict
from pfnano_tag.models.batch import call, collate
from pfnano_tag.models.registry import ARCHITECTURES, build

ARGUMENTS = {
    "mlp": {"hidden": [16]},
    "deepjet": {"charged": [8], "charged_lstm": 6, "dense": [16]},
    "deepsets": {"phi": [16], "rho": [16]},
    "particle_transformer": {"embed": [16], "pair": [8], "heads": 2, "blocks": 1, "class_blocks": 1},
    "multitask": {
        "embed": [16],
        "width": 16,
        "heads": 2,
        "layers": 1,
        "out": 8,
        "head": [8],
        "tasks": {
            "origin": {"kind": "constituents", "target": "charged/origin", "hidden": [8]},
            "vertexing": {"kind": "edges", "target": "charged/vertex", "hidden": []},
            "response": {"kind": "gaussian", "target": "jet/pt_ratio", "hidden": [8], "weight": 0.1},
        },
    },
}


def saved(folder, architecture="deepsets", name="first", epoch=1):
    torch.manual_seed(epoch)
    module = build(architecture, ARGUMENTS[architecture], features(), len(CLASSES)).eval()
    training = {"labels": {"b": ["b"]}, "metrics": {"epoch": epoch}}
    path = save_checkpoint(
        folder / name, name, epoch, module, specification(), CLASSES, architecture, ARGUMENTS[architecture], training
    )
    return module, path


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_checkpoint_gives_the_same_network_back(tmp_path, architecture):
    module, path = saved(tmp_path, architecture)
    tagger = load_checkpoint(path)
    assert (tagger.name, tagger.epoch, tagger.classes) == ("first", 1, CLASSES)
    assert tagger.inputs == specification()
    assert tagger.training["metrics"] == {"epoch": 1}
    assert set(ARGUMENTS[architecture]) < set(tagger.arguments)  # defaults are written down too
    batch = collate(random_jets(9), torch.arange(9))
    assert torch.equal(call(module, batch), call(tagger.module, batch))
    assert not tagger.module.training


def test_running_statistics_are_part_of_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    module = build("deepjet", ARGUMENTS["deepjet"], features(), len(CLASSES))
    batch = collate(random_jets(9), torch.arange(9))
    fresh = call(module.eval(), batch)
    call(module.train(), batch)
    path = save_checkpoint(
        tmp_path, "a", 1, module.eval(), specification(), CLASSES, "deepjet", ARGUMENTS["deepjet"], {}
    )
    tagger = load_checkpoint(path)
    assert torch.equal(call(module, batch), call(tagger.module, batch))
    assert not torch.equal(fresh, call(tagger.module, batch))
    assert tagger.module.norm.most_rows == 9


def test_hash_names_the_network_and_not_its_history(tmp_path):
    _, one = saved(tmp_path, name="one")
    _, two = saved(tmp_path, name="two")
    _, other = saved(tmp_path, name="two", epoch=2)
    assert load_checkpoint(one).hash == load_checkpoint(two).hash != load_checkpoint(other).hash


def change(path, **values):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | values))


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def other_inputs(path):
    content = json.loads(path.read_text())
    content["inputs"]["groups"]["charged"].pop()
    path.write_text(json.dumps(content))


def lacking(path):
    content = json.loads(path.read_text())
    del content["inputs"]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: p.unlink(), "no such checkpoint"),
        (cut, "truncated"),
        (lambda p: p.write_text('{"epoch": 1}'), "not a checkpoint of this program"),
        (lambda p: p.write_bytes(pickle.dumps({"format": 1})), "not a checkpoint"),
        (lambda p: change(p, format_version=99), "checkpoint format 99"),
        (lambda p: change(p, architecture="deepest"), "unknown architecture 'deepest'"),
        (lambda p: change(p, arguments={"phi": [8], "rho": [16]}), "don't fit"),
        (lambda p: change(p, classes=["b", "c", "uds", "g"]), "don't fit"),
        (other_inputs, "don't fit"),
        (lacking, "damaged: KeyError 'inputs'"),
        (lambda p: p.with_suffix(".safetensors").unlink(), "the weights can't be read"),
        (lambda p: cut(p.with_suffix(".safetensors")), "truncated"),
        (lambda p: flip(p.with_suffix(".safetensors")), "altered or damaged"),
    ],
)
def test_refusals(tmp_path, damage, words):
    _, path = saved(tmp_path)
    damage(path)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    assert words in str(error.value)
    assert str(path.parent) in str(error.value)


def test_weights_of_other_content_are_refused_before_use(tmp_path):
    """A weights file whose hash is right but which is no safetensors file."""
    import hashlib

    _, path = saved(tmp_path)
    foreign = pickle.dumps({"weight": 1})
    path.with_suffix(".safetensors").write_bytes(foreign)
    change(path, weights={"size": len(foreign), "sha256": hashlib.sha256(foreign).hexdigest()})
    with pytest.raises(CheckpointError, match="can't be read"):
        load_checkpoint(path)


def test_finding_checkpoints(tmp_path):
    for epoch in (1, 2, 12):
        saved(tmp_path, epoch=epoch)
    (tmp_path / "first" / "best.json").write_text(json.dumps({"epoch": 2}))
    found = {spec: find_checkpoint(tmp_path, spec).name for spec in ("first", "first:best", "first:12", "first:last")}
    assert found == {
        "first": "epoch_0002.json",
        "first:best": "epoch_0002.json",
        "first:12": "epoch_0012.json",
        "first:last": "epoch_0012.json",
    }
    path = tmp_path / "first" / "epoch_0001.json"
    assert (
        find_checkpoint(tmp_path, str(path))
        == path
        == find_checkpoint(tmp_path, str(path.with_suffix(".safetensors")))
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("fist", "no trained model 'fist'; there is: first"),
        ("first:3", "no epoch 3; there is: best, last, 1"),
        ("first:finest", "no epoch 'finest'"),
        ("first", "best.json"),
        ("nowhere.json", "no such checkpoint"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, spec, words):
    saved(tmp_path)
    with pytest.raises(CheckpointError) as error:
        find_checkpoint(tmp_path, spec)
    assert words in str(error.value)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("attacked", [False, True])
def test_scores_do_not_depend_on_the_batch_size(tmp_path, architecture, attacked):
    _, path = saved(tmp_path, architecture)
    tagger, flat = load_checkpoint(path), random_jets(150, seed=3)
    # systematic and noise shift by the same amount in any batch; the sign of a gradient near zero may differ
    attack = make(Attack(kind="noise", epsilon=0.1), tagger.inputs) if attacked else None
    scores = [predict(tagger, flat, size, attack) for size in (1, 7, 64, 1000)]
    assert scores[0].shape == (150, 6)
    assert scores[0].dtype == "float32"
    assert abs(scores[0].sum(1) - 1).max() < 1e-6
    for other in scores[1:]:
        assert abs(other - scores[0]).max() < 1e-6
    clean = predict(tagger, flat, 64)
    assert (abs(clean - scores[0]).max() > 1e-3) == attacked


def test_predictions_keep_the_order_of_jets(tmp_path):
    _, path = saved(tmp_path, "particle_transformer")
    tagger, flat = load_checkpoint(path), random_jets(40, seed=4)
    expected = [call(tagger.module, collate(flat, torch.tensor([jet]))).softmax(1).detach() for jet in range(40)]
    assert abs(predict(tagger, flat, 16) - torch.cat(expected).numpy()).max() < 1e-6


def test_predictions_under_a_gradient_attack(tmp_path):
    _, path = saved(tmp_path)
    tagger, flat = load_checkpoint(path), random_jets(60, seed=5)
    label = torch.from_numpy(predict(tagger, flat).argmax(1))
    attack = make(Attack(kind="fgsm", epsilon=0.2), tagger.inputs)
    own, given = predict(tagger, flat, attack=attack), predict(tagger, flat, attack=attack, label=label)
    assert (own == given).all()
    jets = torch.arange(60)
    assert own[jets, label].mean() < predict(tagger, flat)[jets, label].mean()


def test_no_jets(tmp_path):
    _, path = saved(tmp_path)
    assert predict(load_checkpoint(path), random_jets(3).select(torch.tensor([], dtype=torch.int64))).shape == (0, 6)


def test_what_an_output_tells_of_a_network(tmp_path):
    """The set-up of adversarial training is what the training has written down, with the card's name for it."""
    spec = specification()
    module = build("mlp", {}, features(), len(CLASSES), CLASSES)
    attack = {"kind": "fgsm", "epsilon": 0.02}
    training = {"attack": attack, "card": "abc", "settings": {"attack": "strong", "attack_every": 2, "epochs": 9}}
    path = save_checkpoint(tmp_path, "net", 4, module, spec, CLASSES, "mlp", {}, training)
    said = load_checkpoint(path).description()
    assert json.loads(json.dumps(said)) == said
    assert said["epoch"] == 4
    assert said["inputs"]["features"] == list(spec.ids)
    assert said["inputs"]["caps"] == spec.caps
    assert said["attack"] == {"name": "strong", "kind": "fgsm", "epsilon": 0.02, "attack_every": 2}
    assert said["arguments"]["hidden"] == [100] * 5
    assert said["card"] == "abc"
    nominal = save_checkpoint(tmp_path, "net", 5, module, spec, CLASSES, "mlp", {}, {})
    assert load_checkpoint(nominal).description()["attack"] is None
