"""The shipped card `demo`, every stage of it in small: from nothing to the final table."""

import json

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.files import expand_files

SMALL = {
    "ttbar": 700,
    "qcd": 300,
    "qcd_charm": 150,
    "dy": 500,
    "ttbar_dilepton": 100,
    "data_dy": 500,
    "data_ttbar": 100,
}


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "study"
    return read_card(
        "demo",
        [
            f"study.folder={folder}",
            *(f"generate.samples.{name}.events={events}" for name, events in SMALL.items()),
            *(f"generate.samples.{name}.files=1" for name in SMALL),
            "training.epochs=1",
            "models.transformer.training.epochs=1",
            "evaluation.replicas=5",
            "comparison.replicas=5",
            "histograms.inputs=[jet/pt]",
        ],
    )


@pytest.mark.slow
def test_demo_card_in_small(card):
    pytest.importorskip("pythia8mc", reason="the extra `generate` is not installed")
    from pfnano_tag.analyze import stage as analyze
    from pfnano_tag.attack import stage as attack
    from pfnano_tag.compare import stage as compare
    from pfnano_tag.evaluate import stage as evaluate
    from pfnano_tag.generate import stage as generate
    from pfnano_tag.prepare import stage as prepare
    from pfnano_tag.train import stage as train

    generate.run(card)
    prepared = prepare.run(card)
    assert prepared.complete
    assert set(prepared.classes) == {"b", "bb", "lepb", "c", "uds", "g"}
    train.run(card)
    evaluated = evaluate.run(card)
    attacked = attack.run(card, models=["deepsets"], jets=300)
    for dataset in card.datasets_for("analyze"):
        for file in expand_files(card.patterns(dataset)):
            analyze.run(card, dataset.name, file)
    compared = compare.run(card, workers=1)

    assert set(evaluated["models"]) >= set(card.models)
    assert attacked["models"]["deepsets"]["attacks"]["fgsm"]
    assert compared["complete"]
    models = {key.split("/")[2] for key in compared["agreement"]}
    assert models >= set(card.models)
    written = json.loads((card.folder / "comparison" / "results.json").read_text())
    assert written["models"].keys() == card.models.keys()
    assert {"chi2", "ndf", "p", "bootstrap"} <= written["dy_mumu/BvsL/transformer/fgsm"].keys()
    table = (card.folder / "comparison" / "table.md").read_text()
    assert all(name in table for name in card.models)
    assert "AUC BvsL" in table
    assert "left out" not in table
    assert (card.folder / "comparison" / "dy_mumu" / "discriminants.png").stat().st_size > 10_000
