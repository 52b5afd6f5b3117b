"""Keys that nothing uses are errors; keys that one network uses are not."""

import re
from pathlib import Path

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.training import Training
from pfnano_tag.errors import CardError

HEAD = "study: {name: s}\ndatasets: [{name: a, files: [x.root], kind: mc, roles: [train]}]\n"
NET = "architecture: deepsets"


@pytest.fixture
def problems(tmp_path):
    def find(text, *overrides):
        path = tmp_path / "card.yaml"
        path.write_text(HEAD + text)
        try:
            read_card(path, overrides)
        except CardError as error:
            return [line.strip() for line in str(error).splitlines()[1:]]
        return []

    return find


@pytest.mark.parametrize(
    ("training", "wrong"),
    [
        ("{attack_every: 2}", "attack_every: 2 has no effect without an attack"),
        ("{attack_fraction: 0.5}", "attack_fraction: 0.5 has no effect"),
        ("{attack_after: 1}", "attack_after: 1 has no effect"),
        ("{attack_loss: kl}", "attack_loss: 'kl' has no effect"),
        (
            "{attack: fgsm, attack_kl_weight: 2}",
            "attack_kl_weight: 2.0 has no effect without an attack and",
        ),
        ("{focal_gamma: 3}", "focal_gamma: 3.0 has no effect without loss: focal"),
        ("{focal_alpha: {b: 2}}", "focal_alpha: {'b': 2.0} has no effect without loss: focal"),
        ("{loss: focal, label_smoothing: 0.1}", "label_smoothing: 0.1 has no effect without loss: cross_entropy"),
        ("{attack: fgsm, attack_after: 20}", "attack_after: after 20 epochs none of 20 is left to attack"),
    ],
)
def test_a_key_that_nothing_uses(problems, training, wrong):
    (base,) = problems(f"training: {training}")
    assert base.startswith(f"training.{wrong}")
    (own,) = problems(f"models: {{m: {{{NET}, training: {training}}}}}")
    assert own.startswith(f"models.m.training.{wrong}")


@pytest.mark.parametrize(
    "text",
    [
        "training: {attack_every: 1, focal_gamma: 2, attack_kl_weight: 1}",
        "training: {attack: fgsm, attack_every: 2, attack_fraction: 0.5, attack_after: 19}",
        "training: {loss: focal, focal_gamma: 3, focal_alpha: {b: 2, c: 0.5}}",
        f"training: {{attack_after: 1}}\nmodels: {{m: {{{NET}, training: {{attack: fgsm}}}}, n: {{{NET}}}}}",
        f"training: {{attack: fgsm}}\nmodels: {{m: {{{NET}, training: {{attack_loss: kl}}}}}}",
        f"training: {{lookahead: {{}}, ema_decay: 0.99}}\nmodels: {{m: {{{NET}, training: {{lookahead: null}}}}}}",
    ],
)
def test_keys_that_are_used(problems, text):
    assert problems(text) == []


def test_a_key_of_the_section_that_no_network_uses(problems):
    text = f"training: {{attack: fgsm, attack_every: 2}}\nmodels: {{m: {{{NET}, training: {{attack: null}}}}}}"
    assert problems(text) == [
        "training.attack_every: 2 has no effect without an attack; add that, or take the key out"
    ]


def test_a_key_of_the_section_that_its_only_users_override(problems):
    own = f"models: {{m: {{{NET}, training: {{attack: fgsm, attack_every: 3}}}}"
    assert problems(f"training: {{attack_every: 2}}\n{own}}}") == []
    (line,) = problems(f"training: {{attack_every: 2}}\n{own}, n: {{{NET}}}}}")
    assert line.startswith("training.attack_every: 2 has no effect without an attack")


def test_unknown_classes_are_named_with_the_known_ones(problems):
    text = "labels: {classes: [b, c, uds]}\ntraining: {loss: focal, focal_alpha: {b: 2, bb: 3}}"
    known = "is no flavour class of the study; labels.classes are b, c, uds"
    assert problems(text) == [f"training.focal_alpha: 'bb' {known}"]
    text += f"\nmodels: {{m: {{{NET}, training: {{focal_alpha: {{x: 1}}}}}}}}"
    assert f"models.m.training.focal_alpha: 'x' {known}" in problems(text)


def test_a_wrong_key_is_not_reported_as_missing_beside_those_that_need_it(problems):
    (line,) = problems("training: {attack: nosuch, attack_every: 2}")
    assert line.startswith("training.attack: 'nosuch' is not in section attacks")
    assert len(problems("training: {attack: 3, attack_every: 2}")) == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.label_smoothing=1", "found 1; allowed: number >= 0 and < 1"),
        ("training.ema_decay=1", "found 1; allowed: number > 0 and < 1 or null"),
        ("training.lookahead=5", "found 5; allowed: section with alpha, steps or null"),
        ("training.lookahead.step=5", "unknown key; nearest: steps"),
        ("training.lookahead.alpha=0", "found 0; allowed: number > 0 and <= 1"),
        ("training.focal_alpha.b=0", "found 0; allowed"),
        ("training.betas=[0.9]", "allowed: list of 2"),
        ("training.attack_fraction=0", "found 0; allowed: number > 0 and <= 1"),
        ("training.schedule=flat", "flat_then_decay"),
    ],
)
def test_values_out_of_range(problems, override, words):
    found = problems("", override)
    assert len(found) == 1
    assert words in found[0]


RECIPES = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("recipe", re.findall(r"```yaml\n(.*?)```", RECIPES, re.DOTALL))
def test_recipes_of_the_documentation_are_cards(problems, recipe):
    assert problems(recipe) == []


def test_the_documentation_names_only_keys_that_there_are():
    named = set(re.findall(r"\b((?:attack|focal|label|ema)_[a-z_]+)", RECIPES))
    assert named <= set(Training.model_fields)


def test_parts_are_for_networks_of_sequences(problems):
    key = "training: {constituents_at_once: 100}\n"
    (line,) = problems(f"{key}models: {{net: {{{NET}}}}}\n")
    assert "training.constituents_at_once: 100 has no effect without a network of sequences" in line
    assert problems(f"{key}models: {{net: {{{NET}}}, part: {{architecture: particle_transformer}}}}\n") == []
    assert problems(key) == []
