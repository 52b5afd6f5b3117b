"""Parametric detector: stable particles to particle-flow candidates, with tracks where there are any.

Lengths in cm, energies in GeV.  Tracks are straight lines from the true production vertex: d0 and dz refer
to the *reconstructed* primary vertex.  The resolutions were fitted to the real file (|eta| < 1, median
d0Err/dzErr in um at pt 1, 2.5, 7, 15, 30: 67/74, 37/46, 21/27, 16/25, 11.5/20.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pfnano_tag.generate.ragged import Array, Table, sums
from pfnano_tag.generate.response import Response
from pfnano_tag.nano.columns import wrapped

MASSES = {211: 0.13957, 11: 0.000511, 13: 0.10566}
_CHARGED = (211, 321, 2212, 11, 13)
TRACKER_ETA, HF_ETA = 2.5, 3.0
#: a track has details (impact parameters, chi2, ...) above this pt, as in MiniAOD
TRACK_DETAILS_PT = 0.5
MUON_MISIDENTIFICATION = 0.001


@dataclass(frozen=True)
class PrimaryVertex:
    """Per event [E]: shift of the reconstructed against the true vertex, its error, and its tracks."""

    shift: Array  # [E, 3]
    sigma_xy: Array
    sigma_z: Array
    tracks: Array

    def covariance(self) -> Array:
        """Covariance matrices [E, 3, 3] in cm^2."""
        diagonal = np.stack([self.sigma_xy**2, self.sigma_xy**2, self.sigma_z**2], axis=1)
        return diagonal[:, :, None] * np.eye(3)


def reconstruct_vertex(particles: Table, rng: np.random.Generator) -> PrimaryVertex:
    """Smear the primary vertex: 8 um (much charged pt) to 45 um (little) in x and y, 1.3 times that in z."""
    good = np.isin(np.abs(particles["id"]), _CHARGED) & (particles["pt"] > 0.5)
    good &= (np.abs(particles["eta"]) < TRACKER_ETA) & (np.hypot(particles["vx"], particles["vy"]) < 0.1)
    good &= particles["source"] < 2
    weight = np.minimum(particles["pt"], 5.0)
    tracks = sums(good.astype(float), particles.event, particles.num_events)
    strength = sums(good * weight, particles.event, particles.num_events)
    sigma = np.clip(90e-4 / np.sqrt(strength + 1.0), 8e-4, 45e-4)
    shift = rng.normal(size=(particles.num_events, 3)) * np.stack([sigma, sigma, 1.3 * sigma], axis=1)
    return PrimaryVertex(shift, sigma, 1.3 * sigma, tracks)


def quoted_errors(pt: Array, eta: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """d0Err and dzErr [cm] of tracks: the fit to the real file, with an 18 % log-normal spread."""
    d0 = np.hypot(9.5, 60.0 / pt**0.72) * np.cosh(eta) ** 0.4
    dz = np.hypot(20.0, 70.0 / pt**0.72) * np.cosh(eta) ** 0.33
    spread = np.exp(rng.normal(0.0, 0.18, len(pt)))
    return 1e-4 * d0 * spread, 1e-4 * dz * spread


def impact_parameters(vx: Array, vy: Array, vz: Array, eta: Array, phi: Array) -> tuple[Array, Array]:
    """Signed d0 and dz of straight lines through (vx, vy, vz), with CMS's sign convention (`dxy`)."""
    c, s = np.cos(phi), np.sin(phi)
    return -vx * s + vy * c, vz - (vx * c + vy * s) * np.sinh(eta)


