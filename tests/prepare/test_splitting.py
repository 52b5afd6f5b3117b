"""The split: a function of the event's identity alone, uniform, with independent bits."""

import numpy as np

from pfnano_tag.prepare.splitting import event_hash, mixed, split_of

FRACTIONS = (0.72, 0.08, 0.20)


def hashes(n=200_000, dataset="a", run=1):
    event = np.arange(n, dtype=np.uint64)
    return event_hash(dataset, np.full(n, run), event // 100, event)


def twin(dataset, run, lumi, event):
    """The same hash in Python's own integers."""
    import hashlib

    def mix(word):
        z = (word + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    state = int.from_bytes(hashlib.sha256(dataset.encode()).digest()[:8], "little")
    for identity in (run, lumi, event):
        state = mix(state ^ identity)
    return state


def test_equals_integer_arithmetic():
    run, lumi, event = np.array([297047, 1]), np.array([5, 2]), np.array([2**40 + 7, 3], dtype=np.uint64)
    found = event_hash("ttbar", run, lumi, event)
    assert [int(h) for h in found] == [
        twin("ttbar", *(int(x) for x in identity)) for identity in zip(run, lumi, event, strict=True)
    ]


def test_mixing_matches_the_published_generator():
    # first outputs of splitmix64 seeded with 1234567 (Vigna's reference implementation)
    state = np.uint64(1234567) + np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert mixed(state).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_fractions_and_uniformity():
    found = hashes()
    shares = np.bincount(split_of(found, FRACTIONS), minlength=3) / len(found)
    assert np.allclose(shares, FRACTIONS, atol=5 * np.sqrt(0.25 / len(found)))
    counts = np.bincount((found >> np.uint64(58)).astype(int), minlength=64)
    expected = len(found) / 64
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert 25 < chi2 < 120  # 63 degrees of freedom


def test_avalanche_every_input_bit_moves_every_output_bit_half_of_the_time():
    event = np.arange(2000, dtype=np.uint64)
    ones = np.ones(2000, dtype=np.int64)
    reference = event_hash("a", ones, ones, event)
    for bit in range(0, 40, 3):
        changed = event_hash("a", ones, ones, event ^ np.uint64(1 << bit)) ^ reference
        flips = np.unpackbits(changed.view(np.uint8).reshape(-1, 8), axis=1).mean(axis=0)
        assert np.all(np.abs(flips - 0.5) < 0.08)


def test_depends_on_dataset_and_run_but_not_on_order_or_dtype():
    first = hashes(1000)
    assert len(np.unique(np.concatenate([first, hashes(1000, "b"), hashes(1000, run=2)]))) == 3000
    order = np.random.default_rng(0).permutation(1000)
    event = np.arange(1000)
    again = event_hash("a", np.ones(1000, "u4"), (event // 100).astype("u4")[order], event.astype("i8")[order])
    assert np.array_equal(again, first[order])


def test_split_edges_are_exact():
    edges = np.array([0, 2**63 - 2**11, 2**63, 2**64 - 1], dtype=np.uint64)
    assert split_of(edges, (0.5, 0.25, 0.25)).tolist() == [0, 0, 1, 2]
