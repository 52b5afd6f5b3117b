"""Features made from first principles against what a file stores of them: `python -m benchmarks.agreement FILE`.

Track quantities of JetPFCands_btag* are made again from PFCands as if the file lacked them; what only the DeepCSV
variables hold is compared for the tracks that have a slot there; directions and fractions of secondary vertices are
compared with SV. Printed are the median and the 99 % quantile of the relative difference; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.errors import UserError
from pfnano_tag.nano.columns import Jagged, delta_phi, rows_of_lists
from pfnano_tag.nano.features import read_jets
from pfnano_tag.nano.jets import JetTable
from pfnano_tag.nano.reader import Chunk, PFNanoFile
from pfnano_tag.nano.schema import FEATURES

STORED = "JetPFCands_btag"
CAPS = {"charged": 1_000_000, "sv": 1_000_000}
TRACKS = ("trackEtaRel", "trackPParRatio", "trackSip3dVal", "trackSip3dSig", "trackJetDistVal")
MATCHED = ("trackDeltaR", "trackPtRel", "trackSip2dSig")
IDS = [f"charged/{name}" for name in ("trackPtRel", "trackPPar", "trackDeltaR", "trackSip2dSig", *TRACKS)]
SLOTS = 6
SAME_TRACK = 2e-3
"""Difference of the 3D significance (relative) and of the distance to the jet that rounding leaves."""

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Agreement:
    """How well a feature made from first principles agrees with the stored one.

    Parameters
    ----------
    feature, branch : str
        What is compared with what.
    count : int
        Values compared.
    median, tail : float
        Median and 99 % quantile of abs(made - stored) / abs(stored).
    same_sign : float
        Share of values with the same sign.
    """

    feature: str
    branch: str
    count: int
    median: float
    tail: float
    same_sign: float


def compare(feature: str, branch: str, made: Array, stored: Array) -> Agreement:
    """Return the agreement of values above zero in size; without any, quantiles are NaN."""
    made, stored = made.astype(np.float64), stored.astype(np.float64)
    use = np.isfinite(stored) & np.isfinite(made) & (np.abs(stored) > 1e-9)
    difference = np.abs(made - stored)[use] / np.abs(stored[use])
    if not use.any():
        return Agreement(feature, branch, 0, float("nan"), float("nan"), float("nan"))
    same = np.mean(np.sign(made[use]) == np.sign(stored[use]))
    return Agreement(
        feature, branch, len(difference), *(float(np.quantile(difference, q)) for q in (0.5, 0.99)), float(same)
    )


def agreements(path: str | Path) -> list[Agreement]:
    """Return the agreement feature by feature of a file in the layout `candidates`."""
    with PFNanoFile(path) as file:
        chunk = file.chunk(0, file.num_entries)
        every = np.ones(len(chunk["Jet_pt"].values), dtype=bool)
        stored = read_jets(chunk, IDS, every, CAPS, 0.0)
        found = [*_vertices(chunk), *_deepcsv(chunk, stored)]
        visible = frozenset(name for name in file.branches if not name.startswith(STORED))
        file.contents = replace(file.contents, branches=visible)
        made = read_jets(chunk, IDS, every, CAPS, 0.0)
    return [*_tracks(made, stored), *found]


def _tracks(made: JetTable, stored: JetTable) -> Iterator[Agreement]:
    for name in TRACKS:
        feature = FEATURES[f"charged/{name}"]
        a, b = made.column(feature.id), stored.column(feature.id)
        inside = (b > feature.low) & (b < feature.high) & ~stored.default_mask(feature.id)
        inside &= ~stored.default_mask("charged/trackSip3dVal")
        yield compare(feature.id, feature.read[-1], a[inside], b[inside])


def _deepcsv(chunk: Chunk, table: JetTable) -> Iterator[Agreement]:
    """Compare tracks that have a slot among the DeepCSV variables, found again by their significance and distance."""
    pairs: dict[str, tuple[list[Array], list[Array]]] = {name: ([], []) for name in MATCHED}
    for slot in range(SLOTS):
        names = {name: f"Jet_DeepCSV_{name}_{slot}" for name in (*MATCHED, "trackSip3dSig")}
        if not chunk.branches.issuperset(names.values()):
            continue
        column = {name: chunk[branch].values for name, branch in names.items()}
        row, jet = _same_tracks(table, column)
        for name in MATCHED:
            pairs[name][0].append(table.column(f"charged/{name}")[row])
            pairs[name][1].append(column[name][jet])
    for name, (made, stored) in pairs.items():
        if made:
            a, b, feature = np.concatenate(made), np.concatenate(stored), FEATURES[f"charged/{name}"]
            inside = (b > feature.low) & (b < feature.high)
            yield compare(feature.id, f"Jet_DeepCSV_{name}_*", a[inside], b[inside])


def _same_tracks(table: JetTable, column: dict[str, Array]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows of tracks that are in a slot, and their jets."""
    # Below -1 the feature is bounded; jets without such a track hold -999 there.
    jets = np.flatnonzero((column["trackSip3dSig"] > -1) & (table.groups["charged"].counts > 0))
    rows, offsets = rows_of_lists(table.groups["charged"].offsets, jets)
    if len(rows) == 0:
        return rows, rows
    jet = np.repeat(jets, np.diff(offsets))
    significance, slot = table.column("charged/trackSip3dSig")[rows], column["trackSip3dSig"][jet]
    off = np.abs(significance - slot) / np.maximum(np.abs(slot), 1e-3)
    off += np.abs(table.column("charged/trackDeltaR")[rows] - column["trackDeltaR"][jet])
    best = np.flatnonzero(off == np.repeat(np.minimum.reduceat(off, offsets[:-1]), np.diff(offsets)))
    best = best[off[best] < SAME_TRACK]
    return rows[best], jet[best]


