"""Rounding, ragged operations, flavour rules, DeepCSV pieces, and the underlying event."""

import numpy as np
import pytest

from pfnano_tag.generate.branches import rounded
from pfnano_tag.generate.deepcsv import JetTracks, above_charm, slots
from pfnano_tag.generate.event_record import has_ancestor, has_quark, is_hadron, nearest_ancestor
from pfnano_tag.generate.flavour import hadron_flavour, parton_flavour
from pfnano_tag.generate.jets import correction
from pfnano_tag.generate.material import CONVERSION, LAYERS, NUCLEAR, interact
from pfnano_tag.generate.ragged import Table, merge, nearest, pairs, table_of
from pfnano_tag.generate.response import DATA, SIMULATION


def test_rounding_keeps_ten_bits():
    x = np.random.default_rng(1).normal(size=1000).astype(np.float32) * 100
    r = rounded(x, 10)
    assert np.abs(r / x - 1).max() <= 2.0**-11 * 1.001
    assert len(np.unique(np.frexp(r)[0] * 2**11 % 1)) == 1
    special = rounded(np.array([np.nan, np.inf, -np.inf, 0.0, -999.0, -1.0, 0.99951171875]), 10)
    np.testing.assert_array_equal(special, np.float32([np.nan, np.inf, -np.inf, 0, -999, -1, 0.99951171875]))


def test_merge_and_pairs_against_loops():
    rng = np.random.default_rng(2)
    tables, lists = [], []
    for k in range(2):
        counts = rng.integers(0, 4, 6)
        event = np.repeat(np.arange(6), counts)
        tables.append(table_of(event, 6, x=rng.integers(0, 100, len(event)) + 1000 * k))
        lists.append([tables[k]["x"][event == e].tolist() for e in range(6)])
    joined = merge(tables)
    assert [joined["x"][joined.event == e].tolist() for e in range(6)] == [a + b for a, b in zip(*lists, strict=True)]
    i, j = pairs(*tables)
    found = list(zip(tables[0]["x"][i], tables[1]["x"][j], strict=True))
    assert found == [(a, b) for first, second in zip(*lists, strict=True) for a in first for b in second]


def test_nearest_wraps_in_phi():
    left = table_of(np.array([0, 1]), 2, eta=np.zeros(2), phi=np.array([3.1, 0.0]))
    right = table_of(np.array([0, 0]), 2, eta=np.zeros(2), phi=np.array([-3.1, 2.9]))
    index, distance = nearest(left, right, 0.4)
    assert index.tolist() == [0, -1]
    assert distance[0] == pytest.approx(2 * np.pi - 6.2)


def test_hadron_codes():
    pdg = np.array([511, -521, 5122, 10411, 421, 4122, 443, 211, 2212, 2101, 5101, 21, 5, 553, 9900015])
    assert is_hadron(pdg).tolist() == [True] * 9 + [False] * 4 + [True, False]
    assert np.flatnonzero(has_quark(pdg, 5)).tolist() == [0, 1, 2, 13]
    assert np.flatnonzero(has_quark(pdg, 4)).tolist() == [3, 4, 5, 6]


def test_ancestors():
    mother = np.array([-1, 0, 1, 1, 3, -1])
    flag = np.array([True, False, False, True, False, True])
    rows = np.arange(6)
    assert has_ancestor(rows, mother, flag).tolist() == [False, True, True, True, True, False]
    assert nearest_ancestor(rows, mother, flag).tolist() == [-1, 0, 0, 0, 3, -1]


def test_parton_flavour_rules():
    # jets: 0 b hadron and hard gluon; 1 light hadrons but a b parton and a soft quark; 2 c hadron with b parton;
    # 3 gluon; 4 nothing
    label = np.array([5, 0, 0, 0, 4, 0, 0, 0])
    ghosts = Table(
        {
            "label": label, "id": np.array([511, 21, 5, -1, 421, -5, 21, 3]),
            "pt": np.array([30.0, 50, 20, 5, 9, 40, 50, 20]),
        },
        np.array([0, 8]),
    )  # fmt: skip
    jet = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    hadron = hadron_flavour(np.array([1, 0, 0, 0, 0]), np.array([0, 0, 1, 0, 0]))
    assert hadron.tolist() == [5, 0, 4, 0, 0]
    assert parton_flavour(ghosts, jet, hadron).tolist() == [5, -1, 4, 21, 0]


def test_slots_and_above_charm():
    jet = np.array([0, 0, 0, 2])
    columns = {k: np.array([4.0, 3.0, 2.0, 1.0]) for k in ("Sip2dVal", "Sip2dSig", "Sip3dVal", "Sip3dSig")}
    columns |= {"pt": np.array([2.0, 3.0, 5.0, 9.0]), "eta": np.zeros(4), "phi": np.array([0.0, 0.1, 1.5, 0.0])}
    filled = slots(columns["Sip2dSig"], jet, 3, 2)
    assert [s.tolist() for s in filled] == [[4.0, -999.0, 1.0], [3.0, -999.0, -999.0]]
    # tracks 1 and 2 of jet 0 weigh 0.4 GeV together, the third lifts it above 1.5
    result = above_charm(JetTracks(jet, columns), 3)
    assert result["trackSip3dValAboveCharm"].tolist() == [2.0, -999.0, -1.0]


def test_energy_correction_takes_the_offset_off():
    raw, eta = np.array([50.0, 50.0]), np.array([0.5, 3.5])
    factor = correction(raw, eta, np.array([2.0, 2.0]))
    assert factor[0] * 50 == pytest.approx((50 - 2 * np.pi * 0.16) / 0.943)
    assert factor[1] * 50 == pytest.approx(50 / 0.865)


def test_material_conserves_what_it_should():
    n = 40000
    columns = {
        "id": np.where(np.arange(n) % 2 == 0, 211, 22), "pt": np.full(n, 5.0), "e": np.full(n, 5.0),
        **{k: np.zeros(n) for k in ("eta", "phi", "vx", "vy", "vz")},
        "prompt": np.zeros(n, bool), "row": np.arange(n),
    }  # fmt: skip
    out = interact(table_of(np.zeros(n, int), 1, **columns), SIMULATION, np.random.default_rng(4))
    new = out["row"] == -1
    radius = np.hypot(out["vx"], out["vy"])
    assert set(np.round(radius[new], 6)) == set(LAYERS)
    electrons = np.abs(out["id"]) == 11
    assert electrons.sum() / 2 == pytest.approx(CONVERSION * n / 2, rel=0.15)
    assert out["e"][electrons].sum() == pytest.approx(5.0 * electrons.sum() / 2)
    assert out["id"][electrons].sum() == 0
    assert (out["id"][~new & (out["id"] == 211)]).size == pytest.approx((1 - NUCLEAR) * n / 2, rel=0.005)


def test_data_response_is_worse_in_every_respect():
    assert DATA.tune != SIMULATION.tune
    for name in ("track_efficiency", "vertex_efficiency", "muon_efficiency", "trigger_efficiency", "energy_scale"):
        assert getattr(DATA, name) < getattr(SIMULATION, name)
    for name in ("ip_scale", "ip_tail", "hcal_resolution", "pt_resolution", "fake_track_rate", "pileup"):
        assert getattr(DATA, name) > getattr(SIMULATION, name)
