"""The output file: nothing is lost on the way to disk, foreign files are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import uproot

from pfnano_tag.analyze.result import SUMS, Category, Content, Cutflow, JobResult, Variable, write_result
from pfnano_tag.errors import FileError

INFO = {"lost": [], "dataset": "mc"}


def variables():
    categories = tuple(
        Category("dy", f, "m", "fgsm", s, r) for s in ("nominal", "jes") for f in ("b", "g") for r in range(-1, 3)
    )
    return {
        "BvsL": Variable("BvsL", "discriminant", "BvsL", r"$B$", "", 7, 0.0, 1.0, categories),
        "jet_pt": Variable("jet_pt", "kinematics", "jet_pt", "pt", "GeV", 3, 20.0, 50.0, categories[:1]),
    }


def written(path, seed=0):
    rng = np.random.default_rng(seed)
    contents = {name: (v, Content(rng.normal(size=v.shape), rng.random(v.shape))) for name, v in variables().items()}
    cutflow = Cutflow(("events", "jets"), np.array([5.0, 3.0]), np.array([-2.5, 1.0]))
    write_result(path, INFO, {"files": 1, "sumw_used": 2.25}, {"dy": cutflow}, contents)
    return contents


def test_round_trip_keeps_flow_variances_names_and_sums(tmp_path):
    contents = written(tmp_path / "x.root")
    with JobResult(tmp_path / "x.root") as result:
        assert result.info == INFO
        assert result.complete
        assert list(result.sums) == list(SUMS)
        assert result.sums["sumw_used"] == 2.25
        assert result.cutflows["dy"].steps == ("events", "jets")
        assert result.cutflows["dy"].weighted.tolist() == [-2.5, 1.0]
        for name, (variable, content) in contents.items():
            assert result.variables[name] == variable
            assert np.array_equal(result.read(name).values, content.values)
            assert np.array_equal(result.read(name).variances, content.variances)


def test_root_sees_a_th2d_with_axes_and_errors(tmp_path):
    contents = written(tmp_path / "x.root")
    with uproot.open(tmp_path / "x.root") as file:
        histogram = file["BvsL"]
        assert histogram.classname == "TH2D"
        assert histogram.axis("x").edges().tolist() == np.linspace(0, 1, 8).tolist()
        assert histogram.axis("y").edges().tolist() == list(range(17))
        converted = histogram.to_hist()
    np.testing.assert_array_equal(converted.values(), contents["BvsL"][1].values[:, 1:-1].T)
    np.testing.assert_array_equal(converted.variances(), contents["BvsL"][1].variances[:, 1:-1].T)


def test_the_same_content_gives_the_same_numbers_in_the_file(tmp_path):
    written(tmp_path / "a.root", 1)
    written(tmp_path / "b.root", 1)
    with JobResult(tmp_path / "a.root") as a, JobResult(tmp_path / "b.root") as b:
        assert all(np.array_equal(a.read(name).values, b.read(name).values) for name in a.variables)


def test_foreign_files_are_refused(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        JobResult(tmp_path / "none.root")
    (tmp_path / "text.root").write_text("no ROOT file")
    with pytest.raises(FileError, match="can't be read as a ROOT file"):
        JobResult(tmp_path / "text.root")
    with uproot.recreate(tmp_path / "plain.root") as file:
        file["tag"] = "nothing of ours"
    with pytest.raises(FileError, match="not the output"):
        JobResult(tmp_path / "plain.root")
    with uproot.recreate(tmp_path / "other.root") as file:
        file["provenance"] = '{"format": "something"}'
    with pytest.raises(FileError, match="expected 'pfnano_tag job' version 3"):
        JobResult(tmp_path / "other.root")


def test_provenance_is_read_in_any_order_of_its_keys(tmp_path, monkeypatch):
    """The usual order is a short cut, and words that look like it in the middle are no end."""
    path, marked = tmp_path / "x.root", {**INFO, "note": ', "variables": [', "inner": {"a": 1, "variables": [1]}}
    monkeypatch.setattr("tests.analyze.test_result.INFO", marked)
    written(path)
    with JobResult(path) as result:
        assert (result.info, result.variables) == (marked, variables())
        text = str(result._file["provenance"])
    for other in (json.dumps(json.loads(text), sort_keys=True), json.dumps(json.loads(text), indent=1)):
        with uproot.update(path) as file:
            file["provenance"] = other
        with JobResult(path) as result:
            assert (result.info, result.variables) == (marked, variables())
    with uproot.update(path) as file:
        file["provenance"] = text.replace('"categories"', '"kategorien"')
    with pytest.raises(FileError, match=r"x\.root: damaged: its variables can't be read: KeyError\('categories'\)"):
        JobResult(path)
