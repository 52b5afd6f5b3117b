"""Discriminants by their definitions, for any order and merging of the classes."""

import numpy as np
import pytest

from pfnano_tag.card.evaluation import DiscriminantName
from pfnano_tag.infer.discriminants import DISCRIMINANTS, UNDEFINED, discriminant

CLASSES = ("b", "bb", "lepb", "c", "uds", "g")
B, BB, LEPB, C, UDS, G = NODES = (0.30, 0.05, 0.15, 0.20, 0.18, 0.12)

# Written out from the definitions, not from the table under test.
EXPECTED = {
    "BvsL": (B + BB + LEPB) / (B + BB + LEPB + UDS + G),
    "CvsB": C / (C + B + BB + LEPB),
    "CvsL": C / (C + UDS + G),
    "BvsC": (B + BB + LEPB) / (B + BB + LEPB + C),
    "QvsG": UDS / (UDS + G),
}


def test_card_and_table_name_the_same_discriminants():
    assert set(DiscriminantName.__args__) == set(DISCRIMINANTS) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_definitions(name):
    assert discriminant(name, np.array([NODES]), CLASSES) == pytest.approx(EXPECTED[name])


@pytest.mark.parametrize("name", EXPECTED)
def test_merged_classes_and_another_order_give_the_same_value(name):
    merged = np.array([[G, C, B + BB + LEPB, UDS]])
    assert discriminant(name, merged, ("g", "c", "b", "uds")) == pytest.approx(EXPECTED[name])


def test_qvsg_is_not_the_stored_qg_but_its_complement():
    stored_quark_gluon = G / (G + UDS)
    assert discriminant("QvsG", np.array([NODES]), CLASSES)[0] == pytest.approx(1 - stored_quark_gluon)


def test_vanishing_denominator_is_undefined():
    only_c = np.array([[0, 0, 0, 1.0, 0, 0], [np.nan] * 6])
    assert discriminant("BvsL", only_c, CLASSES).tolist() == [UNDEFINED, UNDEFINED]
    assert discriminant("CvsL", only_c, CLASSES)[0] == 1