def _vertices(chunk: Chunk) -> Iterator[Agreement]:
    """Compare directions and fractions made from SV with those of JetSVs, where the vertex is in both."""
    links: Jagged = chunk["JetSVs_jetIdx"]
    event = np.repeat(np.arange(len(links)), links.counts)
    index = chunk["JetSVs_sVIdx"].values.astype(np.int64)
    known = np.flatnonzero(index >= 0)
    jet = chunk["Jet_pt"].offsets[event[known]] + links.values[known]
    sv = chunk["SV_eta"].offsets[event[known]] + index[known]

    def of(name: str) -> Array:
        rows = {"Jet": jet, "SV": sv, "JetSVs": known}[name.partition("_")[0]]
        return np.asarray(chunk[name].values[rows], dtype=np.float64)

    eta, phi = of("SV_eta") - of("Jet_eta"), delta_phi(of("SV_phi"), of("Jet_phi"))
    energy = np.sqrt((of("SV_pt") * np.cosh(of("SV_eta"))) ** 2 + of("SV_mass") ** 2)
    jet_energy = np.sqrt((of("Jet_pt") * np.cosh(of("Jet_eta"))) ** 2 + of("Jet_mass") ** 2)
    yield compare("sv/phirel (signed)", "JetSVs_phirel", phi, of("JetSVs_phirel"))
    yield compare("sv/deltaR + 0.5", "JetSVs_deltaR", np.hypot(eta, phi), of("JetSVs_deltaR") + 0.5)
    yield compare("sv/enratio (corrected jet)", "JetSVs_enration", energy / jet_energy, of("JetSVs_enration"))


def table_of(rows: Sequence[Agreement]) -> str:
    """Return the table for people."""
    lines = [f"{'feature':28s}{'stored as':30s}{'values':>8s}{'median':>10s}{'99 %':>10s}{'same sign':>11s}"]
    for row in rows:
        lines.append(
            f"{row.feature:28s}{row.branch:30s}{row.count:8d}{row.median:10.1e}{row.tail:10.1e}{row.same_sign:11.2%}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.agreement", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("file", help="PFNano with candidate collections")
    options = parser.parse_args(arguments)
    try:
        rows = agreements(options.file)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"relative differences of features made from first principles, {options.file}")
    print(table_of(rows))
    print(json.dumps({"name": "agreement", "file": str(options.file), "features": [asdict(row) for row in rows]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
