"""Ours: all variables of many job outputs, merged; watched for memory."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.measuring import Stopwatch, options_of_side
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.compare.merging import Merger
from pfnano_tag.compare.outputs import DatasetJobs


def merge(options: dict[str, Any]) -> dict[str, Any]:
    """Merge the outputs that a folder holds, read every variable once, and hash all that was read."""
    dataset = Dataset.model_validate_json(json.dumps(options["dataset"]))
    paths = tuple(sorted(Path(options["outputs"]).glob("*.root")))[: options["count"]]
    kept = Path(options["kept"]) if options["kept"] else None
    digest, totals = hashlib.sha256(), {}
    with Stopwatch() as watch, Merger([DatasetJobs(dataset, paths)], kept, options["processes"]) as merger:
        for name in merger.variables:
            rows = merger.merged(name, {dataset.name: 1.0})
            totals[name] = sum(float(values.sum()) for values, _ in rows.values())
            for category, arrays in rows.items():
                digest.update(repr(category).encode())
                for array in arrays:
                    digest.update(array.tobytes())
    return {**watch.seconds, "files": len(paths), "digest": digest.hexdigest(), "totals": totals}


def main() -> None:
    """Wait for the word, work, print the result."""
    options = options_of_side()
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(merge(options)))


if __name__ == "__main__":
    main()
