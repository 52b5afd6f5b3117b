"""Preparation on files of every layout: the same jets, nothing mixed without a word, what can't be told merges."""

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.errors import DataError, MissingBranch
from pfnano_tag.prepare import stage

CARD = """
study: {{name: layouts, folder: "{folder}"}}
datasets:
- {{name: ttbar, files: [{files}], kind: mc, roles: [train]}}
labels: {{classes: [b, c, uds, g]}}
inputs: {{set: deepjet, droppable: [neutral/HadFrac], caps: {{charged: 25, neutral: 25, sv: 4}}}}
jets: {jets}
"""


@pytest.fixture
def card_on(tmp_path, generated_layouts):
    """Return a function that makes a card on files of some layouts."""

    def make(*layouts, jets="{lepton_overlap: 0}", name="study"):
        files = ", ".join(f'"{generated_layouts(layout)}"' for layout in layouts)
        path = tmp_path / f"{name}.yaml"
        path.write_text(CARD.format(folder=tmp_path / name, files=files, jets=jets), encoding="utf-8")
        return read_card(path)

    return make


def test_the_same_jets_in_every_layout(card_on):
    prepared = {layout: stage.run(card_on(layout, name=layout)) for layout in ("candidates", "btvnano", "deepjet")}
    reference = prepared["candidates"].jets["ttbar"]
    assert sum(sum(counts.values()) for counts in reference.values()) > 400
    for layout in ("btvnano", "deepjet"):
        jets = prepared[layout].jets["ttbar"]
        for split, counts in reference.items():
            # FlavSplit knows partons that NanoAOD's flavours don't
            assert sum(jets[split].values()) == pytest.approx(sum(counts.values()), abs=0.02 * sum(counts.values()))
    types = {layout: one.inputs.jet_types for layout, one in prepared.items()}
    assert types == {"candidates": ("CHS",), "btvnano": ("PUPPI",), "deepjet": ("CHS",)}
    assert [record.layout for record in prepared["deepjet"].files] == ["deepjet"]
    assert not next(f for f in prepared["candidates"].inputs.features if f.id == "neutral/HadFrac").live


def test_a_tree_of_jets_has_the_jets_of_the_events(card_on):
    tree, flat = (stage.run(card_on(layout, name=layout)) for layout in ("jets", "deepjet"))
    assert tree.jets == flat.jets  # flags and FlavSplit; the identity of events splits them alike
    assert tree.inputs.jet_types == ()


def test_layouts_and_jet_types_are_not_mixed_by_accident(card_on):
    with pytest.raises(
        DataError, match=r"different layouts: btvnano \(.*\), candidates \(.*\).*jets.mix=\[layouts\]"
    ):
        stage.run(card_on("candidates", "btvnano"))
    with pytest.raises(DataError, match=r"different jet types: CHS \(.*\), PUPPI \(.*\).*jets.mix=\[types\]"):
        stage.run(card_on("candidates", "btvnano", jets="{lepton_overlap: 0, mix: [layouts]}"))
    both = stage.run(card_on("candidates", "btvnano", jets="{lepton_overlap: 0, mix: [layouts, types]}"))
    assert both.inputs.jet_types == ("CHS", "PUPPI")


def test_a_tree_without_identity_says_what_to_do(card_on):
    nameless = "{lepton_overlap: 0, tree: {branches: {event: null}}}"
    with pytest.raises(MissingBranch, match=r"jets.tree.branches, or set jets.tree.position_identifies.*\n.*event"):
        stage.run(card_on("jets", jets=nameless))


def test_gluons_of_ak8_jets_merge_into_light_ones(tmp_path, generate_once):
    settings = {"process": "ttbar", "events": 100, "seed": 5, "mode": "mc", "pool_events": 200, "fat_jets": True}
    path = generate_once("fat_100.root", **settings)
    card = tmp_path / "card.yaml"
    card.write_text(
        CARD.format(
            folder=tmp_path / "study",
            files=f'"{path}"',
            jets="{collection: FatJet, pt: [170, 2000], lepton_overlap: 0}",
        ).replace("set: deepjet, droppable: [neutral/HadFrac]", "set: constituents"),
        encoding="utf-8",
    )
    prepared = stage.run(read_card(card))
    assert prepared.classes == ("b", "c", "uds")
    assert "partonFlavour" not in prepared.merged["g"]
    assert "tell g from uds" in prepared.merged["g"]
    assert prepared.inputs.jet_types == ("AK8",)
