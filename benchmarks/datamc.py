"""The data/MC job against a coffea processor with the same selection, network and histograms, and against reading."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inputs import path_of
from benchmarks.measuring import Different, Side, interleaved, ratio_of, run_side, summary
from benchmarks.peers import packages_of, python_of
from benchmarks.printing import Outcome, command, part, say
from benchmarks.study import write_card

SHOWN = (
    "charged/ptrel", "charged/trackDeltaR", "charged/trackSip3dVal", "charged/trackSip3dSig", "neutral/ptrel",
    "sv/mass", "sv/d3dsig", "sv/enratio",
)  # fmt: skip
"""Inputs that are histogrammed: with three kinematics, six outputs and three discriminants 20 histograms."""
CHUNK_EVENTS = 10_000
"""Of coffea; ours has the default chunks."""
TRANSFORMER = {"architecture": "particle_transformer", "arguments": {"jet_inputs": False}}
"""In the size of the published network."""
MISPLACED = 2e-3
"""Share of a histogram's content that may lie in another bin: single precision at the edges."""


@dataclass(frozen=True)
class Scale:
    """Inputs of a run.

    Parameters
    ----------
    deepsets, transformer : str
        Compared with coffea.
    lzma : str
        Compared with reading.
    rounds : int
        Of each comparison.
    networks : tuple of str
        Classes of the transformer that the processor has, one comparison each.
    """

    deepsets: str
    transformer: str
    lzma: str
    rounds: int
    networks: tuple[str, ...]


FULL = Scale("dy", "dy_quarter", "dy_lzma", 3, ("weaver", "package"))
QUICK = Scale("dy_quarter", "candidates_quarter", "lzma_quarter", 1, ("weaver",))


@dataclass(frozen=True)
class Peer:
    """What network the processor has.

    Parameters
    ----------
    network : str
        Class, of `sides.coffea_networks`.
    model : str
        Ours with the same weights.
    batch : int
        Jets of a batch. Transformers have the number at which they were fastest.
    words : str
        What it is.
    """

    network: str
    model: str
    batch: int
    words: str


PEERS = {
    "deepsets": Peer("deepsets", "deepsets_1", 512, "with one DeepSets"),
    "weaver": Peer("weaver", "transformer", 64, "with weaver-core's Particle Transformer, against ours with ours"),
    "package": Peer("package", "transformer", 64, "with this package's Particle Transformer on both sides"),
}


def prepare(folder: Path, files: Sequence[Path]) -> Path:
    """Write the study's card with four networks that learned nothing; return the card."""
    card = write_card(
        folder,
        str(files[0]),
        datasets=[
            {"name": "mc", "files": [str(f) for f in files], "kind": "mc", "roles": ["analyze"], "cross_section": 1.0}
        ],
        models={
            **{f"deepsets_{i}": {"architecture": "deepsets"} for i in (1, 2, 3)},
            "transformer": TRANSFORMER,
        },
        regions={"leading": {"selection": "all_jets", "jets": "leading"}},
        histograms={"inputs": list(SHOWN), "stored": "none"},
        comparison={"replicas": 2},
    )
    run_side(Side("networks", "datamc", {"do": "networks", "card": str(card), "folder": str(folder)}))
    return card


def ours(name: str, card: Path, file: Path, models: Sequence[str], *settings: str) -> Side:
    """Return our job with some networks."""
    options = {"do": "analyze", "card": str(card), "dataset": "mc", "file": str(file), "models": list(models)}
    return Side(name, "datamc", {**options, "output": str(card.parent / f"{name}.root"), "set": list(settings)})


def coffea(card: Path, file: Path, peer: Peer) -> Side:
    """Return the processor; weaver-core comes from the environment of that peer."""
    options = {
        "folder": str(card.parent),
        "file": str(file),
        "inputs": list(SHOWN),
        "chunk": CHUNK_EVENTS,
        **{name: value for name, value in asdict(peer).items() if name != "words"},
    }
    if peer.network == "weaver":
        options["weaver"] = str(packages_of("weaver"))
    return Side("coffea", "coffea_datamc", options, python_of("coffea"))


