"""DeepSets trained end to end from ROOT, which each epoch reads again, against all jets in memory."""

from __future__ import annotations

import sys
import tempfile

from benchmarks.inputs import path_of
from benchmarks.measuring import Different, Side, interleaved, ratio_of, run_side, summary
from benchmarks.printing import Outcome, command, part, say
from benchmarks.study import write_card

SETTINGS = {
    "files": ["resources.cache=none", "resources.readers=1"],
    "memory": ["resources.cache=ram", "resources.readers=0"],
}
"""A reader process reads the files again in each epoch; the first epoch keeps all jets."""
WORDS = {
    "wall": "rate from ROOT over the rate from memory, wall time of whole epochs (asked: at least 0.8)",
    "training": "the same, wall time of the training part of epochs",
    "cpu": "CPU seconds of the training process in whole epochs, from memory over from ROOT",
}


def measure(quick: bool) -> Outcome:
    """Prepare a study, train with both settings in turns, compare the networks at the end.

    Raises
    ------
    Different
        When the trainings have not made the same network, bit for bit.
    """
    name, epochs, rounds = ("candidates", 2, 1) if quick else ("candidates_16x", 3, 3)
    file = path_of(name)
    with tempfile.TemporaryDirectory() as folder:
        models = {"deepsets": {"architecture": "deepsets"}}
        card = write_card(
            folder, str(file), models=models, training={"epochs": epochs}, splitting={}, resources={"memory": 4.0}
        )
        say(f"preparing a study of {file.name}")
        run_side(Side("prepare", "stream", {"do": "prepare", "card": str(card)}))
        say(f"{epochs} epochs of DeepSets from ROOT with one reader process, and from memory; {rounds} rounds")
        sides = [Side(label, "training", {"card": str(card), "set": asked}) for label, asked in SETTINGS.items()]
        runs = interleaved(sides, rounds)
    if len(weights := {run["weights"] for some in runs.values() for run in some}) > 1:
        raise Different(f"the trainings made {len(weights)} different networks, expected the same to the last bit")
    ours, memory = runs["files"], runs["memory"]
    jets = ours[0]["jets"]
    parts = {
        key: part(ratio_of(ours, memory, key), words, summary(ours, jets, key), summary(memory, jets, key))
        for key, words in WORDS.items()
    }
    first = parts.pop("wall")
    work = {
        "file": file.stem,
        "megabytes": round(file.stat().st_size / 1e6, 1),
        "jets": jets,
        "validation_jets": ours[0]["validation_jets"],
        "epochs": epochs - 1,
        "settings": SETTINGS,
    }
    return Outcome("training", first["ratio"], first["ratio_is"], first["ours"], first["other"], work, parts)


if __name__ == "__main__":
    sys.exit(command("training", __doc__, measure))
