"""Makes the files that the benchmarks read: `python -m benchmarks.inputs [NAME...]` (`bash benchmarks/inputs.sh`).

Samples of 6000 events are generated once per process and layout, then repeated to size: each copy gets other event
numbers, so that no two events have the same identity; `quality` is generated to size, without copies. A file that is
there already, made from the same specification, stays.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measuring import ROOT, Missing
from benchmarks.printing import say

FOLDER = "PFNANO_TAG_BENCHMARKS"
"""Environment variable: where the files lie, instead of `benchmarks/inputs`."""
EVENTS, SEED = 6000, 21


@dataclass(frozen=True)
class Input:
    """A file that benchmarks read.

    Parameters
    ----------
    layout : str
        Of the generated sample that it is made from.
    entries : int
        Events (in layout `jets`: jets); the sample is repeated as often as that takes.
    basket : int
        Entries in a basket of each branch.
    compression : str
        Algorithm and level.
    container : str
        `ttree` or `rntuple`.
    events : int
        Generated events of the sample.
    process : str
        Of the sample; Drell-Yan pairs are muons.
    """

    layout: str
    entries: int
    basket: int = 1000
    compression: str = "ZSTD 5"
    container: str = "ttree"
    events: int = EVENTS
    process: str = "ttbar"


LZMA = {"compression": "LZMA 9", "basket": 100}
"""As CMS files: 100 events make 32 kB of each branch of the candidates."""
FLAT = {"layout": "jets", "basket": 10_000}

INPUTS: dict[str, Input] = {
    "candidates_quarter": Input("candidates", EVENTS // 4),
    "candidates": Input("candidates", EVENTS),
    "candidates_4x": Input("candidates", 4 * EVENTS),
    "candidates_16x": Input("candidates", 16 * EVENTS),
    "lzma_quarter": Input("candidates", EVENTS // 4, **LZMA),  # type: ignore[arg-type]
    "lzma": Input("candidates", EVENTS, **LZMA),  # type: ignore[arg-type]
    "rntuple": Input("candidates", EVENTS, container="rntuple"),
    "btvnano": Input("btvnano", EVENTS),
    "deepjet": Input("deepjet", EVENTS),
    "jets_30k": Input(entries=30_000, **FLAT),  # type: ignore[arg-type]
    "jets_200k": Input(entries=200_000, **FLAT),  # type: ignore[arg-type]
    "dy": Input("candidates", 50_000, process="dy"),
    "dy_quarter": Input("candidates", 12_500, process="dy"),
    "dy_lzma": Input("candidates", 12_500, process="dy", **LZMA),  # type: ignore[arg-type]
    "quality": Input("candidates", 20_000, events=20_000),  # no event twice: for trainings that are tested
}


def folder() -> Path:
    """Return the folder of the files."""
    return Path(os.environ.get(FOLDER) or ROOT / "benchmarks" / "inputs").resolve()


def path_of(name: str) -> Path:
    """Return the file of an input.

    Raises
    ------
    Missing
        When it has not been made, or from another specification.
    """
    path = folder() / f"{name}.root"
    if not path.is_file() or _recorded(path) != _specification(name):
        raise Missing(f"input {path} is not there; make it with: bash benchmarks/inputs.sh {name}")
    return path


def _specification(name: str) -> dict[str, object]:
    content = asdict(INPUTS[name])
    events, process = content.pop("events"), content.pop("process")
    of_process = {} if process == "ttbar" else {"process": process}
    return {**content, "sample": {"events": events, "seed": SEED, **of_process}}


def _recorded(path: Path) -> object:
    """Return what a file says it was made from; None where there is no note."""
    note = path.with_suffix(".json")
    return json.loads(note.read_text(encoding="utf-8")) if note.is_file() else None


def _sample(layout: str, events: int, process: str) -> Path:
    """Return the generated sample of a layout, made now if it is not there."""
    name = layout if process == "ttbar" else f"{process}_{layout}"
    path = folder() / "samples" / f"{name}_{events}_{SEED}.root"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        say(f"generating {events} {process} events in layout {layout}")
        command = [sys.executable, "-m", "pfnano_tag.generate", "--process", process, "--layout", layout]
        command += ["--events", str(events), "--seed", str(SEED), "--output", str(path)]
        command += ["--decays", "mumu"] if process == "dy" else []
        if subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"error: this command failed: {shlex.join(command)}")
    return path


def make(name: str) -> None:
    """Make one input unless it is there."""
    from benchmarks.repeating import repeat

    path, wanted = folder() / f"{name}.root", INPUTS[name]
    if path.is_file() and _recorded(path) == _specification(name):
        say(f"{path}: is there, {path.stat().st_size / 1e6:.0f} MB")
        return
    sample = _sample(wanted.layout, wanted.events, wanted.process)
    note = path.with_suffix(".json")
    note.unlink(missing_ok=True)
    repeat(sample, path, wanted.entries, wanted.basket, wanted.compression, wanted.container)
    note.write_text(json.dumps(_specification(name)), encoding="utf-8")
    say(f"{path}: made, {wanted.entries} entries, {path.stat().st_size / 1e6:.0f} MB")


def main() -> int:
    """Make the named inputs, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inputs", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(INPUTS)} [default: all]")
    names = parser.parse_args().names or list(INPUTS)
    unknown = sorted(set(names) - INPUTS.keys())
    if unknown:
        parser.error(f"no such input: {', '.join(unknown)}; there are {', '.join(INPUTS)}")
    folder().mkdir(parents=True, exist_ok=True)
    for name in names:
        make(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
