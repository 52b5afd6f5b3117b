"""Pile-up that charged-hadron subtraction leaves: close-by vertices, unassociated tracks, neutral clusters.

Pile-up vertices follow a Gaussian along the beam.  Charged candidates of those within `WINDOW` of the
primary vertex can't be told apart and stay; of farther ones a small fraction stays with a large dz.  Neutral
pile-up is a uniform density of soft clusters (abs(eta) < 3); its energy is what the jet energy correction's
offset takes off again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.generate.ragged import Array, Table, merge, table_of
from pfnano_tag.generate.response import Response
from pfnano_tag.generate.underlying_event import Pool, draw

WINDOW = 0.05  # cm
#: of two farther pile-up events, this share of tracks is left without an associated vertex
UNASSOCIATED = 0.06
#: neutral clusters per unit area and pile-up interaction, and their mean pt above the threshold [GeV]
CLUSTER_DENSITY, CLUSTER_PT, CLUSTER_THRESHOLD = 0.07, 0.35, 0.4
_ETA = 3.0


def offset_density(interactions: Array) -> Array:
    """Mean neutral pile-up pt per unit area [GeV] for a number of interactions."""
    return np.asarray(CLUSTER_DENSITY * interactions * (CLUSTER_PT + CLUSTER_THRESHOLD))


def charged_pileup(pool: Pool, interactions: Array, length: float, rng: np.random.Generator) -> Table:
    """Charged pile-up particles that stay in the event.

    Parameters
    ----------
    interactions : Array
        Number of pile-up interactions, int64 `[E]`.
    length : float
        Gaussian length of the beam spot [cm].
    """
    share = 2 * WINDOW / (np.sqrt(4 * np.pi) * length)
    near = rng.poisson(interactions * share)
    tables = []
    for count, width, keep in ((near, None, 1.0), (np.minimum(interactions, 2), np.sqrt(2) * length, UNASSOCIATED)):
        particles, _, _, source = draw(pool, count, rng, power=0.0)
        charged = np.isin(np.abs(particles["id"]), (211, 321, 2212, 11, 13)) & (np.abs(particles["eta"]) < 2.5)
        charged &= rng.random(len(particles)) < keep
        n = int(count.sum())
        z = rng.uniform(-WINDOW, WINDOW, n) if width is None else rng.normal(0.0, width, n)
        shifted = particles.with_columns(vz=particles["vz"] + z[source])
        tables.append(shifted.select(charged))
    return merge(tables)


def neutral_pileup(interactions: Array, rng: np.random.Generator) -> Table:
    """Soft neutral candidates: pt, eta, phi and pdgId (22 or 130)."""
    count = rng.poisson(CLUSTER_DENSITY * interactions * 2 * _ETA * 2 * np.pi)
    n = int(count.sum())
    event = np.repeat(np.arange(len(count)), count)
    columns: dict[str, NDArray[np.float64]] = {
        "pt": CLUSTER_THRESHOLD + rng.exponential(CLUSTER_PT, n),
        "eta": rng.uniform(-_ETA, _ETA, n),
        "phi": rng.uniform(-np.pi, np.pi, n),
    }
    return table_of(event, len(count), **columns, pdgId=np.where(rng.random(n) < 0.75, 22.0, 130.0))


def candidates_of(clusters: Table, like: Table) -> Table:
    """Neutral clusters with all the columns of a candidate table (track defaults; source 2)."""
    n = len(clusters)
    columns = {k: np.zeros(n, v.dtype) for k, v in like.columns.items()} | clusters.columns
    for name in ("d0", "dz", "d0Err", "dzErr", "trkChi2", "vtxChi2", "lostInnerHits", "row", "number"):
        columns[name] = np.full(n, -1, like[name].dtype)
    columns["source"] = np.full(n, 2, like["source"].dtype)
    return Table({k: columns[k].astype(like[k].dtype) for k in like.columns}, clusters.offsets)


def interactions_of(response: Response, events: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """True mean (`Pileup_nTrueInt`) and drawn number (`Pileup_nPU`) of interactions, each [E]."""
    mean = np.clip(rng.gamma(12.0, response.pileup / 12.0, events), 1.0, 90.0)
    return mean, rng.poisson(mean)
