"""Ours: PFNano to JetTables with all features, chunk by chunk, in one process or shared by several."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.measuring import Stopwatch, options_of_side
from benchmarks.sides.digests import digest
from pfnano_tag.card.inputs import Inputs
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.features import branches_for, read_jets
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.schema import FEATURES, INPUT_SETS, features_of


def features_in(file: PFNanoFile) -> list[str]:
    """Return all features of all input sets that the file can give."""
    wanted = dict.fromkeys(name for chosen in INPUT_SETS for name in features_of(chosen))
    return [name for name in wanted if file.contents.status(FEATURES[name]) != "missing"]


def read(options: dict[str, Any], taken: Any = None) -> dict[str, Any]:
    """Read all chunks of a file, or those that no other process has `taken`; as often as `passes` says.

    Returns
    -------
    dict
        `jets`, `constituents`, `load` (CPU seconds of reading branches).
    """
    inputs = Inputs()
    caps = inputs.caps.model_dump()
    jets = constituents = 0
    load = 0.0
    with PFNanoFile(options["file"]) as file:
        features = features_in(file)
        branches = branches_for(features, file.contents)
        if file.layout == "deepjet":  # has room for so many vertices, not for five
            caps["sv"] = min(caps["sv"], len(file.contents.slots["sv_pt"]))
        plan = file.plan(branches, options["chunk_bytes"])
        for start, stop in _untaken(plan * options.get("passes", 1), taken):
            chunk = file.chunk(start, stop)
            before = time.process_time()
            chunk.load(branches)
            load += time.process_time() - before
            every = np.ones(len(chunk["Jet_pt"].values), dtype=np.bool_)
            table = read_jets(chunk, features, every, caps, inputs.candidate_pt)
            jets += len(table)
            constituents += sum(int(group.offsets[-1]) for group in table.groups.values())
    return {"jets": jets, "constituents": constituents, "load": load}


def _untaken(chunks: Sequence[tuple[int, int]], taken: Any) -> Iterator[tuple[int, int]]:
    """Yield all chunks, or those whose number in the shared counter of processes comes to this one."""
    if taken is None:
        yield from chunks
        return
    while True:
        with taken.get_lock():
            number = taken.value
            taken.value += 1
        if number >= len(chunks):
            return
        yield chunks[number]


def describe(options: dict[str, Any]) -> dict[str, Any]:
    """Return what is read of a file: tree, stored names of branches, chunks, and digests of the branches."""
    with PFNanoFile(options["file"]) as file:
        features = features_in(file)
        branches = branches_for(features, file.contents)
        plan = file.plan(branches, options["chunk_bytes"])
        stored = file.stored_names(branches)
        digests: dict[str, list[list[float]]] = {name: [] for name in stored}
        for start, stop in plan:
            for name, column in file.tree.arrays(stored, start, stop).items():
                digests[name].append(digest(column.values if isinstance(column, Jagged) else column))
        return {
            "tree": file.tree_name,
            "branches": stored,
            "plan": plan,
            "entries": file.num_entries,
            "features": len(features),
            "digests": digests,
        }


def in_processes(options: dict[str, Any]) -> dict[str, Any]:
    """Read a file in several processes, each chunk in one of them; starting them is not timed."""
    number = options["processes"]
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(number + 1)
    found, taken = context.SimpleQueue(), context.Value("q", 0)
    processes = [context.Process(target=_share, args=(options, taken, ready, found)) for _ in range(number)]
    for process in processes:
        process.start()
    ready.wait()
    before = time.perf_counter()
    results = [found.get() for _ in processes]
    wall = time.perf_counter() - before
    for process in processes:
        process.join()
    seconds = [result["cpu"] for result in results]
    return {"wall": wall, "cpu": sum(seconds), "busier": max(seconds), "jets": sum(r["jets"] for r in results)}


def _share(options: dict[str, Any], taken: Any, ready: Any, found: Any) -> None:
    """Read chunk after chunk when all processes are there."""
    ready.wait()
    with Stopwatch() as watch:
        result = read(options, taken)
    found.put({**result, **watch.seconds})


def main() -> None:
    """Do what the options say and print the result."""
    options = options_of_side()
    if options["do"] == "describe":
        result = describe(options)
    elif options["do"] == "processes":
        result = in_processes(options)
    else:
        with Stopwatch() as watch:
            result = read(options)
        result |= watch.seconds
    print(json.dumps(result))


if __name__ == "__main__":
    main()
