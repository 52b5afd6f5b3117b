"""The shipped control regions on generated events of the process that each is made for: what their jets are."""

from __future__ import annotations

import pytest

from pfnano_tag.analyze import stage
from pfnano_tag.analyze.result import JobResult

HEAVY = {"b", "bb", "lepb"}
CASES = {
    "ttbar_dilepton": (
        {"selection": "ttbar_dilepton"},
        {"process": "ttbar", "events": 700, "options": {"decays": "dilepton"}},
        HEAVY,
        0.55,
    ),
    "ttbar_semileptonic": ({"selection": "ttbar_semileptonic"}, {"process": "ttbar", "events": 700}, HEAVY, 0.3),
    "w_c": (
        {"selection": "w_c"},
        {"process": "wjets", "events": 2500, "options": {"decays": "munu", "flavour": "charm"}},
        {"c"},
        0.8,
    ),
    "dy": ({"selection": "dy"}, {"process": "dy", "events": 300}, {"uds", "g"}, 0.7),
}
"""Region, sample, enriched classes, and the share of them in the jets that are filled, at least."""


@pytest.fixture(scope="module")
def contents(generate_once, card_with, tmp_path_factory):
    """Return a function that gives yields by flavour, and the cutflow, of a case."""
    from pfnano_tag.generate.processes import ProcessOptions

    def make(name):
        region, sample, *_ = CASES[name]
        settings = {**sample, "options": ProcessOptions(**sample.get("options", {}))}
        path = generate_once(f"purity_{name}.root", seed=17, mode="mc", pool_events=200, **settings)
        output = tmp_path_factory.mktemp("purity") / f"{name}.root"
        stage.run(card_with([], regions={name: region}, resources={"chunk": 1000}), "mc", str(path), output, [])
        with JobResult(output) as result:
            values = result.read("jet_pt").values.sum(axis=1)
            flavours = {
                c.flavour: value for c, value in zip(result.variables["jet_pt"].categories, values, strict=True)
            }
            return flavours, result.cutflows[name]

    return make


@pytest.fixture(scope="module")
def card_with(tmp_path_factory):
    from pfnano_tag.card.card import Card

    folder = tmp_path_factory.mktemp("study")

    def make(models, **sections):
        dataset = {"name": "mc", "files": ["f"], "kind": "mc", "cross_section": 1.0, "roles": ["analyze"]}
        return Card.model_validate(
            {"study": {"name": "purity", "folder": str(folder)}, "datasets": [dataset], **sections}
        )

    return make


@pytest.mark.parametrize("name", CASES)
def test_jets_of_a_region_are_mostly_what_it_is_enriched_in(contents, name):
    flavours, cutflow = contents(name)
    *_, enriched, least = CASES[name]
    total = sum(flavours.values())
    assert total > 8
    assert sum(flavours[one] for one in enriched) > least * total, flavours
    assert cutflow.raw[-1] > 5


def test_the_soft_muon_of_w_plus_charm_has_the_charge_opposite_to_the_ws(contents):
    _, cutflow = contents("w_c")
    assert cutflow.weighted[-1] > 0.8 * cutflow.raw[-1]  # OS - SS over OS + SS
