"""Anti-kT jets with FastJet's awkward interface, ghosts in the same clustering."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from pfnano_tag.errors import MissingExtra
from pfnano_tag.generate.ragged import Array, Table, merge, slices
from pfnano_tag.nano.columns import offsets_of, wrapped

RADIUS, FAT_RADIUS = 0.4, 0.8
GHOST_SCALE = 1e-18


@cache
def import_fastjet() -> Any:
    """Return the `fastjet` module, or raise an error that says how to get it; its banner goes to stderr.

    Raises
    ------
    MissingExtra
        FastJet can't be imported.
    """
    try:
        import fastjet
    except ImportError as error:
        raise MissingExtra(
            f"making jets needs fastjet, which can't be imported ({error}): pip install 'pfnano_tag[generate]'"
        ) from error
    with _stdout_to_stderr():
        # FastJet writes its licence and references from C++, once per process, to where our results belong
        fastjet._swig.ClusterSequence.print_banner()
    return fastjet


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what C++ writes to stdout to stderr, at the level of file descriptors."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _momenta(table: Table, scale: float) -> Table:
    pt = table["pt"] * scale
    mass = table["mass"] * scale if "mass" in table.columns else np.zeros(len(table))
    pz = pt * np.sinh(table["eta"])
    energy = np.sqrt((pt * np.cosh(table["eta"])) ** 2 + mass**2)
    columns = {"px": pt * np.cos(table["phi"]), "py": pt * np.sin(table["phi"]), "pz": pz, "E": energy}
    return Table(columns, table.offsets)


def cluster(
    inputs: Table, ghosts: Table, min_pt: float, radius: float = RADIUS
) -> tuple[Table, NDArray[np.int64], NDArray[np.int64]]:
    """Anti-kT jets (E scheme), sorted by falling pt.

    Parameters
    ----------
    inputs : Table
        pt, eta, phi [and mass] of what makes the jets.
    ghosts : Table
        pt, eta, phi of what is only assigned to jets (scaled by 1e-18).
    min_pt : float
        Jets below are dropped [GeV].
    radius : float
        Distance parameter.

    Returns
    -------
    jets
        Columns pt, eta, phi, mass, energy.
    jet_of_input, jet_of_ghost
        Flat jet row of each input and each ghost, -1 where in no jet.
    """
    fastjet = import_fastjet()
    both = merge([_momenta(inputs, 1.0), _momenta(ghosts, GHOST_SCALE)])
    record = ak.contents.RecordArray(
        [ak.contents.NumpyArray(both[k]) for k in ("px", "py", "pz", "E")],
        ["px", "py", "pz", "E"],
        parameters={"__record__": "Momentum4D"},
    )
    particles = ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(both.offsets), record))
    sequence = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.antikt_algorithm, radius))
    index = ak.to_packed(sequence.constituent_index(min_pt=min_pt)).layout
    jets_per_event = np.diff(np.asarray(index.offsets.data)).astype(np.int64)
    per_jet = np.diff(np.asarray(index.content.offsets.data)).astype(np.int64)
    jet_event = np.repeat(np.arange(both.num_events), jets_per_event)
    member_jet = np.repeat(np.arange(len(per_jet)), per_jet)
    member = np.asarray(index.content.content.data).astype(np.int64) + both.offsets[:-1][jet_event[member_jet]]
    jets = _sum_momenta(both, member, member_jet, len(per_jet), jets_per_event)
    order = jets.order(-jets["pt"])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    of_both = np.full(len(both), -1, np.int64)
    of_both[member] = rank[member_jet]
    rows = slices(both.offsets[:-1], inputs.counts)
    ghost_rows = slices(both.offsets[:-1] + inputs.counts, ghosts.counts)
    return jets.permute(order), of_both[rows], of_both[ghost_rows]


def _sum_momenta(both: Table, member: Array, jet: Array, num_jets: int, per_event: Array) -> Table:
    """Jets as the sum of their members' four-vectors (the E scheme)."""
    px, py, pz, e = (np.bincount(jet, both[k][member], num_jets) for k in ("px", "py", "pz", "E"))
    pt = np.hypot(px, py)
    mass = np.sqrt(np.maximum(e**2 - pt**2 - pz**2, 0.0))
    eta = np.arcsinh(pz / np.maximum(pt, 1e-12))
    columns = {"pt": pt, "eta": eta, "phi": wrapped(np.arctan2(py, px)), "mass": mass, "energy": e}
    return Table(columns, offsets_of(per_event))