def _smeared_tracks(t: dict[str, Array], shift: Array, response: Response, rng: np.random.Generator) -> None:
    """Add d0, dz, their errors and the track quality columns to the rows of tracks `t`, in place."""
    n = len(t["pt"])
    radius = np.hypot(t["vx"], t["vy"])
    d0, dz = impact_parameters(
        t["vx"] - shift[:, 0], t["vy"] - shift[:, 1], t["vz"] - shift[:, 2], t["eta"], t["phi"]
    )
    lost = np.where((radius < 2.9) & (rng.random(n) < 0.94), -1, rng.choice([0, 1, 2], n, p=[0.6, 0.25, 0.15]))
    lost = np.where(radius > 6.8, np.maximum(lost, 1), lost)
    d0_err, dz_err = quoted_errors(np.maximum(t["pt"], 0.3), t["eta"], rng)
    # without the innermost layers the extrapolation is longer
    worse = np.array([1.0, 1.0, 1.6, 2.5])[lost + 1] * np.where(radius > 2.9, 1.0 + radius / 10.0, 1.0)
    d0_err, dz_err = d0_err * worse, dz_err * worse
    tail = rng.random(n)
    width = response.ip_scale * np.where(
        tail < response.ip_far_tail, 5.0, np.where(tail < response.ip_far_tail + response.ip_tail, 3.0, 1.0)
    )
    t["d0"] = d0 + rng.normal(size=n) * width * d0_err + response.ip_bias * np.sin(2 * t["phi"])
    t["dz"] = dz + rng.normal(size=n) * width * dz_err
    t["d0Err"], t["dzErr"], t["lostInnerHits"] = d0_err, dz_err, lost
    fake = t["fake"]
    t["d0"] = np.where(fake, rng.laplace(0.0, 0.08, n), t["d0"])
    t["dz"] = np.where(fake, rng.laplace(0.0, 0.15, n), t["dz"])
    chi2 = rng.gamma(8.0, 1.0 / 8.0, n) * np.where(width > 2.0, 1.8, 1.0) * np.where(fake, 2.0, 1.0)
    t["trkChi2"] = np.floor(chi2)
    t["trkQuality"] = np.where(fake & (rng.random(n) < 0.5), 1, 5)
    t["vtxChi2"] = np.zeros(n)


def _track_efficiency(p: Table, response: Response) -> Array:
    """Chance of a charged particle to be found as a track."""
    radius = np.hypot(p["vx"], p["vy"])
    lepton = np.isin(np.abs(p["id"]), (11, 13))
    efficiency = np.where(lepton, 0.5 * (1.0 + response.track_efficiency) + 0.02, response.track_efficiency)
    efficiency = efficiency * np.clip(1.0 - radius / 35.0, 0.0, 1.0)
    efficiency = efficiency * np.where(np.abs(p["eta"]) > 2.0, 0.94, 1.0)
    return np.asarray(efficiency * np.where(p["pt"] < 0.5, 0.8, 1.0))


def detect(particles: Table, vertex: PrimaryVertex, response: Response, rng: np.random.Generator) -> Table:
    """Particle-flow candidates of an event.

    Parameters
    ----------
    particles : Table
        Stable particles with `source` (0 hard process, 1 underlying event, 2 pile-up).

    Returns
    -------
    Table
        pt, eta, phi, mass, charge, pdgId, the track columns (-1 or 0 defaults without track), `track`
        (bool), `source`, `prompt`, `from_b`, `from_c`, `row`.
    """
    p = particles.select(~np.isin(np.abs(particles["id"]), (12, 14, 16)))
    a, n = np.abs(p["id"]), len(p)
    charged = np.isin(a, _CHARGED)
    inside = np.abs(p["eta"]) < TRACKER_ETA
    found = charged & inside & (p["pt"] > 0.15) & (rng.random(n) < _track_efficiency(p, response))
    calorimeter = ~found & (p["source"] < 2) & (a != 13)
    calorimeter &= ~(charged & inside) | ((p["pt"] > 0.8) & (rng.random(n) < 0.6))
    energy = _calorimeter_energy(p, response, rng)
    threshold = np.where(a == 22, 0.35, 0.8) * np.where(np.abs(p["eta"]) > HF_ETA, 2.0, 1.0)
    calorimeter &= (energy > threshold) & (energy > 0.25 * np.cosh(p["eta"]))
    keep = found | calorimeter
    c = p.select(keep)
    found, energy = found[keep], energy[keep]
    columns = dict(c.columns)
    columns["pdgId"] = _candidate_ids(c, found)
    # decays in flight and punch-through: hadrons taken for muons
    misidentified = (
        found & (columns["pdgId"] == 211) & (c["pt"] > 3.0) & (rng.random(len(c)) < MUON_MISIDENTIFICATION)
    )
    columns["pdgId"][misidentified] = 13
    lepton = found & np.isin(np.abs(c["id"]), (11, 13))
    smear = np.hypot(0.009, 0.00012 * c["pt"]) * response.pt_resolution * (1.0 + 0.3 * np.abs(c["eta"]))
    # electrons radiate: a one-sided tail
    brems = np.where(found & (np.abs(c["id"]) == 11), rng.exponential(0.012, len(c)), 0.0)
    track_pt = c["pt"] * np.clip(1.0 + smear * rng.normal(size=len(c)) - brems, 0.5, 1.5)
    track_pt = track_pt * np.where(lepton, 1.0, response.energy_scale)
    columns["pt"] = np.where(found, track_pt, energy / np.cosh(c["eta"]))
    return c.with_columns(**_with_tracks(c, columns, found, vertex, response, rng))


