"""What a card may say, and that everything wrong with it is said at once."""

import re
from pathlib import Path

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.reading import SHIPPED, parse_yaml
from pfnano_tag.errors import CardError

MINIMAL = """
study: {name: small}
datasets:
- {name: ttbar, files: [a.root], kind: mc, cross_section: 831.8}
- {name: muons, files: b.root, kind: data, luminosity: 41.5, roles: [analyze]}
"""


@pytest.fixture
def write(tmp_path):
    def writer(text: str) -> Path:
        path = tmp_path / "card.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return writer


@pytest.fixture
def problems(write):
    """Read a card that is wrong; return its problems, one per line, without the headline."""

    def reader(text: str, overrides: tuple[str, ...] = ()) -> list[str]:
        path = write(text)
        with pytest.raises(CardError) as caught:
            read_card(path, overrides)
        headline, *lines = str(caught.value).splitlines()
        assert headline.startswith(f"{path}: {len(lines)} problem")
        return [line.removeprefix("  ") for line in lines]

    return reader


def test_only_name_and_datasets_are_needed(write):
    card = read_card(write(MINIMAL))
    assert card.study.folder == Path("small")
    assert card.splitting.fractions == (0.72, 0.08, 0.20)
    assert (card.jets.pt, card.jets.abs_eta, card.jets.lepton_overlap) == ((20.0, 1000.0), 2.5, 0.4)
    assert (card.inputs.caps.charged, card.inputs.caps.neutral, card.inputs.caps.sv) == (25, 25, 5)
    assert card.inputs.candidate_pt == 0.95
    assert card.labels.classes == ("b", "bb", "lepb", "c", "uds", "g")
    assert (card.comparison.bins, card.comparison.replicas, card.resources.memory) == (30, 50, 1.5)
    assert [dataset.name for dataset in card.datasets_for("train")] == ["ttbar"]
    assert [dataset.name for dataset in card.datasets_for("analyze")] == ["ttbar", "muons"]


