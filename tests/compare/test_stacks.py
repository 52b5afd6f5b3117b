"""The words of the pictures."""

import pytest

from pfnano_tag.analyze.result import Variable
from pfnano_tag.compare.stacks import _ylabel


@pytest.mark.parametrize(
    ("name", "kind", "quantity", "label"),
    [
        ("jet_pt", "kinematics", "jet_pt", "Jets"),
        ("met", "kinematics", "met", "Events"),
        ("num_jets", "kinematics", "num_jets", "Events"),
        ("without_cut_dilepton_mass", "kinematics", "dilepton_mass", "Events"),
        ("soft_muon_pt_ratio", "kinematics", "soft_muon_pt_ratio", "Events"),
        ("own", "expression", "MET_pt", "Entries"),
        ("input_charged_ptrel", "input", "charged/ptrel", "Charged candidates"),
        ("input_jet_pt", "input", "jet/pt", "Jets"),
        ("BvsL", "discriminant", "BvsL", "Jets"),
        ("stored_Jet_btag", "stored", "Jet_btag", "Jets"),
    ],
)
def test_the_axis_says_what_is_counted(name, kind, quantity, label):
    assert _ylabel(Variable(name, kind, quantity, name, "", 1, 0.0, 1.0, ())) == f"{label} / bin"
