"""Matching of candidates to generated particles against a plain greedy loop, and on smeared copies."""

import math

import numpy as np
import pytest

from pfnano_tag.nano.matching import ANGLE, CONE, MOMENTUM, PT_TOLERANCE, Particles, matched


def particles(rng, events, most, width=0.015):
    """Random particles close together, some neutral."""
    event = np.sort(rng.integers(0, events, rng.integers(most, most * events)))
    n = len(event)
    phi = np.pi + rng.normal(0, width, n)  # around the corner
    return Particles(
        event,
        rng.integers(-1, 2, n),
        rng.uniform(1, 1.3, n).astype("f4"),
        rng.normal(0, width, n).astype("f4"),
        np.where(phi > np.pi, phi - 2 * np.pi, phi).astype("f4"),
    )


def greedy(left, right):
    """All pairs of a list, the best first, each particle once."""
    pairs = []
    for i in range(len(left.event)):
        for j in range(len(right.event)):
            if left.event[i] != right.event[j] or left.charge[i] != right.charge[j] or left.charge[i] == 0:
                continue
            eta = float(left.eta[i]) - float(right.eta[j])
            phi = math.remainder(float(left.phi[i]) - float(right.phi[j]), 2 * math.pi)
            pt = float(right.pt[j]) / float(left.pt[i]) - 1
            if eta**2 + phi**2 < CONE**2 and abs(pt) < PT_TOLERANCE:
                pairs.append(((eta**2 + phi**2) / ANGLE**2 + (pt / MOMENTUM) ** 2, i, j))
    found, taken = [-1] * len(left.event), set()
    for _, i, j in sorted(pairs):
        if found[i] < 0 and j not in taken:
            found[i] = j
            taken.add(j)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_matched_as_a_plain_loop_would(seed):
    rng = np.random.default_rng(seed)
    left, right = particles(rng, 5, 25), particles(rng, 5, 25)
    found = matched(left, right)
    assert found.tolist() == greedy(left, right)
    assert (found >= 0).sum() > 5


def test_smeared_copies_find_their_originals_in_any_order():
    rng = np.random.default_rng(3)
    event = np.repeat(np.arange(40), 30)
    n = len(event)
    charge, eta, phi = rng.choice([-1, 1], n), rng.uniform(-2.5, 2.5, n), rng.uniform(-np.pi, np.pi, n)
    pt = 1 + rng.exponential(3, n)
    order = np.lexsort((rng.random(n), event))
    smeared = (pt[order] * rng.normal(1, 0.01, n), eta[order] + rng.normal(0, 5e-4, n), phi[order])
    left = Particles(event, charge[order], *smeared)
    found = matched(left, Particles(event, charge, pt, eta, phi))
    assert np.mean(found == order) > 0.995
    kept = found[found >= 0]
    assert len(np.unique(kept)) == len(kept)
    assert np.array_equal(event[kept], event[found >= 0])


def test_what_is_not_finite_or_neutral_matches_nothing():
    event = np.zeros(5, dtype=np.int64)
    charge, good = np.array([1, 1, 1, 0, 1]), np.full(5, 2.0)
    pt, eta, phi = good.copy(), np.zeros(5), np.zeros(5)
    pt[0], eta[1], phi[2] = np.nan, np.inf, np.nan
    broken = Particles(event, charge, pt, eta, phi)
    whole = Particles(event, np.ones(5, dtype=int), good, np.zeros(5), np.zeros(5))
    assert matched(broken, whole).tolist() == [-1, -1, -1, -1, 0]
    assert (matched(whole, broken) >= 0).sum() == 1
    nothing = Particles(*(np.zeros(0, dtype=int) for _ in range(5)))
    assert matched(broken, nothing).tolist() == [-1] * 5
    assert len(matched(nothing, whole)) == 0