def check_same(mine: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]) -> None:
    """Compare histograms with flow; scores have their upper end in the last bin here, in the overflow there.

    Raises
    ------
    Different
        Naming a histogram.
    """
    for name in sorted(mine.keys() | theirs.keys()):
        if name not in mine or name not in theirs:
            raise Different(f"histogram {name} is on one side only")
        a, b = np.array(mine[name]), np.array(theirs[name])
        if name.startswith(("output_", "BvsL", "CvsB", "CvsL")):
            b[-2:] = b[-2:].sum(), 0
            a[-2:] = a[-2:].sum(), 0
        difference = float(np.abs(a - b).sum() / max(np.abs(b).sum(), 1e-9))
        if not difference < MISPLACED:
            raise Different(f"histogram {name}: {difference:.2%} of the content lies in other bins")


def against_coffea(card: Path, file: Path, peer: Peer, rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compare contents, then times; return the entry, and what the work was."""
    mine, theirs = ours("ours", card, file, [peer.model]), coffea(card, file, peer)
    say(f"{file.stem}, {peer.network}: comparing histograms")
    run_side(mine)
    found = run_side(Side("described", "datamc", {**mine.options, "do": "describe"}))
    with_contents = Side("contents", theirs.module, {**theirs.options, "contents": True}, theirs.python)
    check_same(found["histograms"], run_side(with_contents)["histograms"])
    say(f"{file.stem}, {peer.network}: {rounds} rounds")
    runs = interleaved([mine, theirs], rounds)
    first = runs["ours"][0]
    jets = first["jets"]
    ratio = ratio_of(runs["ours"], runs["coffea"])
    words = f"rate of the job over that of the coffea processor {peer.words} (ours takes {1 / ratio:.2f} of its time)"
    entry = part(ratio, words, summary(runs["ours"], jets), summary(runs["coffea"], jets))
    work = {"file": file.stem, "jets": jets, "histograms": first["histograms"]}
    return entry, {**work, "peer": runs["coffea"][0]["versions"]}


def against_reading(card: Path, file: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Compare one and three networks, and attacked variants, with reading the same branches and nothing else."""
    one = ours("one", card, file, ["deepsets_1"])
    three = ours("three", card, file, ["deepsets_1", "deepsets_2", "deepsets_3"])
    attacked = ours("attacked", card, file, three.options["models"], "histograms.variants=[fgsm]")
    run_side(one)
    found = run_side(Side("described", "datamc", {**one.options, "do": "describe"}))
    same = {"file": str(file), **{key: found[key] for key in ("tree", "branches", "plan")}}
    read = Side("read", "uproot_alone", {**same, "do": "read"})
    say(f"{file.stem}: {rounds} rounds")
    runs = interleaved([one, three, attacked, read], rounds)
    jets = runs["one"][0]["jets"]
    seconds = {name: summary(some, jets) for name, some in runs.items()}

    def entry(first: str, second: str, words: str) -> dict[str, Any]:
        return part(ratio_of(runs[second], runs[first]), words, seconds[first], seconds[second])

    return {
        "lzma": entry("one", "read", "CPU seconds of the job with one DeepSets over those of reading alone, LZMA"),
        "models": entry("three", "one", "CPU seconds of the job with three networks over those with one, LZMA"),
        "attacked": entry("attacked", "three", "the same with FGSM variants of all three over those without, LZMA"),
    }


def measure(quick: bool) -> Outcome:
    """Against coffea with DeepSets, then with a transformer, then against reading."""
    scale = QUICK if quick else FULL
    deepsets, transformer, lzma = map(path_of, (scale.deepsets, scale.transformer, scale.lzma))
    python_of("weaver")  # said to be missing before anything is done
    with tempfile.TemporaryDirectory() as name:
        card = prepare(Path(name), list(dict.fromkeys([deepsets, transformer, lzma])))
        first, work = against_coffea(card, deepsets, PEERS["deepsets"], scale.rounds)
        more, files = {}, {"reading": lzma.stem}
        for network in scale.networks:
            key = "transformer" if network == "weaver" else f"transformer_of_{network}"
            more[key], done = against_coffea(card, transformer, PEERS[network], scale.rounds)
            files[key] = f"{done['file']}, {done['jets']:.0f} jets"
            work["peer"] |= done["peer"]
        more |= against_reading(card, lzma, scale.rounds)
    versions = work.pop("peer")
    work["files_of_others"] = files
    return Outcome("datamc", first["ratio"], first["ratio_is"], first["ours"], first["other"], work, more, versions)


if __name__ == "__main__":
    sys.exit(command("datamc", __doc__, measure))
