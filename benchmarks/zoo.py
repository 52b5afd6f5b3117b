"""Trains every architecture, small, on one generated sample, and draws the courses for the documentation."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.inputs import path_of
from benchmarks.measuring import ROOT, Missing, Side, run_side
from benchmarks.printing import MISSING, say
from benchmarks.study import write_card
from pfnano_tag.card import read_card
from pfnano_tag.card.folder import model_folder
from pfnano_tag.evaluate.epochs import draw_courses
from pfnano_tag.evaluate.loss import read_course
from pfnano_tag.models.registry import ARCHITECTURES

FOLDER = ROOT / "docs" / "images"
PICTURES = {"training_loss.png": "zoo_loss.png", "training_auc.png": "zoo_auc.png"}
"""Pages that are drawn, and their names in the documentation."""
SMALL: dict[str, dict[str, Any]] = {
    "deepjet": {"charged_lstm": 50, "neutral_lstm": 20, "sv_lstm": 20, "dense": [100, 50, 50]},
    "particle_transformer": {"embed": [64, 64], "pair": [32, 32], "heads": 4, "blocks": 2, "class_blocks": 1},
    "multitask": {"embed": [64], "width": 64, "layers": 2, "heads": 4, "out": 64, "head": [64, 32]},
}
"""Sizes of those whose own take long."""


def zoo_card(folder: Path, file: Path, epochs: int) -> Path:
    """Write a card with every architecture; there are no test jets, for no number is quoted."""
    models = {name: {"architecture": name, "arguments": SMALL.get(name, {})} for name in ARCHITECTURES}
    return write_card(
        folder,
        str(file),
        study={"name": "zoo", "folder": str(folder / "study")},
        models=models,
        training={"epochs": epochs, "batch_size": 256},
        reweighting={"correct": "kinematics"},
        splitting={"fractions": [0.7, 0.3 - 1e-12, 1e-12]},
    )


def main() -> int:
    """Train, draw, copy the pictures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jets, two epochs: shows that it runs")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the pictures [default: docs/images]")
    options = parser.parse_args()
    try:
        file = path_of("candidates_quarter" if options.quick else "candidates")
    except Missing as missing:
        print(f"zoo: {missing}", file=sys.stderr)
        return MISSING
    with tempfile.TemporaryDirectory() as name:
        card_file = zoo_card(Path(name), file, 2 if options.quick else 10)
        say(f"training {', '.join(ARCHITECTURES)} on {file.name}")
        (jets,) = run_side(Side("zoo", "studies", {"cards": [str(card_file)]}))["jets"]
        card = read_card(card_file)
        text = f"Simulation: ttbar, {jets:,} training jets"
        draw_courses(Path(name), text, {model: read_course(model_folder(card, model)) for model in card.models})
        options.folder.mkdir(parents=True, exist_ok=True)
        for page, picture in PICTURES.items():
            shutil.copy(Path(name) / page, options.folder / picture)
            print(options.folder / picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
