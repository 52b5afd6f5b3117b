"""What a file must be for a network to be applied to it."""

import logging
from types import SimpleNamespace

import pytest

from pfnano_tag.errors import DataError
from pfnano_tag.infer.networks import _check_jets

TAGGER = SimpleNamespace(
    inputs=SimpleNamespace(jet_types=("CHS",), groups={"jet": ()}), module=SimpleNamespace(needs_vectors=False)
)


def file_of(jet_type):
    return SimpleNamespace(path="a.root", jet_type=jet_type, jets=SimpleNamespace(mix=()), contents=None, layout="x")


def test_other_jets_are_refused_and_unknown_ones_are_said(caplog):
    caplog.set_level(logging.WARNING)
    _check_jets("m", TAGGER, file_of("CHS"))
    assert not caplog.messages
    _check_jets("m", TAGGER, file_of("unknown"))
    assert caplog.messages == ["a.root does not say what its jets are; model 'm' was trained on CHS"]
    with pytest.raises(DataError, match="its jets are PUPPI, model 'm' was trained on CHS"):
        _check_jets("m", TAGGER, file_of("PUPPI"))
