"""The correctionlib file: read by correctionlib, it gives the numbers of the results."""

import json

import numpy as np
import pytest

pytest.importorskip("iminuit", reason="the extra `fit` is not installed")

from pfnano_tag.calibrate.corrections import variations
from pfnano_tag.calibrate.scale_factors import systematic_covariance, up_and_down

FLAVOURS = {"b": 5, "c": 4, "light": 0}


@pytest.fixture(scope="module")
def library(calibrated):
    correctionlib = pytest.importorskip("correctionlib", reason="correctionlib is not installed")
    _, results, folder = calibrated
    return correctionlib.CorrectionSet.from_file(str(folder / "corrections.json")), results


def test_the_file_fits_the_schema(calibrated):
    schema = pytest.importorskip("correctionlib.schemav2", reason="correctionlib is not installed")
    _, _, folder = calibrated
    content = json.loads((folder / "corrections.json").read_text())
    read = schema.CorrectionSet.model_validate(content)
    assert [one.name for one in read.corrections] == ["net_BvsL_wp", "DeepJet_BvsL_wp", "net_CvsL_CvsB_shape"]


def test_scale_factors_are_those_of_the_results(library):
    corrections, results = library
    for tagger in ("net", "DeepJet"):
        correction = corrections[f"{tagger}_BvsL_wp"]
        for name, point in results["scale_factors"][tagger]["BvsL"].items():
            bins = point["pt"] or [{"low": 20, "high": 1000, **point}]
            for one in bins:
                one = point if one["scale_factors"] is None else {**one}
                pt = (one.get("low", 900) + one.get("high", 900)) / 2
                for flavour, code in FLAVOURS.items():
                    factor = one["scale_factors"][flavour]
                    where = (name, code, 1.3, float(pt))
                    value = factor["value"]
                    assert correction.evaluate("nominal", *where) == pytest.approx(value)
                    assert correction.evaluate("up", *where) == pytest.approx(value + factor["total"])
                    assert correction.evaluate("down", *where) == pytest.approx(max(0, value - factor["total"]))
                    up = correction.evaluate("up_statistics", *where)
                    assert up == pytest.approx(value + factor["statistical"])
                    for way in ("up", "down"):
                        shifted = max(0, value + one["shifts"][f"w_{way}"][flavour])
                        assert correction.evaluate(f"{way}_w", *where) == pytest.approx(shifted)


def test_pt_is_clamped_and_eta_is_not(library):
    correction = library[0]["net_BvsL_wp"]
    inside = correction.evaluate("nominal", "0.1", 5, 1.0, 999.0)
    assert correction.evaluate("nominal", "0.1", 5, 1.0, 5000.0) == inside
    with pytest.raises(RuntimeError, match="above bounds"):
        correction.evaluate("nominal", "0.1", 5, 2.6, 100.0)
    with pytest.raises(IndexError):
        correction.evaluate("nominal", "0.1", 3, 1.0, 100.0)


def test_weights_are_those_of_the_results(library):
    corrections, results = library
    correction, shape = corrections["net_CvsL_CvsB_shape"], results["shapes"]["net"]["pair_CvsL_CvsB"]
    edges = [shape["edges"][name] for name in ("CvsL", "CvsB")]
    middles = [np.array([-1.0, *(np.array(e[:-1]) + np.array(e[1:])) / 2]) for e in edges]
    x, y = (grid.ravel() for grid in np.meshgrid(*middles, indexing="ij"))
    for flavour, code in FLAVOURS.items():
        weights, total = (np.array(shape[key][flavour])[:-1, :-1].ravel() for key in ("weights", "total"))
        np.testing.assert_allclose(correction.evaluate("nominal", code, x, y), weights)
        np.testing.assert_allclose(correction.evaluate("up", code, x, y), weights + total)
        np.testing.assert_allclose(correction.evaluate("down", code, x, y), np.maximum(weights - total, 0))
        assert correction.evaluate("nominal", code, 1.0, 1.0) == pytest.approx(weights[-1])


def test_one_variation_alone_is_as_large_the_other_way():
    shifts = {"jes_up": np.array([0.1, 0.2]), "jes_down": np.array([-0.2, 0.0]), "jer": np.array([0.3, -0.1])}
    both = up_and_down(shifts)
    np.testing.assert_array_equal(both["jer"][1], [-0.3, 0.1])
    jes, jer = np.array([0.15, 0.1]), np.array([0.3, -0.1])
    np.testing.assert_allclose(systematic_covariance(shifts, 2), np.outer(jes, jes) + np.outer(jer, jer))
    found = variations(np.array([0.2, 1.0]), np.array([0.05, 0.1]), np.array([0.3, 0.2]), shifts)
    assert list(found) == [
        *("nominal", "up", "down", "up_statistics", "down_statistics"),
        *("up_jes", "down_jes", "up_jer", "down_jer"),
    ]
    np.testing.assert_allclose(found["down"], [0.0, 0.8])
    np.testing.assert_allclose(found["down_jer"], [0.0, 1.1])
