"""What our Particle Transformer and weaver-core's have learned from the same jets: AUCs of three seeds each.

It takes its time, so it comes in pieces, each with a result that is kept: a command without --side and --collect
trains what is missing, one after the other; --side and --seed train one network, beside others if wanted; --collect
compares.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.inputs import folder as inputs_folder
from benchmarks.inputs import path_of
from benchmarks.measuring import Different, Missing, Side, run_side
from benchmarks.peers import python_of
from benchmarks.printing import MISSING, Outcome, part, say, table
from benchmarks.study import write_card

SIDES = ("ours", "weaver")
DISCRIMINANTS = ("BvsL", "CvsB", "CvsL")
SIZES = {"embed": [64, 256, 64], "pair": [32, 32, 32], "heads": 8, "blocks": 8, "class_blocks": 2}
"""Half of the published widths: a quarter of the parameters."""
WEIGHT_DECAY = 0.01
TOLERANCE = 2e-5
"""Largest difference of logits with the same weights, relative to the largest logit."""
WORDS = "1 - AUC of weaver-core's network over that of ours, means of the seeds, {name}: above 1 where ours is better"


@dataclass(frozen=True)
class Scale:
    """How much is trained.

    Parameters
    ----------
    input : str
        File with jets.
    jets : int or None
        Most jets per chunk of a file and split; None: all.
    epochs, batch : int
        Of each training.
    seeds : int
        Trainings of each side.
    """

    input: str
    jets: int | None
    epochs: int
    batch: int
    seeds: int


FULL = Scale("quality", None, 3, 256, 3)
QUICK = Scale("candidates_quarter", 300, 1, 64, 1)


class Pieces:
    """Jets and trainings in a folder.

    Parameters
    ----------
    folder : Path
        For jets, studies and results.
    scale : Scale
        How much.
    """

    def __init__(self, folder: Path, scale: Scale) -> None:
        self.folder, self.scale = folder, scale
        self.python, self.jets = python_of("weaver"), folder / "jets.npz"
        self.card = folder / "card.yaml"

    def prepare(self) -> dict[str, Any]:
        """Write the jets unless they are there, and compare both networks with the same weights.

        Raises
        ------
        Different
            When their logits are not the same.
        """
        note = self.folder / "jets.json"
        wanted = {"scale": asdict(self.scale), "sizes": SIZES, "weight_decay": WEIGHT_DECAY}
        if note.is_file():
            found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
            if found["wanted"] == wanted:
                return found
            raise Different(f"{note} was made with other settings; remove the folder to begin anew")
        file = path_of(self.scale.input)
        say(f"preparing the jets of {file.name}")
        training = {"epochs": self.scale.epochs, "batch_size": self.scale.batch, "weight_decay": WEIGHT_DECAY}
        write_card(
            self.folder,
            str(file),
            models={"part": {"architecture": "particle_transformer", "arguments": {**SIZES, "jet_inputs": False}}},
            training=training | {"gradient_clip": None},
            splitting={"fractions": [0.72, 0.28 - 1e-12, 1e-12]},
        )
        described = run_side(self._ours("jets", jets=self.scale.jets))
        found = {"wanted": wanted, **described}
        weights = str(self.folder / "weights.npz")
        run_side(self._weaver(found, "weights", weights=weights))
        checked = run_side(self._ours("check", weights=weights))
        if not checked["difference"] < TOLERANCE * checked["size"]:
            raise Different(f"logits of up to {checked['size']:.3g} differ by up to {checked['difference']:.3g}")
        note.write_text(json.dumps(found | {"check": checked}), encoding="utf-8")
        return found | {"check": checked}

    def result(self, side: str, seed: int) -> Path:
        """Return where the result of a training goes."""
        return self.folder / f"{side}_{seed}.json"

    def train(self, side: str, seed: int) -> None:
        """Train one network unless that is done."""
        found = self.prepare()
        path = self.result(side, seed)
        if path.is_file():
            return
        say(f"training: {side}, seed {seed}")
        if side == "ours":
            result = run_side(self._ours("train", seed=seed))
        else:
            nodes = str(self.folder / f"nodes_{seed}.npy")
            result = run_side(self._weaver(found, "train", seed=seed, nodes=nodes))
            result |= run_side(self._ours("score", nodes=nodes))
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(result), encoding="utf-8")
        temporary.rename(path)
        say(f"{side}, seed {seed}: {result['auc']}, {result['cpu']:.0f} s")

    def collect(self) -> Outcome:
        """Compare the results.

        Raises
        ------
        Missing
            When a training is not done.
        Different
            When the networks were given different jets, or are not of the same size.
        """
        found = self.prepare()
        results: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for side in SIDES:
            for seed in range(1, self.scale.seeds + 1):
                path = self.result(side, seed)
                if not path.is_file():
                    command = f"python -m benchmarks.quality --side {side} --seed {seed}"
                    raise Missing(f"{path} is not there; make it with: {command}")
                results[side].append(json.loads(path.read_text(encoding="utf-8")))
        check_same([result for side in SIDES for result in results[side]])
        return outcome(results, found)

    def _ours(self, do: str, **options: Any) -> Side:
        asked = {"card": str(self.card), "jets_file": str(self.jets), "discriminants": DISCRIMINANTS}
        return Side("ours", "quality", {**asked, "do": do, **options})

    def _weaver(self, found: Mapping[str, Any], do: str, **options: Any) -> Side:
        asked = {
            "jets_file": str(self.jets),
            "features": found["features"],
            "classes": len(found["classes"]),
            "sizes": SIZES,
            "weight_decay": WEIGHT_DECAY,
            "epochs": self.scale.epochs,
            "batch": self.scale.batch,
        }
        return Side("weaver", "weaver_quality", {**asked, "do": do, **options}, self.python)


def check_same(results: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to compare trainings of different jets, or networks of different size.

    Raises
    ------
    Different
        Says which.
    """
    sizes = {result["parameters"] for result in results}
    if len(sizes) > 1:
        raise Different(f"networks of {', '.join(map(str, sorted(sizes)))} parameters, expected the same number")
    sums = np.array([result["sums"] for result in results])
    if not np.allclose(sums, sums[0], rtol=1e-9, atol=1e-6):
        raise Different("the trainings were given different jets: sums of their inputs differ")


