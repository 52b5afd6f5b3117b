"""Preparation on files of every layout: the same jets, nothing mixed without a word, what can't be told merges."""

import awkward as ak
import numpy as np
import pytest
import uproot

from pfnano_tag.card import read_card
from pfnano_tag.errors import CardError, DataError, MissingBranch
from pfnano_tag.prepare import stage
from pfnano_tag.prepare.sample import training_jets

CARD = """
study: {{name: layouts, folder: "{folder}"}}
datasets:
- {{name: ttbar, files: [{files}], kind: mc, roles: [train]}}
labels: {{classes: [b, c, uds, g]}}
inputs: {{set: deepjet, droppable: [neutral/HadFrac], caps: {{charged: 25, neutral: 25, sv: 4}}}}
jets: {jets}
"""

OWN = """
study: {{name: own, folder: "{folder}"}}
datasets:
- {{name: jets, files: "{file}", kind: mc, roles: [train]}}
labels: {{classes: [b, c, uds]}}
inputs: {{features: [charged/deta, jet/pt, charged/d0, jet/energy, charged/dphi], caps: {{charged: 128}}}}
jets:
  tree:
    position_identifies: true
    labels: {{b: [label_b], c: [label_c], uds: [label_q]}}
    branches:
      {{Jet_pt: jet_pt, jet/pt: jet_pt, charged/px: part_px, charged/py: part_py, charged/pz: part_pz,
       charged/energy: part_energy}}
    features:
      charged/deta: {{branch: part_deta, axis: [50, -2, 2]}}
      charged/dphi: {{branch: part_dphi, axis: [50, -2, 2]}}
      charged/d0: {{branch: part_d0val, axis: [50, -1, 1], unit: cm, transform: log100, protected: true}}
      jet/energy: {{branch: jet_energy, unit: GeV, transform: log, axis: [50, 0, 500]}}
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


def test_own_features_of_a_tree_with_other_names(tmp_path):
    """As JetClass: one kind of particle, flags as labels, no event numbers."""
    rng = np.random.default_rng(4)
    counts = rng.integers(1, 9, 3000)
    flavour = rng.choice(3, 3000, p=[0.3, 0.2, 0.5])
    particles = {
        name: rng.normal(size=counts.sum()).astype("f4") for name in ("part_deta", "part_dphi", "part_d0val")
    }
    particles["part_d0val"][::50] = np.nan
    vectors = {f"part_{name}": rng.uniform(1, 5, counts.sum()).astype("f4") for name in ("px", "py", "pz", "energy")}
    with uproot.recreate(tmp_path / "jets.root") as file:
        file["tree"] = {
            **{name: ak.unflatten(values, counts) for name, values in (particles | vectors).items()},
            "jet_pt": rng.uniform(25, 500, 3000).astype("f4"),
            "jet_eta": rng.uniform(-2, 2, 3000).astype("f4"),
            "jet_phi": rng.uniform(-3, 3, 3000).astype("f4"),
            "jet_energy": rng.uniform(25, 500, 3000).astype("f4"),
            **{f"label_{name}": flavour == index for index, name in enumerate(("b", "c", "q"))},
        }
    card = tmp_path / "card.yaml"
    card.write_text(OWN.format(folder=tmp_path / "study", file=tmp_path / "jets.root"), encoding="utf-8")
    prepared = stage.run(read_card(card))
    assert prepared.classes == ("b", "c", "uds")
    assert {name: len(group) for name, group in prepared.inputs.groups.items()} == {"jet": 2, "charged": 3}
    assert prepared.inputs.ids == ("jet/pt", "jet/energy", "charged/deta", "charged/d0", "charged/dphi")
    d0 = prepared.inputs.features[-2]
    assert (d0.transform, d0.protected, d0.unit, d0.axis) == ("log100", True, "cm", (50, -1.0, 1.0))
    assert prepared.defaults["charged/d0"].non_finite == np.isnan(particles["part_d0val"]).sum()
    assert sum(prepared.total(split) for split in ("train", "validation", "test")) == 3000
    total = {name: sum(prepared.total(s, name) for s in ("train", "validation", "test")) for name in prepared.classes}
    assert total == {"b": (flavour == 0).sum(), "c": (flavour == 1).sum(), "uds": (flavour == 2).sum()}
    (table,) = training_jets(read_card(card), prepared, ("train", "validation", "test"))
    assert {"deta", "dphi", "d0", "px", "energy"} <= table.table.groups["charged"].columns.keys()
    np.testing.assert_array_equal(table.table.groups["charged"].columns["deta"], particles["part_deta"])


def test_unknown_and_shipped_features_are_refused(tmp_path):
    text = OWN.format(folder=tmp_path / "study", file=tmp_path / "jets.root")
    for old, new, message in (
        ("charged/dphi]", "charged/dfi]", r"inputs.features: 'charged/dfi' is no feature .*nearest: charged/dphi"),
        ("charged/deta: {", "charged/ptrel: {", r"jets.tree.features: charged/ptrel is in the table of features"),
        ("charged/dphi]", "charged/dphi, jet/pt]", r"inputs.features: a feature is named twice"),
    ):
        card = tmp_path / "card.yaml"
        card.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(CardError, match=message):
            stage.run(read_card(card))
