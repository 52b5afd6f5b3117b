"""Pythia's event record as flat columns, and ancestry in it by pointer jumping.

`mother1` and the daughters are flat row numbers (-1: none); row 0 of an event is Pythia's "system" entry.
"""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from pfnano_tag.generate.ragged import Array, Table, concatenate
from pfnano_tag.nano.columns import offsets_of
from pfnano_tag.nano.hadrons import LONG_LIVED, has_quark, is_hadron

_INTEGERS = ("id", "status", "mother1", "daughter1", "daughter2")


def read_batch(batch: ak.Array) -> tuple[Table, NDArray[np.float64]]:
    """Record table and event weights from `Pythia.nextBatch`.

    Returns
    -------
    record
        Columns id, status, mother1, daughter1, daughter2 (int64; relations as flat rows, -1 for none),
        px, py, pz, e, m [GeV], vx, vy, vz: production vertex [cm] (0 where Pythia has none).
    weights
        float64 `[E]`.
    """
    fields = [*_INTEGERS, "p", "m", "vProd"]
    layout = ak.to_packed(batch.prt[fields]).layout
    offsets = np.asarray(layout.offsets.data).astype(np.int64)
    content = layout.content
    columns: dict[str, Array] = {k: np.asarray(content[k].data).astype(np.int64) for k in _INTEGERS}
    start = np.repeat(offsets[:-1], np.diff(offsets))
    for k in ("mother1", "daughter1", "daughter2"):
        columns[k] = np.where(columns[k] > 0, columns[k] + start, -1)
    for k in ("px", "py", "pz", "e"):
        columns[k] = np.asarray(content["p"][k].data)
    columns["m"] = np.asarray(content["m"].data)
    vertex = content["vProd"]
    has_vertex = np.asarray(vertex.mask_as_bool(valid_when=True))
    projected = vertex.project().to_packed()
    for k, source in (("vx", "px"), ("vy", "py"), ("vz", "pz")):
        columns[k] = np.zeros(len(has_vertex))
        columns[k][has_vertex] = 0.1 * np.asarray(projected[source].data)
    weights = ak.to_numpy(batch.info.weights[:, 0])
    return Table(columns, offsets), np.asarray(weights, np.float64)


def concatenate_records(records: list[Table]) -> Table:
    """Join records one after the other; relations are shifted to the new rows."""
    start = offsets_of(np.array([len(r) for r in records]))
    shifted = []
    for record, shift in zip(records, start[:-1], strict=True):
        moved = {k: np.where(record[k] >= 0, record[k] + shift, -1) for k in ("mother1", "daughter1", "daughter2")}
        shifted.append(record.with_columns(**moved))
    return concatenate(shifted)


def select_events(record: Table, keep: Array) -> Table:
    """Events where `keep` (bool `[E]`) is true; relations are renumbered."""
    row_keep = keep[record.event]
    new_row = np.cumsum(row_keep) - 1
    moved = {k: np.where(record[k] >= 0, new_row[record[k]], -1) for k in ("mother1", "daughter1", "daughter2")}
    kept = record.with_columns(**moved)
    columns = {k: v[row_keep] for k, v in kept.columns.items()}
    return Table(columns, offsets_of(record.counts[keep]))


def decay_mothers(record: Table) -> NDArray[np.int64]:
    """Row of the decayed particle (status 91 to 99) each row comes from, -1 for others."""
    status = np.abs(record["status"])
    return np.where((status >= 91) & (status <= 99), record["mother1"], -1)


def has_ancestor(rows: Array, mother: Array, flag: Array) -> NDArray[np.bool_]:
    """Whether any ancestor of each of `rows` (itself excluded) along `mother` has `flag`."""
    found = np.zeros(len(rows), np.bool_)
    active = np.flatnonzero(mother[rows] >= 0)
    current = mother[rows[active]]
    while active.size:
        found[active] |= flag[current]
        current = mother[current]
        alive = (current >= 0) & ~found[active]
        active, current = active[alive], current[alive]
    return found


