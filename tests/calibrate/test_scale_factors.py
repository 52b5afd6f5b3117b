"""From templates to scale factors: thresholds, merged bins, and what a systematic variation counts for."""

import numpy as np
import pytest

pytest.importorskip("iminuit", reason="the extra `fit` is not installed")

from pfnano_tag.analyze.pairs import Axis
from pfnano_tag.analyze.result import Category
from pfnano_tag.calibrate.fit import FitFailed, Priors
from pfnano_tag.calibrate.scale_factors import _merged, measure
from pfnano_tag.calibrate.templates import Templates, family_of, in_pair, templates_of
from pfnano_tag.calibrate.working_points import cut_at

REGIONS = {"b": "tt", "c": "wc", "light": "dy"}
PRIORS = Priors(0.2, 0.3)


def pure(systematics=1, bins=8, jets=1e5):
    """Pure regions; simulated efficiencies vary, data pass at 40 %."""
    values = np.zeros((systematics, 3, 3, bins))
    for s in range(systematics):
        for place in range(3):
            share = 0.5 + 0.1 * s
            values[s, place, place] = np.repeat([(1 - share) / 4, share / 4], bins // 2) * jets
    data = np.tile(np.repeat([0.6 / 4, 0.4 / 4], bins // 2) * jets, (3, 1))
    names = ("nominal", *(f"v{s}" for s in range(1, systematics)))
    return Templates(REGIONS, names, data, data, values, values * 1e-3)


def test_the_nearest_edge_in_logit_is_taken():
    lower = np.array([-np.inf, 0.0, 0.5, 0.9, 0.99, 0.999, 1.0])
    assert cut_at(lower, 0.95) == (3, 0.9)
    assert cut_at(lower, 0.97) == (4, 0.99)
    assert cut_at(lower, 1.0) == (5, 0.999)
    assert cut_at(lower, 0.0) == (2, 0.5)
    assert cut_at(np.array([-np.inf, 0.0, 1.0]), 0.5) is None


def test_a_shifted_simulation_does_not_change_the_efficiency_of_data():
    found = measure(pure(2), (4, 0.5), 1, PRIORS, 10)
    np.testing.assert_allclose(found.fitted.sf_F, 0.8, rtol=1e-3)
    np.testing.assert_allclose(found.efficiency_F, 0.5)
    np.testing.assert_allclose(found.shifts["v1"], 0, atol=2e-3)


def test_another_composition_shifts_the_scale_factor():
    templates = pure(2)
    templates.values_SRFX[:, 0, 2] = templates.values_SRFX[0, 2, 2] * [[0.5], [1.0]] * np.repeat([1.9, 0.1], 4)
    data = templates.data_RX.copy()
    data[0] += templates.values_SRFX[0, 0, 2]
    mixed = Templates(REGIONS, templates.systematics, data, data, templates.values_SRFX, templates.variances_SRFX)
    found = measure(mixed, (4, 0.5), 1, Priors(1e-4, 0.3), 10)
    assert found.shifts["v1"][0] > 0.05
    assert found.total_F[0] == pytest.approx(np.hypot(found.statistical_F[0], found.shifts["v1"][0]))


@pytest.mark.parametrize("bins", [1, 2, 3])
def test_merged_bins_do_not_cross_the_working_point(bins):
    merged, passing = _merged(pure(), 4, bins)
    assert len(passing) == 2 * bins
    assert passing.tolist() == [False] * bins + [True] * bins
    np.testing.assert_allclose(merged.data_RX[:, passing].sum(axis=1), 4e4)
    np.testing.assert_allclose(merged.data_RX.sum(), 3e5)


def test_too_few_jets_are_named():
    templates = pure(jets=60.0)
    templates.variances_SRFX[:] = templates.values_SRFX * 4
    with pytest.raises(FitFailed, match=r"region tt has 7.5 effective simulated b jets passing, fewer than 10"):
        measure(templates, (4, 0.5), 1, PRIORS, 10)
    empty = pure()
    empty.data_RX[1, 4:] = 0
    with pytest.raises(FitFailed, match="region wc has 0 jets passing in data"):
        measure(empty, (4, 0.5), 1, PRIORS, 10)


def test_classes_become_hadron_flavours():
    found = {name: family_of(name) for name in ("b", "bb", "lepb", "c", "uds", "g", "undefined")}
    assert found == {
        **dict.fromkeys(("b", "bb", "lepb"), "b"),
        "c": "c",
        **dict.fromkeys(("uds", "g", "undefined"), "light"),
    }


def test_templates_are_sums_of_rows():
    random = np.random.default_rng(1)

    def rows(flavours, systematics):
        return {
            Category(region, flavour, model, variant, systematic, replica): (random.random(4), random.random(4))
            for region in ("tt", "wc", "dy", "other")
            for flavour in flavours
            for model in ("net", "second")
            for variant in ("nominal", "fgsm")
            for systematic in systematics
            for replica in (-1, 0)
        }

    simulation, data = rows(("b", "bb", "c", "uds", "g"), ("nominal", "jes")), rows(("data",), ("nominal",))
    found = templates_of(simulation, data, REGIONS, "net", "x")
    assert found.systematics == ("nominal", "jes")
    for r, region in enumerate(REGIONS.values()):
        for s, systematic in enumerate(found.systematics):
            for f, flavours in enumerate((("b", "bb"), ("c",), ("uds", "g"))):
                for which, array in enumerate((found.values_SRFX, found.variances_SRFX)):
                    expected = sum(
                        simulation[Category(region, one, "net", "nominal", systematic)][which] for one in flavours
                    )
                    np.testing.assert_allclose(array[s, r, f], expected)
        np.testing.assert_allclose(found.data_RX[r], data[Category(region, "data", "net")][0])


def test_a_pair_is_summed_over_the_other_axis():
    axes = Axis("BvsL", "", "", (0.0, 0.5, 1.0)), Axis("jet_pt", "", "", (20.0, 50.0, 100.0))
    content = np.arange(16.0) + 1
    flat = np.concatenate([[0.0], content, [0.0]])
    one = Templates(REGIONS, ("nominal",), flat[None], flat[None], flat[None, None, None], flat[None, None, None])
    square = content.reshape(4, 4)
    np.testing.assert_array_equal(in_pair(one, axes, 0).data_RX[0], square.sum(axis=1))
    np.testing.assert_array_equal(in_pair(one, axes, 0, slice(2, 3)).data_RX[0], square[:, 2])
    np.testing.assert_array_equal(in_pair(one, axes, 1, slice(1, 2)).values_SRFX[0, 0, 0], square[1])
