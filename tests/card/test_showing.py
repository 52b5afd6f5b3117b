"""The resolved card reads back to itself, and every key explains itself."""

import subprocess
import sys

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.card import Card
from pfnano_tag.card.showing import all_keys, explain, resolved_yaml
from pfnano_tag.errors import CardError

CARD = """
study: {name: "1e5", folder: "no: colon", seed: 7}
datasets:
- {name: ttbar, files: ["a b*.root", "it's.root", "root://host//x.root"], kind: mc, cross_section: 831.8}
- {name: data, files: b.root, kind: data, luminosity: 41.5, roles: [analyze]}
models:
  m: {architecture: deepsets, arguments: {hidden: [64, 64]}, training: {attack: fgsm}}
regions: {z: {selection: dy, triggers: ["HLT_A?"]}}
histograms: {inputs: none, variants: [fgsm]}
weights: {branches: ["null"]}
submit: {condor: {"+JobFlavour": '"workday"'}}
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text(CARD, encoding="utf-8")
    return path


def test_the_resolved_card_reads_back_to_the_same_card(path, tmp_path):
    card = read_card(path)
    again = tmp_path / "again.yaml"
    again.write_text(resolved_yaml(card), encoding="utf-8")
    assert read_card(again) == card
    assert read_card(again).hash() == card.hash()


def test_the_resolved_card_shows_every_top_level_key_and_default(path):
    shown = resolved_yaml(read_card(path))
    for section in Card.model_fields:
        assert f"\n{section}:" in "\n" + shown
    assert "candidate_pt: 0.95" in shown


@pytest.mark.parametrize("key", sorted(all_keys()))
def test_every_key_has_a_meaning_what_is_allowed_and_a_default(key):
    text = explain(key)
    meaning = text.splitlines()[0].partition(": ")[2]
    assert len(meaning) >= 8
    assert "default: " in text
    assert "typing" not in text
    assert "<class" not in text


def test_an_explanation_has_unit_range_and_default():
    text = explain("jets.pt")
    assert "[GeV]" in text
    assert "allowed: list of 2: number, number" in text
    assert "default: [20.0, 1000.0]" in text


def test_names_and_indices_in_a_key_are_passed_over():
    body = explain("models.architecture").partition(": ")[2]
    assert explain("models.my_net.architecture").partition(": ")[2] == body
    assert "Cross section [pb]" in explain("datasets.0.cross_section")
    assert "Cross section [pb]" in explain("datasets.ttbar.cross_section")


def test_a_section_explains_itself_and_its_keys():
    text = explain("datasets")
    assert "Files of one process" in text
    assert "cross_section: Cross section [pb]" in text


def test_alternatives_are_told_apart():
    text = explain("regions.triggers")
    assert "selection: all_jets" in text
    assert "selection: dy" in text


@pytest.mark.parametrize("key", ["training.epoch", "epochs", "jets.pt.0.x", "training.x.epochs", ""])
def test_unknown_keys_are_an_error(key):
    with pytest.raises(CardError, match="the card has no key"):
        explain(key)


SCRIPT = """
import sys
from pfnano_tag.card.command import main_of, parser_for
parser = parser_for("test", "doc")
parser.add_argument("--model", required=True)
def run(card, options):
    if options.model == "incomplete":
        from pfnano_tag.errors import Incomplete
        raise Incomplete("chunk 3 of 5")
    if options.model == "bug":
        raise KeyError("bug")
    print(card.study.seed, options.model)
main_of(parser, run)
"""


def command(*options):
    return subprocess.run([sys.executable, "-c", SCRIPT, *options], capture_output=True, text=True, timeout=60)


def test_explain_needs_neither_card_nor_options():
    done = command("--explain", "training.epochs")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"{explain('training.epochs').splitlines()[0]}")
    wrong = command("--explain", "training.epoch")
    assert wrong.returncode == 2
    assert "nearest: training.epochs" in wrong.stderr


def test_print_card_needs_no_other_options(path):
    done = command(str(path), "--print-card", "-s", "study.seed=9")
    assert done.returncode == 0
    assert done.stdout == resolved_yaml(read_card(path, ["study.seed=9"]))


@pytest.mark.parametrize(("model", "code"), [("a", 0), ("incomplete", 75), ("bug", 1)])
def test_exit_codes(path, model, code):
    assert command(str(path), "--model", model).returncode == code


def test_a_wrong_card_is_a_message_and_exit_code_2(path):
    done = command(str(path), "--model", "a", "-s", "training.epohcs=3")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "training.epohcs: unknown key; nearest: epochs" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_default_of_one_is_a_number():
    assert "default: 1\n" in explain("resources.decompression") + "\n"
    assert "default: true\n" in explain("histograms.outputs") + "\n"
