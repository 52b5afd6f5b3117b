import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import StepPatch
from scipy.stats import chi2

from pfnano_tag.plotting import curves, distributions, matrices, stacks
from pfnano_tag.plotting.colours import FLAVOUR_COLOURS, flavour_colour, model_colours
from pfnano_tag.plotting.curves import Curve
from pfnano_tag.plotting.epochs import EpochPanel, epoch_page

EDGES = np.linspace(0, 10, 6)
SIMULATION = {
    "uds": (np.array([40.0, 30, 20, 10, 0]), np.array([40.0, 30, 20, 10, 0])),
    "b": (np.array([1.0, 2, 3, 4, 0]), np.array([1.0, 2, 3, 4, 0])),
}
DATA = np.array([100.0, 32, 23, 0, 3])


def filled(axes):
    return [p for p in axes.patches if isinstance(p, StepPatch) and p.get_fill() and not p.get_hatch()]


def test_stack_is_sorted_by_yield_and_adds_up():
    drawn = stacks.stack(EDGES, SIMULATION, (DATA, DATA), "x [GeV]", "a sample")
    main = drawn.axes[0]
    lower, upper = filled(main)
    assert lower.get_label() == "b"
    np.testing.assert_array_equal(lower.get_data().values, SIMULATION["b"][0])
    np.testing.assert_array_equal(upper.get_data().values, SIMULATION["b"][0] + SIMULATION["uds"][0])
    assert main.get_ylim()[1] > DATA.max()


def test_data_points_have_garwood_intervals():
    main = stacks.stack(EDGES, SIMULATION, (DATA, DATA), "x", "a sample").axes[0]
    (container,) = main.containers
    segments = np.array(container.lines[2][0].get_segments())[:, :, 1]
    counts = DATA[DATA > 0]
    alpha = 0.3173105
    np.testing.assert_allclose(segments[:, 0], chi2.ppf(alpha / 2, 2 * counts) / 2, rtol=1e-5)
    np.testing.assert_allclose(segments[:, 1], chi2.ppf(1 - alpha / 2, 2 * counts + 2) / 2, rtol=1e-5)


def test_weighted_data_have_errors_of_weights_and_may_be_negative():
    values, variances = np.array([12.0, -3, 0, 5, 0]), np.array([14.0, 9, 4, 5, 0])
    main, ratio = stacks.stack(EDGES, SIMULATION, (values, variances), "x", "a sample").axes[:2]
    shown = variances > 0  # a bin of which nothing is left after a subtraction is no empty bin
    (container,) = main.containers
    np.testing.assert_array_equal(container.lines[0].get_ydata(), values[shown])
    segments = np.array(container.lines[2][0].get_segments())[:, :, 1]
    np.testing.assert_allclose(segments[:, 0], (values - np.sqrt(variances))[shown])
    np.testing.assert_allclose(segments[:, 1], (values + np.sqrt(variances))[shown])
    assert main.get_ylim()[0] < values.min()
    np.testing.assert_allclose(ratio.containers[0].lines[0].get_ydata(), [12 / 41, -3 / 32, 0, 5 / 14])


def test_ratio_and_arrows_for_points_outside():
    ratio = stacks.stack(EDGES, SIMULATION, (DATA, DATA), "x", "a sample").axes[1]
    assert ratio.get_ylim() == (0.5, 1.5)
    points = ratio.containers[0].lines[0].get_ydata()
    np.testing.assert_allclose(points, [100 / 41, 32 / 32, 23 / 23, 0])  # no ratio where nothing is simulated
    arrows = {line.get_marker(): line.get_xdata() for line in ratio.lines if line.get_marker() in "^v"}
    np.testing.assert_array_equal(arrows["^"], [1.0])  # 2.4 is above
    np.testing.assert_array_equal(arrows["v"], [7.0])  # 0 is below
    band = next(p for p in ratio.patches if isinstance(p, StepPatch))
    np.testing.assert_allclose((band.get_data().values - 1)[:2], [1 / np.sqrt(41), 1 / np.sqrt(32)])


