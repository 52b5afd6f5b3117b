"""What adversarial training costs: steps with FGSM on every batch against nominal ones; share of the bookkeeping."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.inputs import path_of
from benchmarks.measuring import Different, Side, interleaved, ratio_of, run_side, summary
from benchmarks.printing import Outcome, command, part, say
from benchmarks.study import write_card

LIMIT = 1.9
"""Asked: steps with FGSM take at most so many times as long as nominal ones."""
BATCH = 512
ATTACK = "fgsm"
COST = f"CPU seconds of training steps with FGSM on every batch over nominal ones (asked: at most {LIMIT})"
ALONE = "CPU seconds of the attack alone over those of loss and gradients of the parameters"
SHARE = "share of the attack that is no pass of the network: masks, and restoring what may not move"


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Parameters
    ----------
    input : str
        File with jets.
    batches : dict of int
        By network: batches of a run.
    rounds : int
        Runs of each side.
    """

    input: str
    batches: Mapping[str, int]
    rounds: int


FULL = Scale("candidates_4x", {"deepsets": 100, "particle_transformer": 4}, 5)
QUICK = Scale("candidates_quarter", {"deepsets": 15, "particle_transformer": 1}, 1)


def attack_card(folder: Path, file: Path, networks: Sequence[str]) -> Path:
    """Write a card with every network twice: trained on nominal jets, and on attacked ones."""
    models: dict[str, Any] = {}
    for name in networks:
        models[name] = {"architecture": name}
        models[f"{name}_{ATTACK}"] = {"architecture": name, "training": {"attack": ATTACK}}
    sections = {"models": models, "attacks": {ATTACK: {"kind": ATTACK}}, "training": {"batch_size": BATCH}}
    return write_card(folder, str(file), {"cache": "none"}, **sections)


def measure_network(name: str, card: Path, scale: Scale) -> tuple[float, dict[str, dict[str, Any]]]:
    """Run the sides of one network; each run first checks an attacked batch.

    Returns
    -------
    moved : float
        Share of the inputs that the attack changes.
    parts : dict of dict
        `steps`, `attack`, `bookkeeping`, as entries of `more`.

    Raises
    ------
    Different
        When an attacked batch is not what loops over features make.
    """

    def side(label: str, do: str, model: str) -> Side:
        options = {"card": str(card), "attack": ATTACK, "model": model, "batches": scale.batches[name], "do": do}
        return Side(label, "attack", options)

    say(f"{name}, {scale.rounds} rounds")
    attacked, nominal = side("attacked", "steps", f"{name}_{ATTACK}"), side("nominal", "steps", name)
    runs = interleaved([side("attack", "attacks", name), attacked, nominal], scale.rounds)
    for run in runs["attack"]:
        if run["different"]:
            raise Different(f"{name}: {run['different']} values of an attacked batch differ from those of loops")
    jets = runs["nominal"][0]["jets"]
    found = {label: summary(some, jets) for label, some in runs.items()}
    passes = {key: summary(runs["attack"], jets, key) for key in ("inputs", "parameters")}
    alone = median(run["cpu"] / run["parameters"] for run in runs["attack"])
    share = median(1 - run["inputs"] / run["cpu"] for run in runs["attack"])
    cost = ratio_of(runs["nominal"], runs["attacked"])  # seconds of the attacked over seconds of the nominal
    return runs["attack"][0]["moved"], {
        "steps": part(cost, COST, found["attacked"], found["nominal"]),
        "attack": part(float(f"{alone:.4g}"), ALONE, found["attack"], passes["parameters"]),
        "bookkeeping": part(float(f"{share:.3g}"), SHARE, found["attack"], passes["inputs"]),
    }


def measure(quick: bool) -> Outcome:
    """Prepare a study, measure both networks."""
    scale = QUICK if quick else FULL
    file = path_of(scale.input)
    work: dict[str, Any] = {"file": file.stem, "batch": BATCH, "attack": ATTACK}
    entries: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        card = attack_card(Path(folder), file, list(scale.batches))
        run_side(Side("prepare", "stream", {"do": "prepare", "card": str(card)}))
        for name, batches in scale.batches.items():
            moved, parts = measure_network(name, card, scale)
            work[name] = {"batches": batches, "moved": float(f"{moved:.3g}")}
            entries |= {f"{name}_{what}": entry for what, entry in parts.items()}
    first = entries.pop("deepsets_steps")
    return Outcome("attack", first["ratio"], first["ratio_is"], first["ours"], first["other"], work, entries)


if __name__ == "__main__":
    sys.exit(command("attack", __doc__, measure))
