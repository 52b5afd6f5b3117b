"""The limit: uproot alone reads given branches in given chunks, and does nothing with them."""

from __future__ import annotations

import json
from typing import Any

import awkward as ak
import numpy as np
import uproot

from benchmarks.measuring import Stopwatch, options_of_side
from benchmarks.sides.digests import digest


def read(options: dict[str, Any], digests: dict[str, list[list[float]]] | None = None) -> None:
    """Read all chunks; fill digests of the branches where asked to."""
    with uproot.open(options["file"]) as file:
        container = file[options["tree"]]
        wanted = options["branches"]
        for start, stop in options["plan"]:
            if isinstance(container, uproot.TTree):
                arrays = container.arrays(wanted, entry_start=start, entry_stop=stop, library="ak", how=dict)
            else:
                arrays = container.arrays(wanted, entry_start=start, entry_stop=stop)
            if digests is not None:
                for name in wanted:
                    digests.setdefault(name, []).append(digest(np.asarray(ak.flatten(arrays[name], axis=None))))


def main() -> None:
    """Read, timed, or read and print digests."""
    options = options_of_side()
    if options["do"] == "describe":
        digests: dict[str, list[list[float]]] = {}
        read(options, digests)
        print(json.dumps({"digests": digests}))
        return
    with Stopwatch() as watch:
        read(options)
    print(json.dumps(watch.seconds))


if __name__ == "__main__":
    main()
