"""Shape weights: closure, the truth of toys, a direct solution, kept yields, cells that share a weight."""

import numpy as np
import pytest

from pfnano_tag.calibrate.shapes import Rules as ShapeRules
from pfnano_tag.calibrate.shapes import calibrate_shape, grouping, iterate, shape_chi2
from pfnano_tag.calibrate.templates import Templates
from pfnano_tag.errors import DataError

REGIONS = {"b": "tt", "c": "wc", "light": "dy"}
YIELDS = np.array([[20000.0, 2000, 4000], [1500, 12000, 6000], [500, 3000, 40000]])
COLUMNS, CELLS, WEIGHT = 6, 36, 0.2
OPTIONS = {"columns": COLUMNS, "least": 10.0, "limits": (0.1, 10.0), "iterations": 200, "replicas": 40, "seed": 1}


def truth():
    """Shapes of the flavours, and weights that keep their sums: [F, X]."""
    x, y = (grid.ravel() for grid in np.meshgrid(*[np.linspace(-1, 1, COLUMNS)] * 2, indexing="ij"))
    shapes = np.exp([1.2 * x - y, 0.8 * x + y, -1.5 * x + 0.2 * y])
    shapes /= shapes.sum(axis=1, keepdims=True)
    weights = np.exp([-0.3 * x + 0.1 * y, 0.25 * x * y, 0.2 * x - 0.2 * y])
    return shapes, weights / (shapes * weights).sum(axis=1, keepdims=True)


def toy(random, scale=1.0, systematics=("nominal",)):
    shapes, weights = truth()
    mean = scale * YIELDS[:, :, None] * shapes
    values = random.poisson(mean / WEIGHT) * WEIGHT
    data = random.poisson((mean * weights).sum(axis=1)).astype(float)
    stacked = np.stack([values] * len(systematics))
    return Templates(REGIONS, systematics, data, data, stacked, stacked * WEIGHT)


def test_weighted_simulation_is_data_in_all_regions():
    templates = toy(np.random.default_rng(1))
    found = calibrate_shape(templates, **OPTIONS)
    weighted = (templates.values_SRFX[0] * found.weights_FX).sum(axis=1)
    scale = templates.data_RX.sum(axis=1) / weighted.sum(axis=1)
    np.testing.assert_allclose(scale[:, None] * weighted, templates.data_RX, rtol=1e-4)
    assert (found.before_R > 3 * found.cells_R).all()
    assert (found.after_R < 0.01).all()


def test_weighted_simulation_agrees_with_other_data_within_statistics():
    random = np.random.default_rng(2)
    templates, others = toy(random), toy(random)
    found = calibrate_shape(templates, **OPTIONS)
    chi2, cells = shape_chi2(others.data_RX, others.data_variances_RX, others, found.weights_FX)
    plain, _ = shape_chi2(others.data_RX, others.data_variances_RX, others, np.ones_like(found.weights_FX))
    # Weights carry the first sample's errors, those of data and of simulation: twice the variance.
    assert (chi2 / (2 * cells) < 1 + 4 * np.sqrt(2 / cells)).all()
    assert (plain > 2 * chi2).all()


def test_the_true_weights_are_found_within_their_errors():
    _, weights = truth()
    pulls = []
    for seed in range(12):
        found = calibrate_shape(toy(np.random.default_rng([3, seed])), **OPTIONS)
        pulls.append((found.weights_FX - weights) / found.errors_FX)
    assert np.abs(np.mean(pulls, axis=(0, 2))).max() < 0.2
    np.testing.assert_allclose(np.std(pulls, axis=(0, 2)), 1, atol=0.15)


def test_the_iteration_ends_at_the_solution_of_the_linear_equations():
    templates = toy(np.random.default_rng(4))
    found = calibrate_shape(templates, **OPTIONS)
    values = templates.values_SRFX[0]
    wanted = (values * found.weights_FX).sum(axis=(1, 2)) / templates.data_RX.sum(axis=1)
    for cell in range(CELLS):
        direct = np.linalg.solve(values[:, :, cell], wanted * templates.data_RX[:, cell])
        np.testing.assert_allclose(found.weights_FX[:, cell], direct, rtol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 0.02])
def test_the_yield_of_each_flavour_is_kept_in_its_region(scale):
    templates = toy(np.random.default_rng(5), scale)
    found = calibrate_shape(templates, **OPTIONS)
    for place in range(3):
        own = templates.values_SRFX[0, place, place]
        assert (own * found.weights_FX[place]).sum() == pytest.approx(own.sum(), rel=1e-9)
    if scale < 1:
        assert max(found.groups_F) < CELLS  # some cells share their weight