def test_needed_keys_are_named(problems):
    assert problems("jets: {}\n") == [
        "study: this key is needed and has no default; allowed: section with folder, name, origin, seed",
        "datasets: this key is needed and has no default; allowed: list of sections with cross_section, files, kind, "
        "lumi_mask, luminosity, name, period, roles, triggers, vetoes (at least 1)",
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epohcs=3", r"training\.epohcs: unknown key; nearest: epochs"),
        ("trainig.epochs=3", r"trainig: unknown key; nearest: training.*"),
        ("inputs.caps.charge=3", r"inputs\.caps\.charge: unknown key; nearest: charged"),
        ("datasets.ttbar.crosssection=3", r"datasets\.ttbar\.crosssection: unknown key; nearest: cross_section"),
        ("attacks.fgsm.eps=3", r"attacks\.fgsm\.eps: unknown key; nearest: steps, epsilon, step_size"),
        ("attacks.other.kind=fgsn", r"attacks\.other\.kind: found 'fgsn'; allowed: one of noise, fgsm, .*"),
        ("training.epochs=many", r"training\.epochs: found 'many'; allowed: whole number >= 1"),
        ("training.epochs='3'", r"training\.epochs: found '3'; allowed: whole number >= 1"),
        ("training.epochs=0", r"training\.epochs: found 0; allowed: whole number >= 1"),
        ("training.epochs=2.5", r"training\.epochs: found 2\.5; allowed: whole number >= 1"),
        ("training.epochs=true", r"training\.epochs: found True; allowed: whole number >= 1"),
        ("training.learning_rate=.inf", r"training\.learning_rate: found inf; allowed: number > 0"),
        ("training.learning_rate=.nan", r"training\.learning_rate: found nan; allowed: number > 0"),
        ("training=fast", r"training: found 'fast'; allowed: section with .*epochs.*"),
        ("training.loss=null", r"training\.loss: found null; allowed: one of cross_entropy, focal"),
        ("histograms.outputs=no", r"histograms\.outputs: found 'no'; allowed: true or false"),
        ("histograms.inputs=some", r"histograms\.inputs: found 'some'; allowed: list of texts or one of all, none"),
        ("jets.pt=[20]", r"jets\.pt.*: (found|this key) .*allowed: list of 2: number, number"),
        ("inputs.features=[]", r"inputs\.features: found \[\]; allowed: list of texts \(at least 1\) or null"),
        (
            "jets.tree.labels={q: [isB]}",
            r"jets\.tree: labels: 'q' is no flavour class; there are b, bb, lepb, c, uds, g",
        ),
        (
            "jets.tree.labels={c: [isC=x]}",
            r"jets\.tree: labels\.c: 'isC=x' asks for 'x', expected a number: branch=5",
        ),
        ("jets.pt=[30, 20]", r"jets: pt must be a range of two rising numbers, not \[30\.0, 20\.0\]"),
        ("labels.classes=[b, c, g]", r"labels: \['uds'\] missing: .*"),
        (
            "regions.dy.selection=dy2",
            r"regions\.dy\.selection: found 'dy2'; allowed: all_jets, dy, .*",
        ),
        ("regions.dy.mass=[1, 2]", r"regions\.dy\.selection: found nothing, .*; allowed: all_jets, dy, .*"),
        (
            "regions.w={selection: w_c, num_jets: [3, 1]}",
            r"regions\.w\.num_jets: must be a range of two numbers that don't fall, not \[3, 1\]",
        ),
        (
            "regions.q={selection: qcd, windows: {HLT_A: [1, 3], HLT_B: [2, null]}}",
            r"regions\.q: windows\.HLT_B starts at 2\.0, inside windows\.HLT_A that ends at 3\.0",
        ),
        (
            "regions.q={selection: qcd, windows: {HLT_A: [3, 1]}}",
            r"regions\.q: windows\.HLT_A must be a range of two rising numbers, not \[3\.0, 1\.0\]",
        ),
        ("regions.q={selection: qcd, windows: {}}", r"regions\.q: windows must name a trigger; .*"),
        (
            "regions.q={selection: qcd, prescales: {HLT_X: 3}}",
            r"regions\.q: prescales\.HLT_X: no such trigger in windows \(HLT_PFJet40, .*",
        ),
        ("regions.dy={selection: dy, mas: 1}", r"regions\.dy\.mas: unknown key; nearest: mass"),
        ("regions.data={selection: dy}", r"regions: 'data' is a reserved name"),
        ("models={a b: {architecture: deepsets}}", r"models: 'a b' is no name.*"),
        ("study.name=../up", r"study\.name: found '\.\./up'; allowed: text like .*"),
        ("study.name=..", r"study\.name: found '\.\.'; allowed: text like .*"),
        ("datasets.muons.cross_section=3", r"datasets\.muons: data has no cross_section.*"),
        ("datasets.ttbar.luminosity=3", r"datasets\.ttbar: luminosity and lumi_mask belong to .*"),
        ("datasets.1.name=ttbar", r"datasets: the name 'ttbar' stands twice"),
        ("training.attack=fgms", r"training\.attack: 'fgms' is not in section attacks \(fgsm, noise\)"),
        ("histograms.variants=[pgd]", r"histograms\.variants\.0: 'pgd' is not in section attacks .*"),
        ("splitting.fractions=[0.5, 0.5, 0.5]", r"splitting\.fractions: three positive fractions that sum to 1.*"),
    ],
)
def test_one_problem_is_one_line_with_key_found_and_allowed(problems, override, expected):
    lines = problems(MINIMAL, (override,))
    assert len(lines) == 1, lines
    assert re.fullmatch(expected, lines[0]), lines[0]


def test_all_problems_are_reported_at_once(problems):
    lines = problems(
        MINIMAL
        + """
jets: {pt: [20, none]}
training: {epohcs: 3, attack: nosuch}
splitting: 3
models:
  wrong: {architecture: deepset, training: {batch_sise: 3}}
  right: {architecture: deepsets, training: {learning_rate: -1, attack: missing}}
histograms: {bins: 1, variants: [pgd]}
""",
        ("jets.pt.7=3", "noequals"),
    )
    keys = [line.split(":")[0] for line in lines]
    assert keys == [
        "override of jets.pt.7",
        "override 'noequals'",
        "jets.pt.1",
        "splitting",
        "models.wrong.architecture",
        "training.epohcs",
        "histograms.bins",
        "models.wrong.training.batch_sise",
        "models.right.training.learning_rate",
        "models.right.training.attack",
        "training.attack",
        "histograms.variants.0",
    ]


def test_contradictions_are_reported_when_fields_are_right(problems):
    lines = problems(
        MINIMAL + "models: {a: {architecture: deepsets, training: {epochs: x, attack: y}}}", ("training.attack=z",)
    )
    assert [line.split(":")[0] for line in lines] == [
        "models.a.training.epochs",
        "models.a.training.attack",
        "training.attack",
    ]


