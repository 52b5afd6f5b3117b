"""Track-probability tagger (`Jet_Proba`), after CMSSW's JetProbabilityComputer.

Each selected track with a positive impact parameter gets the probability that a track from the primary
vertex reaches its significance; P = prod(p), and with N tracks
P_jet = P * sum_{k<N} (-ln P)^k / k!;  the discriminant is -log10(P_jet) / 4.

In CMS the resolution function is measured with tracks of negative significance.  Here it is known: the
detector's mixture of normal distributions (SIMULATION's tails), of which a 3D significance, a length of two
components, is exp(-s^2 / 2 w^2); a small exponential part is added for what negative significances of real
jets also hold (decays in flight, wrong signs).  On negative tracks of light jets the result is uniform
(a test).  Data and simulation use the same function, as CMS does when it applies one calibration.
"""

from __future__ import annotations

import numpy as np

from pfnano_tag.generate.ragged import Array, sums
from pfnano_tag.generate.response import SIMULATION, Response

#: share and length of the exponential part
TAIL_SHARE, TAIL_LENGTH = 0.03, 6.0
MINIMUM_PROBABILITY = 0.005
MAX_DELTA_R = 0.3


def track_probability(significance: Array, response: Response = SIMULATION) -> Array:
    """Probability that a track from the primary vertex has an absolute significance above this one."""
    s = np.abs(significance)
    shares = np.array([1.0 - response.ip_tail - response.ip_far_tail, response.ip_tail, response.ip_far_tail])
    core = sum(f * np.exp(-0.5 * (s / w) ** 2) for f, w in zip(shares, (1.0, 3.0, 5.0), strict=True))
    return np.asarray((1.0 - TAIL_SHARE) * core + TAIL_SHARE * np.exp(-s / TAIL_LENGTH))


def jet_probability(significance: Array, jet: Array, num_jets: int) -> Array:
    """-log10(P_jet)/4 of each jet from the significances of its tracks; 0 for jets without positive tracks.

    Parameters
    ----------
    significance : Array
        Signed 3D significances of the selected tracks; non-finite and negative ones are left out.
    jet : Array
        Jet number of each track.
    """
    positive = np.isfinite(significance) & (significance > 0)
    p = np.maximum(track_probability(significance[positive]), MINIMUM_PROBABILITY)
    jet = jet[positive]
    count = np.bincount(jet, minlength=num_jets)
    minus_log = -sums(np.log(p), jet, num_jets)
    term = np.ones(num_jets)
    series = np.where(count > 0, 1.0, 0.0)
    for k in range(1, int(count.max(initial=0))):
        term = term * minus_log / k
        series += np.where(k < count, term, 0.0)
    log_probability = -minus_log + np.log(np.maximum(series, 1e-300))
    return np.where(count > 0, np.maximum(-log_probability / np.log(10.0) / 4.0, 0.0), 0.0)