def test_stack_without_anything():
    empty = {"b": (np.zeros(5), np.zeros(5))}
    assert len(stacks.stack(EDGES, empty, (np.zeros(5), np.zeros(5)), "x", "a sample", log=True).axes) == 2


def test_shapes_are_normalised_and_say_what_is_empty():
    drawn = distributions.shapes(EDGES, {**SIMULATION, "c": (np.zeros(5), np.zeros(5))}, "x", "a sample", log=True)
    lines = [p for p in drawn.axes[0].patches if isinstance(p, StepPatch) and not p.get_fill()]
    for patch in lines:
        assert patch.get_data().values.sum() == pytest.approx(1)
    assert "c (no jets)" in [text.get_text() for text in drawn.axes[0].get_legend().get_texts()]


def test_page_has_a_panel_each_and_one_legend():
    panels = [distributions.panel(np.linspace(0, 1, 101), {"b": np.arange(100)}, f"x{i}") for i in range(5)]
    assert len(panels[0].edges) == 51
    assert panels[0].histograms["b"].sum() == np.arange(100).sum()
    drawn = distributions.page(panels, "a sample")
    assert [axes.get_xlabel() for axes in drawn.axes[:5]] == ["x0", "x1", "x2", "x3", "x4"]
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["b"]


def test_roc_has_mistag_on_a_log_axis_and_skips_zero():
    x = np.linspace(0, 1, 5)
    drawn = curves.roc([Curve("m", x, np.array([0, 0, 0.01, 0.1, 1.0]), np.full(5, 0.02))], "eff", "mistag", "s")
    axes = drawn.axes[0]
    assert axes.get_yscale() == "log"
    assert axes.get_xscale() == "linear"
    assert axes.lines[0].get_xdata().tolist() == [0.5, 0.75, 1.0]


def test_strengths_of_different_scans_share_ticks():
    one = Curve("a", np.array([0, 0.1]), np.array([0.9, 0.8]))
    two = Curve("b", np.array([0, 0.01, 0.1]), np.array([0.9, 0.85, 0.6]))
    axes = curves.against_strength([one, two], "AUC", "a sample", chance=0.5).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "0.01", "0.1"]
    np.testing.assert_array_equal(axes.containers[0].lines[0].get_xdata(), [0, 2])


def test_limits_hold_only_where_asked_for():
    curve = Curve("a", np.array([]), np.array([0.5, 1.0]), np.array([0.1, 0.5]))
    edges = np.array([20.0, 50, 1000])
    free = curves.against_bins(edges, [curve], "x", "y", "s", logx=True).axes[0]
    bound = curves.against_bins(edges, [curve], "x", "y", "s", logx=True, within=(0, 1.03)).axes[0]
    assert free.get_ylim()[1] > 1.4
    assert bound.get_ylim()[1] == 1.03


def test_matrices_write_numbers_and_grey_out_what_is_unknown():
    matrix = np.array([[1.0, np.nan], [np.nan, 1.0]])
    texts = [text.get_text() for text in matrices.correlations(matrix, ["a", "b"], "s").axes[0].texts]
    assert texts == ["1.00", "-", "-", "1.00"]
    assert len(matrices.confusion(matrix, ["b", "c"], "s").axes) == 2


def test_colours():
    assert FLAVOUR_COLOURS["b"] == "#fcb302"
    assert len({flavour_colour(f) for f in ("b", "bb", "lepb", "c", "uds", "g", "s", "pu")}) == 8
    assert len(set(model_colours("abcdefgh").values())) == 8
    assert list(model_colours("abcdefghi").values())[8] == model_colours("a")["a"]


def test_nothing_at_all_is_drawn_without_a_word():
    nothing = np.zeros(5)
    distributions.shapes(EDGES, {"b": (nothing, nothing)}, "x", "a sample", log=True)
    distributions.page([distributions.panel(EDGES, {"b": nothing.astype(int)}, "x")], "a sample")
    curves.roc([Curve("m", np.linspace(0, 1, 5), np.full(5, np.nan))], "eff", "mistag", "a sample")
    curves.against_bins(EDGES, [Curve("m", EDGES, np.full(5, np.nan), np.full(5, np.nan))], "x", "y", "a sample")


