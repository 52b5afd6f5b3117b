"""Progress: plain lines where stderr is no terminal, a bar with rate and note on one."""

import io
import logging
import sys
import time

import pytest

from pfnano_tag.card.command import progress


@pytest.mark.parametrize(
    ("sizes", "total", "said"),
    [
        ([1] * 3, 3, ["1/3", "2/3", "3/3"]),
        ([1] * 40, 40, [f"{4 * tenth}/40" for tenth in range(1, 11)]),
        ([25, 25, 50], 100, ["25/100", "50/100", "100/100"]),
        ([4, 4, 92], 100, ["100/100"]),
        ([5, 5], None, []),
    ],
)
def test_a_plain_line_every_tenth_of_the_way(caplog, sizes, total, said):
    caplog.set_level(logging.INFO)
    assert list(progress(sizes, total, "work", "jets", size=int)) == sizes
    assert caplog.messages == [f"work {one} jets" for one in said]


def test_bar_counts_sizes_and_shows_the_note(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for _ in progress([300, 200], 500, "work", "jets", size=int, note=lambda: "loss 0.5000"):
        time.sleep(0.15)  # a bar is redrawn every tenth of a second at most
    assert "300/500" in terminal.getvalue()
    assert " jets/s, loss 0.5000" in terminal.getvalue()