def outcome(results: Mapping[str, Sequence[Mapping[str, Any]]], found: Mapping[str, Any]) -> Outcome:
    """Return the ratio of the worst discriminant first, then the others."""
    entries: dict[str, dict[str, Any]] = {}
    for name in DISCRIMINANTS:
        aucs = {side: [result["auc"][name] for result in some] for side, some in results.items()}
        shown = {
            side: {"auc": mean(values), "seeds": values, "spread": max(values) - min(values)}
            for side, values in aucs.items()
        }
        ours, theirs = mean(aucs["ours"]), mean(aucs["weaver"])
        entry = part((1 - theirs) / (1 - ours), WORDS.format(name=name), shown["ours"], shown["weaver"])
        spread = max(shown[side]["spread"] for side in SIDES)
        entries[name] = entry | {"difference": ours - theirs, "spread": spread, "holds": ours - theirs > -spread}
    worst = min(entries, key=lambda name: float(entries[name]["ratio"]))
    first = entries.pop(worst)
    seconds = {side: mean(result["cpu"] for result in some) for side, some in results.items()}
    work = {key: found[key] for key in ("jets", "mean", "classes", "wanted", "check")}
    work |= {
        "parameters": results["ours"][0]["parameters"],
        "cpu_seconds_of_a_training": {side: round(value) for side, value in seconds.items()},
        "worst": {key: first.pop(key) for key in ("difference", "spread", "holds")},
    }
    return Outcome("quality", first["ratio"], first["ratio_is"], first["ours"], first["other"], work, entries)


def _run(options: argparse.Namespace, folder: Path, scale: Scale) -> None:
    """Do what the command line asks for."""
    pieces = Pieces(folder, scale)
    if options.side:
        pieces.train(options.side, options.seed)
        return
    if not options.collect:
        for seed in range(1, scale.seeds + 1):
            for side in SIDES:
                pieces.train(side, seed)
    found = pieces.collect()
    print(table(found))
    print(json.dumps(found.to_json()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, train, compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few jets, one epoch, one seed: shows that it runs")
    parser.add_argument("--side", choices=SIDES, help="train this one only")
    parser.add_argument("--seed", type=int, default=1, help="of that training [default: 1]")
    parser.add_argument("--collect", action="store_true", help="compare what has been trained")
    options = parser.parse_args(arguments)
    try:
        if options.quick:
            with tempfile.TemporaryDirectory() as name:
                _run(options, Path(name), QUICK)
        else:
            folder = inputs_folder() / "quality"
            folder.mkdir(parents=True, exist_ok=True)
            _run(options, folder, FULL)
    except Missing as missing:
        print(f"quality: {missing}", file=sys.stderr)
        return MISSING
    return 0


if __name__ == "__main__":
    sys.exit(main())
