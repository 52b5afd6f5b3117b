"""The closure of scale factors: what is true, what is compared with it, and that it is of the study's own data."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("iminuit", reason="the extra `fit` is not installed")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # `benchmarks` is no part of the package that is installed

from benchmarks import closure, unveiled  # noqa: E402
from benchmarks.measuring import Different, Missing  # noqa: E402
from pfnano_tag.calibrate.fit import Priors  # noqa: E402
from pfnano_tag.calibrate.scale_factors import measure  # noqa: E402
from pfnano_tag.calibrate.templates import Templates  # noqa: E402
from pfnano_tag.card import read_card  # noqa: E402

REGIONS = {"b": "tt", "c": "wc", "light": "dy"}


def in_regions(values_RFX):
    """Return templates of these yields, data being their sum."""
    values = np.asarray(values_RFX, dtype=float)
    data = values.sum(axis=1)
    return Templates(REGIONS, ("nominal",), data, data, values[None], values[None].copy())


def test_closure_takes_efficiencies_in_the_region_of_each_flavour():
    values = np.zeros((3, 3, 4))
    values[0, 0], values[1, 1], values[2, 2] = [1, 1, 1, 1], [3, 1, 0, 0], [0, 0, 1, 3]
    values[0, 2] = values[2, 0] = [9, 9, 9, 0]  # elsewhere: not asked for
    np.testing.assert_allclose(closure.efficiencies(in_regions(values), 2), [0.5, 0.0, 1.0])


def test_a_factor_has_the_errors_of_two_binomials():
    values = np.zeros((3, 3, 2))
    values[0, 2] = [75, 25]
    simulated = np.zeros((3, 3, 2))
    simulated[0, 2] = [200, 200]
    factor, error = closure.factor_of(in_regions(values), in_regions(simulated), (0, 0, 2), 1)
    assert factor == 0.5
    assert error == pytest.approx(0.5 * np.sqrt(0.75 / 25 + 0.5 / 200))
    assert np.isnan(closure.factor_of(in_regions(values), in_regions(simulated), (0, 1, 1), 1)).all()


def test_a_fit_that_is_told_the_mixture_finds_the_truth():
    random = np.random.default_rng(3)
    yields = random.uniform(2e3, 2e4, (3, 3)) + 2e5 * np.eye(3)
    simulated_F, true_F = np.array([0.7, 0.3, 0.1]), np.array([0.6, 0.36, 0.13])
    there = yields * random.uniform(0.4, 2.5, (3, 3))  # far from what simulation says

    def templates(yields_RF, passing_F):
        return in_regions(np.stack([yields_RF * (1 - passing_F), yields_RF * passing_F], axis=-1))

    simulation, truth = templates(yields, simulated_F), templates(there, true_F)
    data = replace(simulation, data_RX=truth.data_RX, data_variances_RX=truth.data_variances_RX)
    told = measure(closure.with_mixture(data, truth), (1, 0.5), 1, Priors(1e-3, 0.3), 10).fitted.sf_F
    np.testing.assert_allclose(told, true_F / simulated_F, rtol=2e-3)
    untold = measure(data, (1, 0.5), 1, Priors(1e-3, 0.3), 10).fitted.sf_F
    assert np.abs(untold / (true_F / simulated_F) - 1).max() > 0.02


def test_true_weights_close_the_shape_and_have_no_pull():
    wanted, given = np.array([400.0, 300, 200, 100, 1]), np.array([100.0, 200, 300, 400, 1000])
    true = wanted / given * given.sum() / wanted.sum()
    before, after, cells, spread = closure.shape_closure((wanted, wanted), (given, given), true, np.full(5, 0.1))
    assert (cells, round(after, 9), round(spread, 9)) == (4, 0, 0)  # the last cell has too few jets in data
    expected = given * wanted.sum() / given.sum()
    variance = wanted + given * (wanted.sum() / given.sum()) ** 2
    assert before == pytest.approx(((wanted - expected) ** 2 / variance)[:4].sum())
    shifted = closure.shape_closure((wanted, wanted), (given, given), true + 0.2, np.full(5, 0.1))
    assert shifted[3] == pytest.approx(2)


def test_data_of_another_version_are_refused():
    unveiled.check_same(np.array([3.0, 5.0]), np.array([3.0, 5.0]), "BvsL")
    with pytest.raises(Different, match="BvsL: with truth the data differ .* by 1 in a bin"):
        unveiled.check_same(np.array([3.0, 5.0]), np.array([4.0, 5.0]), "BvsL")


def test_the_truth_is_of_the_study_s_own_data(tmp_path):
    card = read_card("regions", [f"study.folder={tmp_path}"])
    truth = unveiled.truth_card(card)
    assert truth.folder == tmp_path / "closure"
    assert {one.mode for one in truth.generate.samples.values()} == {"truth"}
    assert [one.kind for one in truth.datasets] == ["mc"]
    for name, one in truth.generate.samples.items():
        assert one == card.generate.samples[name].model_copy(update={"mode": "truth"})
    assert truth.study.seed == card.study.seed  # the events are functions of it
    assert (truth.regions, truth.jets, truth.labels) == (card.regions, card.jets, card.labels)
    with pytest.raises(Missing, match="run the study first"):
        unveiled.make_truth(card, quick=True)
    (tmp_path / "models").mkdir()
    with pytest.raises(Missing, match="run this once without --quick"):
        unveiled.make_truth(card, quick=True)
    with pytest.raises(Missing, match="generates no data"):
        unveiled.truth_card(read_card("regions", [f"study.folder={tmp_path}", "generate.samples={}"]))
