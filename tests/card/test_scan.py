"""Scans: which trainings they stand for, names that stay, and what is refused."""

import math

import numpy as np
import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.card import BOUND_SECTIONS, Card
from pfnano_tag.card.expansion import draw, in_words, name_of
from pfnano_tag.card.scan import Range
from pfnano_tag.card.showing import explain, resolved_yaml
from pfnano_tag.errors import CardError

CARD = """
study: {name: s}
datasets: [{name: a, files: [x.root], kind: mc, roles: [train]}]
models:
  net: {architecture: deepsets}
  part:
    architecture: particle_transformer
    arguments: {heads: 4}
    training: {epochs: 3}
    scan:
      grid: {training.learning_rate: [1e-3, 3e-4], arguments.blocks: [4, 8]}
  dip:
    architecture: deepsets
    scan:
      trainings: 3
      random:
        training.learning_rate: {low: 1e-4, high: 1e-2, log: true}
        training.batch_size: {low: 100, high: 1000, whole: true}
        arguments.dropout: [0.0, 0.1, 0.2]
"""
GRID = "models.part.scan.grid"
RANDOM = "models.dip.scan.random"


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text(CARD)
    return lambda *overrides: read_card(path, overrides)


def test_a_grid_is_every_combination(card):
    models = card().models
    assert list(models) == [
        "net",
        *(f"part_blocks{blocks}_lr{rate}" for blocks in (4, 8) for rate in ("1em3", "3em4")),
        *("dip_01", "dip_02", "dip_03"),
    ]
    point = models["part_blocks8_lr3em4"]
    assert point.architecture == "particle_transformer"
    assert point.arguments == {"heads": 4, "blocks": 8}
    assert point.training == {"epochs": 3, "learning_rate": 3e-4}
    settings = card().training_of("part_blocks8_lr3em4")
    assert (settings.learning_rate, settings.epochs, settings.batch_size) == (3e-4, 3, 512)
    assert in_words(point) == "blocks 8, learning_rate 0.0003"
    assert in_words(models["net"]) == ""


@pytest.mark.parametrize(
    "override",
    [
        f"{GRID}.training.learning_rate=[1e-2, 3e-4, 1e-3]",
        f"{GRID}.arguments.blocks=[2, 8, 4]",
        f"{GRID}={{arguments: {{blocks: [8, 4]}}, training: {{learning_rate: [0.00030, 0.001]}}}}",
        "models.dip.scan.trainings=12",
        f"{RANDOM}.arguments.phi=[[64, 64], [32]]",
    ],
)
def test_old_trainings_stay_when_a_scan_grows_or_is_written_otherwise(card, override):
    before, after = card().models, card(override).models
    for name, model in before.items():
        values = model.scanned.values if model.scanned else {}
        assert after[name].arguments.items() >= model.arguments.items()
        assert after[name].training == model.training
        assert after[name].scanned is None or after[name].scanned.values.items() >= values.items()
    bound = [(one.hash(section)) for one in (card(), card(override)) for section in BOUND_SECTIONS]
    assert bound[: len(BOUND_SECTIONS)] == bound[len(BOUND_SECTIONS) :]


def test_the_resolved_card_is_the_same_card(card, tmp_path):
    again = tmp_path / "again.yaml"
    again.write_text(resolved_yaml(card()))
    assert "values: {arguments.blocks: 4, training.learning_rate: 0.001}" in again.read_text()
    assert read_card(again) == card()
    assert Card.model_validate(card().model_dump()) == card()
    with pytest.raises(CardError, match=r"models\.dip_01\.scanned\.values\.training\.batch_size: found \d+, but"):
        read_card(again, ["models.dip_01.training.batch_size=7"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "x0p1"), (0.01, "x0p01"), (1e-3, "x1em3"), (0.00025, "x2p5em4"), (1.0, "x1"), (0.0, "x0"),
        (-0.5, "xm0p5"), ([], "x_none"),
        (512, "x512"), (1000, "x1000"), (2e9, "x2e9"), (True, "x_true"), (None, "x_none"), ("a-b c", "x_a_b_c"),
        ([64, 32], "x64x32"), ([0.9, 0.999], "x0p9x0p999"),
        ({"steps": 5, "alpha": 0.5}, "x_alpha0p5_steps5"),
    ],
)  # fmt: skip
def test_values_in_names(value, text):
    name = name_of("net", {"training.x": value})
    assert name == f"net_{text}" or name == f"net_x_{text.removeprefix('x')}"


def test_names_by_key_are_in_alphabetical_order():
    assert name_of("n", {"training.weight_decay": 0.1, "training.batch_size": 64, "arguments.phi": [8]}) == (
        "n_phi8_batch64_wd0p1"
    )


