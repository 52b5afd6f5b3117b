"""Peak memory of the training stream and of the data/MC job, above their imports, for files of size 1, 4 and 16."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.inputs import path_of
from benchmarks.measuring import Side, run_side
from benchmarks.printing import Outcome, command, part, say
from benchmarks.study import write_card
from benchmarks.watching import Watched, watch

TIMES = ("1x", "4x", "16x")
ABOVE = "peak of all processes above the imports, at 16x, over resources.memory"

STREAMS = {
    "stream": ["resources.cache=none"],
    "stream_reader": ["resources.cache=none", "resources.readers=1"],
    "stream_cache": ["resources.cache=auto"],
}
"""How the stream is run: reading files in each epoch, alone or with a reader process; keeping jets if they fit."""


@dataclass(frozen=True)
class Scale:
    """Files and limits of a run.

    Parameters
    ----------
    inputs : tuple of str
        1, 4 and 16 times a size.
    resources : dict
        Section `resources`; the budget is `memory` [GB].
    training : dict
        Section `training`.
    epochs : int
        Of the stream.
    """

    inputs: tuple[str, str, str]
    resources: dict[str, Any]
    training: dict[str, Any]
    epochs: int


FULL = Scale(("candidates", "candidates_4x", "candidates_16x"), {"memory": 1.5}, {}, 2)
"""The defaults of the card."""
QUICK = Scale(
    ("candidates_quarter", "candidates", "candidates_4x"), {"memory": 0.75, "chunk": 16.0}, {"buffer": 20_000}, 1
)
"""A quarter of the files, half of the memory."""


def all_watched(sides: Sequence[Side]) -> list[Watched]:
    """Watch sides, two at a time: what one needs does not depend on the other."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(watch, sides))


def stream_sides(folder: Path, scale: Scale, files: Sequence[Path], settings: Sequence[str]) -> list[Side]:
    """Return the stream of a study of each file; the studies are still to be prepared."""
    cards = [
        write_card(folder / f"stream_{times}", str(file), scale.resources, training=scale.training)
        for times, file in zip(TIMES, files, strict=True)
    ]
    asked = {"do": "stream", "epochs": scale.epochs, "set": list(settings)}
    return [Side(card.parent.name, "watched", {**asked, "card": str(card)}) for card in cards]


def analyze_sides(folder: Path, scale: Scale, files: Sequence[Path]) -> list[Side]:
    """Return the data/MC job of each file, with one network that is to be trained on the smallest."""
    datasets = [
        {"name": "small", "files": str(files[0]), "kind": "mc", "roles": ["train"]},
        {"name": "ttbar", "files": [str(f) for f in files], "kind": "mc", "roles": ["analyze"], "cross_section": 1.0},
    ]
    card = write_card(
        folder / "analyze",
        str(files[0]),
        scale.resources,
        datasets=datasets,
        models={"deepsets": {"architecture": "deepsets", "training": {"epochs": 1}}},
        regions={"all": {"selection": "all_jets"}},
        histograms={"variants": ["fgsm"]},
    )
    return [
        Side(
            f"analyze_{times}",
            "watched",
            {"do": "analyze", "card": str(card), "file": str(file), "output": str(folder / f"{times}.root")},
        )
        for times, file in zip(TIMES, files, strict=True)
    ]


def entry(name: str, seen: Sequence[Watched], budget: float) -> dict[str, Any]:
    """Return the result of three sizes [MB]."""
    above = {times: round(watched.above) for times, watched in zip(TIMES, seen, strict=True)}
    ours = {
        "megabytes": above["16x"],
        "by_size": above,
        "baseline": round(seen[-1].baseline),
        "processes": max(watched.processes for watched in seen),
    }
    ratio = float(f"{above['16x'] / (1000 * budget):.4g}")
    return part(ratio, f"{name}: {ABOVE}", ours, {"megabytes": round(1000 * budget)})


def measure(quick: bool) -> Outcome:
    """Watch the stream and the data/MC job."""
    scale = QUICK if quick else FULL
    files = [path_of(name) for name in scale.inputs]
    budget = scale.resources["memory"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        streams = dict(list(STREAMS.items())[:1]) if quick else STREAMS
        sides = {name: stream_sides(folder, scale, files, settings) for name, settings in streams.items()}
        sides["analyze"] = analyze_sides(folder, scale, files)
        say("preparing studies")
        cards = dict.fromkeys(side.options["card"] for some in sides.values() for side in some)
        run_side(Side("studies", "studies", {"cards": list(cards)}))
        say(f"watching {', '.join(sides)} at {', '.join(TIMES)}")
        seen = dict(
            zip(sides, _in_threes(all_watched([side for some in sides.values() for side in some])), strict=True)
        )
    entries = {name: entry(name, some, budget) for name, some in seen.items()}
    first = entries.pop("stream")
    work = {
        "files": list(scale.inputs),
        "megabytes": [round(file.stat().st_size / 1e6) for file in files],
        "jets": [watched.result["jets"] // scale.epochs for watched in seen["stream"]],
        "epochs": scale.epochs,
        "buffer": scale.training.get("buffer", 200_000),
        "memory_is": "proportional set size of all processes, looked at every 50 ms",
    }
    return Outcome("memory", first["ratio"], first["ratio_is"], first["ours"], first["other"], work, entries)


def _in_threes(seen: Sequence[Watched]) -> list[Sequence[Watched]]:
    return [seen[start : start + 3] for start in range(0, len(seen), 3)]


if __name__ == "__main__":
    sys.exit(command("memory", __doc__, measure))