def nearest_ancestor(rows: Array, mother: Array, flag: Array) -> NDArray[np.int64]:
    """First ancestor of each of `rows` (itself excluded) along `mother` that has `flag`; -1: none."""
    found = np.full(len(rows), -1, np.int64)
    active = np.arange(len(rows))
    current = mother[rows]
    while active.size:
        alive = current >= 0
        active, current = active[alive], current[alive]
        hit = flag[current]
        found[active[hit]] = current[hit]
        active, current = active[~hit], mother[current[~hit]]
    return found


def last_copies(record: Table, flag: Array) -> NDArray[np.bool_]:
    """Rows with `flag` none of whose decay products has `flag` (mixing and cascades: the last one)."""
    mother = decay_mothers(record)
    has_daughter = np.zeros(len(record), np.bool_)
    has_daughter[mother[flag & (mother >= 0)]] = True
    return np.asarray(flag & ~has_daughter)


def kinematics(px: Array, py: Array, pz: Array) -> tuple[Array, Array, Array]:
    """pt, eta, phi of momenta; eta is limited to +-20 for particles along the beam."""
    pt = np.hypot(px, py)
    eta = np.arcsinh(pz / np.maximum(pt, 1e-9))
    return pt, np.clip(eta, -20.0, 20.0), np.arctan2(py, px)


def stable_particles(record: Table) -> Table:
    """Final particles with |eta| < 5.2, neutrinos included.

    Columns: id, pt, eta, phi, e, vx, vy, vz, `prompt` (no hadron ancestor; through a tau is prompt),
    `from_b`, `from_c`, `from_tau`, `from_strange` (ancestors by decay), `row` (flat row in the record).
    """
    rows = np.flatnonzero(record["status"] > 0)
    pt, eta, phi = kinematics(*(record[k][rows] for k in ("px", "py", "pz")))
    inside = (np.abs(eta) < 5.2) & (pt > 0.1)
    rows = rows[inside]
    mother, pdg = decay_mothers(record), record["id"]
    columns: dict[str, Array] = {k: record[k][rows] for k in ("id", "e", "vx", "vy", "vz")}
    columns.update(pt=pt[inside], eta=eta[inside], phi=phi[inside], row=rows)
    # status 81 to 89 are hadrons made in hadronisation: only decay products can be leptons
    columns["from_b"] = has_ancestor(rows, mother, has_quark(pdg, 5))
    columns["from_c"] = has_ancestor(rows, mother, has_quark(pdg, 4))
    columns["from_tau"] = has_ancestor(rows, mother, np.abs(pdg) == 15)
    columns["from_strange"] = has_ancestor(rows, mother, np.isin(np.abs(pdg), LONG_LIVED))
    columns["prompt"] = ~has_ancestor(rows, mother, is_hadron(pdg)) & ~is_hadron(columns["id"])
    event = record.event[rows]
    return Table(columns, offsets_of(np.bincount(event, minlength=record.num_events)))


def ghosts(record: Table, partons: bool = True) -> Table:
    """Heavy hadrons (last copies) and partons before hadronisation, for ghost clustering.

    Columns: pt, eta, phi, `label`: 5 or 4 for b or c hadrons, 0 for partons; `id`: PDG number.
    """
    pdg, status = record["id"], np.abs(record["status"])
    b, c = last_copies(record, has_quark(pdg, 5)), last_copies(record, has_quark(pdg, 4))
    keep = b | c
    if partons:
        keep = keep | ((status >= 71) & (status <= 73) & ((np.abs(pdg) <= 5) | (pdg == 21)))
    rows = np.flatnonzero(keep)
    pt, eta, phi = kinematics(*(record[k][rows] for k in ("px", "py", "pz")))
    inside = (np.abs(eta) < 5.2) & (pt > 0.5)
    rows = rows[inside]
    label = np.where(b[rows], 5, np.where(c[rows], 4, 0))
    columns = {"pt": pt[inside], "eta": eta[inside], "phi": phi[inside], "label": label, "id": pdg[rows]}
    event: Any = record.event[rows]
    return Table(columns, offsets_of(np.bincount(event, minlength=record.num_events)))
