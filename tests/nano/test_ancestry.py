"""Decays on the way to a particle: known chains, and random ones against a walk from mother to mother."""

from itertools import pairwise

import numpy as np
import pytest

from pfnano_tag.nano.ancestry import decays
from pfnano_tag.nano.hadrons import has_quark, is_hadron, is_open


def of(codes, mothers):
    found = decays(np.array(codes), np.array(mothers), np.array([0, len(codes)]))
    return [
        ("b" * bool(b) + "c" * bool(c) + "o" * bool(o), int(v))
        for b, c, o, v in zip(found.b, found.c, found.other, found.vertex, strict=True)
    ]


def test_known_chains():
    # b quark -> B*0 -> B0 -> anti-B0 (mixing) -> D*+ -> D0; and a tau from the anti-B0
    codes, mothers = [5, 513, 511, -511, 413, 421, 15], [-1, 0, 1, 2, 3, 4, 3]
    # what D*+ decays to beside D0 comes from the b hadron's vertex
    assert of(codes, mothers) == [
        ("", -1), ("", -1), ("", -1), ("b", 3), ("b", 3), ("bc", 5), ("bo", 6),
    ]  # fmt: skip
    # B+ -> J/psi: decays at once, from the b hadron's vertex; a prompt J/psi, and Upsilon: from the primary one
    assert of([521, 443, 443, 553], [-1, 0, -1, -1]) == [("b", 0), ("b", 0), ("", -1), ("", -1)]
    # prompt D*+ -> D0 -> K0S; W -> tau; Lambda_b -> Lambda_c -> Lambda
    assert of([413, 421, 310, 24, 15], [-1, 0, 1, -1, 3]) == [("", -1), ("c", 1), ("co", 2), ("", -1), ("o", 4)]
    assert of([5122, 4122, 3122], [-1, 0, 1]) == [("b", 0), ("bc", 1), ("bco", 2)]


def test_names_of_hadrons():
    assert is_open(np.array([511, -521, 5122, 541, 5332]), 5).all()
    assert is_open(np.array([411, -421, 431, 4122, 4412, 10423]), 4).all()
    assert not is_open(np.array([443, 100443, 20443, 553, 10551, 211, 4, 4103, 541]), 4).any()
    assert not is_open(np.array([553, 100553, 5, 5103, 411]), 5).any()
    assert has_quark(np.array([443, 553, 541, 541]), 4).tolist() == [True, False, False, False]
    assert is_hadron(np.array([211, 2212, 2103, 21, 15, 9900001])).tolist() == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


CODES = [511, 513, 421, 413, 443, 15, 310, 211, 24, 5, 4122, 5122, 3122]


def walked(codes, mothers, row):
    """Decays above a particle, itself included, by a walk."""
    flags, vertex = {"b": False, "c": False, "o": False}, -1
    while row >= 0:
        code = codes[row]
        daughters = [codes[k] for k, m in enumerate(mothers) if m == row]
        kinds = {"b": (511, 513, 5122), "c": (421, 413, 4122), "tau": (15,)}
        kind = next((name for name, members in kinds.items() if code in members), None)
        last = kind is not None and not any(d in kinds[kind] for d in daughters)
        name = "o" if code in (310, 3122) or (kind == "tau" and last) else kind if last and kind != "tau" else None
        if name:
            flags[name] = True
            vertex = row if vertex < 0 else vertex
        row = mothers[row]
    return "".join(name for name, there in flags.items() if there), vertex


@pytest.mark.parametrize("seed", range(10))
def test_random_chains_as_a_walk_finds_them(seed):
    rng = np.random.default_rng(seed)
    events = [rng.integers(0, 40) for _ in range(6)]
    codes = [rng.choice(CODES, n).tolist() for n in events]
    mothers = [[int(rng.integers(-1, k)) if k else -1 for k in range(n)] for n in events]
    offsets = np.concatenate([[0], np.cumsum(events)])
    found = decays(np.concatenate(codes).astype("i4"), np.concatenate(mothers).astype("i2"), offsets)
    for event, (start, stop) in enumerate(pairwise(offsets)):
        for row in range(start, stop):
            letters = "".join(n for n, f in zip("bco", (found.b, found.c, found.other), strict=True) if f[row])
            vertex = found.vertex[row] - start if found.vertex[row] >= 0 else -1
            assert (letters, vertex) == walked(codes[event], mothers[event], row - start)


def test_loops_and_wild_indices_end():
    found = decays(np.array([211, 211, 421]), np.array([1, 0, 700]), np.array([0, 3]))
    assert found.vertex.tolist() == [-1, -1, 2]
    assert found.c.tolist() == [False, False, True]
    assert len(decays(np.zeros(0, int), np.zeros(0, int), np.zeros(3, int)).b) == 0
