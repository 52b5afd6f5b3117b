"""The generated "data" of a study with their truth: the same events once more, analysed with the study's networks.

What is made lies in `closure/` of the study's folder and stays: a second run does nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.measuring import Different, Missing
from benchmarks.printing import say
from pfnano_tag.card import Card, read_card
from pfnano_tag.card.files import expand_files

TRUTH = "closure"
"""Folder in the study's folder."""


def truth_card(card: Card) -> Card:
    """Return the card of the same data as simulation: no weights, no variations, nominal inputs.

    Parameters
    ----------
    card : Card
        Of the study.

    Raises
    ------
    Missing
        When the study's data were not generated: nobody knows their truth.
    """
    content: dict[str, Any] = json.loads(card.model_dump_json())
    samples = {name: one | {"mode": "truth"} for name, one in content["generate"]["samples"].items()}
    samples = {name: one for name, one in samples.items() if card.generate.samples[name].mode == "data"}
    data = [one for one in content["datasets"] if one["kind"] == "data" and "analyze" in one["roles"]]
    if not samples or not data:
        raise Missing(f"card {card.study.name} generates no data; the truth of data is known for generated ones only")
    simulated = {"kind": "mc", "cross_section": 1.0, "luminosity": None, "lumi_mask": None, "period": None}
    content["study"]["folder"] = str(card.folder / TRUTH)
    content["generate"]["samples"] = samples
    content["datasets"] = [one | simulated | {"triggers": [], "vetoes": []} for one in data]
    content["weights"] = content["systematics"] = content["arrays"] = content["comparison"] = {}
    content["histograms"] |= {"variants": [], "inputs": [], "outputs": False, "expressions": {}}
    folder = card.folder / TRUTH
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "card.yaml"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")  # JSON is YAML
    return read_card(str(path), [])


def make_truth(card: Card, quick: bool) -> Card:
    """Make the files with the truth and their job outputs, unless they are there.

    Parameters
    ----------
    card : Card
        Of the study.
    quick : bool
        Generate nothing.

    Returns
    -------
    Card
        Of the data with truth.

    Raises
    ------
    Missing
        When it is quick and there are no files, or the study has no networks.
    """
    from pfnano_tag.analyze import stage as analyze
    from pfnano_tag.generate import stage as generate

    truth = truth_card(card)
    models = truth.folder / "models"
    if not (card.folder / "models").is_dir():
        raise Missing(f"{card.folder} has no models; run the study first: bash scripts/demo.sh FOLDER regions")
    if not models.exists():
        models.symlink_to(Path("..") / "models")
    if not quick:
        say("making the events of data with their truth")
        generate.run(truth)
    elif not (truth.folder / "generated" / "manifest.json").is_file():
        raise Missing(f"{truth.folder} has no files with the truth of the data; run this once without --quick")
    for dataset in truth.datasets_for("analyze"):
        for file in expand_files(truth.patterns(dataset)):
            analyze.run(truth, dataset.name, file)
    return truth


def check_same(truth: Any, data: Any, name: str) -> None:
    """Raise `Different` unless the jets with truth are those of data: the same sums, bin by bin.

    Parameters
    ----------
    truth, data : ndarray of float64
        Sums of weights, summed over flavours.
    name : str
        Of the histogram, for the message.
    """
    off = float(abs(truth - data).max(initial=0.0))
    if off > 1e-6 * max(1.0, float(abs(data).max(initial=0.0))):
        raise Different(
            f"{name}: with truth the data differ from those of the study, by {off:.3g} in a bin; the study's data "
            "were made by another version of the generator, or analysed with other networks: do both again"
        )