def test_duplicate_keys_are_an_error_with_their_line(write):
    path = write(MINIMAL + "jets: {abs_eta: 2.4}\njets: {abs_eta: 2.5}\n")
    with pytest.raises(CardError, match=r"card\.yaml: line 7: duplicate key: .*jets"):
        read_card(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("- a\n- b\n", "is a list"),
        ("just words\n", "is a str"),
        ("study: [\n", "line 2: not valid YAML"),
        ("study: !!python/object:os.system {}\n", "not valid YAML"),
        ("study: &s {name: *s}\n", "the card contains itself"),
    ],
)
def test_what_is_no_card_is_named(write, text, expected):
    with pytest.raises(CardError, match=re.escape(expected)):
        read_card(write(text))


def test_binary_files_and_missing_files_are_named(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_bytes(b"\xff\xfe\x00root")
    with pytest.raises(CardError, match="can't be read"):
        read_card(path)
    with pytest.raises(CardError, match="no such card"):
        read_card(tmp_path / "nothing.yaml")


def test_yaml_is_version_1_2():
    parsed = parse_yaml("{a: 1e-3, b: no, c: off, d: 012, e: 1_0, f: yes, g: null, h: 0o14}")
    assert parsed == {
        "a": 1e-3,
        "b": "no",
        "c": "off",
        "d": 12,
        "e": 10,
        "f": "yes",
        "g": None,
        "h": 12,
    }


def test_a_number_in_scientific_notation_is_a_number(write):
    assert read_card(write(MINIMAL + "training: {learning_rate: 1e-3}")).training.learning_rate == 1e-3
    assert read_card(write(MINIMAL), ["training.learning_rate=5e-4"]).training.learning_rate == 5e-4


def test_overrides_reach_every_kind_of_key(write):
    overrides = [
        "training.epochs=3",
        "inputs.caps.charged=7",
        "datasets.ttbar.cross_section=800",
        "datasets.1.luminosity=1.5",
        "jets.pt.0=30",
        "models.deepsets.architecture=deepsets",
        "models.deepsets.training.attack=fgsm",
        "study.folder=some where/else",
        "training.epochs=4",
    ]
    card = read_card(write(MINIMAL), overrides)
    assert (card.training.epochs, card.inputs.caps.charged, card.inputs.caps.neutral) == (4, 7, 25)
    assert (card.dataset("ttbar").cross_section, card.dataset("muons").luminosity) == (800.0, 1.5)
    assert card.jets.pt == (30.0, 1000.0) if MINIMAL.count("jets") else True
    assert card.jets.pt == (30.0, 1000.0)
    assert card.training_of("deepsets").attack == "fgsm"
    assert card.training_of("deepsets").epochs == 4
    assert card.study.folder == Path("some where/else")


def test_an_override_adds_to_the_default_entries(write):
    card = read_card(write(MINIMAL), ["attacks.fgsm.epsilon=0.05", "regions.z.selection=dy"])
    assert set(card.attacks) == {"fgsm", "noise"}
    assert (card.attacks["fgsm"].epsilon, card.attacks["noise"].epsilon) == (0.05, 0.01)
    assert set(card.regions) == {"all_jets", "z"}


def test_a_section_of_the_card_replaces_the_default_entries(write):
    card = read_card(write(MINIMAL + "attacks: {only: {kind: pgd}}"))
    assert set(card.attacks) == {"only"}


def test_unknown_names_come_with_the_nearest(write):
    card = read_card(write(MINIMAL))
    with pytest.raises(CardError, match=r"no dataset 'tbar'; nearest: ttbar"):
        card.dataset("tbar")
    with pytest.raises(CardError, match=r"no model 'x' \(section models has: none\)"):
        card.training_of("x")


def test_patterns_name_the_study_folder(write):
    card = read_card(write(MINIMAL), ["datasets.ttbar.files=['{study.folder}/generated/*.root']", "study.folder=f"])
    assert card.patterns(card.dataset("ttbar")) == ("f/generated/*.root",)


def test_a_card_can_not_be_changed(write):
    card = read_card(write(MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        card.study.seed = 2


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_cards_are_valid_and_found_by_name(path):
    assert read_card(path.stem).hash() == read_card(path).hash()
