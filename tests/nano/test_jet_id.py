"""Jet identification from energy fractions, in each range of eta."""

import numpy as np
import pytest

from pfnano_tag.nano.jet_id import BRANCHES, jet_id

GOOD = {
    "neHEF": 0.2,
    "neEmEF": 0.2,
    "chHEF": 0.5,
    "chEmEF": 0.05,
    "muEF": 0.05,
    "chMultiplicity": 5,
    "neMultiplicity": 5,
}
ORDER = [name.removeprefix("Jet_") for name in BRANCHES]


def one(eta, **changes):
    values = {"eta": eta, **GOOD, **changes}
    types = {"chMultiplicity": np.uint8, "neMultiplicity": np.uint8}
    return int(jet_id(*(np.array([values[name]], types.get(name, np.float32)) for name in ORDER))[0])


@pytest.mark.parametrize("eta", [0.0, 2.55, 2.6, 2.65, 2.9, 3.0, 4.5])
def test_a_good_jet_passes_on_both_sides(eta):
    assert one(eta) == one(-eta) == 6


# cms-btv-pog/BTVNanoCommissioning, utils/selection.py: jet_id, campaigns Winter24 and Summer24
@pytest.mark.parametrize(
    ("eta", "name", "passing", "failing"),
    [
        (1.0, "neHEF", 0.98, 0.99),
        (2.6, "neHEF", 0.98, 0.99),
        (2.65, "neHEF", 0.89, 0.9),
        (2.7, "neHEF", 0.89, 0.9),
        (2.75, "neHEF", 0.98, 0.99),
        (3.0, "neHEF", 0.98, 0.99),
        (1.0, "neEmEF", 0.89, 0.9),
        (2.65, "neEmEF", 0.98, 0.99),
        (3.5, "neEmEF", 0.39, 0.4),
        (1.0, "chHEF", 0.02, 0.01),
        (1.0, "chMultiplicity", 1, 0),
        (3.5, "neMultiplicity", 2, 1),
    ],
)
def test_limits(eta, name, passing, failing):
    assert one(eta, **{name: passing}) & 2
    assert one(eta, **{name: failing}) == 0


@pytest.mark.parametrize(
    ("eta", "name", "value"),
    [
        (2.65, "chHEF", 0.0),
        (2.65, "chMultiplicity", 0),
        (2.9, "neEmEF", 1.0),
        (2.9, "neMultiplicity", 0),
        (3.5, "neHEF", 1.0),
        (3.5, "chMultiplicity", 0),
    ],
)
def test_what_a_range_does_not_ask_for(eta, name, value):
    assert one(eta, **{name: value}) == 6


@pytest.mark.parametrize("name", ["muEF", "chEmEF"])
def test_lepton_veto_up_to_2_7(name):
    assert [one(eta, **{name: 0.79}) for eta in (1.0, 2.7, 2.75, 4.0)] == [6, 6, 6, 6]
    assert [one(eta, **{name: 0.81}) for eta in (1.0, 2.7, 2.75, 4.0)] == [2, 2, 6, 6]


def test_one_particle_is_no_jet():
    assert one(1.0, chMultiplicity=1, neMultiplicity=0) == 0
    assert one(1.0, chMultiplicity=1, neMultiplicity=1) == 6


def test_small_integers_do_not_overflow():
    assert one(1.0, chMultiplicity=255, neMultiplicity=1) == 6


def test_many_jets_at_once():
    columns = {"eta": np.array([0.0, 2.65, 2.9, 4.0])} | {k: np.full(4, v) for k, v in GOOD.items()}
    columns["neHEF"] = np.array([0.95, 0.95, 0.95, 0.95])
    found = jet_id(*(columns[name] for name in ORDER))
    assert found.tolist() == [6, 0, 6, 6]
    assert found.dtype == np.uint8


def test_not_a_number_fails():
    assert one(1.0, neHEF=np.nan) == 0
    assert one(1.0, muEF=np.nan) == 2
