"""Truth of the charged candidates in jets, and how it was found: `python -m benchmarks.origins FILE`.

Candidates are those above 0.95 GeV in jets above 20 GeV whose generator jet has its constituents stored. Printed are
the share that matches a generated particle, of all and of those that the vertex fit used within 1 mm of the primary
vertex; and where the file has what it takes, the share of each class of `charged/origin` by hadron flavour of the
jet, with the median significance of the transverse impact parameter. Efficiency and purity of the matching need the
generator's own record: they are in `tests/generate/test_truth.py`. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.errors import UserError
from pfnano_tag.nano.matching import matched
from pfnano_tag.nano.reader import Chunk, PFNanoFile
from pfnano_tag.nano.selection import SelectedJets
from pfnano_tag.nano.targets import ORIGINS, lacking
from pfnano_tag.nano.truth import candidate_truth, has_truth, particles_of

CANDIDATE_PT, JET_PT, JET_ETA = 0.95, 20.0, 2.5
FITTED, NEAR = 7, 0.1
"""`PFCands_pvAssocQuality` of tracks that the vertex fit used, and distance along the beam [cm]."""
FLAVOURS = {5: "b", 4: "c", 0: "light"}


def charged_in_jets(chunk: Chunk) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows of the charged candidates in jets with truth, and of their jets."""
    jet_pt, jet_eta = chunk["Jet_pt"].values, chunk["Jet_eta"].values
    jets = SelectedJets.of(chunk, (jet_pt > JET_PT) & (np.abs(jet_eta) < JET_ETA))
    known = has_truth(chunk, jets.row, jets.event)
    link, jet, event = jets.linked(chunk, "JetPFCands_jetIdx")
    row = chunk["PFCands_pt"].offsets[event] + chunk["JetPFCands_pFCandsIdx"].values[link]
    use = known[jet] & (chunk["PFCands_pt"].values[row] > CANDIDATE_PT) & (chunk["PFCands_charge"].values[row] != 0)
    return row[use], jets.row[jet[use]]


def survey(path: str | Path) -> dict[str, Any]:
    """Return shares of matched candidates, and of origins where the file tells them."""
    with PFNanoFile(path) as file:
        chunk = file.chunk(0, file.num_entries)
        row, jet = charged_in_jets(chunk)
        there = matched(particles_of(chunk, "PFCands"), particles_of(chunk, "GenCands"))[row] >= 0
        fitted = chunk["PFCands_pvAssocQuality"].values[row] == FITTED
        fitted &= np.abs(chunk["PFCands_dz"].values[row]) < NEAR
        found = {
            "candidates": len(row),
            "matched": float(there.mean()),
            "fitted_candidates": int(fitted.sum()),
            "fitted_matched": float(there[fitted].mean()),
            "origins": {},
        }
        if not lacking("charged/origin", file.branches):
            found["origins"] = _origins(chunk, row, jet)
    return found


def _origins(chunk: Chunk, row: NDArray[np.int64], jet: NDArray[np.int64]) -> dict[str, dict[str, float | None]]:
    origin = candidate_truth(chunk).origin[row]
    flavour = chunk["Jet_hadronFlavour"].values[jet].astype(int)
    significance = np.abs(chunk["PFCands_d0"].values[row] / chunk["PFCands_d0Err"].values[row])
    out: dict[str, dict[str, float | None]] = {}
    for number, name in enumerate(ORIGINS):
        chosen = origin == number
        shares = {f"{word} jets": float(np.mean(chosen[flavour == code])) for code, word in FLAVOURS.items()}
        out[name] = shares | {"d0/err": float(np.median(significance[chosen])) if chosen.any() else None}
    return out


def table_of(found: dict[str, Any]) -> str:
    """Return the tables for people."""
    lines = [
        f"{found['candidates']} charged candidates, {found['matched']:.1%} match a generated particle",
        f"{found['fitted_candidates']} of the primary vertex's fit, {found['fitted_matched']:.1%} match",
    ]
    if found["origins"]:
        lines.append(f"{'origin':10s}" + "".join(f"{key:>12s}" for key in found["origins"][ORIGINS[0]]))
    for name, shares in found["origins"].items():
        values = [f"{v:12.2f}" if k == "d0/err" else f"{v:12.2%}" for k, v in shares.items() if v is not None]
        lines.append(f"{name:10s}" + "".join(values))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables and the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.origins", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", help="simulation with GenCands")
    options = parser.parse_args(arguments)
    try:
        found = survey(options.file)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table_of(found))
    print(json.dumps({"name": "origins", "file": str(options.file), **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