def test_epochs_are_marked_where_they_lie_and_unknown_ones_leave_gaps():
    x = np.arange(1.0, 5.0)
    rate = Curve("one", x, np.array([1e-2, 1e-3, np.nan, 1e-5]), colour="red")
    loss = Curve("one", x, np.array([3.0, 2.0, 1.0, 1.5]), colour="red")
    nothing = Curve("two", x[:1], np.array([np.nan]), colour="blue")
    panels = [EpochPanel("loss", [loss], [3]), EpochPanel("rate", [rate, nothing], [4, None])]
    drawn = epoch_page(panels, 2, "a sample", mark="best epoch")
    left, right = drawn.axes
    star = next(line for line in left.lines if line.get_marker() == "*")
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([3], [1.0])
    assert (left.get_yscale(), right.get_yscale()) == ("linear", "log")
    assert np.isnan(right.lines[0].get_ydata()[2])
    assert left.get_xlim() == (0.5, 4.5)
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["one", "two", "best epoch"]


@pytest.mark.parametrize("count", [1, 5])
def test_the_legend_of_epochs_lies_inside_the_page_below_all_panels(count):
    curves_ = [Curve(f"a_network_with_a_rather_long_name_{i}", np.ones(1), np.ones(1)) for i in range(7)]
    drawn = epoch_page([EpochPanel("loss", curves_, [1] * 7)] * count, 3, "a sample", mark="best epoch")
    drawn.canvas.draw()
    frame = drawn.legends[0].get_window_extent()
    width, height = drawn.canvas.get_width_height()
    assert 0 <= frame.x0 < frame.x1 <= width
    assert 0 <= frame.y0 < frame.y1 <= height
    panels = [axes for axes in drawn.axes if axes.axison]
    assert all(axes.get_tightbbox().y0 >= frame.y1 - 1 for axes in panels)


def bands(axes):
    filled = to_rgba(stacks.BOTH["facecolor"])
    return [p for p in axes.patches if isinstance(p, StepPatch) and (p.get_hatch() or p.get_facecolor() == filled)]


def test_the_systematic_band_is_drawn_beside_the_statistical_one():
    systematic = np.array([3.0, 4, 0, 1, 0])
    main, ratio = stacks.stack(EDGES, SIMULATION, (DATA, DATA), "x", "a sample", systematic=systematic).axes[:2]
    both, statistical = bands(main)
    assert (both.get_label(), statistical.get_label()) == ("stat. + syst. unc.", "stat. unc. (sim.)")
    total = np.array([41.0, 32, 23, 14, 0])
    np.testing.assert_allclose(both.get_data().values, total + np.sqrt(total + systematic**2))
    np.testing.assert_allclose(statistical.get_data().values, total + np.sqrt(total))
    relative = (np.sqrt(total + systematic**2)[:4]) / total[:4]
    np.testing.assert_allclose(bands(ratio)[0].get_data().values[:4], 1 + relative)
    assert len(bands(stacks.stack(EDGES, SIMULATION, (DATA, DATA), "x", "a sample").axes[0])) == 1


def test_blinded_bins_have_no_points_and_are_named():
    hidden = np.array([False, True, False, False, True])
    main, ratio = stacks.stack(EDGES, SIMULATION, (DATA, DATA), "x", "a sample", hidden=hidden).axes[:2]
    np.testing.assert_array_equal(main.containers[0].lines[0].get_ydata(), [100, 23])
    np.testing.assert_allclose(ratio.containers[0].lines[0].get_xdata(), [1, 5, 7])
    assert [text.get_text() for text in main.get_legend().get_texts()].count("data blinded") == 1


def test_components_that_are_no_flavours_have_their_own_colours():
    main = stacks.stack(
        EDGES, {"tt": SIMULATION["b"]}, (DATA, DATA), "x", "a sample", colours={"tt": "#ff0000"}
    ).axes[0]
    assert filled(main)[0].get_facecolor()[:3] == (1, 0, 0)
