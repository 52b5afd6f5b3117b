"""Ours, watched for memory: an epoch of the training stream, or the data/MC job of a file."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

from benchmarks.measuring import options_of_side, peak_memory
from benchmarks.sides.stream import open_stream
from pfnano_tag.analyze import stage as analysis
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.card import read_card
from pfnano_tag.card.folder import prepared_path
from pfnano_tag.prepare.prepared import read_prepared


def stream(options: dict[str, Any]) -> dict[str, Any]:
    """Run epochs of the stream."""
    card = read_card(options["card"], options["set"])
    prepared = read_prepared(prepared_path(card), card)
    jets = 0
    with open_stream(card, prepared) as opened:
        loader = opened.loader(card.training.batch_size, card.training.buffer, True, card.study.seed)
        for epoch in range(1, options["epochs"] + 1):
            jets += sum(len(batch) for batch in loader.epoch(epoch))
    return {"jets": jets}


def analyze(options: dict[str, Any]) -> dict[str, Any]:
    """Run the job of a file; `imports` and `high_water`: most memory of the process before and at the end [bytes]."""
    imports = peak_memory()
    analysis.run(read_card(options["card"]), "ttbar", options["file"], options["output"])
    high_water = peak_memory()
    with JobResult(options["output"]) as result:
        jets = round(float(result.read("jet_pt").values.sum()))  # generated events have weight one
    return {"imports": imports, "high_water": high_water, "jets": jets}


def main() -> None:
    """Wait for the word, work, print the result."""
    torch.set_num_threads(1)
    options = options_of_side()
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps({"stream": stream, "analyze": analyze}[options["do"]](options)))


if __name__ == "__main__":
    main()
