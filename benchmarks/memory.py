"""Peak memory of the training stream and of the data/MC job, for files of size 1, 4 and 16.

Above the imports against `resources.memory`; of the data/MC job also the whole process against a limit.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
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
class Analysis:
    """A data/MC job: networks that learned nothing, nominal and under FGSM, on all jets above a momentum.

    Parameters
    ----------
    models : dict
        Section `models`.
    limit : float
        Of the whole process [MB].
    words : str
        What it is.
    pt : float
        That momentum [GeV].
    sizes : tuple of str
        Of the files.
    """

    models: dict[str, Any]
    limit: float
    words: str
    pt: float
    sizes: tuple[str, ...] = TIMES


_DEEPSETS = {f"deepsets_{i}": {"architecture": "deepsets"} for i in (1, 2, 3)}
_TRANSFORMER = {"transformer": {"architecture": "particle_transformer"}}
ANALYSES = {
    "analyze": Analysis(_DEEPSETS, 1200, "three DeepSets", 20.0),
    "analyze_transformer": Analysis(_TRANSFORMER, 2000, "one Particle Transformer", 200.0),
    "analyze_transformer_all": Analysis(_TRANSFORMER, 2000, "one Particle Transformer", 20.0, ("1x",)),
}
"""A transformer sees all jets of the smallest file alone: it would work on those of the largest for an hour."""
FEWER_JETS = {
    "analyze": replace(ANALYSES["analyze"], pt=100.0),
    "analyze_transformer": replace(ANALYSES["analyze_transformer"], pt=300.0, sizes=("16x",)),
}


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
    analyses : dict of Analysis
        By name.
    """

    inputs: tuple[str, str, str]
    resources: dict[str, Any]
    training: dict[str, Any]
    epochs: int
    analyses: dict[str, Analysis]


FULL = Scale(("candidates", "candidates_4x", "candidates_16x"), {"memory": 1.5}, {}, 2, ANALYSES)
"""The defaults of the card."""
QUICK = Scale(
    ("candidates_quarter", "candidates", "candidates_4x"),
    {"memory": 0.75, "chunk": 16.0},
    {"buffer": 20_000},
    1,
    FEWER_JETS,
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


def analyze_sides(folder: Path, scale: Scale, files: Sequence[Path], name: str) -> list[Side]:
    """Return an analysis of each of its files; its study, of the smallest, is still to be prepared."""
    analysis = scale.analyses[name]
    datasets = [
        {"name": "small", "files": str(files[0]), "kind": "mc", "roles": ["train"]},
        {"name": "ttbar", "files": [str(f) for f in files], "kind": "mc", "roles": ["analyze"], "cross_section": 1.0},
    ]
    card = write_card(
        folder / name,
        str(files[0]),
        scale.resources,
        datasets=datasets,
        models=analysis.models,
        regions={"all": {"selection": "all_jets"}},
        histograms={"variants": ["fgsm"]},
        jets={"pt": [analysis.pt, 1000.0]},
    )
    asked = {"do": "analyze", "card": str(card)}
    return [
        Side(
            f"{name}_{times}",
            "watched",
            {**asked, "file": str(file), "output": str(folder / name / f"{times}.root")},
        )
        for times, file in zip(TIMES, files, strict=True)
        if times in analysis.sizes
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


def whole(name: str, seen: Sequence[Watched], scale: Scale) -> dict[str, Any]:
    """Return what whole processes of an analysis had at most [MB], against their limit."""
    analysis = scale.analyses[name]
    peaks = {
        times: round(watched.result["high_water"] / 1e6) for times, watched in zip(analysis.sizes, seen, strict=True)
    }
    largest = max(peaks.values())
    ours = {
        "megabytes": largest,
        "by_size": peaks,
        "jets": {times: watched.result["jets"] for times, watched in zip(analysis.sizes, seen, strict=True)},
        "imports": round(seen[-1].result["imports"] / 1e6),
    }
    sizes = ", ".join(f"{times} {megabytes}" for times, megabytes in peaks.items())
    words = (
        f"{analysis.words}, jets above {analysis.pt:g} GeV, nominal and FGSM: most resident memory of the process, "
        f"imports included, over {analysis.limit:.0f} MB ({sizes})"
    )
    return part(float(f"{largest / analysis.limit:.4g}"), words, ours, {"megabytes": analysis.limit})


def measure(quick: bool) -> Outcome:
    """Watch the stream and the data/MC job."""
    scale = QUICK if quick else FULL
    files = [path_of(name) for name in scale.inputs]
    budget = scale.resources["memory"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        streams = dict(list(STREAMS.items())[:1]) if quick else STREAMS
        sides = {name: stream_sides(folder, scale, files, settings) for name, settings in streams.items()}
        sides |= {name: analyze_sides(folder, scale, files, name) for name in scale.analyses}
        say("preparing studies")
        cards = dict.fromkeys(side.options["card"] for some in sides.values() for side in some)
        run_side(Side("studies", "studies", {"cards": list(cards), "untrained": True}))
        say(f"watching {', '.join(sides)} at {', '.join(TIMES)}")
        found = iter(all_watched([side for some in sides.values() for side in some]))
        seen = {name: list(islice(found, len(some))) for name, some in sides.items()}
    entries = {name: entry(name, seen[name], budget) for name in (*streams, "analyze")}
    entries |= {f"{name}_process": whole(name, seen[name], scale) for name in scale.analyses}
    first = entries.pop("stream")
    work = {
        "files": list(scale.inputs),
        "megabytes": [round(file.stat().st_size / 1e6) for file in files],
        "jets": [watched.result["jets"] // scale.epochs for watched in seen["stream"]],
        "epochs": scale.epochs,
        "buffer": scale.training.get("buffer", 200_000),
        "memory_is": "proportional set size of all processes, looked at every 50 ms; "
        "of one process: the largest resident set size ever",
    }
    return Outcome("memory", first["ratio"], first["ratio_is"], first["ours"], first["other"], work, entries)


if __name__ == "__main__":
    sys.exit(command("memory", __doc__, measure))