def test_what_is_drawn_fills_its_range_evenly():
    def drawn(choice, key="training.x", seed=1):
        return np.array([draw(choice, seed, "net", number, key) for number in range(1, 2001)])

    flat, log = drawn(Range(low=-1, high=3)), drawn(Range(low=1e-4, high=1e-2, log=True))
    assert flat.min() >= -1
    assert flat.max() <= 3
    assert abs(flat.mean() - 1) < 5 * (4 / math.sqrt(12)) / math.sqrt(2000)
    decades = np.log10(log) + 4
    assert abs(decades.mean() - 1) < 5 * (2 / math.sqrt(12)) / math.sqrt(2000)
    whole = drawn(Range(low=2, high=5, whole=True))
    assert (abs(np.bincount(whole, minlength=6)[2:] - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75)).all()
    assert whole.dtype.kind == "i"
    logs = drawn(Range(low=1, high=8, log=True, whole=True))
    assert set(logs.tolist()) == set(range(1, 9))
    chosen = drawn(("a", "b"))
    assert abs((chosen == "a").mean() - 0.5) < 5 * 0.5 / math.sqrt(2000)
    assert not np.array_equal(flat, drawn(Range(low=-1, high=3), seed=2))
    assert abs(np.corrcoef(flat, drawn(Range(low=-1, high=3), key="training.y"))[0, 1]) < 5 / math.sqrt(2000)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"{GRID}.training.learning_rate=[1, -1]", f"{GRID}.training.learning_rate: found -1; allowed: number > 0"),
        (f"{GRID}.training.lerning_rate=[1]", f"{GRID}.training.lerning_rate: unknown key; nearest: learning_rate"),
        (f"{GRID}.training.epochs=[1]", f"{GRID}.training.epochs: stands in models.part.training too"),
        (f"{GRID}.blocks=[1]", f"{GRID}.blocks: unknown key; a scan takes training.KEY"),
        (f"{GRID}.training.attack=[fgs]", f"{GRID}.training.attack: 'fgs' is not in section attacks (fgsm, noise)"),
        (f"{GRID}.training.attack_every=[1, 2]", f"{GRID}.training.attack_every: 2 has no effect without an attack"),
        ("models.part.training.attack_every=2", "models.part.training.attack_every: 2 has no effect"),
        (f"{GRID}.training.learning_rate=[0.001, 1e-3]", "0.001 and 0.001 give trainings of the same name"),
        (f"{GRID}.arguments.activation=[a b, a_b]", f"{GRID}.arguments.activation: a b and a_b give trainings of"),
        (f"{GRID}.training.learning_rate=5", "training.learning_rate: found 5; expected a list of values, at"),
        (f"{GRID}.training.learning_rate=[]", "training.learning_rate: found []; expected a list"),
        (f"{GRID}.training.lookahead.steps=[3]", "training.lookahead: found a mapping; expected a list of values"),
        (f"{GRID}={{training.lookahead.steps: [3]}}", "unknown key; scan training.lookahead, with whole values"),
        (f"{GRID}.arguments.blocks={list(range(501))}", f"{GRID}: has more than 1000 combinations"),
        ("models.part_blocks8_lr3em4={architecture: mlp}", "a training of it is called 'part_blocks8_lr3em4', as is"),
        ("models.part.scan.trainings=3", "models.part.scan: trainings goes with random, not grid"),
        ("models.dip.scan.trainings=null", "models.dip.scan: random needs trainings: how many"),
        ("models.dip.scan.trainings=0", "models.dip.scan.trainings: found 0; allowed: whole number >= 1"),
        ("models.dip.scan={}", "models.dip.scan: a scan has either grid (all combinations) or random"),
        (f"{RANDOM}.training.learning_rate.low=1", "learning_rate: low 1 must lie below high 0.01"),
        (f"{RANDOM}.training.learning_rate.low=0", "low 0 has no logarithm"),
        (f"{RANDOM}.training.batch_size.low=0", f"{RANDOM}.training.batch_size: found 0; allowed: whole number >= 1"),
        (f"{RANDOM}.training.batch_size.low=1.5", "must be whole numbers with whole: true"),
        (f"{RANDOM}.training.batch_size.whole=false", f"{RANDOM}.training.batch_size: found 100.0; allowed: whole"),
        (f"{RANDOM}.training.batch_size.hihg=3", f"{RANDOM}.training.batch_size: unknown key; nearest: high"),
        (f"{RANDOM}.training.batch_size=5", "a list of values, at least one, or a range (low, high"),
        ("models.dip.scanned={scan: x, kind: grid, values: {}}", "models.dip.scanned: stands beside a scan"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named_by_its_key(card, override, words):
    with pytest.raises(CardError) as error:
        card(override)
    lines = str(error.value).splitlines()[1:]
    assert words in lines[0]
    assert len(lines) == (2 if "whole=false" in override else 1)


def test_problems_elsewhere_are_reported_too(card):
    with pytest.raises(CardError) as error:
        card(f"{GRID}.training.learning_rate=[-1]", "jets.pt=5", f"{RANDOM}.training.epoch=[1]")
    assert [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]] == [
        *("jets.pt", f"{GRID}.training.learning_rate", f"{RANDOM}.training.epoch")
    ]


def test_a_key_that_one_training_of_the_scan_uses(card):
    """`attack_every` serves the trainings with an attack, beside one without."""
    made = card(f"{GRID}.training.attack=[null, fgsm]", "models.part.training.attack_every=2")
    assert made.training_of(
        "part_attack_fgsm_blocks4_lr1em3".replace("attack_fgsm_blocks4", "blocks4_attack_fgsm")
    ).attack


def test_models_by_name_of_the_scan(card):
    made = card()
    assert made.models_named(None) == list(made.models)
    assert made.models_named(["dip:last", "net", "dip_01:last"]) == [*(f"dip_0{i}:last" for i in (1, 2, 3)), "net"]
    assert made.models_named(["nosuch"]) == ["nosuch"]
    with pytest.raises(CardError, match=r"'dip' is a scan, name one of its trainings \(.*: dip_01, dip_02, dip_03\)"):
        made.training_of("dip")
    with pytest.raises(CardError, match=r"no model 'dips' \(section models has: net, part_blocks4_lr1em3"):
        made.training_of("dips")


def test_scan_explains_itself():
    assert "one training for every combination" in explain("models.part.scan.grid")
    assert "Draw the logarithm evenly" in explain("models.scan.random")