def _with_tracks(
    c: Table,
    columns: dict[str, Array],
    found: Array,
    vertex: PrimaryVertex,
    response: Response,
    rng: np.random.Generator,
) -> dict[str, Array]:
    """Complete the candidates' columns: masses, charges, angles, and details of tracks."""
    pdg = np.abs(columns["pdgId"])
    columns["mass"] = np.where(found, np.select([pdg == k for k in MASSES], list(MASSES.values()), 0.0), 0.0)
    sign = np.where(np.isin(np.abs(c["id"]), (11, 13)), -1, 1) * np.sign(c["id"])
    columns["charge"] = np.where(found, sign, 0)
    columns["pdgId"] = np.where(found, np.where(np.isin(pdg, (11, 13)), -sign, sign) * pdg, pdg)
    angle = np.where(found, 0.0005, 0.012)
    columns["eta"] = c["eta"] + angle * rng.normal(size=len(c))
    columns["phi"] = wrapped(c["phi"] + angle * rng.normal(size=len(c)))
    track = found & (columns["pt"] > TRACK_DETAILS_PT)
    columns["fake"] = track & (np.abs(c["id"]) > 100) & (rng.random(len(c)) < response.fake_track_rate)
    rows = {k: columns[k][track] for k in ("pt", "vx", "vy", "vz", "fake")}
    rows.update(eta=c["eta"][track], phi=c["phi"][track])
    _smeared_tracks(rows, vertex.shift[c.event[track]], response, rng)
    for name in ("d0", "dz", "d0Err", "dzErr", "trkChi2", "vtxChi2", "lostInnerHits", "trkQuality"):
        columns[name] = np.full(len(c), 0.0 if name == "trkQuality" else -1.0)
        columns[name][track] = rows[name]
    columns["track"] = track
    return columns


def _calorimeter_energy(p: Table, response: Response, rng: np.random.Generator) -> Array:
    """Smeared energy of clusters: photons 8 %/sqrt(E), hadrons 110 %/sqrt(E) (HF: 1.5 times), mode's scale.

    Hadrons are seen at 82 % of their energy; what clusters lose by overlapping is in the widths.
    """
    e = np.maximum(p["e"], 1e-3)
    photon = (p["id"] == 22) | (np.abs(p["id"]) == 11)
    relative = np.where(photon, np.hypot(0.08 / np.sqrt(e), 0.02), np.hypot(1.1 / np.sqrt(e), 0.09))
    relative = relative * np.where(photon, 1.0, response.hcal_resolution)
    relative = relative * np.where(np.abs(p["eta"]) > HF_ETA, 1.5, 1.0)
    smeared = e * (1.0 + np.minimum(relative, 0.7) * rng.normal(size=len(e)))
    scale = np.where(photon, 0.98, 0.82) * response.energy_scale
    return np.maximum(smeared, 0.0) * scale


def _candidate_ids(c: Table, found: Array) -> Array:
    """Unsigned particle-flow codes: 211, 11, 13, 22, 130, and 1 or 2 in the forward calorimeter."""
    a = np.abs(c["id"])
    electromagnetic = (a == 22) | (a == 11)
    forward = np.abs(c["eta"]) > HF_ETA
    neutral = np.where(electromagnetic, np.where(forward, 2, 22), np.where(forward, 1, 130))
    return np.where(found, np.where(np.isin(a, (11, 13)), a, 211), neutral)
