import matplotlib
import numpy as np
import pytest

from pfnano_tag.errors import OutputError
from pfnano_tag.plotting.style import figure, grid_figure, headroom, label, ratio_figure, save, with_unit


def draw():
    drawn, axes = figure()
    axes.plot([0, 1], [2, 3], label="line")
    axes.set(xlabel=with_unit(r"$p_T$", "GeV"), ylabel=r"$\chi^2$")
    label(axes, "a sample", "13 TeV")
    return drawn


def test_same_figure_same_bytes_and_nothing_else_left(tmp_path):
    first, second = (save(draw(), tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert b"Software" not in first
    assert b"Creation" not in first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_figures_stay_out_of_the_global_list():
    from matplotlib import pyplot

    draw()
    assert pyplot.get_fignums() == []
    assert matplotlib.get_backend().lower() == "agg"


def test_saved_figure_is_emptied(tmp_path):
    drawn = draw()
    save(drawn, tmp_path / "a.png")
    assert drawn.axes == []


def test_a_failing_picture_leaves_nothing(tmp_path):
    drawn, axes = figure()
    axes.set_xlabel(r"$\nosuchcommand$")
    with pytest.raises(ValueError, match="nosuchcommand"):
        save(drawn, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        save(figure()[0], tmp_path / "file" / "a.png")
    with pytest.raises(ValueError, match=".png"):
        save(figure()[0], tmp_path / "a.pdf")


def test_text_is_only_what_is_given():
    drawn = draw()
    texts = " ".join(text.get_text() for text in drawn.findobj(matplotlib.text.Text))
    assert "a sample" in texts
    assert "CMS" not in texts
    assert with_unit("mass", "") == "mass"


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_headroom_leaves_the_share_free(scale):
    _, axes = figure()
    axes.set_yscale(scale)
    axes.set_ylim(1, 100)
    headroom(axes, 0.25)
    old_top = axes.transAxes.inverted().transform(axes.transData.transform((0, 100)))[1]
    assert old_top == pytest.approx(0.75)


def test_ratio_panel_is_a_third_of_the_main_one():
    drawn, main, ratio = ratio_figure()
    drawn.canvas.draw()
    assert main.get_position().height / ratio.get_position().height == pytest.approx(3, rel=0.05)
    assert np.allclose(main.get_position().intervalx, ratio.get_position().intervalx)


def test_panels_of_a_page_do_not_touch():
    _, panels = grid_figure(3, 4)
    boxes = [axes.get_position() for axes in panels]
    assert len(boxes) == 12
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
