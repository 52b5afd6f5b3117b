"""Displaced tracks that no decay makes: nuclear interactions, photon conversions and fake tracks.

A simple parametric source: material sits in thin layers at the radii of the 2017 beam pipe and pixel
barrel; an interaction replaces a charged hadron by two or three hadrons from a point of that layer, a
conversion replaces a photon by an electron pair of zero opening angle.
"""

from __future__ import annotations

import numpy as np

from pfnano_tag.generate.ragged import Array, Table, merge, table_of
from pfnano_tag.generate.response import Response
from pfnano_tag.nano.columns import wrapped

LAYERS = np.array([2.2, 2.9, 6.8, 10.9, 16.0])
_LAYER_SHARE = np.array([0.10, 0.20, 0.22, 0.23, 0.25])
#: chances of a charged hadron (photon) with pt > 1 GeV to interact (convert) before the last pixel layer
NUCLEAR = 0.012
CONVERSION = 0.020


def _on_layer(parent: dict[str, Array], rng: np.random.Generator) -> tuple[dict[str, Array], Array]:
    """Points where straight lines from the parents' vertices cross a layer drawn at random; ok: they do."""
    radius = rng.choice(LAYERS, len(parent["phi"]), p=_LAYER_SHARE)
    c, s = np.cos(parent["phi"]), np.sin(parent["phi"])
    along = parent["vx"] * c + parent["vy"] * s
    squared = along**2 - (parent["vx"] ** 2 + parent["vy"] ** 2 - radius**2)
    length = -along + np.sqrt(np.maximum(squared, 0.0))
    ok = (squared > 0) & (np.hypot(parent["vx"], parent["vy"]) < radius)
    point = {
        "vx": parent["vx"] + length * c,
        "vy": parent["vy"] + length * s,
        "vz": parent["vz"] + length * np.sinh(parent["eta"]),
    }
    return point, ok & (np.abs(point["vz"]) < 50.0)


def _secondaries(parents: Table, point: dict[str, Array], fractions: Array, angles: Array, ids: Array) -> Table:
    """Tracks from `parents`: row k of fractions/angles/ids [parents, tracks] with a zero fraction is absent."""
    n, tracks = fractions.shape
    flat = fractions.ravel() > 0
    parent = np.repeat(np.arange(n), tracks)[flat]
    fraction, angle = fractions.ravel()[flat], angles.reshape(-1, 2)[flat]
    columns = {k: v[parent] for k, v in parents.columns.items()} | {k: v[parent] for k, v in point.items()}
    columns["id"] = ids.ravel()[flat]
    columns["pt"] = columns["pt"] * fraction
    columns["e"] = columns["e"] * fraction
    columns["eta"] = columns["eta"] + angle[:, 0]
    columns["phi"] = wrapped(columns["phi"] + angle[:, 1])
    columns["prompt"] = np.zeros(len(parent), np.bool_)
    columns["row"] = columns["number"] = np.full(len(parent), -1)
    return table_of(parents.event[parent], parents.num_events, **columns)


def interact(particles: Table, response: Response, rng: np.random.Generator) -> Table:
    """Apply nuclear interactions and conversions; return the table with the parents replaced."""
    a = np.abs(particles["id"])
    central = (particles["pt"] > 1.0) & (np.abs(particles["eta"]) < 2.5)
    chance = np.where(np.isin(a, (211, 321, 2212)), NUCLEAR, np.where(a == 22, CONVERSION, 0.0))
    hit = central & (rng.random(len(particles)) < chance * response.material)
    parents = particles.select(hit)
    point, ok = _on_layer(parents.columns, rng)
    hit[np.flatnonzero(hit)[~ok]] = False
    parents, point = parents.select(ok), {k: v[ok] for k, v in point.items()}
    n = len(parents)
    photon = parents["id"] == 22
    share = rng.dirichlet([1.5, 1.5, 1.5], n)
    share[photon | (rng.random(n) < 0.5), 2] = 0.0
    total = share.sum(axis=1, keepdims=True)
    share *= np.where(photon[:, None], 1.0, 0.85) / total
    width = np.where(photon, 0.001, 0.35 / np.sqrt(np.maximum(parents["pt"], 1.0)))
    angles = rng.normal(size=(n, 3, 2)) * width[:, None, None]
    hadrons = 211 * rng.choice([-1, 1], (n, 3))
    ids = np.where(photon[:, None], np.array([11, -11, 11]), hadrons)
    return merge([particles.select(~hit), _secondaries(parents, point, share, angles, ids)])
