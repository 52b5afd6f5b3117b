import numpy as np
import pytest

from pfnano_tag.evaluate.discriminants import compared

CLASSES = ("b", "bb", "lepb", "c", "uds", "g")


@pytest.mark.parametrize(
    ("name", "signal", "vetoed"),
    [("BvsL", {0, 1, 2}, {3}), ("CvsB", {3}, {4, 5}), ("CvsL", {3}, {0, 1, 2}), ("BvsC", {0, 1, 2}, {4, 5})],
)
def test_third_flavour_is_vetoed(name, signal, vetoed):
    chosen, is_signal = compared(name, np.arange(6), CLASSES)
    assert set(np.flatnonzero(is_signal)) == signal
    assert set(np.flatnonzero(~chosen)) == vetoed