def test_equal_data_and_simulation_have_weights_of_one():
    templates = toy(np.random.default_rng(6))
    data = templates.values_SRFX[0].sum(axis=1)
    same = Templates(REGIONS, ("nominal",), data, data, templates.values_SRFX, templates.variances_SRFX)
    found = calibrate_shape(same, **OPTIONS)
    np.testing.assert_allclose(found.weights_FX, 1, atol=1e-9)
    assert found.iterations <= 2


def test_the_luminosity_does_not_matter():
    templates = toy(np.random.default_rng(7))
    more = Templates(
        REGIONS,
        ("nominal",),
        templates.data_RX,
        templates.data_variances_RX,
        3 * templates.values_SRFX,
        9 * templates.variances_SRFX,
    )
    one, other = (calibrate_shape(t, **OPTIONS).weights_FX for t in (templates, more))
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_another_composition_shifts_the_weights():
    templates = toy(np.random.default_rng(8), systematics=("nominal", "others_up", "others_down", "more"))
    others = ~np.eye(3, dtype=bool)
    for place, factor in ((1, 1.3), (2, 0.7), (3, 1.1)):
        templates.values_SRFX[place][others] *= factor
    found = calibrate_shape(templates, **OPTIONS)
    assert np.abs(found.shifts["others_up"]).max() > 0.01
    half = (found.shifts["others_up"] - found.shifts["others_down"]) / 2
    expected = np.sqrt(found.errors_FX**2 + half**2 + found.shifts["more"] ** 2)
    np.testing.assert_allclose(found.total_FX, expected, rtol=1e-12)


def test_in_pure_regions_data_have_their_shape_whatever_simulation_says():
    templates = toy(np.random.default_rng(8), systematics=("nominal", "own"))
    templates.values_SRFX[:, ~np.eye(3, dtype=bool)] = 0
    templates.values_SRFX[1] *= np.linspace(0.8, 1.2, CELLS)
    found = calibrate_shape(templates, **{**OPTIONS, "limits": (0.0, 1e6)})
    np.testing.assert_allclose(found.shifts["own"], 0, atol=1e-9)


def test_cells_share_a_weight_where_jets_are_few():
    values = np.array([[20.0, 4, 7, 0], [3, 1, 2, 2], [50, 2, 1, 0]]).ravel()
    groups = grouping(values, values, 4, 10.0)
    assert groups.label_X.reshape(3, 4).tolist() == [[0, 2, 2, 2], [3, 3, 3, 3], [1, 3, 3, 3]]
    assert (groups.count, groups.fixed) == (4, False)
    np.testing.assert_allclose(groups.sums(values), [20, 50, 11, 11])
    groups = grouping(values[:4], values[:4], 2, 15.0)
    assert groups.label_X.tolist() == [0, 1, 1, 1]
    assert groups.fixed


def test_limits_are_kept_but_for_the_common_factor():
    templates = toy(np.random.default_rng(9))
    found = calibrate_shape(templates, **{**OPTIONS, "limits": (0.9, 1.1)})
    assert found.weights_FX.min() > 0.85
    assert found.weights_FX.max() < 1.2
    assert min(found.limited_F) > 0


def test_replicas_are_the_same_for_the_same_seed():
    templates = toy(np.random.default_rng(10))
    first, second = (calibrate_shape(templates, **OPTIONS).errors_FX for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, calibrate_shape(templates, **{**OPTIONS, "seed": 2}).errors_FX)


def test_replicas_are_calibrated_one_by_one():
    random = np.random.default_rng(11)
    both = [toy(random) for _ in range(2)]
    groups = tuple(grouping(np.full(CELLS, 100.0), np.ones(CELLS), COLUMNS, 10.0) for _ in range(3))
    rules = ShapeRules(groups, (0, 1, 2), (0.1, 10.0), 30)
    stacked, _, _ = iterate(np.stack([t.data_RX for t in both]), np.concatenate([t.values_SRFX for t in both]), rules)
    for place, templates in enumerate(both):
        alone, _, _ = iterate(templates.data_RX[None], templates.values_SRFX, rules)
        np.testing.assert_allclose(stacked[place], alone[0], rtol=1e-5)


def test_too_few_iterations():
    with pytest.raises(DataError, match=r"not stable after 2 iterations \(calibration.iterations\)"):
        calibrate_shape(toy(np.random.default_rng(12)), **{**OPTIONS, "iterations": 2})


def test_too_few_jets():
    with pytest.raises(DataError, match=r"region tt: too few simulated b jets for a shape"):
        calibrate_shape(toy(np.random.default_rng(13), 1e-4), **OPTIONS)
