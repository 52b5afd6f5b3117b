"""Underlying event and pile-up from a pool of minimum-bias events.

Pythia's multiparton interactions (MPI) take four fifths of the time of a hard event.  With
`underlying_event: overlay` the hard process is made without them, and one minimum-bias event from a pool
is laid over it.  A hard scattering picks proton collisions in proportion to their matter overlap, that is to
their expected number of scatterings n; so pool events are drawn with probability proportional to
`n ** POWER`.  POWER = 1 would be exact for a Poisson number at fixed impact parameter, were one of the n
scatterings taken away again; POWER = 0.70 reproduces the charged multiplicity of full MPI events.

What MPI add to a hard event, charged particles with abs(eta) < 2.5 (1500 events each, Monash):

=====================  ===========  ===========  ===========  ===============
quantity               ttbar, MPI   QCD, MPI     DY, MPI      overlay
=====================  ===========  ===========  ===========  ===============
number, pT > 0.5 GeV   27.5         27.6         28.8         28.1
its rms                20.5         21.5         21.0         19.9
sum of pT [GeV]        29.1         28.8         28.9         29.4
number, pT > 0.2 GeV   49.6         49.7         51.4         53.4
=====================  ===========  ===========  ===========  ===============

Jets with pT > 30 GeV, abs(eta) < 2.4 (2000 events each, MPI / overlay): ttbar 4.13 / 4.19 an event, mean pT
75.7 / 75.6 GeV, 17.5 / 17.7 constituents, AUC of Jet_Proba for b against light 0.941 / 0.945 and for c against
light 0.769 / 0.772, prompt muons with relative isolation below 0.15: 80.6 / 80.0 %; DY 1.46 / 1.47 jets,
57.7 / 58.2 GeV, 7.8 / 8.0 constituents.  Speed, events per second of one core (all steps and writing):
ttbar 82 / 193, QCD (flat from 20 GeV) 76 / 231, DY 108 / 408.

Not reproduced: colour reconnection with the hard process, and the momentum that MPI take from the
colliding protons.  Each use is rotated in phi and, every second time, reflected in z, so that
a pool of a thousand events does not repeat itself visibly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.output import write_whole
from pfnano_tag.generate.event_record import ghosts, read_batch, stable_particles
from pfnano_tag.generate.processes import make_pythia
from pfnano_tag.generate.ragged import Array, Table, concatenate, regrouped, sampled_events
from pfnano_tag.generate.response import Response
from pfnano_tag.generate.truth import gen_particles
from pfnano_tag.nano.columns import wrapped

_TABLES = ("particles", "ghosts", "parts")
POWER = 0.70
POOL_EVENTS = 1000
_BATCH = 500


@dataclass(frozen=True)
class Pool:
    """Minimum-bias events: stable particles, heavy-hadron ghosts, their GenPart, scatterings per event."""

    particles: Table
    ghosts: Table
    parts: Table
    scatterings: NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write the pool as a compressed .npz, whole or not at all."""
        arrays = {"scatterings": self.scatterings}
        for name in _TABLES:
            table: Table = getattr(self, name)
            arrays[f"{name}/offsets"] = table.offsets
            arrays.update({f"{name}/{k}": v for k, v in table.columns.items()})
        with write_whole(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> Pool:
        """Read a saved pool."""
        with np.load(path, allow_pickle=False) as stored:
            tables = {}
            for name in _TABLES:
                keys = [k for k in stored.files if k.startswith(f"{name}/") and k != f"{name}/offsets"]
                columns = {k.split("/", 1)[1]: stored[k] for k in keys}
                tables[name] = Table(columns, stored[f"{name}/offsets"])
            return cls(**tables, scatterings=stored["scatterings"])


def make_pool(response: Response, seed: int, events: int = POOL_EVENTS) -> Pool:
    """Run Pythia's non-diffractive events with the response's tune."""
    pythia = make_pythia(["SoftQCD:nonDiffractive=on"], response.tune, mpi=True, seed=seed)
    particles, heavy, parts, scatterings = [], [], [], []
    for start in range(0, events, _BATCH):
        record, _ = read_batch(pythia.nextBatch(min(_BATCH, events - start)))
        incoming = np.isin(np.abs(record["status"]), (21, 31))
        scatterings.append(np.bincount(record.event[incoming], minlength=record.num_events) // 2)
        stable, hadrons = stable_particles(record), gen_particles(record, heavy_only=True)
        part = hadrons.above[stable["row"]]
        particles.append(stable.with_columns(row=np.full(len(stable), -1), part=part))
        heavy.append(ghosts(record, partons=False))
        parts.append(hadrons.table)
    return Pool(concatenate(particles), concatenate(heavy), concatenate(parts), np.concatenate(scatterings))


def _turned(table: Table, angle: Array, mirror: Array) -> Table:
    """Events rotated by `angle` [E] around the beam and reflected in z where `mirror` [E] is -1."""
    turn, sign = angle[table.event], mirror[table.event]
    moved = {"phi": wrapped(table["phi"] + turn), "eta": table["eta"] * sign}
    if "vx" in table.columns:
        c, s = np.cos(turn), np.sin(turn)
        moved["vx"] = table["vx"] * c - table["vy"] * s
        moved["vy"] = table["vx"] * s + table["vy"] * c
        moved["vz"] = table["vz"] * sign
    return table.with_columns(**moved)


def draw(
    pool: Pool, per_event: Array, rng: np.random.Generator, power: float
) -> tuple[Table, Table, Table, NDArray[np.int64]]:
    """Draw `per_event` [E] pool events for each event, weighted by scatterings ** power.

    Returns
    -------
    particles, ghosts, parts
        Tables of E events; indices in `parts` are those of each drawn event.
    source
        int64, the number (0, 1, ...) of the drawn pool event each particle comes from, over all events.
    """
    weight = np.maximum(pool.scatterings, 1).astype(np.float64) ** power
    chosen = rng.choice(len(weight), size=int(per_event.sum()), p=weight / weight.sum())
    angle = rng.uniform(-np.pi, np.pi, len(chosen))
    mirror = rng.choice([-1.0, 1.0], len(chosen))
    particles = _turned(sampled_events(pool.particles, chosen), angle, mirror)
    heavy = _turned(sampled_events(pool.ghosts, chosen), angle, mirror)
    parts = _turned(sampled_events(pool.parts, chosen), angle, mirror)
    source = particles.event
    return regrouped(particles, per_event), regrouped(heavy, per_event), regrouped(parts, per_event), source
